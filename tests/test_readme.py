"""The README's code runs as it stands, and what it names exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_code_blocks_run_in_order():
    for module in ("flax", "equinox"):
        pytest.importorskip(module)
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 2
    assert len(README.splitlines()) <= 130
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert names["divergence"].shape == (4,)
    assert float(names["penalty"]) > 0


def test_named_files_exist():
    paths = re.findall(r"\]\(([^)#:]+)\)", README)
    paths += re.findall(r"`pytest (\S+)`", README) + re.findall(
        r"python -m train (\S+\.toml)", README
    )
    assert paths
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert not missing


def test_named_modules_exist():
    modules = set(re.findall(r"python -m ([\w.]+)", README))
    for module in modules:
        path = ROOT / Path(*module.split("."))
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
