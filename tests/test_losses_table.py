"""The table of docs/losses.md lists what `jacreg.losses` exports, and nothing else."""

import inspect
import re
from pathlib import Path

import pytest

from jacreg import losses

TABLE = (Path(__file__).parent.parent / "docs" / "losses.md").read_text()
PUBLIC = {name for name in vars(losses) if not name.startswith("_")}


def rows(text):
    """The cells of every table row below its header."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] != "name" and not set(row[0]) <= {"-"}]


def names(text):
    return [re.fullmatch(r"`(\w+)`", row[0]).group(1) for row in rows(text)]


def test_every_public_name_has_one_row():
    listed = names(TABLE)
    assert len(listed) == len(set(listed))
    # The named tuple is described where the function is that returns it.
    assert set(listed) == PUBLIC - {"FlowRegularizers"}
    assert "`FlowRegularizers`" in TABLE


def test_the_check_can_fail():
    assert "every" not in names(TABLE.replace("| `every` |", "| `never` |"))


def test_every_row_is_whole():
    for row in rows(TABLE):
        assert len(row) == 4, row
        assert row[1], row
        if "no loss" not in row[1]:
            assert row[2] or row[0] == "`subsample`", row
            assert row[3], row


@pytest.mark.parametrize("name", sorted(PUBLIC - {"FlowRegularizers"}))
def test_every_docstring_has_its_parts(name):
    doc = inspect.getdoc(getattr(losses, name))
    assert doc.splitlines()[0].endswith((".", "]"))
    assert "Args:" in doc
    assert "Raises:" in doc


@pytest.mark.parametrize("name", sorted(PUBLIC - {"FlowRegularizers"}))
def test_the_table_and_the_docstring_name_the_same_source(name):
    (row,) = [row for row in rows(TABLE) if row[0] == f"`{name}`"]
    doc = re.sub(r"\s+", " ", inspect.getdoc(getattr(losses, name)))
    for year in re.findall(r"\b(?:19|20)\d\d\b", row[2]):
        assert year in doc, f"{name}: the table cites {year}, its docstring does not"
