"""The same run on one device, on several, in parts, with less memory, in less precision."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from train_setup import BASE, tiny, train_cache  # noqa: F401

from train import data, loop
from train.batches import Batches
from train.checkpoints import Checkpoints, tree_digest
from train.config import parse
from train.data import Examples
from train.errors import ConfigError
from train.memory import in_parts, rematerialised
from train.parallel import make_mesh, on_all
from train.precision import check_precision
from train.problem import Outcome
from train.progress import Reporter
from train.run import run
from train.step import StepKeys, init_state
from train.tasks import make_problem

pytestmark = [
    pytest.mark.usefixtures("train_cache"),
    pytest.mark.skipif(jax.device_count() < 4, reason="needs four (host) devices"),
]
EXACT = [{"name": "jacobian", "weight": 0.01, "method": "exact"}]
SHORT = {"steps": 6, "log_every": 2, "eval_every": 0, "checkpoint_every": 2}
QUICK = {"noise": [], "fgsm": [], "pgd": [], "decision_cells": False}


def short(**sections):
    training = {**SHORT, **sections.pop("training", {})}
    return tiny(training=training, evaluation=QUICK, **sections)


@pytest.fixture(scope="module")
def problem(train_cache):  # noqa: F811
    config = short(penalty=EXACT)
    return make_problem(config, data.load(config.data))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, train_cache):  # noqa: F811
    """A run on one device whose penalty draws nothing."""
    workdir = tmp_path_factory.mktemp("whole")
    return run(short(penalty=EXACT), workdir, pictures=False)


def gradients(problem, change=lambda gradient: gradient):
    rows = {name: array[:32] for name, array in problem.examples.items()}
    gradient = change(jax.value_and_grad(problem.objective, has_aux=True))
    xs, targets = problem.prepare(rows)
    keys = StepKeys.of(0)
    return jax.jit(gradient)(problem.params, problem.state, xs, targets, keys, jnp.int32(0))


def assert_close(found, expected, rtol=2e-5):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6), found, expected
    )


class TestParts:
    @pytest.mark.parametrize("devices", [1, 4])
    def test_the_gradient_of_the_parts_is_that_of_the_batch(self, problem, devices):
        mesh = make_mesh(short(parallel={"data": devices}))
        found = gradients(problem, lambda gradient: in_parts(gradient, 4, mesh))
        assert_close(found, gradients(problem))

    def test_a_pass_that_fails_in_one_part_fails(self):
        def gradient(params, state, xs, targets, keys, step):
            usable = jnp.all(xs > 0)
            return (jnp.mean(xs), Outcome(state, {}, usable)), params

        for bad, expected in ((1.0, True), (-1.0, False)):
            xs = jnp.ones(8).at[5].set(bad)
            keys = jax.random.split(jax.random.key(0), 2)
            taken = in_parts(gradient, 4)(jnp.ones(2), jnp.zeros(()), xs, None, (keys[0],), 0)
            assert bool(taken[0][1].usable) is expected

    def test_the_loop_has_no_convolution_as_jax_writes_it(self):
        """Their gradients take several times as long there on a CPU."""
        kernel, xs = jnp.ones((3, 3, 2, 2)), jnp.ones((4, 6, 6, 2))

        def loss(kernel, state, xs, targets, keys, step):
            ys = jax.lax.conv_general_dilated(
                xs, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            return jnp.mean(ys**2), Outcome(state, {}, jnp.array(True))

        def count(parts):
            gradient = in_parts(jax.value_and_grad(loss, has_aux=True), parts)
            return str(jax.make_jaxpr(gradient)(kernel, 0.0, xs, None, (), 0)).count(
                "= conv_general_dilated"
            )

        assert count(1) == 2
        assert count(2) == 2, "those of the first part, before the loop"

    def test_a_whole_run(self, whole, tmp_path):
        found = run(short(penalty=EXACT, training={"accumulate": 4}), tmp_path, pictures=False)
        for name, value in whole["metrics"].items():
            assert found["metrics"][name] == pytest.approx(value, rel=1e-4, abs=3e-3), name

    def test_what_does_not_divide(self, tmp_path):
        with pytest.raises(ConfigError, match=r"training\.accumulate=3"):
            run(short(training={"accumulate": 3}), tmp_path)
        with pytest.raises(ConfigError, match="is not a multiple"):
            run(short(parallel={"data": 4}, training={"accumulate": 16}), tmp_path)

    def test_batch_norm_is_refused(self, problem, tmp_path):
        mixed = replace(problem, rows_independent=False)
        with pytest.raises(ConfigError, match="BatchNorm takes its statistics over a whole batch"):
            loop.Loop(short(training={"accumulate": 2}), mixed, tmp_path, Reporter("x", 1))


def test_rematerialisation_gives_the_same_numbers(problem):
    def again(gradient):
        return jax.value_and_grad(rematerialised(problem.objective), has_aux=True)

    assert_close(gradients(problem, again), gradients(problem))


def compiled_step(problem, config, workdir):
    """Return the text of the compiled step of a run."""
    made = loop.Loop(config, problem, workdir, Reporter("x", 1), make_mesh(config))
    state = init_state(problem.params, problem.state, made.optimizer, made.metric_names)
    examples = {name: jnp.asarray(rows[:64]) for name, rows in problem.examples.items()}
    state, examples = on_all((state, examples), made.mesh)
    return made.compiled(state, examples).as_text()


class TestMeshes:
    @pytest.mark.parametrize("accumulate", [1, 2])
    def test_the_penalised_step_gathers_nothing(self, problem, tmp_path, accumulate):
        config = short(parallel={"data": 4}, training={"accumulate": accumulate})
        text = compiled_step(problem, config, tmp_path)
        assert "all-reduce" in text
        assert "all-gather" not in text
        assert "all-to-all" not in text

    def test_nor_does_that_of_a_convolutional_network(self, train_cache, tmp_path):  # noqa: F811
        """On CPU its convolutions are products with the batch last, of any size from 8 up."""
        sections = {"data": {"name": "mnist-5k", "batch_size": 64}, "parallel": {"data": 4}}
        config = parse({**BASE, **sections, "model": {"name": "lenet"}, "training": SHORT}, "lenet")
        problem = make_problem(config, data.load(config.data))
        text = compiled_step(problem, config, tmp_path)
        assert "all-reduce" in text
        assert "all-gather" not in text
        assert "all-to-all" not in text

    def test_the_search_for_gathers_can_find_one(self, problem, tmp_path):
        def gathering(params, state, xs, targets, keys, step):
            loss, aux = problem.objective(params, state, xs, targets, keys, step)
            return loss + 1e-9 * jnp.sum(jnp.sort(xs, axis=0)[::2]), aux

        config = short(parallel={"data": 4})
        text = compiled_step(replace(problem, objective=gathering), config, tmp_path)
        assert "all-gather" in text or "all-to-all" in text

    def test_a_checkpoint_of_four_devices_goes_on_with_one(
        self, whole, tmp_path, monkeypatch, capsys
    ):
        written = {}
        save = Checkpoints.save

        def dying(self, step, tree, *rest):
            save(self, step, tree, *rest)
            written.update(step=step, digest=tree_digest(tree), tree=tree)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Checkpoints, "save", dying)
            with pytest.raises(KeyboardInterrupt):
                run(short(penalty=EXACT, parallel={"data": 4}), tmp_path, pictures=False)
        kernel = jax.tree.leaves(written["tree"].params)[0]
        assert len(kernel.sharding.device_set) == 4
        like = jax.tree.map(np.asarray, written["tree"])
        found = Checkpoints(tmp_path / "checkpoints").restore(like, pytest.fail)
        assert found is not None
        assert tree_digest(found.tree) == written["digest"]
        assert len(jax.tree.leaves(found.tree.params)[0].sharding.device_set) == 1
        summary = run(short(penalty=EXACT), tmp_path, pictures=False)
        out = " ".join(capsys.readouterr().out.split())
        assert "other devices: parallel.data: 4 -> 1" in out
        assert f"goes on from the checkpoint of step {written['step']}" in out
        for name, value in whole["metrics"].items():
            assert summary["metrics"][name] == pytest.approx(value, rel=1e-4, abs=3e-3), name

    def test_the_evaluation_is_spread_and_its_means_are_the_same(self):
        rows = np.random.default_rng(0).normal(size=(21, 3)).astype(np.float32)
        examples = Examples(rows, np.arange(21, dtype=np.int32))
        spread = []

        @jax.jit
        def squares(inputs, labels):
            return {"square": jnp.sum(inputs**2, axis=1) + labels}

        def measure(inputs, labels, number):
            spread.append(len(inputs.sharding.device_set) if spread_out else 1)
            return squares(inputs, labels)

        found = {}
        for spread_out, mesh in ((False, None), (True, make_mesh(short(parallel={"data": 4})))):
            found[spread_out] = Batches(10, mesh).mean(measure, examples, "squares")["square"]
        assert set(spread) == {1, 4}
        expected = np.mean(np.sum(rows**2, 1) + np.arange(21))
        np.testing.assert_allclose([found[False], found[True]], expected, rtol=1e-6)


class TestBfloat16:
    def test_the_network_computes_in_it_and_nothing_else_does(self, problem):
        config = short(penalty=EXACT, training={"precision": "bfloat16"})
        half = make_problem(config, data.load(config.data))
        (loss, (_, metrics, _)), grads = gradients(half)
        (_, (_, expected, _)), full = gradients(problem)
        dtypes = {leaf.dtype for leaf in jax.tree.leaves((half.params, grads, loss, metrics))}
        assert dtypes == {jnp.dtype(jnp.float32)}
        for name, value in expected.items():
            assert metrics[name] == pytest.approx(float(value), rel=0.03), name
            assert metrics[name] != value
        angle = sum(
            float(jnp.vdot(a, b)) for a, b in zip(*map(jax.tree.leaves, (grads, full)), strict=True)
        ) / float(optax.tree.norm(grads) * optax.tree.norm(full))
        assert angle > 0.999
        text = str(jax.make_jaxpr(lambda p: half.objective(
            p, half.state, jnp.ones((2, 8, 8, 1)), jnp.zeros(2, int), StepKeys.of(0), 0
        ))(half.params))  # fmt: skip
        products = [line for line in text.splitlines() if "dot_general" in line]
        assert products
        assert all("bf16" in line for line in products if ":bf16" in line)
        assert any(":bf16" in line for line in products)

    @pytest.mark.parametrize(
        ("sections", "told"),
        [
            ({"penalty": [{"name": "noise_injection", "weight": 1, "scale": 0.1}]}, "penalty.0"),
            (
                {"penalty": [{"name": "jacobian", "weight": 1,
                              "method": {"name": "noise_injection", "scale": 0.1}}]},
                "finite difference",
            ),
            ({"task": {"name": "flow"}}, "works to a tolerance"),
        ],
    )  # fmt: skip
    def test_what_needs_more_is_refused(self, sections, told):
        with pytest.raises(ConfigError, match=told):
            check_precision(short(training={"precision": "bfloat16"}, **sections))


@pytest.mark.slow
def test_two_processes_and_other_devices_give_the_same_numbers(tmp_path):
    from benchmarks.robustness._devices import run_devices

    assert run_devices(tmp_path / "devices")["problems"] == []
