"""What `make check` and `make test` are there to see, planted: it is seen.

A circle of imports is planted in tests/test_import_circles.py, errors of the library itself in
benchmarks/mutants.
"""

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import jax.numpy as jnp
import pytest
from shape_checks import _Loader

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


PLANTED = '''"""A planted module."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def row_sums(xs: Float[Array, " N n"], axis: int = 1) -> Float[Array, " N"]:
    """One number a row."""
    return xs.sum(axis)
'''


def planted_module(source, path, monkeypatch):
    path.write_text(source)
    spec = spec_from_loader("jacreg._planted", _Loader("jacreg._planted", str(path)))
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_shape_checks_see_a_wrong_annotation(tmp_path, monkeypatch):
    from jaxtyping import TypeCheckError

    xs = jnp.ones((2, 3))
    right = planted_module(PLANTED, tmp_path / "right.py", monkeypatch)
    assert right.row_sums(xs).shape == (2,)
    with pytest.raises(TypeCheckError, match=r"f32\[3\]"):
        right.row_sums(xs, 0)  # what its annotation does not say
    wrong = planted_module(PLANTED.replace('Float[Array, " N"]', 'Float[Array, " n"]'),
                           tmp_path / "wrong.py", monkeypatch)  # fmt: skip
    with pytest.raises(TypeCheckError, match="row_sums"):
        wrong.row_sums(xs)
    wrong = planted_module(PLANTED.replace(" N n", " N n k"), tmp_path / "rank.py", monkeypatch)
    with pytest.raises(TypeCheckError, match="xs"):
        wrong.row_sums(xs)
