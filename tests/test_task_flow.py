"""The flow task: its likelihood in the data's own coordinates, failures of solvers, bad input."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg.flow
from train import data
from train.config import parse
from train.errors import ConfigError, DivergedError
from train.networks import build_model
from train.step import INIT_PURPOSE, purpose_key
from train.tasks import make_problem
from train.tasks._flow_options import check_vector_field
from train.tasks._flow_space import FlowSpace, Pixels, logit, scaled

KEY = jax.random.key(0)
KEYS = (jax.random.key(1), jax.random.key(2))
MOONS = {"name": "two-moons", "batch_size": 16, "num_examples": 200, "num_test": 50}
DIGITS = {"name": "digits", "batch_size": 8}
PENALTIES = [
    {"name": "kinetic_energy", "weight": 0.5},
    {"name": "flow_frobenius", "weight": 0.25},
]
IMAGES = {"data": DIGITS, "model": {"name": "flow_conv", "widths": [2]}}


def config(task=(), **sections):
    tables = {
        "experiment": {"name": "tiny-flow", "seed": 3},
        "data": MOONS,
        "model": {"name": "flow", "hidden": [8]},
        "task": {"name": "flow", "num_samples": 20, "grid": 40, **dict(task)},
        "training": {"steps": 4, "log_every": 2, "checkpoint_every": 4},
        **sections,
    }
    return parse(tables, "x")


def problem(task=(), **sections):
    made = config(task, **sections)
    return make_problem(made, data.load(made.data))


def metrics_of(made, rows):
    xs, targets = made.prepare({name: array[:rows] for name, array in made.examples.items()})
    return made.objective(made.params, made.state, xs, targets, KEYS, jnp.int32(0))[1][1]


class FakeModel:
    axes = None
    channel_axis = -1


def space(dataset, pixels=None, model=FakeModel, **keys):
    return FlowSpace(config(data={**MOONS, **keys}).data, dataset, model, pixels)


def images(raw):
    examples = data.Examples(raw, None)
    return data.Dataset("x", examples, examples)


class TestSpace:
    def test_vectors_are_scaled_with_their_volume(self):
        xs = np.arange(12, dtype=np.float32).reshape(4, 3)
        made = space(images(xs), mean=[1.0, 2.0, 3.0], std=[0.5, 2.0, 4.0])
        zs, volume = made.encode(xs, KEY)
        np.testing.assert_allclose(zs, (xs - [1, 2, 3]) / [0.5, 2, 4], rtol=1e-6)
        np.testing.assert_allclose(volume, np.full(4, -np.log(0.5 * 2 * 4)), rtol=1e-6)
        np.testing.assert_allclose(made.decode(zs), xs, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("pixels", [logit(levels=17), scaled(levels=17)])
    def test_pixels_keep_their_level_and_fill_it(self, pixels):
        levels = np.tile(np.arange(17), 500)
        raw = np.rint(levels * (255 / 16)).astype(np.uint8).reshape(-1, 1, 17, 1)
        made = space(images(raw), pixels)
        values = made.decode(made.encode(raw, KEY)[0]).ravel() * 17
        inside = values - levels
        assert inside.min() > -1e-4
        assert inside.max() < 1 + 1e-4
        # 8500 uniform draws: the mean is within 5 of its standard errors, 0.0031.
        assert abs(inside.mean() - 0.5) < 0.016
        assert abs(inside.std() - 12**-0.5) < 0.01

    def test_the_volume_of_the_logit_is_its_derivative(self, x64):
        raw = np.arange(0, 256, 15, dtype=np.uint8).reshape(3, 1, 6, 1)
        made = space(images(raw), Pixels(256, 0.1))
        zs, volume = made.encode(raw, KEY)
        # d logit(s) / ds = 1 / (s (1 - s)), and s = 0.1 + 0.8 u.
        shares = 1 / (1 + np.exp(-np.asarray(zs, np.float64)))
        truth = np.log(0.8 / (shares * (1 - shares))).sum((1, 2, 3))
        np.testing.assert_allclose(volume, truth, rtol=1e-6)

    def test_pictures_come_back_in_their_own_order(self):
        class Channels(FakeModel):
            axes = (0, 3, 1, 2)
            channel_axis = 1

        raw = np.arange(24, dtype=np.uint8).reshape(2, 3, 4, 1)
        moved = np.transpose(raw, Channels.axes)
        made = space(images(moved), scaled(), Channels)
        back = made.decode(made.encode(moved, KEY)[0])
        np.testing.assert_array_equal(np.floor(back * 256), raw)
        np.testing.assert_allclose(made.pictured(moved), raw / 255, rtol=1e-6)

    def test_bad_input(self):
        with pytest.raises(ConfigError, match=r"task\.pixels: x has no pixels"):
            space(images(np.zeros((4, 2), np.float32)), logit())
        with pytest.raises(ConfigError, match=r"data\.mean, data\.std"):
            space(images(np.zeros((4, 2, 2, 1), np.uint8)), logit(), std=0.5)


def path_of(field, x, end_time, steps=10):
    """Positions `[steps + 1, D]` of one point, by the classical Runge-Kutta method."""
    step = end_time / steps

    def move(x, t):
        first = field(x, t)
        second = field(x + step / 2 * first, t + step / 2)
        third = field(x + step / 2 * second, t + step / 2)
        fourth = field(x + step * third, t + step)
        x = x + step / 6 * (first + 2 * second + 2 * third + fourth)
        return x, x

    path = jax.lax.scan(move, x, jnp.arange(steps) * step)[1]
    return jnp.concatenate([x[None], path])


def test_the_final_evaluation_against_a_plain_loop():
    # The oracle of the likelihood is the determinant of the whole map by the data's coordinates.
    moons = {**MOONS, "num_test": 16, "mean": [0.3, -0.2], "std": [1.5, 0.7]}
    made = problem({"end_time": 2.0}, data=moons)
    found = made.evaluate(made.params, made.state, True)
    assert abs(found["test/integral"] - 1) < 0.01
    assert found["test/solver_failures"] == 0
    set_up = config(data=moons)
    key = purpose_key(3, INIT_PURPOSE)
    apply = build_model(set_up.model, data.load(set_up.data), 2, key).apply

    def field(x, t):
        return apply(made.params, made.state, x[None], jnp.full(1, t))[0][0]

    def path(x):
        return path_of(field, (x - jnp.asarray([0.3, -0.2])) / jnp.asarray([1.5, 0.7]), 2.0)

    @jax.jit
    @jax.vmap
    def oracle(x):
        (matrix, points), times = (jax.jacfwd(path)(x)[-1], path(x)), jnp.linspace(0, 2, 11)
        energies = jnp.sum(jax.vmap(field)(points, times) ** 2, 1)
        squares = jnp.sum(jax.vmap(jax.jacfwd(field))(points, times) ** 2, (1, 2))
        base = jax.scipy.stats.norm.logpdf(points[-1]).sum()
        return base + jnp.linalg.slogdet(matrix)[1], energies, squares

    log_density, energies, squares = oracle(data.load(set_up.data).test.inputs)
    np.testing.assert_allclose(found["test/nll"], -log_density.mean(), rtol=1e-4)
    simpson = np.asarray([1, 4, 2, 4, 2, 4, 2, 4, 2, 4, 1]) * (0.2 / 3)
    np.testing.assert_allclose(
        found["test/kinetic_energy"], (energies.mean(0) @ simpson), rtol=1e-3
    )
    norm = np.sqrt(squares.mean(0) @ simpson / 2)
    np.testing.assert_allclose(found["test/jacobian_norm"], norm, rtol=1e-3)


def test_integrals_are_made_where_a_penalty_needs_them(monkeypatch):
    seen = []
    original = jacreg.flow.log_density

    def spy(*arguments, **options):
        seen.append(options["regularize"])
        return original(*arguments, **options)

    monkeypatch.setattr(jacreg.flow, "log_density", spy)
    for penalties in (PENALTIES, [{**each, "weight": 0} for each in PENALTIES]):
        made = problem({"solver": "rk4", "method": "hutchinson"}, penalty=penalties)
        names = set(jax.eval_shape(lambda made=made: metrics_of(made, 4)))
        assert ("penalty/flow_frobenius" in names) == seen[-1]
        assert {"loss", "task_loss", "nfe", "solver_failures", "time_left"} <= names
    assert seen == [True, False]


def test_images_are_coloured():
    task = {"solver": "rk4", "pixels": "logit", "method": "coloring"}
    made = problem(task, **IMAGES)
    assert made.notes["divergence"] == "Coloring: colouring, 9 products"
    assert made.notes["test_divergence"] == "Auto(): closed form, 0 products"
    # The colouring is of the function that training traces: another would be refused.
    assert "bits_per_dimension" in jax.eval_shape(lambda: metrics_of(made, 4))


@pytest.mark.parametrize("converged", [True, False])
def test_the_loss_of_images_in_nats_and_bits(converged, monkeypatch):
    def solved(field, zs, **options):
        ones, flag = jnp.ones(len(zs)), jnp.asarray(converged)
        counts = (jnp.int32(7), jnp.int32(1))
        return jacreg.flow.FlowResult(-3 * ones, zs, None, None, *counts, flag, jnp.ones(()))

    monkeypatch.setattr(jacreg.flow, "log_density", solved)
    task = {"pixels": {"name": "scaled", "levels": 17}}
    made = problem(task, **{**IMAGES, "data": {**DIGITS, "std": 0.5}})
    found = metrics_of(made, 4)
    # Each of 64 pixels in units of 0.5 has twice the density.
    nats = 3 - 64 * np.log(2) if converged else 0.0
    np.testing.assert_allclose(found["task_loss"], nats, rtol=1e-5)
    bits = (np.log(17) + nats / 64) / np.log(2)
    np.testing.assert_allclose(found["bits_per_dimension"], bits, rtol=1e-5)
    assert found["nfe"] == 7
    assert found["solver_failures"] == (not converged)


def test_the_summary_says_how_the_divergence_is_taken():
    made = problem({"method": "exact", "test_method": "hutchinson"})
    assert made.notes["divergence"] == "Exact(chunk_size=None): products, 2 products"
    assert made.notes["test_divergence"].startswith("Hutchinson(")
    assert made.notes["test_divergence"].endswith("products, 1 products")
    assert problem({"method": "coloring"}).notes["divergence"].startswith("Auto(): ")


@pytest.mark.parametrize("converged", [True, False])
def test_a_step_whose_solver_gave_up_changes_nothing(converged, monkeypatch):
    def solved(field, zs, **options):
        values = field(zs, jnp.zeros(len(zs))).sum(1)
        counts, flag, left = (jnp.int32(7), jnp.int32(1)), jnp.asarray(converged), jnp.asarray(0.5)
        return jacreg.flow.FlowResult(values, zs, values, values, *counts, flag, left)

    monkeypatch.setattr(jacreg.flow, "log_density", solved)
    made = problem(penalty=PENALTIES)
    xs, targets = made.prepare({name: array[:4] for name, array in made.examples.items()})

    def loss(params):
        return made.objective(params, made.state, xs, targets, KEYS, jnp.int32(0))[0]

    value, gradient = jax.value_and_grad(loss)(made.params)
    moved = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient))
    assert (moved > 0) == converged
    assert (value != 0) == converged


class TestSolverThatGivesUp:
    SOLVER = {"name": "dopri5", "max_steps": 2, "rtol": 1e-6, "atol": 1e-6}  # noqa: RUF012

    def test_training_goes_on_or_stops_as_the_config_says(self):
        line = {"train/solver_failures": 0.25, "train/time_left": 0.1, "train/nfe": 31.0}
        text = problem({"on_failure": "continue"}).check(7, line)
        assert text is not None
        assert "by step 7 the solver gave up in 25.00% of the steps since the last log" in text
        assert "with 40% of the time left (mean NFE 31)" in text
        with pytest.raises(DivergedError, match=r"by step 7 the solver gave up") as raised:
            problem().check(7, line)
        assert raised.value.exit_code == 3
        assert problem().check(7, {**line, "train/solver_failures": 0.0}) is None

    def test_the_evaluation_says_so_too(self):
        made = problem({"test_solver": self.SOLVER, "grid": 0, "num_samples": 4})
        found = made.evaluate(made.params, made.state, False)
        assert found["test/solver_failures"] == 1
        assert np.isnan(found["test/nll"])
        text = made.check(4, found)
        assert text is not None
        assert re.search(r"100.00% of the test solves.*task\.test_solver", text)


@pytest.mark.parametrize(
    ("task", "sections", "message"),
    [
        ({}, {"model": {"name": "mlp"}}, r'model\.name: "mlp" is no vector field'),
        ({}, {"data": DIGITS}, r"model: input_shape"),
        ({"method": "projection"}, {}, r'task\.method: got \'projection\'.*"hutchinson"'),
        ({"method": {"name": "hutchinson", "num_probes": 0}}, {}, r"task\.method: .*num_probes"),
        (
            {"method": {"name": "hutchinson", "num_probes": 2}},
            {"penalty": PENALTIES},
            r"task\.method: .*one Rademacher probe",
        ),
        ({"solver": "euler"}, {}, r'task\.solver: got \'euler\'.*expected one of "dopri5", "rk4"'),
        ({"solver": {"name": "rk4", "rtol": 1e-3}}, {}, r"task\.solver\.rtol: unknown key"),
        ({"solver": {"name": "dopri5", "rtol": -1.0}}, {}, r"task\.solver\.rtol: .*> 0"),
        ({"end_time": 0}, {}, r"task\.end_time: .*> 0"),
        ({"on_failure": "ignore"}, {}, r'task\.on_failure: .*"stop", "continue"'),
        ({"pixels": "logit"}, {}, r"task\.pixels: two-moons has no pixels"),
        (
            {},
            {"penalty": [{"name": "jacobian", "weight": 1.0}]},
            r'reads lin.*fit: "kinetic_energy", "flow_frobenius"',
        ),
    ],
)
def test_bad_input(task, sections, message):
    with pytest.raises(ConfigError, match=message):
        problem(task, **sections)


def test_a_field_that_changes_the_shape_is_no_field():
    told = r"returns shape \(2, 1\) for a batch of shape \(2, 2\).*not square"
    with pytest.raises(ConfigError, match=told):
        check_vector_field("narrow", lambda xs, ts: xs[:, :1], jnp.ones((2, 2)))
    with pytest.raises(ConfigError, match=r"returns shape \(\(2, 2\), \(2, 2\)\)"):
        check_vector_field("pair", lambda xs, ts: (xs, xs), jnp.ones((2, 2)))
