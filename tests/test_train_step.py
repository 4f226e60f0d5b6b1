"""The step: what it computes, in which order it meets the examples, what it costs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from train_setup import BASE, tiny

from train.config import parse
from train.objective import Pass, penalised
from train.optimizers import OPTIMIZERS, make_optimizer
from train.problem import Outcome
from train.schedules import SCHEDULES
from train.step import BatchOrder, StepKeys, init_state, make_step, make_training_step

KEYS = (jax.random.key(1), jax.random.key(2))
STEP = jnp.int32(0)


def test_batch_norm_is_noticed_and_running_statistics_move(tmp_path):
    from train import data
    from train.tasks import make_problem

    config_tables = {**BASE, "model": {"name": "resnet_small", "widths": [4], "blocks": [1]}}
    config = parse(config_tables, "x")
    problem = make_problem(config, data.load(config.data))
    assert problem.notes["rows_independent"] is False
    assert problem.notes["penalty_statistics"] == {"jacobian": "held"}
    rows = {name: array[:8] for name, array in problem.examples.items()}
    xs, labels = problem.prepare(rows)
    _, (state, *_) = problem.objective(problem.params, problem.state, xs, labels, KEYS, STEP)
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
            return loss, Outcome(state, {"loss": loss, "noise": noise})

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


def test_amsgrad_by_hand_and_one_steep_gradient_is_damped():
    optimizer = OPTIMIZERS["amsgrad"](lambda count: 0.1, 0.9, 0.01)
    gradients = [3.0, 0.1, -0.2, 0.1]
    w, m, v, largest = 0.5, 0.0, 0.0, 0.0
    params = {"w": jnp.float32(w)}
    state = optimizer.init(params)
    for t, slope in enumerate(gradients, start=1):
        g = slope + 0.01 * w
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        largest = max(largest, v)
        w -= 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(largest / (1 - 0.999**t)) + 1e-8)
        updates, state = optimizer.update({"w": jnp.float32(slope)}, state, params)
        params = optax.apply_updates(params, updates)
        assert float(params["w"]) == pytest.approx(w, rel=1e-4)
    # The largest of the corrected moments would still be 9 and hold every later step down.
    assert largest / (1 - 0.999**4) < 3


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
    from train.tasks import make_problem

    def objective(method):
        table = {"name": "jacobian", "weight": 0.1, "method": method}
        config = parse({**BASE, "penalty": [table]}, "x")
        return make_problem(config, data.load(config.data))

    values = []
    for problem in (objective("exact"), objective("coloring")):
        rows = {name: array[:100] for name, array in problem.examples.items()}
        xs, targets = problem.prepare(rows)
        found = problem.objective(problem.params, problem.state, xs, targets, KEYS, STEP)
        values.append(found[1][1]["penalty/jacobian"])
    np.testing.assert_allclose(values[1], values[0], rtol=1e-5)
