"""Sparse, random and rising weights, and penalties on some rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from losses_oracle import assert_unbiased, batch, mlp, mlp_params

import jacreg
from jacreg import losses

KEY = jax.random.key(0)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_every_is_one_on_average(k):
    weights = [float(losses.every(k)(step)) for step in range(2 * k)]
    assert weights == ([float(k)] + [0.0] * (k - 1)) * 2
    assert np.mean(weights) == 1
    traced = jax.jit(losses.every(k))
    assert [float(traced(step)) for step in range(2 * k)] == weights


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("make", [lambda: losses.every(4), lambda: losses.bernoulli(0.25, key=KEY)])
def test_the_pattern_of_the_docstring_skips_the_work_and_keeps_the_gradient(make):
    params, xs = mlp_params(KEY, [3, 4, 2]), batch(KEY, (5, 3))
    ran = []

    def penalty(lin):
        jax.debug.callback(lambda: ran.append(1))
        return jnp.mean(losses.jacobian_penalty(lin, jacreg.Exact()))

    def term(params, step):
        lin = jacreg.linearize(lambda x: mlp(params, x), xs)
        weight = make()(step)
        return weight * jax.lax.cond(
            weight > 0, penalty, lambda lin: jnp.zeros((), lin.value.dtype), lin
        )

    full = jax.jit(jax.grad(lambda p: penalty(jacreg.linearize(lambda x: mlp(p, x), xs))))(params)
    jax.effects_barrier()
    ran.clear()
    step_gradient = jax.jit(jax.grad(term))
    for step in range(20):
        weight = float(make()(step))
        gradient = step_gradient(params, step)
        jax.tree.map(
            lambda g, f, w=weight: np.testing.assert_allclose(g, w * f, rtol=1e-9, atol=1e-12),
            gradient,
            full,
        )
    jax.effects_barrier()
    active = sum(float(make()(step)) > 0 for step in range(20))
    assert 0 < active < 20
    assert len(ran) == active


def test_bernoulli_is_one_on_average_and_reproducible():
    schedule = losses.bernoulli(0.3, key=KEY)
    weights = np.asarray(jax.jit(jax.vmap(schedule))(np.arange(700_000)))
    assert set(np.unique(weights)) == {np.float32(0), np.float32(1 / 0.3)}
    assert_unbiased(weights, 1.0)
    assert float(schedule(3)) == weights[3]
    assert np.any(
        weights[:100] != jax.vmap(losses.bernoulli(0.3, key=jax.random.key(1)))(jnp.arange(100))
    )
    assert all(float(losses.bernoulli(1.0, key=KEY)(s)) == 1 for s in range(5))


def test_ramp_is_linear_between_its_ends():
    ramp = losses.ramp(1.0, 3.0, 4, begin=2)
    weights = [float(ramp(step)) for step in range(9)]
    assert weights == [1, 1, 1, 1.5, 2, 2.5, 3, 3, 3]
    falling = losses.ramp(1.0, 0.0, 2)
    assert [float(jax.jit(falling)(s)) for s in range(4)] == [1, 0.5, 0, 0]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint32"])
def test_a_step_is_counted_in_whichever_integers_it_comes(dtype):
    """The optimizer of Flax nnx has its step in uint32, where 0 - begin is 4294967288."""
    for schedule in (
        losses.ramp(0.0, 1.0, 300, begin=8, num_stages=3),
        losses.ramp(0.0, 1.0, 300, begin=8),
        losses.every(300),
    ):
        steps = np.array([0, 5, 8, 44, 108])
        found = jax.vmap(schedule)(jnp.asarray(steps, dtype))
        np.testing.assert_allclose(found, [schedule(int(step)) for step in steps])


def test_ramp_in_stages_is_the_official_schedule():
    """weight + 0.1 * (step // interval), until it has been raised n times."""
    interval, n, gamma = 7, 3, 0.5
    ramp = losses.ramp(gamma, gamma + 0.1 * n, n * interval, num_stages=n)
    for step in range(30):
        official = gamma + 0.1 * min(step // interval, n)
        np.testing.assert_allclose(float(ramp(step)), official, rtol=1e-6)
    # Where the stages do not divide the steps, none is a step late or lost.
    uneven = losses.ramp(0.0, 3.0, 10, num_stages=3)
    assert [round(float(uneven(s))) for s in (0, 3, 4, 6, 7, 9, 10)] == [0, 0, 1, 1, 2, 2, 3]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: losses.every(0), ValueError, "at least 1"),
        (lambda: losses.every(2.0), TypeError, "integer"),
        (lambda: losses.every(True), TypeError, "integer"),
        (lambda: losses.bernoulli(0.0, key=KEY), ValueError, r"in \(0, 1\]"),
        (lambda: losses.bernoulli(1.5, key=KEY), ValueError, r"in \(0, 1\]"),
        (lambda: losses.bernoulli("0.5", key=KEY), TypeError, "Python number"),
        (lambda: losses.bernoulli(0.5, key=None), ValueError, "needs a key"),
        (lambda: losses.ramp(0.0, float("nan"), 3), ValueError, "finite"),
        (lambda: losses.ramp(None, 1.0, 3), TypeError, "Python number"),
        (lambda: losses.ramp(0.0, 1.0, 0), ValueError, "at least 1"),
        (lambda: losses.ramp(0.0, 1.0, 3, begin=-1), ValueError, "at least 0"),
        (lambda: losses.ramp(0.0, 1.0, 3, num_stages=0), ValueError, "at least 1"),
    ],
)
def test_bad_schedules(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_subsample_picks_the_same_rows_everywhere():
    xs = jnp.arange(40.0).reshape(10, 4)
    tree = {"x": xs, "label": jnp.arange(10), "keys": jax.random.split(KEY, 10)}
    picked = losses.subsample(tree, 0.3, key=KEY)
    rows = np.asarray(picked["label"])
    assert rows.shape == (3,)
    assert len(set(rows)) == 3
    np.testing.assert_array_equal(picked["x"], xs[rows])
    np.testing.assert_array_equal(
        jax.random.key_data(picked["keys"]), jax.random.key_data(tree["keys"][rows])
    )
    under_jit = jax.jit(lambda t, k: losses.subsample(t, 0.3, key=k))(tree, KEY)
    np.testing.assert_array_equal(under_jit["label"], rows)


@pytest.mark.parametrize(
    ("fraction", "count"), [(1.0, 10), (1, 10), (0.5, 5), (0.01, 1), (0.26, 3)]
)
def test_subsample_counts(fraction, count):
    rows = losses.subsample(jnp.arange(10), fraction, key=KEY)
    assert rows.shape == (count,)
    assert len(np.unique(rows)) == count


@pytest.mark.usefixtures("x64")
def test_the_gradient_of_subsampled_rows_is_unbiased():
    """Every row is picked equally often, and the mean over all pairs is the batch's own."""
    params, xs = mlp_params(KEY, [3, 4, 2]), batch(KEY, (4, 3))

    @jax.jit
    def gradient(rows):
        def term(params):
            lin = jacreg.linearize(lambda x: mlp(params, x), rows)
            return jnp.mean(losses.jacobian_penalty(lin, jacreg.Exact()))

        return jax.grad(term)(params)

    pairs = [np.asarray(xs)[[i, j]] for i in range(4) for j in range(i)]
    mean = jax.tree.map(lambda *g: np.mean(g, axis=0), *[gradient(p) for p in pairs])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), mean, gradient(xs))
    keys = jax.random.split(KEY, 40_000)
    draws = jax.jit(jax.vmap(lambda k: losses.subsample(jnp.arange(4), 0.5, key=k)))(keys)
    pair = np.sort(np.asarray(draws), axis=1) @ [4, 1]
    values, counts = np.unique(pair, return_counts=True)
    assert len(values) == 6
    # Six pairs, 40000 draws: a standard deviation is 75.
    assert np.all(np.abs(counts - 40_000 / 6) < 5 * 75)


@pytest.mark.parametrize(
    ("xs", "fraction", "key", "error", "message"),
    [
        (jnp.ones((4, 2)), 0.0, KEY, ValueError, r"in \(0, 1\]"),
        (jnp.ones((4, 2)), 1.1, KEY, ValueError, r"in \(0, 1\]"),
        (jnp.ones((4, 2)), float("nan"), KEY, ValueError, r"in \(0, 1\]"),
        (jnp.ones((4, 2)), jnp.float32(0.5), KEY, TypeError, "Python number"),
        (jnp.ones((4, 2)), 0.5, None, ValueError, "needs a key"),
        ((jnp.ones(4), jnp.ones(3)), 0.5, KEY, ValueError, r"\(4,\), \(3,\)"),
        ((jnp.ones(4), 1.0), 0.5, KEY, ValueError, "must have the batch axis"),
        ((), 0.5, KEY, ValueError, "must have the batch axis"),
        (jnp.ones((0, 2)), 0.5, KEY, ValueError, "not empty"),
    ],
)
def test_bad_subsamples(xs, fraction, key, error, message):
    with pytest.raises(error, match=message):
        losses.subsample(xs, fraction, key=key)
