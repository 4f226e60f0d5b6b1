"""What a package says that it has: `__all__`, `help` and the names that it exports are one list."""

import ast
import importlib
import inspect
import pydoc
import re
import sys
import tomllib
from pathlib import Path

import pytest

FACADES = (
    "jacreg", "jacreg.losses", "jacreg.nnx", "jacreg.linen", "jacreg.eqx", "jacreg.flow",
    "jacreg.equilibrium",
)  # fmt: skip


def facade(name):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        pytest.skip(str(error))


def public(module):
    """Names that are there and are no module, but for the losses."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and (not inspect.ismodule(value) or name == "losses")
    }


@pytest.mark.parametrize("name", FACADES)
def test_all_are_the_public_names_in_order(name):
    module = facade(name)
    found = public(module) - ({"losses"} if name != "jacreg" else set())
    assert set(module.__all__) - {"__version__"} == found
    assert len(set(module.__all__)) == len(module.__all__)
    assert all(getattr(module, each) is not None for each in module.__all__)


@pytest.mark.parametrize("name", FACADES)
def test_help_lists_every_function_and_class(name):
    module = facade(name)
    text = pydoc.plain(pydoc.render_doc(module))
    for each in module.__all__:
        value = getattr(module, each)
        if inspect.isfunction(value):
            assert f"\n    {each}(" in text, each
        elif inspect.isclass(value):
            assert f"class {each}" in text, each


@pytest.mark.parametrize("name", FACADES)
def test_a_star_import_gives_them(name):
    facade(name)
    space = {}
    exec(f"from {name} import *", space)
    assert set(facade(name).__all__) <= set(space)


def test_what_it_imports_is_declared():
    """By everybody who installs the wheel alone, type checkers included."""
    root = Path(__file__).resolve().parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[<>=\[ ]", each)[0] for each in project["dependencies"]}
    adapters = {"nnx", "linen", "eqx", "flow", "equilibrium"}
    found = set()
    for path in (root / "jacreg").rglob("*.py"):
        if path.relative_to(root / "jacreg").parts[0] in adapters:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {each.name.split(".")[0] for each in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(str(node.module).split(".")[0])
    assert found - set(sys.stdlib_module_names) <= declared
    assert declared == {"jax", "numpy", "jaxtyping"}
