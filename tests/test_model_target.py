"""`model.target`: a class of the user's own in a config, from the folder where the command runs."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from train_setup import tiny, train_cache, undrawn  # noqa: F401

from train.__main__ import main
from train.config import dump, parse
from train.errors import ConfigError, WorkdirError
from train.own import framework_of
from train.prepare import prepare
from train.progress import Reporter
from train.restore import restore
from train.run import run

pytestmark = pytest.mark.usefixtures("train_cache")
HERE = Path(__file__).parent
FEW = {"steps": 6, "log_every": 3, "eval_every": 0}
LITTLE = {"noise": [], "fgsm": [], "pgd": []}


def own(target, options=None, **sections):
    model = {"target": target, "options": options or {}, **sections.pop("model", {})}
    base = tiny(training=FEW, evaluation=LITTLE, **sections)
    tables = {**_tables(base), "model": model}
    return parse(tables, "own")


def _tables(config):
    import tomllib

    return tomllib.loads(dump(config))


@pytest.mark.parametrize(
    ("target", "options", "layout"),
    [
        ("own_models:Normed", {"inputs": 64, "outputs": 10}, None),
        ("own_models:Stateful", {"inputs": 64, "outputs": 10, "width": 5}, None),
        ("own_models:ChannelsFirst", {"outputs": 10}, ["NCHW", "OIHW", "NCHW"]),
        ("own_models:made_by_a_function", {"width": 4}, None),
    ],
)
def test_it_trains_and_is_recorded(target, options, layout, tmp_path, capsys):
    model = {} if layout is None else {"layout": layout}
    config = own(target, options, model=model)
    assert parse(_tables(config), "again") == config, "what is written says the same"
    summary = run(config, tmp_path)
    assert summary["metrics"]["test/jacobian_norm"] > 0
    assert (tmp_path / "figures" / "sensitivity.png").exists()
    assert f"{target} is imported from {HERE / 'own_models.py'}" in capsys.readouterr().out
    record = json.loads((tmp_path / "environment.json").read_text())["model"]
    assert record["target"] == target
    assert Path(record["file"]).name == "own_models.py"
    assert restore(tmp_path).config == config


@pytest.mark.usefixtures("undrawn")
def test_from_the_folder_where_the_command_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    shutil.copy(HERE / "own_models.py", tmp_path / "mine_alone.py")
    config = own("mine_alone:Normed", {"inputs": 64, "outputs": 10})
    (tmp_path / "c.toml").write_text(dump(config))
    assert main(["c.toml", "--workdir", "run"]) == 0
    assert str(tmp_path) not in sys.path
    assert str(tmp_path / "mine_alone.py") in capsys.readouterr().out
    # A run must meet the file that it began with: a result would be that of the old one.
    assert main(["c.toml", "--workdir", "run"]) == 0
    with (tmp_path / "mine_alone.py").open("a") as file:
        file.write("# changed\n")
    for finished in (True, False):
        if not finished:
            (tmp_path / "run" / "summary.json").unlink()
        with pytest.raises(WorkdirError, match=r"another version of .*mine_alone"):
            run(config, tmp_path / "run")
    del sys.modules["mine_alone"]


RUNTIME = [
    ("own_models:Norm", {}, "has no Norm. The nearest name is Normed"),
    ("own_modls:Normed", {}, "there is no module own_modls in"),
    ("own_models:WIDTH", {}, "expected a class of nnx or Equinox modules"),
    ("own_models:Normed", {"inputs": 64}, "missing 1 required positional argument: 'outputs'"),
    ("own_models:Normed", {"inputs": 64, "outputs": 10, "wdth": 3}, "called as own_models:No"),
    ("own_models:Normed", {"inputs": 9, "outputs": 10}, "does not take inputs of shape (8, 8, 1)"),
    ("own_models:Normed", {"inputs": 64, "outputs": 7}, "returns shape (2, 7)"),
    ("own_models:ChannelsFirst", {"outputs": 10}, 'layout = ["NCHW", "OIHW", "NCHW"]'),
    ("own_models:OfBatches", {}, "(64,) and (8,).). It is called on one example, (8, 8, 1)."),
    ("equinox.nn:Linear", {"in_features": 64, "out_features": 10}, "begin its call with x = x.rav"),
    ("flax.nnx:Linear", {"in_features": 64, "out_features": 10}, "begin its call with xs = xs.res"),
    ("own_models:Centred", {}, "mixes the rows of a batch in evaluation mode, too"),
    ("fractions:Fraction", {"numerator": 3}, "expected an nnx module"),
]  # fmt: skip


@pytest.mark.parametrize(("target", "options", "said"), RUNTIME)
def test_what_does_not_fit_leaves_no_trace(target, options, said, tmp_path):
    with pytest.raises(ConfigError) as caught:
        run(own(target, options), tmp_path / "run")
    assert said in str(caught.value)
    assert "model.name" not in str(caught.value), "the config has model.target"
    assert ("layout" in str(caught.value)) == (target == "own_models:ChannelsFirst")
    assert len(str(caught.value)) < 1500
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise SystemExit(3)", "cannot be imported (SystemExit: 3). What a script does"),
        ("import argparse\nargparse.ArgumentParser().parse_args(['x'])", "(SystemExit: 2). What"),
        (
            "def Net(rngs):\n    raise SystemExit('no')",
            "model.options: a_script:Net cannot be made",
        ),
    ],
)
def test_a_script_that_leaves_is_told(text, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_script.py").write_text(text)
    (tmp_path / "c.toml").write_text(dump(own("a_script:Net")))
    try:
        assert main(["c.toml", "--workdir", "run"]) == 2
    finally:
        sys.modules.pop("a_script", None)
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


PARSED = [
    ({"target": "own_models"}, "model.target: got 'own_models', expected \"package.module:Name\""),
    ({"target": "a:B", "name": "mlp"}, "got a name and a target"),
    ({"target": "a:B", "optoins": {}}, "nearest known key is model.options"),
    ({"target": "a:B", "width": 3}, "model.width: unknown key"),
    ({"target": "a:B", "options": 3}, "expected a table"),
    ({"target": "a:B", "layout": ["NHHC", "HWIO", "NHWC"]}, "model.layout"),
    ({}, "model.name is missing"),
]


@pytest.mark.parametrize(("model", "said"), PARSED)
def test_a_config_is_checked_without_importing(model, said):
    with pytest.raises(ConfigError) as caught:
        parse({**_tables(tiny()), "model": model}, "own")
    assert said in str(caught.value)


def test_a_layout_that_is_too_much(tmp_path):
    given = {"layout": ["NCHW", "OIHW", "NCHW"]}
    with pytest.raises(ConfigError, match=r"H, W, C: remove `layout` in section \[model\]"):
        run(own("own_models:ChannelsLast", {"outputs": 10}, model=given), tmp_path / "run")


@pytest.mark.parametrize(
    ("target", "framework"), [("Normed", "nnx"), ("Stateful", "equinox"), (None, "nnx")]
)
def test_a_plan_says_its_framework(target, framework):
    options = {"inputs": 64, "outputs": 10} if target else {"width": 4}
    config = own(f"own_models:{target or 'made_by_a_function'}", options)
    assert framework_of(config.model) == framework


@pytest.mark.parametrize("statistics", ["held", "running"])
def test_a_penalty_through_running_statistics_is_told_of(statistics, capsys):
    penalty = [{"name": "jacobian", "weight": 0.1, "statistics": statistics}]
    config = own("own_models:Normed", {"inputs": 64, "outputs": 10}, penalty=penalty)
    prepare(config, None, None, Reporter("title", 1))
    told = "penalty.0.statistics is" in capsys.readouterr().out
    assert told == (statistics == "running")


def test_a_penalty_that_needs_a_loss_an_example_is_refused_under_batchnorm():
    penalty = [{"name": "loss_gradient", "weight": 0.1}]
    config = own("own_models:Normed", {"inputs": 64, "outputs": 10}, penalty=penalty)
    with pytest.raises(ConfigError, match="with BatchNorm the rows of a batch share a loss"):
        prepare(config, None, None, Reporter("title", 1))


def test_another_framework_is_refused(tmp_path):
    config = own("own_models:Normed", {"inputs": 64, "outputs": 10}, model={"framework": "equinox"})
    with pytest.raises(ConfigError, match="is a module of nnx; leave it out"):
        run(config, tmp_path / "run")
