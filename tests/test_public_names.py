"""Every public name is there, is called once, and nothing else is public."""

import importlib
import inspect

import pytest
from public_calls import PACKAGES


@pytest.mark.parametrize("package", PACKAGES)
def test_one_call_of_every_public_name(package):
    make, needed = PACKAGES[package]
    for module in needed:
        pytest.importorskip(module)
    facade = importlib.import_module(package)
    public = {
        name
        for name, value in vars(facade).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    calls = make()
    assert public == set(calls)
    failed = {}
    for name, call in calls.items():
        try:
            call()
        except Exception as error:  # all of them are wanted, not the first
            failed[name] = f"{type(error).__name__}: {error}"
    assert not failed
