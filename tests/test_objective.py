"""The loss of a batch: terms from a config, what a penalty reads, when it counts, its cost."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import own_models
import pytest
from flax import nnx
from jax.extend.core import jaxpr_as_fun
from train_setup import BASE

import jacreg
import jacreg.nnx
import models
from jacreg._convolution import as_written
from train.config import parse
from train.errors import ConfigError
from train.networks import _functional
from train.objective import penalised, supervised
from train.terms import Term, make_terms

KEYS = (jax.random.key(1), jax.random.key(2))
STEP = jnp.int32(0)


def cross_entropy(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def term(compute, **changes):
    options = {"weight": 0.5, "factor": lambda step: 1.0, "reads": ("lin",)}
    return Term("penalty", compute, **{**options, **changes})


@pytest.fixture(scope="module")
def network():
    built = models.build(
        "mlp", framework="nnx", key=jax.random.key(0), input_shape=(4,), num_classes=3,
        hidden=(5,), dropout=0.5,
    )  # fmt: skip
    return _functional(built, "nnx")


XS = jax.random.normal(jax.random.key(3), (6, 4))
LABELS = jnp.arange(6) % 3


class TestObjective:
    def test_loss_is_the_task_plus_the_weighted_penalty_under_one_dropout_mask(self, network):
        method = jacreg.Exact()
        compute = lambda lin, key: jacreg.losses.jacobian_penalty(lin, method)  # noqa: E731
        objective = penalised(supervised(network.apply, cross_entropy), [term(compute)])

        @jax.jit
        def run(params, xs):
            def logits(x):
                return network.apply(params, network.state, x, train=True, key=KEYS[0])[0]

            loss, (_, metrics, _) = objective(params, network.state, xs, LABELS, KEYS, STEP)
            task = jnp.mean(cross_entropy(logits(xs), LABELS))
            return loss, metrics, jax.jacobian(logits)(xs), task

        loss, metrics, whole, task = run(network.params, XS)
        rows = np.asarray(whole)[np.arange(6), :, np.arange(6)]
        penalty = 0.5 * np.mean(np.sum(rows**2, (1, 2)))
        np.testing.assert_allclose(metrics["task_loss"], task, rtol=1e-6)
        np.testing.assert_allclose(metrics["penalty/penalty"], penalty, rtol=1e-5)
        np.testing.assert_allclose(loss, task + 0.5 * penalty, rtol=1e-5)

    def test_every_kth_step_counts_k_times(self, network):
        compute = lambda lin, key: jnp.full(6, 2.0)  # noqa: E731
        objective = penalised(supervised(network.apply, cross_entropy), [term(compute, every=3)])
        found = [
            objective(network.params, network.state, XS, LABELS, KEYS, jnp.int32(step))[1][1]
            for step in range(6)
        ]
        assert [float(each["penalty/penalty"]) for each in found] == [6.0, 0, 0, 6.0, 0, 0]

    def test_a_step_that_does_not_count_runs_the_program_without_the_penalty(self, network):
        method = jacreg.Projection()
        compute = lambda lin, key: jacreg.losses.jacobian_penalty(lin, method, key=key)  # noqa: E731
        forward = supervised(network.apply, cross_entropy)
        sparse = penalised(forward, [term(compute, every=3), term(compute, probability=0.5)])

        def program(objective):
            def gradient(params, step):
                both = jax.value_and_grad(objective, has_aux=True)
                return both(params, network.state, XS, LABELS, KEYS, step)

            return jax.jit(gradient)

        on_device = program(sparse)
        for step in range(4):
            known = sparse.at(step)
            assert known.due == (step % 3 == 0, True)
            ours, theirs = (
                each(network.params, jnp.int32(step)) for each in (program(known), on_device)
            )
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), ours, theirs)
        assert sparse.at(1) == sparse.at(2) != sparse.at(3) == sparse.at(0)
        only = penalised(forward, [term(compute, every=3)])
        lowered = [
            program(each).lower(network.params, STEP).compile().cost_analysis()["flops"]
            for each in (only.at(1), penalised(forward, []), only.at(0), only)
        ]
        assert lowered[0] <= lowered[1] + 10 < 0.7 * lowered[2]
        assert "cond" in str(jax.make_jaxpr(program(only))(network.params, STEP))
        many = penalised(forward, [term(compute, every=each) for each in (2, 3, 5)])
        assert many.at(1) is many, "eight programs would take too long to compile"

    @pytest.mark.parametrize("splits", [True, False])
    def test_a_fraction_is_the_mean_over_its_rows_and_over_batches_that_of_all(self, splits):
        built = models.build(
            "mlp", framework="nnx", key=jax.random.key(0), input_shape=(4,), num_classes=3,
            hidden=(5,),
        )  # fmt: skip
        net = _functional(built, "nnx")
        method = jacreg.Exact()
        compute = lambda lin, key: jacreg.losses.jacobian_penalty(lin, method)  # noqa: E731
        forward = supervised(net.apply, cross_entropy)

        xs, labels = np.asarray(XS), np.asarray(LABELS)

        def program(term):
            objective = penalised(forward, [term], splits)
            both = jax.value_and_grad(objective, has_aux=True)
            return jax.jit(lambda xs, labels: both(net.params, net.state, xs, labels, KEYS, STEP))

        gradient, of_some = program(term(compute)), program(term(compute, fraction=0.34))
        (loss, (_, metrics, _)), grads = gradient(xs, labels)
        shifted = [of_some(np.roll(xs, shift, 0), np.roll(labels, shift)) for shift in range(6)]
        (_, (_, first, _)), _ = gradient(xs[:2], labels[:2])
        (_, (_, seen, _)), _ = shifted[0]
        np.testing.assert_allclose(seen["penalty/penalty"], first["penalty/penalty"], rtol=1e-5)
        assert abs(float(seen["penalty/penalty"] / metrics["penalty/penalty"]) - 1) > 1e-3
        for (_, (_, each, _)), _ in shifted:
            np.testing.assert_allclose(each["task_loss"], metrics["task_loss"], rtol=1e-5)
        # Every row is in the first two of two batches, so the mean over the six is unbiased.
        mean = jax.tree.map(lambda *leaves: np.mean(leaves, 0), *[each[1] for each in shifted])
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), mean, grads
        )
        np.testing.assert_allclose(sum(each[0][0] for each in shifted) / 6, loss, rtol=1e-5)

    def test_a_fraction_shares_the_forward_pass_where_rows_are_independent(self, network):
        method = jacreg.Projection()
        compute = lambda lin, key: jacreg.losses.jacobian_penalty(lin, method, key=key)  # noqa: E731
        forward = supervised(network.apply, cross_entropy)
        xs, labels = jnp.ones((120, 4)), jnp.zeros(120, jnp.int32)

        def flops(objective):
            def loss(params):
                return objective(params, network.state, xs, labels, KEYS, STEP)[0]

            compiled = jax.jit(jax.grad(loss)).lower(network.params).compile()
            return compiled.cost_analysis()["flops"]

        plain = flops(penalised(forward, []))
        found = [
            flops(penalised(forward, [term(compute, fraction=share)], splits)) / plain - 1
            for share, splits in ((1.0, True), (0.25, True), (0.25, False))
        ]
        assert found[1] < 0.3 * found[0] < found[2] < 0.5 * found[0]

    def test_a_random_step_counts_one_over_its_probability(self, network):
        compute = lambda lin, key: jnp.full(6, 2.0)  # noqa: E731
        chosen = term(compute, probability=0.25)
        objective = penalised(supervised(network.apply, cross_entropy), [chosen])

        @jax.jit
        def penalty(key):
            keys = (KEYS[0], key)
            found = objective(network.params, network.state, XS, LABELS, keys, STEP)
            return found[1][1]["penalty/penalty"]

        values = np.asarray(jax.lax.map(penalty, jax.random.split(jax.random.key(0), 2000)))
        assert set(values.tolist()) == {0.0, 8.0}
        error = 5 * values.std() / len(values) ** 0.5
        assert error < 0.5, "the test could not see an error"
        assert abs(values.mean() - 2.0) < error

    def test_the_schedule_multiplies_the_weight(self, network):
        compute = lambda lin, key: jnp.ones(6)  # noqa: E731
        scheduled = term(compute, weight=2.0, factor=lambda step: step / 10)
        objective = penalised(supervised(network.apply, cross_entropy), [scheduled])
        loss, (_, metrics, _) = objective(
            network.params, network.state, XS, LABELS, KEYS, jnp.int32(5)
        )
        np.testing.assert_allclose(loss - metrics["task_loss"], 1.0, rtol=1e-5)

    def test_each_penalty_has_its_own_key(self, network):
        seen = []

        def compute(lin, key):
            seen.append(jax.random.key_data(key).tolist())
            return jnp.zeros(6)

        objective = penalised(
            supervised(network.apply, cross_entropy), [term(compute), term(compute)]
        )
        objective(network.params, network.state, XS, LABELS, KEYS, STEP)
        assert seen[0] != seen[1]

    @pytest.mark.parametrize("framework", ["nnx", "linen", "equinox"])
    def test_a_projection_costs_as_much_as_the_task_and_little_more(self, framework):
        built = models.build("lenet", framework=framework, key=jax.random.key(0), dropout=0.5)
        functional = _functional(built, framework)
        xs, labels = jnp.ones((100, 28, 28, 1)), jnp.zeros(100, jnp.int32)

        def flops(terms):
            objective = penalised(supervised(functional.apply, cross_entropy), terms)

            def loss(params):
                return objective(params, functional.state, xs, labels, KEYS, STEP)[0]

            # As defined: products that run faster on a CPU multiply zeros, too.
            program = as_written(jax.make_jaxpr(jax.grad(loss))(functional.params))
            leaves = jax.tree.leaves(functional.params)
            compiled = jax.jit(jaxpr_as_fun(program)).lower(*leaves).compile()
            return compiled.cost_analysis()["flops"]

        def penalty(method):
            return term(lambda lin, key: jacreg.losses.jacobian_penalty(lin, method, key=key))

        task = flops([])
        for mode in ("reverse", "forward"):
            ratio = flops([penalty(jacreg.Projection(mode=mode))]) / task
            # Below 1.9 the penalty would not be in the program at all.
            assert 1.9 < ratio <= 2.12, mode


def penalties(*tables):
    return parse({**BASE, "penalty": list(tables)}, "x").penalty


class TestTerms:
    def test_weight_zero_is_left_out(self):
        tables = [{"name": "jacobian", "weight": 0}, {"name": "contractive", "weight": 0.1}]
        (only,) = make_terms(penalties(*tables), 10, coupled=False)
        assert only.label == "contractive"

    def test_labels_are_unique(self):
        twice = [{"name": "jacobian", "weight": 1}, {"name": "jacobian", "weight": 2}]
        labels = [each.label for each in make_terms(penalties(*twice), 10, coupled=False)]
        assert labels == ["jacobian_0", "jacobian_1"]

    def test_what_a_penalty_reads_by_its_statistics(self):
        for statistics, source in {
            None: "held_lin", "held": "held_lin", "batch": "lin", "running": "running_lin"
        }.items():  # fmt: skip
            table = {"name": "jacobian", "weight": 1, "statistics": statistics}
            listed = penalties({k: v for k, v in table.items() if v is not None})
            reads = [make_terms(listed, 10, coupled)[0].reads for coupled in (False, True)]
            assert reads == [("lin",), (source,)]

    @pytest.mark.parametrize("given", [None, lambda lin, key: jacreg.frobenius_squared(lin)])
    def test_no_penalty_feels_the_scale_in_front_of_a_norm(self, given):
        """As the loss: a penalty that does shrinks these weights until evaluation is ruined."""
        net = jacreg.nnx.functional(own_models.Normed(4, 3, rngs=nnx.Rngs(0)))
        forward = supervised(net.apply, cross_entropy)

        def slope(**changes):
            listed = penalties({"name": "jacobian", "weight": 1, "method": "exact", **changes})
            listed = [replace(each, given=given, method=None) if given else each for each in listed]
            objective = penalised(forward, make_terms(listed, 10, coupled=True))

            def penalty(scale):
                first = jax.tree.map(lambda leaf: scale * leaf, net.params["first"])
                params = {**net.params, "first": first}
                metrics = objective(params, net.state, XS, LABELS, KEYS, STEP)[1].metrics
                (value,) = (metrics[name] for name in metrics if name.startswith("penalty/"))
                return jnp.log(value)

            return abs(float(jax.jit(jax.grad(penalty))(1.0)))

        assert slope() < 1e-3 < 0.1 < slope(statistics="running")

    def test_batch_statistics_need_the_estimator_for_blocks(self):
        naive = {"name": "jacobian", "weight": 1, "statistics": "batch", "method": "projection"}
        with pytest.raises(ConfigError, match=r"penalty\.0\.method.*coupled_batch"):
            make_terms(penalties(naive), 10, coupled=True)
        blocks = {**naive, "method": "coupled_batch"}
        make_terms(penalties(blocks), 10, coupled=True)
        for statistics in ("batch", "held"):
            part = {"name": "jacobian", "weight": 1, "statistics": statistics, "fraction": 0.5}
            with pytest.raises(ConfigError, match=r"penalty\.0\.fraction"):
                make_terms(penalties(part), 10, coupled=True)

    def test_a_penalty_that_reads_what_the_task_does_not_give(self):
        table = {"name": "kinetic_energy", "weight": 1}
        with pytest.raises(ConfigError, match=r'penalty\.0\.name.*reads flow.*"jacobian"'):
            make_terms(penalties(table), 10)
        assert make_terms(penalties(table), 10, offers=("flow",))[0].reads == ("flow",)

    def test_every_and_probability_exclude_each_other(self):
        table = {"name": "jacobian", "weight": 1, "every": 2, "probability": 0.5}
        with pytest.raises(ConfigError, match="one of the two"):
            make_terms(penalties(table), 10)

    def test_a_method_where_there_is_no_choice(self):
        table = {"name": "noise_injection", "weight": 1, "scale": 0.1, "method": "exact"}
        with pytest.raises(ConfigError, match=r"penalty\.0\.method"):
            make_terms(penalties(table), 10, coupled=False)


def test_a_penalty_on_the_gradient_of_the_task_loss(network):
    (chosen,) = make_terms(
        penalties({"name": "loss_gradient", "weight": 1}), 10, offers=("lin", "task_loss")
    )
    objective = jax.jit(penalised(supervised(network.apply, cross_entropy), [chosen]))
    found = objective(network.params, network.state, XS, LABELS, KEYS, STEP)[1][1]

    def total(xs):
        ys = network.apply(network.params, network.state, xs, train=True, key=KEYS[0])[0]
        return jnp.sum(cross_entropy(ys, LABELS))

    truth = np.mean(np.sum(np.square(jax.grad(total)(XS)), 1))
    np.testing.assert_allclose(found["penalty/loss_gradient"], truth, rtol=1e-5)
    with pytest.raises(ConfigError, match="reads task_loss"):
        make_terms(penalties({"name": "loss_gradient", "weight": 1}), 10)
