"""No file of the project imports itself on some way round, type-only imports counted."""

import re

import pytest
from imports_graph import PACKAGES, ROOT, circles, graph


@pytest.fixture(scope="module")
def edges():
    return graph()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_read(edges, package):
    assert any(to for name, to in edges.items() if name.split(".")[0] == package)


def test_no_circle_of_files(edges):
    assert circles(edges) == []


def floors():
    """The floor of each part of train, from the table of docs/architecture.md."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page.partition("| floor |")[2].partition("\n\n")[0]
    rows = [line.split("|")[2] for line in table.splitlines()[2:]]
    return {name: floor for floor, row in enumerate(rows) for name in re.findall(r"`(\w+)`", row)}


def test_train_imports_from_the_floors_above(edges):
    known = floors()
    wrong = []
    for name, to in edges.items():
        parts = [each.split(".")[1] for each in (name, *to) if each.startswith("train.")]
        if name.startswith("train."):
            wrong += [f"{name}: {part}" for part in parts[1:] if known[part] > known[parts[0]]]
    assert len(known) > 40
    assert wrong == []


def test_a_circle_is_seen(tmp_path):
    files = {
        "jacreg/__init__.py": "from ._a import a",
        "jacreg/_a.py": "import typing as t\nif t.TYPE_CHECKING:\n    from ._b import b",
        "jacreg/_b.py": "def f():\n    from jacreg import _a",
        "jacreg/_c.py": "from ._a import a\nimport numpy",
    }
    (tmp_path / "jacreg").mkdir()
    for name, source in files.items():
        (tmp_path / name).write_text(source)
    edges = graph(tmp_path)
    assert edges["jacreg._c"] == {"jacreg._a"}
    assert circles(edges) == [["jacreg._a", "jacreg._b"]]
