"""What the tests of training share: a config that trains in a second."""

import pytest

from train.config import parse

BASE = {
    "experiment": {"name": "tiny", "seed": 3},
    "data": {"name": "digits", "batch_size": 32},
    "model": {"name": "mlp", "hidden": [12]},
    "task": {"name": "classification"},
    "penalty": [{"name": "jacobian", "weight": 0.01}],
    "optimizer": {"learning_rate": 0.1, "schedule": "thirds"},
    "training": {"steps": 30, "log_every": 10, "eval_every": 15, "checkpoint_every": 12},
    "evaluation": {"noise": [0.2], "pgd_steps": 3, "attack_examples": 50},
}


def tiny(**sections):
    """Return the tiny config with keys of its sections changed; penalty replaces the list."""
    tables = {
        name: {**table, **sections.get(name, {})} if isinstance(table, dict) else table
        for name, table in BASE.items()
    }
    if "penalty" in sections:
        tables["penalty"] = sections["penalty"]
    for name in sections.keys() - BASE.keys():
        tables[name] = sections[name]
    return parse(tables, "tiny")


@pytest.fixture(scope="module")
def train_cache(tmp_path_factory):
    """A cache folder of the test module's own for data sets; programs stay in the suite's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JACREG_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures take longer than a short run: where nothing is said of them none is drawn."""
    monkeypatch.setattr("train.figures.draw_run", lambda workdir: [])
