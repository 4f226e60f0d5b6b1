"""`choose` in a config: measured once, written down, taken again by the run that goes on."""

import json
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest
from train_setup import tiny, train_cache, undrawn  # noqa: F401

import jacreg
import train
from train.__main__ import main
from train.config import dump, load
from train.methods import make_method

ROOT = Path(__file__).resolve().parents[1]
CHOOSE = "penalty.0.method={name='choose', budget=3}"
pytestmark = pytest.mark.usefixtures("train_cache", "undrawn")


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(dump(tiny()))
    return str(path)


def never(*args, **kwargs):
    raise AssertionError("chosen again")


def test_the_choice_is_written_down_and_kept(config_file, tmp_path, capsys, monkeypatch):
    workdir = tmp_path / "run"
    command = [config_file, "training.steps=4", CHOOSE, "--workdir", str(workdir)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "choose: frobenius, at most 3 products" in said
    assert "chosen: " in said
    options = load(workdir / "config.toml").penalty[0].method.options
    chosen = make_method(options["chosen"])
    assert options["budget"] == 3
    assert isinstance(chosen, jacreg.Projection)
    assert chosen.num_probes == 3
    digest = json.loads((workdir / "summary.json").read_text())["params_sha256"]

    # A run that goes on measures nothing, whatever would be faster now.
    monkeypatch.setattr(jacreg, "choose", never)
    (workdir / "summary.json").unlink()
    assert main(command) == 0
    assert json.loads((workdir / "summary.json").read_text())["params_sha256"] == digest

    # Another budget is another config.
    capsys.readouterr()
    assert main([each.replace("budget=3", "budget=4") for each in command]) == 2
    assert "penalty.0.method.budget: 3 -> 4" in capsys.readouterr().err


def test_it_is_kept_beside_a_callable_penalty(tmp_path, monkeypatch):
    def half_squared(lin, key):
        return jacreg.losses.jacobian_penalty(lin, key=key)

    def fit():
        inputs = np.linspace(-1, 1, 40, dtype=np.float32).reshape(20, 2)
        data = (inputs, np.arange(20) % 2)
        chosen = {"name": "contractive", "weight": 0.1, "method": {"name": "choose", "budget": 1}}
        model = eqx.nn.MLP(2, 2, 3, 1, key=jax.random.key(0))
        penalties = [chosen, (0.1, half_squared)]
        return train.fit(model, data, penalties=penalties, steps=2, workdir=tmp_path / "run")

    first = fit()
    monkeypatch.setattr(jacreg, "choose", never)
    (tmp_path / "run" / "summary.json").unlink()
    assert fit().metrics == first.metrics


def test_the_trace_of_a_score(tmp_path):
    workdir = tmp_path / "run"
    config = str(ROOT / "configs" / "smoke" / "score.toml")
    chosen = "task.method={name='choose', budget=2}"
    overrides = ["training.steps=2", "task.loss=implicit", "task.num_samples=4", chosen]
    assert main([config, *overrides, "--workdir", str(workdir)]) == 0
    method = load(workdir / "config.toml").task.options["method"]
    # Three ways without an error, a hair apart in time; never one that draws.
    assert method.options["chosen"].name in ("auto", "exact", "coloring")


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("choose", "penalty.0.method.budget"),
        ("{name='choose', budget=0}", "penalty.0.method.budget"),
        ("{name='choose', budget=2, chosen='choose'}", "penalty.0.method.chosen"),
        ("{name='choose', budget=2, chosen={name='projection', num_probes=0}}", "num_probes"),
    ],
)
def test_bad_choices(config_file, tmp_path, capsys, method, expected):
    workdir = tmp_path / "run"
    assert main([config_file, f"penalty.0.method={method}", "--workdir", str(workdir)]) == 2
    message = capsys.readouterr().err
    assert expected in message
    assert message.count("\n") == 1
    assert not workdir.exists()
