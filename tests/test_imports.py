"""What importing the library pulls in, and that imports between packages go one way."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = [
    "flax",
    "equinox",
    "optax",
    "orbax",
    "datasets",
    "matplotlib",
    "pandas",
    "PIL",
    "sklearn",
    "mlxtend",
    "rich",
    "torch",
    "diffrax",
    "optimistix",
    "lineax",
    "matfree",
    "asdex",
    "models",
    "train",
]
ALLOWED = {"jacreg": ("jacreg",), "models": ("jacreg", "models")}


def loaded_by(statement: str) -> set[str]:
    """The heavy packages in `sys.modules` of a fresh interpreter after a statement."""
    code = f"import sys; {statement}; print(' '.join({{n.split('.')[0] for n in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split()) & set(HEAVY)


def test_importing_the_library_imports_no_framework():
    assert loaded_by("import jacreg") == set()
    assert loaded_by("import jacreg.equilibrium") == set()


@pytest.mark.parametrize("name", ["flax", "equinox", "optax", "matplotlib", "datasets"])
def test_the_check_can_fail(name):
    pytest.importorskip(name)
    assert name in loaded_by(f"import jacreg; import {name}")


def test_adapters_import_their_own_framework_alone():
    assert "equinox" not in loaded_by("import jacreg.nnx")
    assert "equinox" not in loaded_by("import jacreg.linen")
    assert "flax" not in loaded_by("import jacreg.eqx")


@pytest.mark.parametrize(
    ("adapter", "framework"),
    [("nnx", "flax"), ("linen", "flax"), ("eqx", "equinox"), ("flow", "diffrax")],
)
def test_a_missing_framework_is_named(adapter, framework):
    code = f"import sys; sys.modules[{framework!r}] = None; import jacreg.{adapter}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: jacreg.")
    install = 'pip install "jacreg[flows]"' if adapter == "flow" else f"pip install {framework}"
    assert install in done.stderr


def imported(source: str) -> list[str]:
    """The absolute names that a module's source imports, wherever in it."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def violations(package: str, source: str) -> list[str]:
    own = {"jacreg", "models", "train"}
    return [
        name
        for name in imported(source)
        if (name.split(".")[0] in own and name.split(".")[0] not in ALLOWED.get(package, own))
        or name.startswith(("jax._src", "jax.core", "jaxlib"))
    ]


@pytest.mark.parametrize("package", ["jacreg", "models", "train"])
def test_imports_go_one_way_and_through_public_jax(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    found = {str(f.relative_to(ROOT)): violations(package, f.read_text()) for f in files}
    assert {name: bad for name, bad in found.items() if bad} == {}


def test_the_rule_can_be_broken():
    assert violations("jacreg", "def f():\n    from models import conv") == ["models.conv"]
    assert violations("models", "import train.loop") == ["train.loop"]
    assert violations("train", "from jax._src import core") == ["jax._src.core"]
    assert violations("train", "import models\nimport jax.extend.core") == []


def test_the_map_lists_every_reader_of_programs():
    """A walk over equations of its own is a decision, so it is written down."""
    walks = re.compile(r"\.eqns\b|\b(interpret|on_tangents|propagate|equations)\(")
    library = ROOT / "jacreg"
    readers = {
        str(path.relative_to(library).with_suffix(""))
        for path in library.rglob("*.py")
        if walks.search(path.read_text()) and path.name != "_interpret.py"
    }
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page.split("| question | file")[1].split("\n\n")[0]
    assert set(re.findall(r"`(_[\w/]+)`", table)) == readers


def test_no_choice_depends_on_the_default_backend():
    """A step compiled for another device is right and fast there: platforms differ in lowerings."""
    library = ROOT / "jacreg"
    assert not [
        str(path.relative_to(ROOT))
        for path in library.rglob("*.py")
        if "default_backend" in path.read_text()
    ]
