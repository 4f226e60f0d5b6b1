"""The tests of crashes, disks and signals, as a record."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as tree
from pathlib import Path
from typing import Any

from benchmarks.robustness._records import ROOT

_FILES = ("tests/test_robust_crash.py",)


def run_cases(folder: Path) -> dict[str, Any]:
    """Run the tests; return the record: each by its name with its outcome."""
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / "cases.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *_FILES]
    subprocess.run([*command, f"--junitxml={report}"], cwd=ROOT, check=False, capture_output=True)
    cases = [
        {
            "group": str(case.get("classname")).rpartition(".")[2].removeprefix("Test"),
            "case": str(case.get("name")).removeprefix("test_").replace("_", " "),
            "outcome": "as expected" if len(case) == 0 else case[0].tag,
        }
        for case in tree.parse(report).getroot().iter("testcase")
    ]
    return {
        "cases": cases,
        "count": len(cases),
        "problems": [case for case in cases if case["outcome"] not in ("as expected", "skipped")],
    }
