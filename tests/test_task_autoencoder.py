"""The autoencoder task: its two phases, its sources, what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from train_setup import BASE, train_cache, undrawn  # noqa: F401

from train import data, records
from train.config import parse
from train.corruptions import CORRUPTIONS
from train.errors import ConfigError, InterruptedRun
from train.loop import Loop
from train.networks import build_model
from train.run import run
from train.step import INIT_PURPOSE, purpose_key
from train.tasks import make_problem

BASE_MODEL = {"name": "autoencoder", "hidden": [12]}
FRAMEWORKS = ["nnx", "equinox"]
KEYS = (jax.random.key(1), jax.random.key(2))


def config(penalty=(), task=(), **sections):
    tables = {
        **BASE,
        "model": BASE_MODEL,
        "task": {"name": "autoencoder", **dict(task)},
        "penalty": list(penalty),
        "optimizer": {"learning_rate": 0.1},
        "training": {"steps": 30, "log_every": 10, "checkpoint_every": 10},
        "evaluation": {"jacobian_examples": 10},
        **sections,
    }
    return parse(tables, "x")


def problem(*arguments, **sections):
    made = config(*arguments, **sections)
    return make_problem(made, data.load(made.data))


def module_of(made, model=BASE_MODEL, params=None):
    """The network with the problem's parameters, or with others."""
    set_up = config(model=model)
    key = purpose_key(set_up.experiment.seed, INIT_PURPOSE)
    built = build_model(set_up.model, data.load(set_up.data), 10, key)
    return built.merge(made.params if params is None else params, made.state)


def first_metrics(made):
    rows = {name: array[:16] for name, array in made.examples.items()}
    xs, targets = made.prepare(rows)
    objective = jax.jit(made.objective)
    return objective(made.params, made.state, xs, targets, KEYS, jnp.int32(0))[1][1], xs


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_closed_form_is_the_exact_penalty_of_the_encoder(framework):
    table = [{"name": "dense_contractive", "weight": 1}, {"name": "contractive", "weight": 1}]
    metrics, _ = first_metrics(problem(table, model={**BASE_MODEL, "framework": framework}))
    closed, exact = metrics["penalty/dense_contractive"], metrics["penalty/contractive"]
    np.testing.assert_allclose(closed, exact, rtol=1e-5)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_weight_decay_is_the_squared_norm_of_the_kernels(framework):
    table = {"name": "autoencoder", "hidden": [12, 5], "framework": framework}
    made = problem([{"name": "weight_decay", "weight": 1}], model=table)
    kernels = module_of(made, model=table).kernels()
    assert [kernel.shape for kernel in kernels] == [(64, 12), (12, 5)]
    truth = sum(float(np.sum(np.square(kernel, dtype=np.float64))) for kernel in kernels)
    np.testing.assert_allclose(first_metrics(made)[0]["penalty/weight_decay"], truth, rtol=1e-5)


def test_the_loss_is_a_sum_over_pixels():
    made = problem()
    metrics, xs = first_metrics(made)
    module = module_of(made)
    probability = np.asarray(jax.nn.sigmoid(module(xs)), np.float64)
    values = np.asarray(xs, np.float64)
    truth = -np.sum(values * np.log(probability) + (1 - values) * np.log1p(-probability), -1).mean()
    np.testing.assert_allclose(metrics["task_loss"], truth, rtol=1e-5)
    assert xs.shape == (16, 64)
    assert 0 <= values.min() < values.max() <= 1


@pytest.mark.parametrize("name", ["gaussian", "masking"])
def test_corruptions(name):
    options = {"gaussian": {"scale": 0.5}, "masking": {"fraction": 0.25}}[name]
    xs = jnp.ones((200, 50))
    found = np.asarray(CORRUPTIONS[name](**options)(xs, KEYS[0]))
    if name == "masking":
        assert set(np.unique(found)) == {0.0, 1.0}
        assert abs(np.mean(found == 0) - 0.25) < 5 * (0.25 * 0.75 / xs.size) ** 0.5
    else:
        assert abs(np.std(found - 1) - 0.5) < 5 * 0.5 / (2 * xs.size) ** 0.5


@pytest.mark.usefixtures("train_cache", "undrawn")
class TestRuns:
    def test_phases_and_a_restart_in_the_second(self, tmp_path):
        options = {"pretrain_steps": 20}
        table = [{"name": "contractive", "weight": 0.1, "method": "projection"}]
        whole = run(config(table, options), tmp_path / "whole")
        lines = records.MetricsLog(tmp_path / "whole" / records.METRICS).read()
        assert [line["step"] for line in lines] == [10, 20, 30]
        assert lines[1]["train/penalty/contractive"] > 0
        assert lines[2]["train/penalty/contractive"] == 0
        assert lines[2]["train/loss"] < 5 < lines[1]["train/loss"]
        measured = whole["metrics"]
        assert measured["pretrain/jacobian_norm"] != measured["test/jacobian_norm"]
        assert 0 < measured["test/accuracy"] < 1

        stopped = tmp_path / "stopped"
        original = Loop._record

        def record(self, step, *rest):
            if step == 30:
                raise InterruptedRun("stopped here", 15)
            return original(self, step, *rest)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Loop, "_record", record)
            with pytest.raises(InterruptedRun):
                run(config(table, options), stopped)
        assert (stopped / "checkpoints" / "20").exists()
        resumed = run(config(table, options), stopped)
        assert resumed["params_sha256"] == whole["params_sha256"]
        assert resumed["metrics"] == measured

    def test_a_line_ends_with_its_phase(self, tmp_path):
        """No mean over steps of two objectives."""
        table = [{"name": "contractive", "weight": 0.1, "method": "projection"}]
        training = {"steps": 8, "log_every": 5, "checkpoint_every": 100}
        evaluation = {"jacobian": False}
        made = config(table, {"pretrain_steps": 3}, training=training, evaluation=evaluation)
        run(made, tmp_path)
        lines = records.MetricsLog(tmp_path / records.METRICS).read()
        assert [line["step"] for line in lines] == [3, 5, 8]
        assert lines[0]["train/loss"] > 20
        assert all(line["train/loss"] < 5 for line in lines[1:])

    def test_without_classes_it_only_pre_trains(self, tmp_path):
        found = run(
            config(
                data={"name": "two-moons", "num_examples": 100, "num_test": 50},
                task={"reconstruction": "squared_error"},
                model={"name": "autoencoder", "hidden": [6, 1], "activation": "tanh"},
            ),
            tmp_path,
        )
        assert "test/accuracy" not in found["metrics"]
        assert found["metrics"]["test/reconstruction"] > 0


@pytest.mark.parametrize(
    ("sections", "path"),
    [
        ({"model": {"name": "mlp"}}, r"model\.name"),
        ({"task": {"pretrain_steps": 31}}, r"task\.pretrain_steps"),
        (
            {
                "task": {"pretrain_steps": 0},
                "penalty": [{"name": "contractive", "weight": 1}],
            },
            r"task\.pretrain_steps: got 0",
        ),
        ({"data": {"name": "digits", "mean": 0.5}}, r"data\.mean"),
        ({"data": {"name": "two-moons"}}, r"task\.reconstruction"),
        (
            {
                "data": {"name": "two-moons"},
                "task": {"pretrain_steps": 3, "reconstruction": "squared_error"},
            },
            r"task\.pretrain_steps.*no class labels",
        ),
        ({"penalty": [{"name": "kinetic_energy", "weight": 1}]}, r"penalty\.0\.name"),
        (
            {
                "penalty": [{"name": "dense_contractive", "weight": 1}],
                "model": {"name": "autoencoder", "hidden": [4, 3]},
            },
            r"reads dense",
        ),
    ],
)
def test_what_does_not_fit(sections, path):
    with pytest.raises(ConfigError, match=path):
        problem(**sections)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "softplus"])
def test_saturation_counts_the_units_near_an_end(activation):
    table = {"name": "autoencoder", "hidden": [12], "activation": activation}
    made = problem(model=table)
    large = jax.tree.map(lambda leaf: 8 * leaf, made.params)
    found = made.evaluate(large, made.state, False)
    if activation == "softplus":
        assert "test/saturation" not in found
        return
    xs, _ = made.prepare({"inputs": data.load(config().data).test.inputs})
    hidden = np.asarray(module_of(made, model=table, params=large).encode(xs), np.float64)
    low = 0 if activation == "sigmoid" else -1
    share = (hidden - low) / (1 - low)
    truth = np.mean((share < 0.05) | (share > 0.95))
    assert 0.1 < truth < 0.95
    np.testing.assert_allclose(found["test/saturation"], truth, rtol=1e-4)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("hidden", [[6], [6, 3]])
def test_the_norm_is_that_of_the_dense_jacobian(hidden, framework):
    table = {"name": "autoencoder", "hidden": hidden, "framework": framework}
    made = problem(model=table)
    found = made.evaluate(made.params, made.state, True)["test/jacobian_norm"]
    module = module_of(made, model=table)
    test = data.load(config().data).test
    xs, _ = made.prepare({"inputs": test.inputs[:10]})
    one = module.encode if framework == "equinox" else lambda x: module.encode(x[None])[0]
    rows = jax.vmap(jax.jacrev(one))(xs)
    truth = np.mean(np.linalg.norm(np.asarray(rows, np.float64).reshape(10, -1), axis=-1))
    np.testing.assert_allclose(found, truth, rtol=1e-5)
