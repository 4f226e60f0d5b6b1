"""What `make check` is there to see, planted: it is seen.

A circle of imports is planted in tests/test_import_circles.py, errors of the library itself in
benchmarks/mutants.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_ruff_sees_an_undefined_name():
    command = [sys.executable, "-m", "ruff", "check", "--stdin-filename", "jacreg/_planted.py", "-"]
    source = '"""A planted module."""\n\n\ndef double(x):\n    """Twice."""\n    return 2 * y\n'
    done = subprocess.run(command, cwd=ROOT, input=source, capture_output=True, text=True)
    assert done.returncode == 1
    assert "F821" in done.stdout
    source = source.replace("2 * y", "2 * x")
    done = subprocess.run(command, cwd=ROOT, input=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
