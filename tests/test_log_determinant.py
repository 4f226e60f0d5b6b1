"""log_determinant: exact over all sign vectors and truncations, then statistically."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg
from jacreg._log_determinant import truncated_series

KEY = jax.random.key(5)
CONTINUATION = 0.6


@functools.partial(jax.jit, static_argnums=(0, 1))
def _kernels(size, scale=0.5):
    kernel = jax.random.normal(KEY, (size, size))
    return scale * kernel / jnp.linalg.norm(kernel, ord=2)


def _field(kernel):
    """A contraction whose Jacobian differs from example to example and is not symmetric."""
    return lambda xs: jnp.tanh(xs @ kernel)


def _dense(kernel, xs):
    return jax.vmap(jax.jacfwd(lambda x: _field(kernel)(x[None])[0]))(xs)


def _mean_over_signs_and_stops(kernel, xs, num_terms, most):
    """The estimator's expectation with at most `most` further terms, summed exactly."""
    size = xs.shape[1]
    signs = jnp.array(list(itertools.product([-1.0, 1.0], repeat=size)))
    lin = jacreg.linearize(_field(kernel), xs)
    total = jnp.zeros(xs.shape[0])
    for further in range(most + 1):
        last = further == most
        chance = CONTINUATION**further * (1 if last else 1 - CONTINUATION)
        values = jax.vmap(
            lambda s, further=further: truncated_series(
                lin, jnp.broadcast_to(s, xs.shape), num_terms, further, CONTINUATION
            )
        )(signs)
        total = total + chance * jnp.mean(values, axis=0)
    return total


def _partial_sum(kernel, xs, terms):
    jac = _dense(kernel, xs)
    power, total = jnp.broadcast_to(jnp.eye(xs.shape[1]), jac.shape), 0.0
    for k in range(1, terms + 1):
        power = power @ jac
        total = total + (-1) ** (k + 1) / k * jnp.trace(power, axis1=1, axis2=2)
    return total


def test_expectation_is_the_series(x64):
    xs, kernel = jax.random.normal(jax.random.key(1), (2, 4)), _kernels(4)

    @jax.jit
    def both(kernel, xs):
        found = _mean_over_signs_and_stops(kernel, xs, num_terms=2, most=3)
        return found, _partial_sum(kernel, xs, 5)

    np.testing.assert_allclose(*both(kernel, xs), rtol=1e-12)


def test_expectation_of_the_gradient_is_the_gradient_of_the_series(x64):
    xs, kernel = jax.random.normal(jax.random.key(1), (2, 4)), _kernels(4)
    found = jax.jit(
        jax.grad(
            lambda k, x: _mean_over_signs_and_stops(k, x, num_terms=1, most=3).sum(), argnums=(0, 1)
        )
    )(kernel, xs)
    truth = jax.jit(jax.grad(lambda k, x: _partial_sum(k, x, 4).sum(), argnums=(0, 1)))(kernel, xs)
    np.testing.assert_allclose(found[0], truth[0], rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(found[1], truth[1], rtol=1e-10, atol=1e-13)


def test_many_terms_reach_the_determinant(x64):
    # A diagonal Jacobian: one Rademacher probe gives its traces exactly.
    @jax.jit
    def found(xs):
        lin = jacreg.linearize(lambda xs: 0.5 * jnp.sin(xs), xs)
        return jacreg.log_determinant(lin, key=KEY, num_terms=60, continuation=0.0)

    xs = np.linspace(-2, 2, 6).reshape(2, 3)
    np.testing.assert_allclose(found(xs), np.log1p(0.5 * np.cos(xs)).sum(1), rtol=1e-12)


def test_monte_carlo_with_power(x64):
    xs = 0.3 * jax.random.normal(jax.random.key(1), (1, 5))
    kernel = _kernels(5, 0.3) + 0.4 * jnp.eye(5)

    @jax.jit
    @jax.value_and_grad
    def exact(scale):
        return jnp.linalg.slogdet(jnp.eye(5) + _dense(scale * kernel, xs))[1][0]

    truth, slope_truth = exact(1.0)

    def estimate(key, scale):
        lin = jacreg.linearize(_field(scale * kernel), xs)
        return jacreg.log_determinant(lin, key=key, num_terms=2)[0]

    keys = jax.random.split(KEY, 400_000)
    values, slopes = jax.jit(
        lambda keys: jax.lax.map(
            lambda k: jax.value_and_grad(estimate, argnums=1)(k, 1.0), keys, batch_size=1000
        )
    )(keys)
    for draws, expected in ((values, truth), (slopes, slope_truth)):
        sem = np.std(np.asarray(draws)) / np.sqrt(draws.size)
        assert 5 * sem <= 0.01 * abs(expected)
        assert abs(np.mean(np.asarray(draws)) - expected) <= 5 * sem
    # The same with the truncation alone would be seen.
    truncated = jax.jit(lambda kernel: _partial_sum(kernel, xs, 2)[0])(kernel)
    assert abs(truncated - truth) > 0.01 * abs(truth)


def test_the_number_of_further_terms_is_geometric():
    from jacreg._log_determinant import _further_terms

    draws = jax.vmap(lambda k: _further_terms(k, CONTINUATION))(jax.random.split(KEY, 20_000))
    for j in range(6):
        chance = CONTINUATION**j
        sem = np.sqrt(chance * (1 - chance) / draws.size)
        assert abs(jnp.mean(draws >= j) - chance) <= 5 * sem + 1e-12
    assert _further_terms(KEY, 0.0) == 0


def test_probes_are_averaged():
    @jax.jit
    def run(xs):
        lin = jacreg.linearize(_field(_kernels(4)), xs)
        apart = [jacreg.log_determinant(lin, key=k) for k in jax.random.split(KEY, 3)]
        return jacreg.log_determinant(lin, key=KEY, num_probes=3), apart

    together, apart = run(jax.random.normal(jax.random.key(1), (3, 4)))
    np.testing.assert_allclose(together, np.mean(apart, 0), rtol=1e-5)


@jax.custom_vjp
def _reverse_only(xs):
    return 0.5 * jnp.sin(xs)


_reverse_only.defvjp(lambda xs: (0.5 * jnp.sin(xs), xs), lambda xs, u: (0.5 * jnp.cos(xs) * u,))


def _forward_only(xs):
    return jax.lax.while_loop(
        lambda s: s[0] < 1, lambda s: (s[0] + 1, 0.5 * jnp.sin(s[1])), (0, xs)
    )[1]


@pytest.mark.parametrize("fn", [_reverse_only, _forward_only])
def test_one_direction_is_enough(fn):
    @jax.jit
    def found(xs):
        return jacreg.log_determinant(jacreg.linearize(fn, xs), key=KEY, num_terms=40)

    xs = np.linspace(-2, 2, 6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_allclose(found(xs), np.log1p(0.5 * np.cos(xs)).sum(1), rtol=1e-5)


def test_memory_of_the_gradient_does_not_grow_with_the_terms():
    xs = jnp.ones((64, 32))

    def loss(kernel, num_terms):
        lin = jacreg.linearize(_field(kernel), xs)
        return jacreg.log_determinant(lin, key=KEY, num_terms=num_terms).sum()

    sizes = [
        jax.jit(jax.grad(lambda k, n=n: loss(k, n)))
        .lower(_kernels(32))
        .compile()
        .memory_analysis()
        .temp_size_in_bytes
        for n in (2, 200)
    ]
    assert sizes[1] <= 1.05 * sizes[0]


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_dtype_jit_vmap_and_pytrees(dtype):
    def fn(xs, scale):
        return {"a": scale.astype(dtype) * xs["b"], "b": xs["a"] * 0}

    xs = {"a": jnp.ones((2, 3), dtype), "b": jnp.ones((2, 2, 2), dtype)}
    xs["a"], xs["b"] = xs["a"][:, :2], xs["b"][:, 0]

    def run(scale):
        lin = jacreg.linearize(fn, xs, jnp.full((2, 1), scale))
        return jacreg.log_determinant(lin, key=KEY)

    found = jax.jit(jax.vmap(run))(jnp.array([0.25, 0.5]))
    assert found.shape == (2, 2)
    assert found.dtype == dtype


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_empty(shape):
    lin = jacreg.linearize(jnp.sin, jnp.zeros(shape))
    np.testing.assert_array_equal(jacreg.log_determinant(lin, key=KEY), np.zeros(shape[0]))


@pytest.mark.parametrize(
    ("fn", "options", "error", "words"),
    [
        (lambda xs: xs[:, :1], {}, ValueError, "square"),
        (jnp.sin, {"num_terms": 0}, ValueError, "num_terms"),
        (jnp.sin, {"num_probes": 1.5}, TypeError, "num_probes"),
        (jnp.sin, {"continuation": 1.0}, ValueError, "continuation"),
        (jnp.sin, {"continuation": "0.5"}, TypeError, "continuation"),
        (jnp.sin, {"key": None}, ValueError, "key"),
    ],
)
def test_bad_input(fn, options, error, words):
    lin = jacreg.linearize(fn, jnp.ones((2, 3)))
    with pytest.raises(error, match=words):
        jacreg.log_determinant(lin, **{"key": KEY, **options})
