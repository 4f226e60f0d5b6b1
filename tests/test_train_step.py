"""The step: what it computes, in which order it meets the examples, what it costs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from train_setup import BASE, tiny

import jacreg
import models
from train.config import parse
from train.errors import ConfigError
from train.models import _functional
from train.objective import Pass, penalised, supervised
from train.optimizers import OPTIMIZERS, make_optimizer
from train.schedules import SCHEDULES
from train.step import BatchOrder, StepKeys, init_state, make_step, make_training_step
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
        loss, (_, metrics) = objective(network.params, network.state, XS, LABELS, KEYS, STEP)

        def logits(x):
            apply = network.apply
            return apply(network.params, network.state, x, train=True, key=KEYS[0])[0]

        whole = jax.jacobian(logits)(XS)
        rows = whole[jnp.arange(6), :, jnp.arange(6)]
        penalty = 0.5 * jnp.mean(jnp.sum(rows**2, (1, 2)))
        task = jnp.mean(cross_entropy(logits(XS), LABELS))
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

        def gradient(term, xs, labels):
            objective = penalised(forward, [term], splits)
            both = jax.value_and_grad(objective, has_aux=True)
            return both(net.params, net.state, xs, labels, KEYS, STEP)

        (loss, (_, metrics)), grads = gradient(term(compute), XS, LABELS)
        shifted = [
            gradient(term(compute, fraction=0.34), jnp.roll(XS, shift, 0), jnp.roll(LABELS, shift))
            for shift in range(6)
        ]
        (_, (_, first)), _ = gradient(term(compute), XS[:2], LABELS[:2])
        (_, (_, seen)), _ = shifted[0]
        np.testing.assert_allclose(seen["penalty/penalty"], first["penalty/penalty"], rtol=1e-5)
        assert abs(float(seen["penalty/penalty"] / metrics["penalty/penalty"]) - 1) > 1e-3
        for (_, (_, each)), _ in shifted:
            np.testing.assert_allclose(each["task_loss"], metrics["task_loss"], rtol=1e-5)
        # Every row is in the first two of two batches, so the mean over the six is unbiased.
        mean = jax.tree.map(lambda *leaves: sum(leaves) / 6, *[each[1] for each in shifted])
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
        loss, (_, metrics) = objective(
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
        # The definition of the convolutions: products that run faster on CPU multiply zeros, too.
        options = {"dropout": 0.5, "lowering": "definition"}
        built = models.build("lenet", framework=framework, key=jax.random.key(0), **options)
        functional = _functional(built, framework)
        xs, labels = jnp.ones((100, 28, 28, 1)), jnp.zeros(100, jnp.int32)

        def flops(terms):
            objective = penalised(supervised(functional.apply, cross_entropy), terms)

            def loss(params):
                return objective(params, functional.state, xs, labels, KEYS, STEP)[0]

            compiled = jax.jit(jax.grad(loss)).lower(functional.params).compile()
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

    @pytest.mark.parametrize("statistics", ["running", "batch"])
    def test_who_shares_the_pass(self, statistics):
        table = {"name": "jacobian", "weight": 1, "statistics": statistics}
        (free,) = make_terms(penalties(table), 10, coupled=False)
        (coupled,) = make_terms(penalties(table), 10, coupled=True)
        assert free.shares_pass
        assert coupled.shares_pass == (statistics == "batch")

    def test_batch_statistics_need_the_estimator_for_blocks(self):
        naive = {"name": "jacobian", "weight": 1, "statistics": "batch", "method": "projection"}
        with pytest.raises(ConfigError, match=r"penalty\.0\.method.*coupled_batch"):
            make_terms(penalties(naive), 10, coupled=True)
        blocks = {**naive, "method": "coupled_batch"}
        make_terms(penalties(blocks), 10, coupled=True)
        with pytest.raises(ConfigError, match=r"penalty\.0\.fraction"):
            make_terms(penalties({**blocks, "fraction": 0.5}), 10, coupled=True)

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


def test_batch_norm_is_noticed_and_running_statistics_move(tmp_path):
    from train import data
    from train.tasks import TASKS

    config_tables = {**BASE, "model": {"name": "resnet_small", "widths": [4], "blocks": [1]}}
    config = parse(config_tables, "x")
    problem = TASKS["classification"](config, data.load(config.data))
    assert problem.notes["rows_independent"] is False
    assert problem.notes["penalty_statistics"] == {"jacobian": "running"}
    rows = {name: array[:8] for name, array in problem.examples.items()}
    xs, labels = problem.prepare(rows)
    _, (state, _) = problem.objective(problem.params, problem.state, xs, labels, KEYS, STEP)
    moved = [
        bool(jnp.any(old != new))
        for old, new in zip(jax.tree.leaves(problem.state), jax.tree.leaves(state), strict=True)
    ]
    assert any(moved)


class TestOrder:
    @pytest.mark.parametrize(("examples", "batch"), [(10, 4), (10, 10), (7, 3), (100, 1)])
    def test_every_example_once_an_epoch(self, examples, batch):
        order = BatchOrder(examples, batch, seed=5)
        stream = order.rows(0, 3 * examples).ravel()
        for epoch in range(3 * batch):
            rows = stream[epoch * examples : (epoch + 1) * examples]
            np.testing.assert_array_equal(np.sort(rows), np.arange(examples))

    def test_it_depends_on_seed_and_step_alone(self):
        whole = BatchOrder(10, 4, seed=5).rows(0, 20)
        late = BatchOrder(10, 4, seed=5)
        np.testing.assert_array_equal(late.rows(13, 7), whole[13:])
        np.testing.assert_array_equal(late.rows(2, 3), whole[2:5])
        assert not np.array_equal(BatchOrder(10, 4, seed=6).rows(0, 20), whole)


class TestStep:
    def make(self, name="sgd", **changes):
        config = tiny(optimizer={"name": name, **changes}).optimizer
        optimizer = make_optimizer(config, steps=30)

        def objective(params, state, xs, targets, keys, step):
            loss = jnp.mean((xs @ params["w"] - targets) ** 2)
            noise = jax.random.normal(keys[0])
            return loss, (state, {"loss": loss, "noise": noise})

        step = make_step(objective, optimizer)
        params = {"w": jnp.ones(2)}
        return step, init_state(params, {}, optimizer, ["loss", "noise", "gradient_norm"])

    def take(self, step, state, count):
        examples = {"x": jnp.eye(2), "y": jnp.asarray([0.0, 3.0])}
        order = np.zeros((count, 2), np.int32) + np.arange(2, dtype=np.int32)
        taken = make_training_step(step, lambda rows: (rows["x"], rows["y"]))
        for _ in range(count):
            state = taken(state, examples, order, np.int32(0), StepKeys.of(0))
        return state

    def test_one_step_of_gradient_descent(self):
        step, state = self.make(learning_rate=0.1, momentum=0.0)
        state = self.take(step, state, 1)
        # gradient of mean((w - y)^2) over two rows: w - y
        np.testing.assert_allclose(state.params["w"], [1 - 0.1, 1 + 0.2], rtol=1e-6)
        assert int(state.step) == 1
        np.testing.assert_allclose(state.sums["gradient_norm"], np.sqrt(5), rtol=1e-6)

    def test_weight_decay_enters_the_gradient_as_in_pytorch(self):
        step, state = self.make(learning_rate=0.1, momentum=0.9, weight_decay=0.5)
        state = self.take(step, state, 2)
        w, v = np.ones(2), np.zeros(2)
        for _ in range(2):
            v = 0.9 * v + (w - np.asarray([0, 3.0])) + 0.5 * w
            w = w - 0.1 * v
        np.testing.assert_allclose(state.params["w"], w, rtol=1e-6)

    def test_keys_change_with_the_step(self):
        step, state = self.make()
        first = float(self.take(step, state, 1).sums["noise"])
        step, state = self.make()
        both = float(self.take(step, state, 2).sums["noise"])
        assert both - first != pytest.approx(first)

    def test_the_first_step_that_is_not_finite_is_remembered(self):
        step, state = self.make(learning_rate=1e15, momentum=0.0)
        state = self.take(step, state, 12)
        assert 1 < int(state.first_bad) < 12

    @pytest.mark.parametrize("name", sorted(OPTIMIZERS))
    def test_every_optimizer_descends(self, name):
        step, state = self.make(name, learning_rate=0.05, clip_norm=10.0)
        before = 0.5 * (1 + 4)
        after = self.take(step, state, 30)
        w = after.params["w"]
        assert float(jnp.mean((w - jnp.asarray([0.0, 3.0])) ** 2)) < before


class TestSchedules:
    def values(self, name, **options):
        schedule = SCHEDULES[name](90, **options)
        return [float(schedule(step)) for step in (0, 29, 30, 59, 60, 89)]

    def test_thirds(self):
        np.testing.assert_allclose(self.values("thirds"), [1, 1, 0.1, 0.1, 0.01, 0.01], rtol=1e-6)

    def test_others(self):
        assert self.values("constant") == [1] * 6
        np.testing.assert_allclose(
            self.values("piecewise", boundaries=(0.5,), factor=0.5), [1, 1, 1, 0.5, 0.5, 0.5]
        )
        cosine = self.values("cosine", warmup=0.2)
        assert cosine[0] == 0
        assert cosine[1] > cosine[3] > cosine[5] > 0
        ramp = self.values("ramp", begin=0.0, end=0.5, initial=0.25)
        np.testing.assert_allclose(ramp[:3], [0.25, 0.25 + 0.75 * 29 / 45, 0.75], rtol=1e-6)
        assert ramp[3:] == [1, 1, 1]


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


@pytest.mark.parametrize("usable", [True, False])
def test_a_failed_pass_changes_nothing_whatever_its_gradient(usable):
    params = {"w": jnp.ones(3)}
    optimizer = optax.adamw(0.1, weight_decay=0.1)

    def forward(params, state, xs, targets, key, needs):
        scale = jnp.where(usable, 1.0, jnp.nan)
        losses = jnp.where(usable, scale * jnp.sum(params["w"]) * xs, 0)
        return Pass(losses, state + 1, usable=jnp.asarray(usable))

    step = jax.jit(make_step(penalised(forward, []), optimizer))
    names = ["loss", "gradient_norm"]
    # A first good step, so that the optimiser has momentum to go on with.
    good = jax.jit(
        make_step(penalised(lambda p, s, xs, *_: Pass(p["w"][0] * xs, s), []), optimizer)
    )
    keys = StepKeys.of(0)
    before = good(init_state(params, jnp.int32(4), optimizer, names), jnp.ones(2), None, keys)
    after = step(before, jnp.ones(2), None, keys)
    kept = (before.params, before.opt_state, before.model_state)
    moved = (after.params, after.opt_state, after.model_state)
    same = jax.tree.map(lambda a, b: bool((a == b).all()), kept, moved)
    assert all(jax.tree.leaves(same)) == (not usable)
    assert after.step == 2
    assert after.first_bad == -1
    assert np.isfinite(list(after.sums.values())).all()


def test_a_coloring_from_a_config_gives_the_exact_penalty():
    from train import data
    from train.tasks import TASKS

    def objective(method):
        table = {"name": "jacobian", "weight": 0.1, "method": method}
        config = parse({**BASE, "penalty": [table]}, "x")
        return TASKS["classification"](config, data.load(config.data))

    values = []
    for problem in (objective("exact"), objective("coloring")):
        rows = {name: array[:100] for name, array in problem.examples.items()}
        xs, targets = problem.prepare(rows)
        found = problem.objective(problem.params, problem.state, xs, targets, KEYS, STEP)
        values.append(found[1][1]["penalty/jacobian"])
    np.testing.assert_allclose(values[1], values[0], rtol=1e-5)
