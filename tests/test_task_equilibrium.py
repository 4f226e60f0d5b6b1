"""The equilibrium task: what it records, how it fails, and what its penalty is taken at."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from train_setup import train_cache  # noqa: F401

import jacreg
from train import data, figures, records
from train.config import parse
from train.data._functions import curve
from train.errors import ConfigError, DivergedError
from train.figures import evaluations
from train.run import run
from train.sections import Data
from train.tasks import make_problem
from train.tasks._equilibrium import solved
from train.tasks._equilibrium_report import Measured

BASE = {
    "experiment": {"name": "tiny", "seed": 3},
    "data": {"name": "synthetic-equilibrium", "num_examples": 64, "num_test": 30, "batch_size": 16},
    "model": {"name": "equilibrium", "hidden": 6, "backward_steps": 3},
    "task": {"name": "equilibrium", "spectral_examples": 4},
    "penalty": [{"name": "equilibrium_jacobian", "weight": 0.5}],
    "optimizer": {"name": "adam", "learning_rate": 0.01},
    "training": {"steps": 6, "log_every": 2},
    "evaluation": {"batch_size": 16},
}


def tiny(**sections):
    changed = {
        name: {**BASE.get(name, {}), **table} if isinstance(table, dict) else table
        for name, table in sections.items()
    }
    return parse({**BASE, **changed}, "tiny")


def make(config):
    return make_problem(config, data.load(config.data))


@pytest.mark.usefixtures("train_cache")
class TestRun:
    @pytest.fixture(scope="class")
    def finished(self, tmp_path_factory, train_cache):  # noqa: F811
        """A run whose training solves are cut short and whose test solves are not."""
        workdir = tmp_path_factory.mktemp("run")
        config = tiny(
            model={"tolerance": 1e-5, "max_steps": 2},
            task={"on_failure": "continue", "evaluation_max_steps": 40},
        )
        return config, workdir, run(config, workdir)

    def test_every_line_says_what_the_solves_took(self, finished):
        _, workdir, _ = finished
        lines = records.MetricsLog(workdir / records.METRICS).read()
        assert [line["step"] for line in lines] == [2, 4, 6]
        for line in lines:
            assert 1 < line["train/nfe"] <= 2
            assert 0 < line["train/unconverged"] <= 1
            assert line["train/residual"] > 1e-5

    def test_the_record_is_of_every_test_example(self, finished):
        _, workdir, summary = finished
        arrays = records.read_arrays(workdir / figures.EQUILIBRIUM)
        for name in ("nfe", "residual", "unconverged", "mse"):
            assert arrays[name].shape == (30,)
            assert summary["metrics"][f"test/{name}"] == pytest.approx(arrays[name].mean())
        assert summary["metrics"]["test/unconverged"] == 0
        assert arrays["nfe"].max() > 2
        assert arrays["residual"].max() <= arrays["tolerance"] == pytest.approx(1e-5)
        assert arrays["max_steps"] == 40
        assert summary["solver"]["max_steps"] == 2
        assert (workdir / figures.EQUILIBRIUM).with_suffix(".png").stat().st_size > 1000

    def test_stopping_is_loud(self, finished, tmp_path):
        config, _, _ = finished
        options = {"max_steps": 2, "tolerance": 1e-5}
        with pytest.raises(DivergedError, match=r"did not reach the tolerance 1e-05") as caught:
            run(tiny(model=options), tmp_path)
        assert caught.value.exit_code == 3
        assert "mean residual" in str(caught.value)
        assert "by step 2" in str(caught.value)
        summary = records.read_json(tmp_path / records.SUMMARY)
        assert summary["status"] == "diverged"
        assert config.task.options["on_failure"] == "continue"


def test_penalty_and_radius_are_of_the_cell_at_the_equilibrium():
    """The cell is scalar: norm(e^T J)^2 is (e f'(z*))^2, and the radius is |f'(z*)|."""
    problem = make(tiny(data={"batch_size": 64}))
    rows = {name: array[:8] for name, array in problem.examples.items()}
    xs, targets = problem.prepare(rows)
    keys = (jax.random.key(1), jax.random.key(2))
    weights = (problem.params, problem.state)

    from train.networks import build_model
    from train.step import INIT_PURPOSE, purpose_key

    config = tiny()
    built = build_model(config.model, data.load(config.data), 1, purpose_key(3, INIT_PURPOSE))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, built.params, problem.params))
    solver = built.merge(*weights).spec.equilibrium_solver()

    def manual(params):
        model = built.merge(params, problem.state)
        outputs, _, point = solved(model, xs, solver)
        # The first penalty's key; the detached states make this the paper's gradient.
        states = jax.lax.stop_gradient(point.states)
        penalty = jacreg.losses.equilibrium_jacobian_penalty(
            lambda zs: jax.vmap(model.cell)(zs, jax.vmap(model.inject)(xs)),
            states,
            key=jax.random.fold_in(keys[1], 0),
        )
        return jnp.mean(jnp.sum((outputs - targets) ** 2, -1)) + 0.5 * jnp.mean(penalty)

    @jax.jit
    def both(params):
        found = jax.value_and_grad(
            lambda p: problem.objective(p, problem.state, xs, targets, keys, jnp.int32(0))[0]
        )(params)
        point = solved(built.merge(params, problem.state), xs, solver)[2]
        cell = jacreg.linearize(point.cell, point.states)
        return found, jax.value_and_grad(manual)(params), jacreg.jacobian(cell)

    (value, gradient), (expected, wanted), slopes = both(problem.params)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), gradient, wanted
    )
    assert slopes.shape == (8, 1, 1)
    assert float(jnp.abs(slopes).max()) > 0.01


def test_going_on_tells_of_failures():
    check = make(tiny(task={"on_failure": "continue", "evaluation_max_steps": 99})).check
    solves = {"nfe": 50.0, "residual": 0.25, "unconverged": 0.125}
    said = check(
        1, {f"{split}/{key}": value for split in ("train", "test") for key, value in solves.items()}
    )
    assert "12.50% of the train examples" in said
    assert "in 50 evaluations" in said
    assert "12.50% of the test examples" in said
    assert "in 99 evaluations" in said
    assert check(1, {"train/unconverged": 0.0, "test/unconverged": 0.0}) is None


def test_radii_that_were_not_found_are_counted():
    values = {"nfe": np.array([1, 2, 6]), "unconverged": np.array([False, False, True])}
    found = Measured(values, np.array([0.5, np.nan, 1.5, np.nan])).metrics()
    assert found["test/spectral_radius"] == 1.0
    assert found["test/spectral_radius_max"] == 1.5
    assert found["test/spectral_radius_found"] == 0.5
    assert found["test/nfe"] == 3
    assert found["test/nfe_median"] == 2
    assert found["test/unconverged"] == pytest.approx(1 / 3)
    assert "test/spectral_radius" not in Measured(values, np.array([np.nan])).metrics()
    assert not any("radius" in name for name in Measured(values, np.zeros(0)).metrics())


def test_picture_of_several_runs(tmp_path):
    rng = np.random.default_rng(0)
    record = {
        "nfe": rng.integers(3, 9, 50),
        "residual": np.append(10 ** rng.uniform(-6, -3, 49), 0.0),
        "unconverged": rng.uniform(size=50) < 0.1,
        "spectral_radius": np.array([0.3, np.nan]),
        "max_steps": np.array(9),
        "tolerance": np.array(1e-3),
    }
    path = evaluations({"none": record, "penalty": record}, tmp_path / "nfe.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_synthetic_data():
    dataset = data.load(Data(name="synthetic-equilibrium", options={"num_examples": 40_000}))
    assert (dataset.train.inputs.shape, len(dataset.test)) == ((40_000, 1), 1000)
    assert np.abs(dataset.train.inputs).max() <= 2
    noise = dataset.train.targets - curve(dataset.train.inputs)
    assert noise.std() == pytest.approx(0.05, rel=0.02)
    assert abs(noise.mean()) < 5 * 0.05 / 200
    # 1.5 + 1 - 5 + 2 sin 1 - 3
    np.testing.assert_allclose(curve(np.array([[0.0], [1.0]]))[:, 0], [-3, -5.5 + 2 * np.sin(1)])
    assert dataset.classes == ()


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"name": "mlp", "hidden": [4]}}, 'model.name: got "mlp", but the task'),
        ({"data": {"name": "gaussian"}}, "whose targets are none"),
        ({"data": {"name": "function-1d"}}, "several arrays"),
        ({"penalty": [{"name": "jacobian", "weight": 1.0}]}, "which reads lin"),
        ({"model": {"name": "equilibrium", "tolerance": 0.0}}, "model.tolerance"),
        ({"model": {"name": "equilibrium", "max_steps": 0}}, "model.max_steps"),
        ({"task": {"evaluation_tolerance": 0.0}}, "task.evaluation_tolerance"),
        ({"task": {"on_failure": "stopp"}}, "task.on_failure"),
    ],
)
def test_bad_configs(sections, message):
    tables = {
        **BASE,
        **{
            name: {**BASE.get(name, {}), **t} if name == "task" else t
            for name, t in sections.items()
        },
    }
    with pytest.raises(ConfigError, match=message):
        make(parse(tables, "tiny"))


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_a_picture_of_solves_that_exploded(share, tmp_path):
    lost = int(8 * share)
    record = {
        "nfe": np.arange(1, 9),
        "residual": np.where(np.arange(8) < lost, np.nan, 1e-4),
        "unconverged": np.arange(8) < lost,
        "spectral_radius": np.asarray([0.5, np.nan]),
        "tolerance": np.asarray(1e-3),
    }
    drawn = figures.evaluations({"": record}, tmp_path / "nfe.png")
    assert drawn.stat().st_size > 5000
