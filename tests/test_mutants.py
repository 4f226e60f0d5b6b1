"""The errors that `python -m benchmarks.mutants` plants can be planted; it takes hours."""

import ast
import shlex
from pathlib import Path

import pytest

from benchmarks.mutants import MUTANTS

ROOT = Path(__file__).resolve().parent.parent


def test_there_are_many():
    assert len(MUTANTS) >= 120
    assert len({(m.path, m.old, m.new) for m in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("path", sorted({m.path for m in MUTANTS}))
def test_none_is_stale(path):
    """Each still changes the program, and into one that Python reads."""
    source = (ROOT / "jacreg" / path).read_text()
    tree = ast.dump(ast.parse(source))
    for mutant in (m for m in MUTANTS if m.path == path):
        assert source.count(mutant.old) == 1, mutant  # else it may be planted in another place
        changed = source.replace(mutant.old, mutant.new, 1)
        assert ast.dump(ast.parse(changed)) != tree, mutant
        files = [part for part in shlex.split(mutant.tests) if part.startswith("tests/")]
        assert files, mutant
        assert all((ROOT / file).is_file() for file in files), mutant
