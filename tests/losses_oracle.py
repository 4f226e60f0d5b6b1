"""What the loss tests measure against: small networks and dense float64 answers."""

import functools
from collections.abc import Callable
from itertools import pairwise, product

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import jacreg


def mlp_params(key, sizes, dtype=None):
    """Weights of a tanh network, large enough to curve."""
    return _mlp_params(key, tuple(sizes), jnp.dtype(dtype or jnp.result_type(float)))


@functools.partial(jax.jit, static_argnums=(1, 2))
def _mlp_params(key, sizes, dtype):
    keys = jax.random.split(key, 2 * (len(sizes) - 1))
    pairs = pairwise(sizes)
    return [
        (
            jax.random.normal(keys[2 * i], (n, m), dtype) / np.sqrt(n),
            0.3 * jax.random.normal(keys[2 * i + 1], (m,), dtype),
        )
        for i, (n, m) in enumerate(pairs)
    ]


def mlp(params, xs):
    """A tanh network on `[N, n]`, linear at the end."""
    *hidden, (kernel, bias) = params
    for k, b in hidden:
        xs = jnp.tanh(xs @ k + b)
    return xs @ kernel + bias


def batch(key, shape, dtype=None):
    return jax.random.normal(key, shape, dtype or jnp.result_type(float))


def dense(fn, xs):
    """`[N, *out, *in]`, of single examples: slow, and obviously right."""
    return jax.jit(jax.vmap(jax.jacfwd(lambda x: fn(x[None])[0])))(xs)


def sign_vectors(shape):
    """All 2^n sign vectors of an example's shape, `[2^n, *shape]`."""
    n = int(np.prod(shape))
    return np.array(list(product([-1.0, 1.0], repeat=n))).reshape((-1, *shape))


def check_gradient(loss: Callable, params, *, order=2):
    """Derivatives in reverse mode by central differences along one direction.

    The first as a number, and at `order` 2 those of the gradient, all of them; in one program.
    """
    flat, unravel = ravel_pytree(params)
    flat = np.asarray(flat)
    direction = np.random.default_rng(99).standard_normal(flat.shape)

    @jax.jit
    def derivatives(flat):
        def of_flat(flat):
            return loss(unravel(flat))

        def slope(flat):
            value, gradient = jax.value_and_grad(of_flat)(flat)
            return gradient @ direction, (value, gradient)

        if order == 1:
            return slope(flat)[1]
        second, (value, gradient) = jax.grad(slope, has_aux=True)(flat)
        return value, gradient, second

    step = 1e-5
    _, gradient, *second = derivatives(flat)
    after, before = (derivatives(flat + each * direction)[:2] for each in (step, -step))
    central = [(np.asarray(a) - b) / (2 * step) for a, b in zip(after, before, strict=True)]
    np.testing.assert_allclose(gradient @ direction, central[0], rtol=1e-6, atol=1e-8)
    if second:
        np.testing.assert_allclose(second[0], central[1], rtol=1e-4, atol=1e-4)


def check_transforms(per_example: Callable, xs):
    """`[N]` values of the input's dtype, equal under jit and under vmap over batches."""
    plain = per_example(xs)
    assert plain.shape == (jax.tree.leaves(xs)[0].shape[0],)
    assert plain.dtype == jax.tree.leaves(xs)[0].dtype
    rtol = 1e-9 if plain.dtype == jnp.float64 else 1e-4

    @jax.jit
    def transformed(xs):
        twice = jax.tree.map(lambda x: jnp.stack([x, x]), xs)
        return per_example(xs), jax.vmap(per_example)(twice)

    jitted, mapped = transformed(xs)
    np.testing.assert_allclose(jitted, plain, rtol=rtol)
    np.testing.assert_allclose(mapped, [plain, plain], rtol=rtol)


def check_dtypes(per_example: Callable, shape, *, rtol=0.1):
    """Half, single and double precision are kept, and agree to the half's accuracy."""
    reference = per_example(batch(jax.random.key(5), shape, jnp.float64))
    assert reference.dtype == jnp.float64
    for dtype in (jnp.bfloat16, jnp.float32):
        values = per_example(batch(jax.random.key(5), shape, jnp.float64).astype(dtype))
        assert values.dtype == dtype
        tolerance = rtol if dtype == jnp.bfloat16 else 1e-3
        np.testing.assert_allclose(
            np.asarray(values, np.float64), reference, rtol=tolerance, atol=tolerance
        )


def repeated(example, draws):
    """One example as a batch: with one probe a row, a batch of draws in one call."""
    return jnp.broadcast_to(example, (draws, *example.shape))


def assert_unbiased(values, truth):
    """Assert that the mean of the draws is the truth, after showing that it could miss.

    Args:
        values: `[draws]`, independent.
        truth: what their mean should be, not zero.
    """
    values = np.asarray(values, np.float64)
    sem = values.std(ddof=1) / np.sqrt(len(values))
    assert 5 * sem <= 0.01 * abs(truth), f"no power: 5 sem = {5 * sem:.3g}, truth = {truth:.3g}"
    assert abs(values.mean() - truth) <= 5 * sem, f"{values.mean()} is not {truth} +- {sem}"


def linear_lin(matrices):
    """A Linearization whose Jacobians are the given `[N, M, n]`, at zero."""
    matrices = jnp.asarray(matrices)
    xs = jnp.zeros((matrices.shape[0], matrices.shape[2]), matrices.dtype)
    return jacreg.linearize(lambda x: jnp.einsum("bij,bj->bi", matrices, x), xs)
