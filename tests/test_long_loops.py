"""Jacobians through long recurrences take the memory of forward mode."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg

STEPS = 20_000
W, IN, OUT = (np.random.default_rng(0).normal(size=size) / 3 for size in ((8, 8), (3, 8), (8, 5)))


def square(xs):
    """As many outputs as inputs, where rows and columns take as many products."""
    w = W[:3, :3].astype(xs.dtype)
    return jax.lax.scan(lambda h, _: (jnp.tanh(h @ w + xs), None), xs, None, length=STEPS)[0]


def wide(xs):
    """A few parameters into a recurrence, a few numbers out."""
    w, given, out = (each.astype(xs.dtype) for each in (W, IN, OUT))
    start = jnp.zeros((len(xs), 8), xs.dtype)

    def step(h, _):
        return jnp.tanh(h @ w + xs @ given), None

    return jax.lax.scan(step, start, None, length=STEPS)[0] @ out


def energy(xs):
    """One row, which would keep the loop, beside three columns."""
    return jnp.sum(square(xs) ** 2, axis=1)


def in_a_jit(xs):
    return jax.jit(wide)(xs)


def fori(xs):
    def step(i, h):
        return jnp.sin(h) + 0.1 * xs * (i % 2)

    return jax.lax.fori_loop(0, STEPS, step, xs)


def entry_by_entry(xs):
    """Coloured: no entry sees another."""
    return jax.lax.scan(lambda h, _: (jnp.sin(h) * xs, None), xs, None, length=STEPS)[0]


def nested(xs):
    def step(h, _):
        return jax.lax.scan(lambda h, _: (jnp.tanh(h) + xs, None), h, None, length=200)[0], None

    return jax.lax.scan(step, xs, None, length=STEPS // 200)[0]


FUNCTIONS = {f.__name__: f for f in (square, wide, energy, in_a_jit, fori, entry_by_entry, nested)}


def dense(fn, xs):
    return jax.vmap(jax.jacfwd(lambda x: fn(x[None])[0]))(xs)


def temporary_bytes(fn, xs):
    return jax.jit(fn).lower(xs).compile().memory_analysis().temp_size_in_bytes


def kept(fn, xs):
    """What a product of `jax.linearize` keeps of the loop."""
    return temporary_bytes(lambda xs: jax.linearize(fn, xs)[1](xs), xs)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_jacobian_takes_a_fraction_of_what_the_loop_would_keep(name, x64):
    fn, xs = FUNCTIONS[name], jnp.asarray(np.random.default_rng(7).normal(size=(4, 3)))
    for method in (jacreg.Auto(), jacreg.Exact()):

        def ours(xs, method=method):
            return jacreg.jacobian(jacreg.linearize(fn, xs), method)

        compiled = jax.jit(ours).lower(xs).compile()
        assert compiled.memory_analysis().temp_size_in_bytes < kept(fn, xs) / 20
        np.testing.assert_allclose(compiled(xs), jax.jit(partial(dense, fn))(xs), atol=1e-12)


QUANTITIES = [jacreg.divergence, jacreg.diagonal, jacreg.frobenius_squared]


@pytest.mark.parametrize("quantity", QUANTITIES, ids=lambda quantity: quantity.__name__)
def test_the_other_quantities_do_too(quantity, x64):
    xs = jnp.asarray(np.random.default_rng(7).normal(size=(4, 3)))

    def ours(xs):
        return quantity(jacreg.linearize(square, xs), jacreg.Exact())

    compiled = jax.jit(ours).lower(xs).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < kept(square, xs) / 20
    truth = jax.jit(partial(dense, square))(xs)
    expected = {
        jacreg.divergence: jnp.trace(truth, axis1=1, axis2=2),
        jacreg.diagonal: jnp.diagonal(truth, axis1=1, axis2=2),
        jacreg.frobenius_squared: jnp.sum(truth**2, (1, 2)),
    }
    np.testing.assert_allclose(compiled(xs), expected[quantity], atol=1e-12)


def test_short_loops_and_chunks_of_few_vectors_keep_what_they_have(x64):
    """One evaluation more for every vector would take longer than it saves."""

    def loops(fn, method):
        def ours(xs):
            return jacreg.frobenius_squared(jacreg.linearize(fn, xs), method)

        return str(jax.make_jaxpr(ours)(jnp.ones((4, 3)))).count("tanh")

    assert loops(square, jacreg.Exact(chunk_size=1)) == 1
    assert loops(square, jacreg.Exact()) == 2

    def short(xs):
        w = W[:3, :3].astype(xs.dtype)
        return jax.lax.scan(lambda h, _: (jnp.tanh(h @ w + xs), None), xs, None, length=50)[0]

    assert loops(short, jacreg.Exact()) == 1


def test_the_gradient_of_a_penalty_is_that_of_the_dense_jacobian(x64):
    xs = jnp.asarray(np.random.default_rng(7).normal(size=(4, 3)))

    def ours(scale):
        lin = jacreg.linearize(lambda xs: square(scale * xs), xs)
        return jnp.sum(jacreg.frobenius_squared(lin)) + jnp.sum(lin.value)

    def by_jax(scale):
        def fn(xs):
            return square(scale * xs)

        return jnp.sum(dense(fn, xs) ** 2) + jnp.sum(fn(xs))

    found, truth = (jax.jit(jax.value_and_grad(fn))(1.2) for fn in (ours, by_jax))
    np.testing.assert_allclose(found, truth, rtol=1e-9)
