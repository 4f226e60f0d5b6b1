"""Configs: what is accepted, and that every mistake is one clear message."""

import math
import tomllib

import pytest

from train import config as configs
from train.config import dump, load, parse
from train.errors import ConfigError
from train.named import Named

MINIMAL = """
[experiment]
name = "tiny"
[data]
name = "digits"
[model]
name = "lenet"
[task]
name = "classification"
[training]
steps = 3
"""
PENALTY = """
[[penalty]]
name = "jacobian"
weight = 0.01
method = "projection"
"""


def tables(text=MINIMAL):
    return tomllib.loads(text)


def put(path, value, text=MINIMAL + PENALTY):
    config = tables(text)
    *sections, last = path.split(".")
    node = config
    for part in sections:
        node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
    node[last] = value
    return config


def message(config) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(config, "x.toml")
    text = str(caught.value)
    assert len(text) < 1500
    assert "\n" not in text
    return text


def test_defaults_are_filled_in():
    config = parse(tables(), "x.toml")
    assert config.experiment.seed == 0
    assert config.data.batch_size == 100
    assert config.model.framework == "nnx"
    assert config.penalty == ()
    assert config.optimizer.schedule == Named("constant")
    assert (config.parallel.data, config.parallel.hosts) == (1, 1)


def test_methods_by_string_or_table():
    by_name = parse(tables(MINIMAL + PENALTY), "x.toml").penalty[0]
    table = {"name": "projection", "num_probes": 3, "mode": "forward"}
    by_table = parse(put("penalty.0.method", table), "x.toml").penalty[0]
    assert by_name.method.options["num_probes"] == 1
    assert by_table.method.options["num_probes"] == 3
    assert by_table.method.options["mode"] == "forward"


@pytest.mark.parametrize(
    "path", ["experiment.name", "data.name", "model.name", "task.name", "training.steps"]
)
def test_required_keys(path):
    config = tables()
    section, key = path.split(".")
    del config[section][key]
    assert path in message(config)
    del config[section]
    assert path in message(config)


def test_a_path_stands_in_for_the_data_name():
    config = tables()
    config["data"] = {"path": "some/folder"}
    assert parse(config, "x.toml").data.path == "some/folder"


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("training.step", "training.steps"),
        ("trainin", "training"),
        ("optimizer.lerning_rate", "optimizer.learning_rate"),
        ("penalty.0.wieght", "penalty.0.weight"),
        ("model.droput", "model.dropout"),
        ("task.label_smothing", "task.label_smoothing"),
        ("penalty.0.schedul", "penalty.0.schedule"),
    ],
)
def test_unknown_keys_name_the_path_and_the_nearest(path, near):
    text = message(put(path, 1))
    assert path in text
    assert near in text.split("nearest known")[1]


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("training.steps", "many", "integer >= 1"),
        ("training.steps", 0, "integer >= 1"),
        ("training.steps", True, "integer"),
        ("training.steps", 3.0, "integer"),
        ("training.steps", 10**30, "integer"),
        ("training.log_every", 0, ">= 1"),
        ("experiment.seed", -1, ">= 0"),
        ("experiment.name", "", "not empty"),
        ("experiment.name", "../elsewhere", "letters"),
        ("experiment.name", 5, "string"),
        ("data.batch_size", False, "integer"),
        ("data.mean", "grey", "number"),
        ("data.std", 0.0, "> 0"),
        ("data.std", [0.3, -1.0], "> 0"),
        ("model.framework", "equinoks", 'Did you mean "equinox"'),
        ("model.framework", "torch", '"linen"'),
        ("model.layout", ["NHWC", "HWIO"], "a list of 3, each"),
        ("model.layout", "NHWC", "list"),
        ("model.name", "lenett", 'Did you mean "lenet"'),
        ("task.name", "clasification", 'Did you mean "classification"'),
        ("penalty.0.name", "jacobean", 'Did you mean "jacobian"'),
        ("penalty.0.weight", math.nan, "finite"),
        ("penalty.0.weight", math.inf, "finite"),
        ("penalty.0.weight", -0.1, ">= 0"),
        ("penalty.0.weight", True, "number"),
        ("penalty.0.weight", "0.1", "number"),
        ("penalty.0.every", 0, ">= 1"),
        ("penalty.0.statistics", "runing", 'Did you mean "running"'),
        ("penalty.0.method", "projektion", 'Did you mean "projection"'),
        ("penalty.0.method", 3, "or a table"),
        ("penalty.0.method", {"name": "projection", "probes": 2}, "num_probes"),
        ("penalty.0.method", {"name": "projection", "num_probes": 0}, "at least 1"),
        ("penalty.0.method", {"name": "projection", "mode": "sideways"}, "reverse"),
        ("penalty.0.method", {"num_probes": 2}, "method.name is missing"),
        ("penalty.0.schedule", {"name": "ramp", "begin": 2.0}, "<= 1"),
        ("penalty.0.schedule", {"name": "ramp", "begin": 0.8, "end": 0.5}, "begin <= end"),
        ("optimizer.learning_rate", 0, "> 0"),
        ("optimizer.learning_rate", math.inf, "finite"),
        ("optimizer.momentum", 1.0, "<= 0.999999"),
        ("optimizer.schedule", "cosin", 'Did you mean "cosine"'),
        ("evaluation.noise", 0.1, "list"),
        ("evaluation.noise", [0.1, 2.0], "<= 1"),
        ("parallel.data", 0, ">= 1"),
    ],
)
def test_bad_values_name_path_value_and_expectation(path, value, expected):
    text = message(put(path, value))
    assert path in text
    assert expected in text


@pytest.mark.parametrize("section", ["training", "penalty"])
def test_sections_of_the_wrong_kind(section):
    config = tables(MINIMAL + PENALTY)
    config[section] = {"name": "jacobian"} if section == "penalty" else 3
    assert section in message(config)


def test_all_mistakes_are_told_at_once():
    config = tables()
    config["optimiser"] = {"name": "adam"}
    config["training"] = {"stesp": 10, "log_every": 0}
    config["penalty"] = [{"name": "jacobian"}, {"name": "jacobain", "weight": 1.0}]
    told = message(config)
    assert told.startswith("x.toml: 5 mistakes. (1) ")
    # In the order of the sections; a misspelt key is not called missing as well.
    places = [
        told.index(begin)
        for begin in (
            "(1) optimiser: unknown section. The nearest known section is optimizer.",
            "(2) penalty.0.weight is missing",
            "(3) penalty.1.name: got 'jacobain' (string), expected one of \"jacobian\"",
            "(4) training.stesp: unknown key. The nearest known key is training.steps.",
            "(5) training.log_every: got 0 (integer), expected an integer >= 1.",
        )
    ]
    assert places == sorted(places)
    assert "training.steps is missing" not in told


def test_a_key_of_another_row_is_told_with_the_rows_that_have_it():
    model = message(put("model", {"name": "lenet", "hidden": [3]}))
    assert 'model.hidden: unknown key here; it is one of "lipschitz_cnn", "mlp",' in model
    penalty = message(put("penalty.0.scale", 0.1))
    assert 'penalty.0.scale: unknown key here; it is one of "noise_injection",' in penalty
    assert "nearest known key is model.activation" in message(put("model.activatoin", "relu"))


def test_of_many_mistakes_the_first_are_told():
    config = tables()
    config["training"] |= {f"wrong{number}": 1 for number in range(9)}
    told = message(config)
    assert told.startswith("x.toml: 9 mistakes. (1) training.wrong0: unknown key.")
    assert "(5) training.wrong4" in told
    assert told.endswith(" and 4 more.")


def test_long_values_and_names_stay_in_a_short_message():
    assert "experiment.name" in message(put("experiment.name", "x" * 5000))
    message(put("training." + "k" * 5000, 1))
    message({**tables(), "s" * 5000: {}})
    message(put("evaluation.noise", [2.0] * 5000))


def test_the_resolved_config_parses_to_itself():
    config = parse(put("penalty.0.schedule", {"name": "ramp", "end": 0.5}), "x.toml")
    again = parse(tomllib.loads(dump(config)), "x.toml")
    assert again == config
    assert dump(again) == dump(config)


@pytest.mark.parametrize("text", ['quo"te', "back\\slash", "é ü 漢字 🙂", "tab?"])
def test_strings_survive_being_written(text):
    config = parse(put("data.path", text), "x.toml")
    assert parse(tomllib.loads(dump(config)), "x.toml").data.path == text


class TestFiles:
    def write(self, tmp_path, text):
        path = tmp_path / "config.toml"
        path.write_text(text)
        return path

    def error(self, path, *overrides):
        with pytest.raises(ConfigError) as caught:
            load(path, overrides)
        assert len(str(caught.value)) < 1500
        return str(caught.value)

    def test_overrides(self, tmp_path):
        path = self.write(tmp_path, MINIMAL + PENALTY)
        config = load(
            path,
            [
                "penalty.0.weight=0",
                "data.name=mnist-5k",
                "training.steps = 7",
                'optimizer.schedule={name = "cosine", warmup = 0.1}',
                'model.layout=["NCHW", "OIHW", "NCHW"]',
                'penalty.0.method={name="projection", num_probes=2}',
            ],
        )
        assert config.penalty[0].weight == 0
        assert config.data.name == "mnist-5k"
        assert config.training.steps == 7
        assert config.optimizer.schedule.options["warmup"] == 0.1
        assert config.model.layout == ("NCHW", "OIHW", "NCHW")
        assert config.penalty[0].method.options["num_probes"] == 2

    def test_a_value_cannot_smuggle_in_another_key(self, tmp_path):
        path = self.write(tmp_path, MINIMAL)
        text = self.error(path, "training.steps=5\nother=1")
        assert "training.steps" in text

    @pytest.mark.parametrize(
        ("override", "expected"),
        [
            ("training.steps", "section.key=value"),
            ("=3", "section.key=value"),
            ("training..steps=3", "section.key=value"),
            ("training.steps=abc", "integer"),
            ("training.stepz=3", "training.steps"),
            ("penalty.1.weight=0", "indices 0 to 0"),
            ("penalty.first.weight=0", "index"),
            ("penalty.0.method.num_probes=2", "table"),
            ("experiment=3", "expected a table"),
        ],
    )
    def test_bad_overrides(self, tmp_path, override, expected):
        assert expected in self.error(self.write(tmp_path, MINIMAL + PENALTY), override)

    def test_the_file_is_checked_before_the_overrides(self, tmp_path):
        path = self.write(tmp_path, MINIMAL.replace("steps = 3", "log_every = 3"))
        assert "training.steps is missing" in self.error(path, "training.steps=3")

    def test_files_that_are_no_config(self, tmp_path):
        assert "no such" in self.error(tmp_path / "absent.toml")
        assert "a folder" in self.error(tmp_path)
        assert "not valid TOML" in self.error(self.write(tmp_path, "[training\nsteps = 3"))
        binary = tmp_path / "binary.toml"
        binary.write_bytes(b"\xff\xfe\x00")
        assert "UTF-8" in self.error(binary)


def test_differences_name_the_paths():
    old = parse(tables(MINIMAL + PENALTY), "x.toml")
    new = parse(put("penalty.0.weight", 0.5), "x.toml")
    assert configs.differences(old, old) == []
    assert configs.differences(old, new) == ["penalty.0.weight: 0.01 -> 0.5"]


def test_the_framework_is_the_networks_first_where_it_is_left_out():
    config = tables()
    assert parse(config, "x.toml").model.framework == "nnx"
    config["model"] = {"name": "flow"}
    assert parse(config, "x.toml").model.framework == "equinox"
    config["model"]["framework"] = "linen"
    assert "model.framework" in message(config)
