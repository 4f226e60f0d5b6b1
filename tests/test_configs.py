"""Every config in configs/ loads; every smoke config runs to its end."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from train_setup import train_cache  # noqa: F401

from train.config import load
from train.run import run

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"
ALL = sorted(CONFIGS.rglob("*.toml"))
# Of each kind of picture one: drawing takes longer than the shortest of these runs.
DRAWN = ("batch-norm", "equilibrium", "flow", "flow-images", "mdeq", "nnx", "regression", "score")
SMOKE = sorted((CONFIGS / "smoke").glob("*.toml"))


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_it_loads_and_opens_with_its_card(path):
    load(path)
    text = path.read_text()
    card = "\n".join(itertools.takewhile(lambda line: line.startswith("#"), text.splitlines()))
    if path in SMOKE:
        assert card.startswith("# Smoke run for CI: ")
        return
    for part in ("Claim", "Command", "Expect"):
        said = re.search(rf"^# {part} +(\S.*)$", card, re.MULTILINE)
        assert said is not None, part
        assert len(said[1]) > 10, part


def test_names_are_unique():
    names = [load(path).experiment.name for path in ALL]
    assert len(set(names)) == len(names) > 5


@pytest.mark.usefixtures("train_cache")
@pytest.mark.parametrize("path", SMOKE, ids=lambda path: path.stem)
def test_smoke(path, tmp_path):
    summary = run(load(path), tmp_path, pictures=path.stem in DRAWN)
    assert summary["status"] == "finished"
    assert all(np.isfinite(value) for value in summary["metrics"].values())
    recorded, drawn = (
        {found.stem for found in (tmp_path / "figures").glob(f"*.{kind}")}
        for kind in ("npz", "png")
    )
    assert path.stem in ("autoencoder", "resnet18") or recorded
    assert drawn == (recorded | {"curves"} if path.stem in DRAWN else set())


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="no local copy of MNIST")
@pytest.mark.usefixtures("train_cache")
class TestOnMnist:
    @pytest.mark.parametrize("framework", ["nnx", "linen", "equinox"])
    def test_quickstart_in_every_framework(self, framework, tmp_path):
        overrides = [f"data.path={SHARED}", "training.steps=600", f"model.framework={framework}"]
        summary = run(load(CONFIGS / "quickstart.toml", overrides), tmp_path)
        assert summary["metrics"]["test/accuracy"] > 0.95

    def test_the_official_example(self, tmp_path):
        config = load(CONFIGS / "hoffman-mlp.toml", [f"data.path={SHARED}"])
        summary = run(config, tmp_path)
        assert abs(summary["metrics"]["test/accuracy"] - 0.970) <= 0.005
