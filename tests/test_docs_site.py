"""Every public name has its place in the reference, and the site builds strictly."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"
PACKAGES = [
    "jacreg",
    "jacreg.losses",
    "jacreg.nnx",
    "jacreg.linen",
    "jacreg.eqx",
    "jacreg.equilibrium",
    "models",
    "models.conv",
    "models.nnx",
    "models.linen",
    "models.eqx",
    "jacreg.flow",
    "models.equilibrium",
]
NEEDS = {"nnx": "flax", "linen": "flax", "eqx": "equinox", "flow": "diffrax"}
NEEDS |= {"models.equilibrium": "equinox"}


def public(package):
    needed = NEEDS.get(package) or NEEDS.get(package.rpartition(".")[2])
    if needed:
        pytest.importorskip(needed)
    module = importlib.import_module(package)
    names = {name for name, value in vars(module).items() if not name.startswith("_")}
    return {name for name in names if type(getattr(module, name)).__name__ != "module"}


def directives():
    text = "\n".join(page.read_text() for page in REFERENCE.glob("*.md"))
    return re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_on_a_page(package):
    names = public(package)
    assert names
    listed = [each.rpartition(".") for each in directives()]
    on_pages = [name for parent, _, name in listed if parent == package]
    assert len(on_pages) == len(set(on_pages))
    assert set(on_pages) == names


def test_every_entry_is_in_its_table_too():
    """The pages read as plain Markdown: the table above the entries names each of them."""
    for page in REFERENCE.glob("*.md"):
        text = page.read_text()
        listed = set(re.findall(r"^\| \[`\w+`\]\(#([\w.]+)\) \| \S", text, re.MULTILINE))
        assert listed == set(re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)), page.name


def call(path):
    """How a function or a method is called, bare; "" of what a user does not make."""
    import jacreg

    parent, _, name = path.rpartition(".")
    value = getattr(importlib.import_module(parent), name)
    is_method = isinstance(value, type) and issubclass(value, jacreg._methods.Method)
    if name == "Coloring" or (isinstance(value, type) and not is_method):
        return ""

    def shown(parameter):
        default = parameter.default
        if isinstance(default, jacreg._methods.Method):
            default = _Words(f"{type(default).__name__}()")
        return parameter.replace(annotation=parameter.empty, default=default)

    signature = inspect.signature(value)
    parameters = map(shown, signature.parameters.values())
    bare = signature.replace(parameters=list(parameters), return_annotation=inspect.Signature.empty)
    return f"{name}{bare}"


class _Words(str):
    __repr__ = str.__str__


@pytest.mark.parametrize("page", ["quantities", "methods", "losses"])
def test_the_tables_of_the_library_say_how_it_is_called(page):
    """In a clone the pages hold no docstrings."""
    text = (REFERENCE / f"{page}.md").read_text()
    rows = re.findall(r"^\| \[`\w+`\]\(#([\w.]+)\) \|.*\|([^|]*)\|$", text, re.MULTILINE)
    assert len(rows) > 10
    for path, cell in rows:
        expected = call(path)
        assert cell.strip() == (f"`{expected}`" if expected else ""), path


def test_every_paper_is_on_the_page_of_papers():
    pytest.importorskip("optax")
    from train.reproduce.papers import PAPERS

    # Before the results, which name the papers again.
    text = (ROOT / "docs" / "papers.md").read_text().split("<!-- results: begin -->")[0]
    assert re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE) == list(PAPERS)


def test_every_loss_is_in_the_decision_guide():
    from jacreg import losses

    text = (ROOT / "docs" / "which-penalty.md").read_text()
    helpers = {"FlowRegularizers", "path_lengths", "right_singular_vector", "ramp"}
    named = {name for name in vars(losses) if not name.startswith("_")} - helpers
    assert {name for name in named if name not in text} == set()


def test_the_version_is_documented_and_public():
    import jacreg

    assert re.fullmatch(r"\d+\.\d+\.\d+", jacreg.__version__)
    assert f"## {jacreg.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def build(folder, *, source=ROOT):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True)


needs_mkdocs = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("mkdocs", "material", "mkdocstrings_handlers")),
    reason='no mkdocs here: pip install -e ".[docs]"',
)


@needs_mkdocs
def test_the_site_builds_strictly(tmp_path):
    done = build(tmp_path)
    assert done.returncode == 0, done.stderr
    start = (tmp_path / "index.html").read_text()
    assert "decision_cells.png" in start
    entry = (tmp_path / "reference" / "quantities.html").read_text()
    assert 'id="jacreg.divergence"' in entry
    assert "the trace of each example" in entry
    # A page loads nothing from another host; links may lead there.
    loaded = re.findall(r'<(?:script|img|link)[^>]+(?:src|href)="(https?://[^"]+)', start)
    assert [address for address in loaded if "w3.org" not in address] == []


@needs_mkdocs
def test_a_broken_link_fails_the_build(tmp_path):
    for name in ("docs", "jacreg", "models", "mkdocs.yml"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "docs").unlink()
    pages = tmp_path / "docs"
    pages.mkdir()
    for path in (ROOT / "docs").iterdir():
        (pages / path.name).symlink_to(path)
    (pages / "planted.md").write_text("# Planted\n\n[nowhere](no-such-page.md)\n")
    done = build(tmp_path / "site", source=tmp_path)
    assert done.returncode != 0
    assert "no-such-page.md" in done.stderr
