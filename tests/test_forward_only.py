"""Functions that `jax.jvp` differentiates and `jax.linearize` does not: one direction serves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jacreg

XS = np.random.default_rng(3).uniform(0.5, 2.0, (2, 4, 4, 1))
BIAS = np.random.default_rng(4).normal(size=(4, 4, 1)).tolist()


def pooled(start, combine, window=(1, 2, 2, 1), strides=(1, 2, 2, 1), padding="VALID"):
    def fn(xs):
        ys = jnp.sin(xs) + jnp.asarray(BIAS, xs.dtype)
        return lax.reduce_window(
            ys, jnp.asarray(start, xs.dtype), combine, window, strides, padding
        )

    return fn


FUNCTIONS = {
    "max from 0": pooled(0.0, lax.max),
    "min from 1": pooled(1.0, lax.min),
    "max by a lambda": pooled(-jnp.inf, lambda a, b: jnp.maximum(a, b)),
    "sum by a lambda": pooled(0.0, lambda a, b: a + b),
    "sum from 1 by a lambda": pooled(1.0, lambda a, b: a + b, (1, 3, 1, 1), (1, 1, 1, 1), "SAME"),
    "hypotenuse": pooled(0.0, lambda a, b: jnp.sqrt(a * a + b * b)),
    "after a layer": lambda xs: pooled(0.0, lax.max)(jnp.tanh(xs) * xs.sum(1, keepdims=True)),
    "before a layer": lambda xs: jnp.cos(pooled(0.0, lax.max)(xs)) @ jnp.ones((1, 3)),
    "of one example, mapped": jax.vmap(lambda x: pooled(0.0, lax.max)(x[None])[0]),
    "recomputed": jax.checkpoint(pooled(0.0, lax.max)),
}


def dense(fn):
    """Column by column: `jax.vmap` has no rule for some of these derivatives."""
    xs, columns = jnp.asarray(XS), []
    for column in jnp.eye(16):
        tangent = jnp.broadcast_to(column.reshape(4, 4, 1), xs.shape).astype(xs.dtype)
        columns.append(jax.jvp(fn, (xs,), (tangent,))[1].reshape(2, -1))
    return np.stack(columns, -1)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("jitted", [False, True])
def test_every_exact_quantity_goes_forward(name, jitted, x64):
    fn = FUNCTIONS[name]
    want = dense(fn)
    assert np.isfinite(want).all()
    assert np.abs(want).max() > 0.1

    def found(xs):
        lin = jacreg.linearize(fn, xs)
        flat = jacreg.jacobian(lin).reshape(2, -1, 16)
        basis = jnp.ones_like(xs)
        return lin.value, flat, jacreg.frobenius_squared(lin), lin.jvp(basis).reshape(2, -1)

    value, jacobian, norm, product = (jax.jit(found) if jitted else found)(jnp.asarray(XS))
    np.testing.assert_allclose(value, fn(jnp.asarray(XS)), rtol=1e-12)
    np.testing.assert_allclose(jacobian, want, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(norm, (want**2).sum((1, 2)), rtol=1e-9)
    np.testing.assert_allclose(product, want.sum(2), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_needs_reverse_mode_says_that_there_is_none(name, x64):
    lin = jacreg.linearize(FUNCTIONS[name], jnp.asarray(XS))
    assert lin.directions.forward
    if lin.directions.reverse:
        np.testing.assert_allclose(
            lin.vjp(jnp.ones_like(lin.value)).reshape(2, 16),
            dense(FUNCTIONS[name]).sum(1),
            rtol=1e-9,
            atol=1e-12,
        )
        return
    with pytest.raises(jacreg.DirectionError, match="no reverse-mode derivative"):
        lin.vjp(jnp.ones_like(lin.value))


def test_some_of_these_have_no_linearization():
    """Else nothing here is tried."""
    missing = 0
    for fn in FUNCTIONS.values():
        try:
            jax.linearize(fn, jnp.asarray(XS, jnp.float32))
        except ValueError as error:
            missing += "known values" in str(error)
    assert missing >= 5
