"""A user who checks strictly sees no unknown type in jacreg."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "jacreg",
    "jacreg.losses",
    "jacreg.nnx",
    "jacreg.linen",
    "jacreg.eqx",
    "jacreg.flow",
    "jacreg.equilibrium",
)


def check(folder):
    """The diagnostics of pyright, strict, on the files of a folder."""
    config = {
        "include": ["."],
        "extraPaths": [str(ROOT)],
        "pythonVersion": "3.11",
        "typeCheckingMode": "strict",
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
        report = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        pytest.skip("pyright does not run here (it fetches its program at its first start)")
    assert report["summary"]["filesAnalyzed"] >= 1
    return [
        f"{Path(each['file']).name}:{each['range']['start']['line'] + 1} {each['message']}"
        for each in report["generalDiagnostics"]
        if each["severity"] == "error"
    ]


def public_names():
    for package in PACKAGES:
        for name, value in vars(importlib.import_module(package)).items():
            # A submodule becomes an attribute once anything has imported it; a user imports it too.
            if not name.startswith("_") and not isinstance(value, ModuleType):
                yield f"{package}.{name}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    for module in ("pyright", "flax", "equinox"):
        pytest.importorskip(module)
    return tmp_path_factory.mktemp("strict")


def test_a_user_s_file_and_every_public_name(folder):
    user = (Path(__file__).parent / "user.py").read_text()
    (folder / "user.py").write_text(user)
    lines = [f"import {package}" for package in PACKAGES]
    lines += [f"value_{n} = {name}" for n, name in enumerate(sorted(set(public_names())))]
    (folder / "names.py").write_text("\n".join(lines) + "\n")
    # A planted one: the checker is on, and sees what has no type.
    (folder / "planted.py").write_text("def planted(x):\n    return x\n")
    # What the user's file takes of JAX alone: older releases have it partly unknown.
    (folder / "of_jax.py").write_text("import jax\n\nkey = jax.random.key(0)\n")
    found = check(folder)
    assert [each for each in found if each.startswith("planted.py")]
    assert [each for each in found if each.startswith("names.py")] == []
    if any(each.startswith("of_jax.py") for each in found):
        pytest.skip("types of this release of JAX itself are unknown to a strict checker")
    assert [each for each in found if each.startswith("user.py")] == []


def test_the_marker_of_a_typed_package_is_there():
    assert (ROOT / "jacreg" / "py.typed").is_file()
