"""Stochastic Lanczos quadrature: exact over all signs at full order, then bias, then sampling."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg
from jacreg._lanczos_quadrature import quadrature

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
SHAPES = {"wide": (6, 4), "tall": (4, 6), "square": (5, 5)}
WEIGHTS = {name: jnp.asarray(RNG.normal(size=shape)) for name, shape in SHAPES.items()}


def _inputs(name):
    return jnp.asarray(np.random.default_rng(1).normal(size=(2, SHAPES[name][0])))


def _lin(name, scale=1.0, xs=None, dtype=None):
    weights = scale * WEIGHTS[name].astype(dtype)
    xs = (_inputs(name) if xs is None else xs).astype(dtype)
    return jacreg.linearize(lambda xs: jnp.tanh(xs @ weights) + xs @ weights, xs)


def _mean_over_signs(name, order, scale, xs):
    inputs, outputs = SHAPES[name]
    size = min(inputs, outputs)
    signs = jnp.array(list(itertools.product([-1.0, 1.0], repeat=size)))
    lin = _lin(name, scale, xs)
    values = jax.vmap(
        lambda s: quadrature(lin, jnp.broadcast_to(s, (2, size)), order, outputs <= inputs)
    )(signs)
    return values.mean(0)


@pytest.mark.parametrize("name", SHAPES)
def test_full_order_over_all_signs_is_the_determinant_and_its_gradient(name, x64):
    def ours(scale, xs):
        found = _mean_over_signs(name, min(SHAPES[name]), scale, xs)
        return found.sum(), found

    def exact(scale, xs):
        found = jacreg.log_pseudo_determinant(_lin(name, scale, xs))
        return found.sum(), found

    (found, truth) = (
        jax.jit(jax.value_and_grad(f, argnums=(0, 1), has_aux=True))(1.1, _inputs(name))
        for f in (ours, exact)
    )
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(truth), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def test_the_bias_of_a_low_order_is_above_and_falls(x64):
    truth = jacreg.log_pseudo_determinant(_lin("square"))
    run = jax.jit(_mean_over_signs, static_argnums=(0, 1))
    biases = [run("square", order, 1.0, _inputs("square")) - truth for order in (1, 3, 5)]
    assert (np.diff(biases, axis=0) < -1e-12).all()
    assert (np.array(biases[:2]) > 1e-9).all()
    np.testing.assert_allclose(biases[2], 0, atol=1e-12)


def test_monte_carlo_with_power(x64):
    """The public call: order enough for no bias, and 20,000 probes."""
    lin = _lin("wide")
    truth = jacreg.log_pseudo_determinant(lin)
    estimate = jacreg.with_standard_error(jacreg.log_pseudo_determinant)
    mean, sem = jax.jit(lambda key: estimate(lin, jacreg.Lanczos(20_000, 4), key=key))(KEY)
    assert (5 * sem <= 0.02 * np.abs(truth)).all()
    assert (np.abs(mean - truth) <= 5 * sem).all()


ORTHOGONAL = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
SPECTRA = {
    "identity": [3.0] * 6,
    "two values": [1.0, 1.0, 1.0, 2.0, 2.0, 2.0],
    "tiny": [1e-30] * 6,
    "one of rank five": [1.0, 1.0, 3.0, 2.0, 2.0, 0.0],
    "zero": [0.0] * 6,
}


@pytest.mark.parametrize("name", SPECTRA)
def test_a_krylov_space_that_ends_early_is_no_nan(name):
    """In float32, also under jit and for the gradient; J J^T is diagonal: signs are exact."""
    values = np.array(SPECTRA[name])
    matrix = jnp.asarray(ORTHOGONAL * values, jnp.float32)

    def total(scale):
        lin = jacreg.linearize(lambda xs: xs @ (scale * matrix), jnp.ones((2, 6)))
        found = jacreg.log_pseudo_determinant(lin, jacreg.Lanczos(8, 6), key=KEY)
        return found.sum(), found

    (_, found), slope = jax.jit(jax.value_and_grad(total, has_aux=True))(1.0)
    truth = -np.inf if values.min() == 0 else np.log(values).sum()
    np.testing.assert_allclose(found, np.full(2, truth), rtol=1e-5)
    np.testing.assert_allclose(slope, 0 if values.min() == 0 else 2 * 6, rtol=1e-4)


def test_a_residual_that_is_exactly_zero_is_no_nan():
    """Powers of two: the first step leaves nothing, and the next divides it by its length."""

    @jax.jit
    @jax.value_and_grad
    def total(scale):
        lin = jacreg.linearize(lambda xs: scale * xs, jnp.ones((2, 4)))
        return jacreg.log_pseudo_determinant(lin, jacreg.Lanczos(1, 4), key=KEY).sum()

    value, slope = total(2.0)
    np.testing.assert_allclose(value, 2 * 4 * np.log(2), rtol=1e-6)
    np.testing.assert_allclose(slope, 2 * 4 / 2, rtol=1e-6)


def test_ill_conditioned_maps_in_float32():
    """By bidiagonalising J itself: of J J^T, float32 would lose the condition number 1e8."""
    values = jnp.logspace(0, -4, 6)
    lin = jacreg.linearize(lambda xs: xs * values, jnp.ones((2, 6)))
    # J J^T is diagonal, so that every sign vector gives its trace.
    found = jacreg.log_pseudo_determinant(lin, jacreg.Lanczos(1, 6), key=KEY)
    np.testing.assert_allclose(found, np.log(values).sum(), rtol=1e-3)


def test_an_invertible_map_that_is_no_contraction(x64):
    """log|det(I + J)| where the power series of log_determinant diverges."""
    xs = jnp.linspace(-1, 1, 6).reshape(2, 3)
    lin = jacreg.linearize(lambda xs: xs + 3 * xs**3 + xs, xs)
    found = jacreg.log_pseudo_determinant(lin, jacreg.Lanczos(2, 3), key=KEY)
    np.testing.assert_allclose(found, jnp.log(2 + 9 * xs**2).sum(1), rtol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_low_precision_pytrees_and_float32_beside_float64(dtype, x64):
    def fn(xs):
        return {"a": 2 * xs["b"], "b": xs["a"][:, :, None] / 4}

    xs = {"a": jnp.ones((2, 3), dtype), "b": jnp.ones((2, 3, 1), dtype)}
    lin = jacreg.linearize(fn, xs)
    found = jacreg.log_pseudo_determinant(lin, jacreg.Lanczos(), key=KEY)
    assert found.dtype == dtype
    np.testing.assert_allclose(found.astype(jnp.float32), 3 * np.log(0.5), rtol=1e-2)


def test_products_are_of_the_whole_batch():
    def run(xs):
        lin = jacreg.linearize(lambda xs: jnp.tanh(xs @ WEIGHTS["square"].astype(xs.dtype)), xs)
        return jacreg.log_pseudo_determinant(lin, jacreg.Lanczos(order=4), key=KEY)

    assert "37,37" not in str(jax.make_jaxpr(run)(jnp.ones((37, 5))))


def test_empty_and_misuse():
    empty = jacreg.linearize(lambda xs: xs[:, :0], jnp.ones((2, 3)))
    found = jacreg.log_pseudo_determinant(empty, jacreg.Lanczos(), key=KEY)
    np.testing.assert_array_equal(found, np.zeros(2))
    lin = _lin("wide", dtype=jnp.float32)
    with pytest.raises(ValueError, match="needs a key"):
        jacreg.log_pseudo_determinant(lin, jacreg.Lanczos())
    with pytest.raises(TypeError, match="Exact, Lanczos"):
        jacreg.log_pseudo_determinant(lin, jacreg.Projection(), key=KEY)
    with pytest.raises(ValueError, match="order must be at least 1"):
        jacreg.Lanczos(order=0)
    with pytest.raises(ValueError, match="distribution"):
        jacreg.Lanczos(distribution="cube")
    loop = jacreg.linearize(
        lambda xs: jax.lax.while_loop(lambda s: s[0] < 1, lambda s: (1, 2 * s[1]), (0, xs))[1],
        jnp.ones((2, 3)),
    )
    with pytest.raises(jacreg.DirectionError, match="reverse"):
        jacreg.log_pseudo_determinant(loop, jacreg.Lanczos(), key=KEY)
