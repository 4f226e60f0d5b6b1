"""The regression task: targets, the Jacobian that a network carries, measures, pictures."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from train_setup import train_cache  # noqa: F401

import jacreg
from train import data, records
from train.config import parse
from train.data import Dataset, Examples
from train.errors import ConfigError
from train.networks import build_model
from train.run import run
from train.step import INIT_PURPOSE, purpose_key
from train.tasks import make_problem
from train.tasks._regression import check_targets
from train.tasks._regression_network import Network
from train.tasks._scaling import scaling

KEYS = (jax.random.key(1), jax.random.key(2))
MATCHING = {"name": "jacobian_matching", "weight": 1.0}


def config(model="differential_mlp", penalty=(), source="function-1d", width=8, **sections):
    tables = {
        "experiment": {"name": "fit"},
        "data": {"name": source, "batch_size": 16, **sections.pop("data", {})},
        "model": {"name": model, "hidden": [width], **sections.pop("model_options", {})},
        "task": {"name": "regression"},
        "penalty": list(penalty),
        "optimizer": {"name": "adam", "learning_rate": 0.02},
        "training": {"steps": 300, "log_every": 100},
        **sections,
    }
    return parse(tables, "x")


def problem(made, dataset=None):
    return make_problem(made, dataset or data.load(made.data))


def small(source="function-2d", **options):
    return {"num_examples": 64, "test_grid": 5 if source == "function-2d" else 40, **options}


def network_of(made, dataset):
    """The task's function of the data's coordinates, with the problem's start values."""
    key = purpose_key(made.experiment.seed, INIT_PURPOSE)
    model = build_model(made.model, dataset, 1, key)
    network = Network(
        model, scaling(made.data, dataset, -1)[1], made.model.name == "differential_mlp"
    )
    return lambda xs: network(model.params, model.state, xs)


def replaced(dataset, targets):
    return replace(
        dataset,
        train=Examples(dataset.train.inputs, targets),
        test=Examples(dataset.test.inputs, dataset.test.targets),
    )


class TestTargets:
    inputs = np.zeros((6, 2), np.float32)

    def of(self, targets):
        examples = Examples(self.inputs, targets)
        return Dataset("table", examples, examples)

    @pytest.mark.parametrize(
        ("targets", "says"),
        [
            (None, "has none"),
            (np.zeros(6, np.float32), r"\(6,\).*reshape one number"),
            (np.zeros((6, 2, 3), np.float32), r"\(6, 2, 3\)"),
            (np.zeros((6, 0), np.float32), r"\(6, 0\)"),
            (np.zeros((6, 1), np.int32), "int32"),
            ({"jacobian": np.zeros((6, 1, 2), np.float32)}, 'expected "value"'),
            ({"value": np.zeros((6, 1), np.float32), "slope": np.zeros(6)}, "slope"),
            (
                {"value": np.zeros((6, 1), np.float32), "jacobian": np.zeros((6, 2, 1))},
                r"\(6, 2, 1\); expected \(6, 1, 2\)",
            ),
            (
                {"value": np.zeros((6, 1), np.float32), "jacobian": np.zeros((6, 2))},
                r"expected \(6, 1, 2\)",
            ),
        ],
    )
    def test_a_wrong_one_is_one_clear_error(self, targets, says):
        with pytest.raises(ConfigError, match=says):
            check_targets(self.of(targets), targets)

    def test_labels_are_for_classification(self):
        with pytest.raises(ConfigError, match=r'use task.name="classification"'):
            problem(config("mlp", source="digits"))

    def test_right_ones_pass(self):
        both = {"value": np.ones((6, 1)), "jacobian": np.ones((6, 1, 2))}
        assert set(check_targets(self.of(both), both)) == {"value", "jacobian"}
        assert set(check_targets(self.of(both), np.ones((6, 3), np.float32))) == {"value"}

    def test_jacobians_that_the_data_does_not_give(self):
        made = config(penalty=[MATCHING], data=small("function-1d"))
        values = {"value": np.ones((64, 1), np.float32)}
        with pytest.raises(ConfigError, match=r"penalty\.0\.name.*which reads jacobians"):
            problem(made, replaced(data.load(made.data), values))

    @pytest.mark.parametrize("weight", [float("nan"), float("inf"), -1.0])
    def test_a_weight_that_is_no_weight(self, weight):
        with pytest.raises(ConfigError, match=r"penalty\.0\.weight.*finite number >= 0"):
            config(penalty=[{**MATCHING, "weight": weight}])


@pytest.mark.parametrize(
    ("model", "source", "options", "says"),
    [
        ("lenet", "function-1d", {}, "model"),
        ("score_mlp", "function-2d", {"hidden": []}, "returns shape"),
        ("differential_mlp", "function-1d", {"activation": "silu"}, "silu.*softplus"),
        ("differential_mlp", "function-1d", {"beta": -1.0}, "model.beta"),
    ],
)
def test_networks_that_do_not_fit(model, source, options, says):
    tables = {
        "experiment": {"name": "fit"},
        "data": {"name": source, **small(source)},
        "model": {"name": model, **options},
        "task": {"name": "regression"},
        "training": {"steps": 1},
    }
    with pytest.raises(ConfigError, match=says):
        problem(parse(tables, "x"))


@pytest.mark.parametrize("activation", ["softplus", "cos"])
def test_the_carried_jacobian_is_the_derivative_to_second_order(activation):
    made = config(
        source="function-2d",
        data={**small(), "mean": [0.5, -1.0], "std": [2.0, 0.5]},
        model_options={"activation": activation},
    )
    dataset = data.load(made.data)
    fn = network_of(made, dataset)
    xs = jnp.asarray(dataset.test.inputs[:5])
    steps = 1e-2 * jnp.eye(2)

    def jacobian_at(xs):
        return jacreg.jacobian(jacreg.linearize(fn, xs))

    def differences(fn):
        """Central differences in the data's coordinates."""
        return jnp.stack([(fn(xs + step) - fn(xs - step)) / 2e-2 for step in steps], axis=-1)

    @jax.jit
    def compared(xs):
        hessian = jacreg.jacobian(jacreg.linearize(jacobian_at, xs))
        return jacobian_at(xs), differences(fn), hessian, differences(jacobian_at)

    jacobian, slopes, hessian, curved = compared(xs)
    np.testing.assert_allclose(jacobian, slopes, atol=2e-3)
    assert float(jnp.abs(hessian).max()) > 0.01
    np.testing.assert_allclose(hessian, curved, atol=3e-3)


def objective_and_gradient(made):
    found = problem(made)
    xs, targets = found.prepare({name: array[:16] for name, array in found.examples.items()})

    def loss(params):
        return found.objective(params, found.state, xs, targets, KEYS, jnp.int32(0))

    gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))
    return gradient(found.params), found, xs, targets


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_loss_and_gradient_against_the_networks_two_outputs(weight):
    made = config(penalty=[{**MATCHING, "weight": weight}], source="function-2d", data=small())
    ((loss, (_, metrics, _)), gradient), found, xs, targets = objective_and_gradient(made)
    model = build_model(made.model, data.load(made.data), 1, jax.random.key(0))

    def direct(params):
        (ys, slopes), _ = model.apply(params, model.state, xs)
        errors = jnp.sum((slopes - targets["jacobian"]) ** 2, (1, 2))
        return jnp.mean(jnp.sum((ys - targets["value"]) ** 2, 1) + weight * errors)

    expected, expected_gradient = jax.jit(jax.value_and_grad(direct))(found.params)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert ("penalty/jacobian_matching" in metrics) == (weight > 0)
    jax.tree.map(
        lambda got, want: np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-5),
        gradient,
        expected_gradient,
    )


def test_other_penalties_read_the_carried_jacobian_too():
    penalties = [
        {"name": "contractive", "weight": 1.0},
        {"name": "noise_injection", "weight": 1.0, "scale": 1e-2, "num_probes": 400},
    ]
    ((_, (_, metrics, _)), _), _, _, _ = objective_and_gradient(
        config(penalty=penalties, source="function-2d", data=small())
    )
    exact, estimate = metrics["penalty/contractive"], metrics["penalty/noise_injection"]
    assert float(abs(estimate - exact)) < 0.1 * float(exact)


@pytest.mark.parametrize("statistics", ["held", "running", "batch"])
def test_batch_norm_is_trained_and_measured_by_its_running_statistics(statistics):
    made = parse(
        {
            "experiment": {"name": "fit"},
            "data": {"name": "function-2d", "batch_size": 16, **small()},
            "model": {"target": "own_models:Normed", "options": {"inputs": 2, "outputs": 1}},
            "task": {"name": "regression"},
            "penalty": [{"name": "jacobian", "weight": 0.1, "statistics": statistics}],
            "training": {"steps": 10},
        },
        "x",
    )
    found = problem(made)
    assert not found.rows_independent
    assert found.notes["penalty_statistics"] == {"jacobian": statistics}
    xs, targets = found.prepare({name: array[:16] for name, array in found.examples.items()})
    _, outcome = found.objective(
        found.params, found.state, xs, targets, KEYS, jnp.asarray(0, jnp.int32)
    )
    moved = jax.tree.map(lambda old, new: not np.array_equal(old, new), found.state, outcome.state)
    assert any(jax.tree.leaves(moved))
    if statistics != "batch":
        model = build_model(made.model, data.load(made.data), 1, jax.random.key(0))
        train = statistics == "held"

        def fn(xs):
            return model.apply(found.params, found.state, xs, train=train, key=KEYS[0])[0]

        fn = jacreg.hold_statistics(fn, xs) if train else fn
        whole = jax.jacrev(fn)(xs)
        exact = jnp.stack([whole[n, :, n] for n in range(16)])
        # One output: each projection is exact.
        expected = 0.5 * np.mean(np.sum(np.square(exact), (1, 2)))
        np.testing.assert_allclose(outcome.metrics["penalty/jacobian"], expected, rtol=1e-4)


class TestMeasures:
    def test_they_are_means_over_examples_and_entries(self):
        made = config("mlp", source="function-2d", data={**small(), "std": 2.0})
        dataset = data.load(made.data)
        found = problem(made, dataset)
        metrics = found.evaluate(found.params, found.state, True)
        model = build_model(made.model, dataset, 1, jax.random.key(0))
        test = dataset.test
        assert test.targets is not None

        def fn(xs):
            return model.apply(found.params, found.state, xs / 2)[0]

        rows = jax.jit(jax.vmap(jax.jacfwd(lambda x: fn(x[None])[0])))
        jacobian = rows(jnp.asarray(test.inputs))
        for name, ours in (("value", fn(test.inputs)), ("jacobian", jacobian)):
            measured = metrics["test/mse" if name == "value" else "test/jacobian_mse"]
            expected = np.mean((np.asarray(ours) - test.targets[name]) ** 2)
            np.testing.assert_allclose(measured, expected, rtol=1e-4)
        norms = np.sqrt(np.sum(np.asarray(jacobian) ** 2, (1, 2)))
        np.testing.assert_allclose(metrics["test/jacobian_norm"], norms.mean(), rtol=1e-4)
        # A ReLU network is flat between its kinks: the error is the function's own curvature.
        known = data.FUNCTIONS["function-2d"].hessian(test.inputs)
        np.testing.assert_allclose(metrics["test/hessian_mse"], np.mean(known**2), rtol=1e-4)

    def test_quick_evaluation_measures_values_alone(self):
        made = config("mlp", data=small("function-1d"))
        found = problem(made)
        assert set(found.evaluate(found.params, found.state, False)) == {"test/mse"}


@pytest.mark.usefixtures("train_cache")
class TestRuns:
    def test_a_differential_network_fits_both(self, tmp_path):
        made = config(
            penalty=[MATCHING],
            data=small("function-1d"),
            model_options={"activation": "tanh"},
            width=32,
        )
        metrics = run(made, tmp_path)["metrics"]
        # A network that is 0 has errors of 1/2 each: the mean squares of sine and cosine.
        assert metrics["test/mse"] < 0.05
        assert metrics["test/jacobian_mse"] < 0.1
        # A flat second derivative has 0.49 on this grid.
        assert metrics["test/hessian_mse"] < 0.25
        written = records.read_arrays(tmp_path / "figures" / "regression.npz")
        np.testing.assert_allclose(
            written["true_hessian"].ravel(), -np.sin(written["points"][:, 0])
        )
        assert (tmp_path / "figures" / "regression.png").stat().st_size > 5000

    def test_the_columns_of_a_table(self, tmp_path):
        rng = np.random.default_rng(0)
        xs = rng.normal(size=(80, 3))
        table = np.column_stack([xs, xs @ [1.0, 2.0, 0.0], xs[:, 2]])
        path = tmp_path / "table.csv"
        np.savetxt(path, table, delimiter=",", header="a,b,c,y,z", comments="")
        made = config(
            "mlp",
            source="csv",
            data={"path": str(path), "target_columns": ["y", "z"]},
            training={"steps": 100, "log_every": 100},
        )
        metrics = run(made, tmp_path / "run")["metrics"]
        assert metrics["test/mse"] < 1.0
        written = records.read_arrays(tmp_path / "run" / "figures" / "regression.npz")
        assert written["targets"].shape == written["values"].shape == (16, 2)
        assert (tmp_path / "run" / "figures" / "regression.png").exists()
