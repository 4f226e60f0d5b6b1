"""The networks of two frameworks through `train`: one config, one run to rounding; restarts."""

import functools
from pathlib import Path

import numpy as np
import pytest
from train_setup import train_cache, undrawn  # noqa: F401

from train import records
from train.config import load
from train.errors import InterruptedRun
from train.loop import Loop
from train.run import run

pytestmark = pytest.mark.usefixtures("train_cache", "undrawn")

SMOKE = Path(__file__).parents[1] / "configs" / "smoke"
FEW = ["training.steps=4", "training.log_every=2", "training.checkpoint_every=2"]
CONFIGS = {
    "autoencoder": ["task.pretrain_steps=2", "model.hidden=[6, 4]", "training.eval_every=4"],
    "batch-norm": ["evaluation.jacobian=false", "evaluation.noise=[]"],
    "score-images": ["model.widths=[2, 3]", "training.eval_every=4", "task.num_samples=2"],
}


def config(name, framework, *overrides):
    given = [*FEW, *CONFIGS[name], f"model.framework={framework}", *overrides]
    return load(SMOKE / f"{name}.toml", given)


@pytest.fixture(scope="module")
def equinox_run(tmp_path_factory, train_cache):  # noqa: F811
    """A run of each config in Equinox: its folder and its summary, trained once."""

    @functools.cache
    def finished(name):
        workdir = tmp_path_factory.mktemp(name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("train.figures.draw_run", lambda workdir: [])
            return workdir, run(config(name, "equinox"), workdir)

    return finished


@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_is_the_same_in_both_frameworks(name, tmp_path, equinox_run):
    # A transposed layout where there are images: batches come apart and together again.
    layout = ['model.layout=["HWCN", "IWOH", "CNHW"]'] if name == "score-images" else []
    run(config(name, "nnx", *layout), tmp_path)
    workdirs = (tmp_path, equinox_run(name)[0])
    lines = [records.MetricsLog(workdir / records.METRICS).read() for workdir in workdirs]
    for first, other in zip(*lines, strict=True):
        assert first.keys() == other.keys()
        for key, value in first.items():
            np.testing.assert_allclose(other[key], value, rtol=1e-3, atol=1e-5, err_msg=key)
    assert lines[0][0]["train/loss"] > 0


def test_an_equinox_resnet_goes_on_where_it_was_stopped(tmp_path, equinox_run):
    """Bit for bit, its running statistics too, on which the evaluation rests."""
    _, whole = equinox_run("batch-norm")
    original = Loop._record

    def record(self, step, *rest):
        if step == 4:
            raise InterruptedRun("stopped here", 15)
        return original(self, step, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "_record", record)
        with pytest.raises(InterruptedRun):
            run(config("batch-norm", "equinox"), tmp_path)
    assert (tmp_path / "checkpoints" / "2").exists()
    resumed = run(config("batch-norm", "equinox"), tmp_path)
    assert resumed["params_sha256"] == whole["params_sha256"]
    assert resumed["metrics"] == whole["metrics"]
