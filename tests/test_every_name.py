"""Every public name of the wheel has a page, an example that runs, and a conformance row."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
from conformance_rows import NO_ROW
from pairs_automatic import PAIRS
from public_calls import PACKAGES
from test_conformance_rows import ROWS
from test_losses_conformance import CASES

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"


def facade(package):
    for module in PACKAGES[package][1]:
        pytest.importorskip(module)
    return importlib.import_module(package)


def public(module):
    """The names of a facade that are no module and no version."""
    return {n for n in module.__all__ if not n.startswith("_") and n != "losses"}


def modules(package):
    """A package and the modules below it; those of the other packages are their own."""
    found = facade(package)
    others = tuple(PACKAGES if package == "jacreg" else ())[1:]
    yield found
    for info in pkgutil.walk_packages(found.__path__, f"{package}."):
        if not info.name.startswith(others):
            yield importlib.import_module(info.name)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_page(package):
    pages = "\n".join(path.read_text() for path in REFERENCE.glob("*.md"))
    shown = set(re.findall(rf"^::: {re.escape(package)}\.(\w+)$", pages, re.MULTILINE))
    assert public(facade(package)) == shown


@pytest.mark.parametrize("package", PACKAGES)
def test_an_example(package):
    module = facade(package)
    assert [n for n in public(module) if ">>>" not in (getattr(module, n).__doc__ or "")] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_examples_run(package):
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(verbose=False)
    wrong, ran = [], 0
    for module in modules(package):
        for test in finder.find(module, module.__name__):
            if test.examples:
                test.globs = {"__name__": "__main__"}
                runner.run(test, out=wrong.append, clear_globs=True)
                ran += 1
    assert not wrong, "\n".join(wrong)
    assert ran >= len({id(getattr(facade(package), n)) for n in public(facade(package))})


def rows(package):
    """The names that a table of the conformance suite holds."""
    names = set(ROWS[package]())
    if package == "jacreg":
        for pair in PAIRS.values():
            names |= {pair.quantity, *re.findall(r"^\w+", pair.method)}
    return names | (set(CASES) if package == "jacreg.losses" else set())


@pytest.mark.parametrize("package", PACKAGES)
def test_a_conformance_row(package):
    without = NO_ROW.get(package, {})
    assert public(facade(package)) - rows(package) == set(without)
    assert all(without.values())
