"""J1 J2^T by whatever directions the two functions have, against dense float64 Jacobians."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg

N, SIZE = 2, 7
RNG = np.random.default_rng(0)
W = RNG.normal(size=(SIZE, 3))
V = RNG.normal(size=(SIZE, 5))
XS = RNG.normal(size=(2, N, SIZE))


def _both(weights):
    return lambda xs: jnp.tanh(xs @ jnp.asarray(weights, xs.dtype))


def _reverse_only(weights):
    fn = jax.custom_vjp(_both(weights))
    fn.defvjp(lambda xs: jax.vjp(_both(weights), xs), lambda pullback, u: pullback(u))
    return fn


def _forward_only(weights):
    def fn(xs):
        start = jnp.zeros((xs.shape[0], weights.shape[1]), xs.dtype)
        return jax.lax.while_loop(
            lambda s: s[0] < 1, lambda s: (s[0] + 1, s[1] + _both(weights)(xs)), (0, start)
        )[1]

    return fn


KINDS = {"both": _both, "reverse": _reverse_only, "forward": _forward_only}


def _dense(weights, xs):
    return np.einsum("nm,im->nmi", 1 - np.tanh(xs @ weights) ** 2, weights)


@pytest.mark.parametrize(("first", "second"), list(itertools.product(KINDS, KINDS)))
def test_every_pair_of_directions(first, second, x64):
    left = jacreg.linearize(KINDS[first](W), XS[0])
    right = jacreg.linearize(KINDS[second](V), XS[1])
    truth = np.einsum("nai,nbi->nab", _dense(W, XS[0]), _dense(V, XS[1]))
    np.testing.assert_allclose(jax.jit(jacreg.gram)(left, right), truth, rtol=1e-9, atol=1e-12)
    if first == second:
        own = np.einsum("nai,nbi->nab", _dense(W, XS[0]), _dense(W, XS[0]))
        np.testing.assert_allclose(jax.jit(jacreg.gram)(left), own, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_do_not_change_the_answer(kind, x64):
    lin = jacreg.linearize(KINDS[kind](W), XS[0])
    truth = np.einsum("nai,nbi->nab", _dense(W, XS[0]), _dense(W, XS[0]))
    # Seven inputs: chunks of two and three leave one over, ten is more than all.
    for chunk in (2, 3, 7, 10):
        found = jax.jit(lambda lin, c=chunk: jacreg.gram(lin, method=jacreg.Exact(c)))(lin)
        np.testing.assert_allclose(found, truth, rtol=1e-9, atol=1e-12)


def test_forward_mode_holds_a_chunk_of_columns_and_no_jacobian():
    weights = RNG.normal(size=(1000, 5))

    def run(xs):
        return jacreg.gram(jacreg.linearize(_forward_only(weights), xs), method=jacreg.Exact(4))

    text = jax.jit(run).lower(jnp.ones((N, 1000), jnp.float32)).as_text()
    assert "4x2x5xf32" in text, "a chunk of columns"
    for whole in ("1000x2x5xf32", "250x4x2x5xf32", "2x5x1000xf32"):
        assert whole not in text


def test_nothing_to_sum(x64):
    def loop(xs):
        return jax.lax.while_loop(
            lambda s: s[0] < 1, lambda s: (1, s[1]), (0, xs.sum(1, keepdims=True))
        )[1]

    empty = jacreg.linearize(loop, jnp.ones((N, 0)))
    np.testing.assert_array_equal(jacreg.gram(empty), np.zeros((N, 1, 1)))


def test_the_gradient_is_the_central_difference(x64):
    """Through the rows of a function without forward mode, whose weights are traced."""

    @jax.custom_vjp
    def scaled(xs, scale):
        return jnp.sin(scale * xs)

    scaled.defvjp(
        lambda xs, scale: (jnp.sin(scale * xs), (xs, scale)),
        lambda res, u: (u * res[1] * jnp.cos(res[1] * res[0]), None),
    )

    def total(scale):
        return jacreg.gram(jacreg.linearize(lambda xs: scaled(xs, scale), XS[0])).sum()

    central = (total(1.3 + 1e-6) - total(1.3 - 1e-6)) / 2e-6
    np.testing.assert_allclose(jax.grad(total)(1.3), central, rtol=1e-7)
