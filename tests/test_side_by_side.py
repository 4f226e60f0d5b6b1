"""Basis products with the vectors beside their example: every rule, and what has none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg
from jacreg._side_by_side import all_basis_products

N = 4  # also the number of outputs of some, so that axes that are mixed up still fit
RNG = np.random.default_rng(0)
W = RNG.normal(size=(16, 4))
KERNEL = RNG.normal(size=(2, 2, 1, 2))


def _images(xs):
    return xs.reshape(-1, 4, 4, 1)


def _conv(xs):
    numbers = ("NHWC", "HWIO", "NHWC")
    hs = jax.lax.conv_general_dilated(
        _images(xs), jnp.asarray(KERNEL), (2, 2), "SAME", dimension_numbers=numbers
    )
    return jnp.tanh(hs).reshape(len(xs), -1)


def _batch_last(xs):
    """The examples move to another axis, so that no rule may take it for the first."""
    return jnp.tanh(W.T @ jnp.sin(xs).T).T


def _scanned(xs):
    step = lambda carry, w: (jnp.tanh(carry * w), jnp.sum(carry, axis=1))  # noqa: E731
    return jax.lax.scan(step, xs, jnp.asarray(W.T))[1].T


FUNCTIONS = {
    "linear": lambda xs: xs @ W,
    "mlp": lambda xs: jnp.tanh(jnp.sin(xs) @ W) @ W.T,
    "batch last": _batch_last,
    "convolution": _conv,
    "max pool": lambda xs: jax.lax.reduce_window(
        jnp.sin(_images(xs)), -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
    ),
    "sums and slices": lambda xs: jnp.stack([xs.sum(1), xs[:, 2] * xs[:, 3], xs[:, ::5].max(1)], 1),
    "softmax": lambda xs: jax.nn.log_softmax(xs @ W),
    "chosen": lambda xs: jnp.where(xs > 0, xs, 0.1 * xs)[:, ::-1].reshape(len(xs), 8, 2).mean(2),
    "scan": _scanned,
    "per example": jax.vmap(lambda x: jnp.outer(x[:4], jnp.cos(x)) @ x),
    "matrix times vector": jax.vmap(lambda x: W @ jnp.tanh(W.T @ jnp.sin(x))),
    "features summed": jax.vmap(lambda x: jnp.outer(W.T @ jnp.sin(x), W[0]).sum(0) * W[1]),
    "both sides": jax.vmap(
        lambda x: (W.T @ (x[:, None] * W[:, :2])) @ jnp.cos(W[:2, :3]).T.T @ W[:3]
    ),
    "two places": jax.vmap(lambda x: W.T @ jnp.sin(x) + jnp.tanh(x @ W) * (W.T @ x)),
    "broadcast": lambda xs: (
        jnp.asarray(W.T[:1]) * jnp.sin(xs) - xs * xs[:, 3:4] + jnp.asarray(W.T[:1]) * xs / 2
    ),
    "scalar an example": lambda xs: jnp.sum(xs**3, axis=1),
    "constant": lambda xs: jnp.ones((len(xs), 3)) + 0 * xs[:, :1],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_both_directions_against_jacrev(name, x64):
    fn = FUNCTIONS[name]
    xs = jnp.asarray(np.random.default_rng(1).normal(size=(N, 16)))
    cases = [(mode, chunk) for mode in ("reverse", "forward") for chunk in (None, 3)]

    @jax.jit
    def everything(xs):
        truth = jax.vmap(jax.jacrev(lambda x: fn(x[None])[0]))(xs)
        return truth, [
            jacreg.jacobian(jacreg.linearize(fn, xs, mode=mode), jacreg.Exact(chunk))
            for mode, chunk in cases
        ]

    truth, found = everything(xs)
    for case, each in zip(cases, found, strict=True):
        np.testing.assert_allclose(each, truth, rtol=1e-9, atol=1e-12, err_msg=str(case))


def test_the_gradient_of_chunks(x64):
    xs = jnp.asarray(np.random.default_rng(1).normal(size=(N, 16)))

    def total(weights, jacobian):
        return jnp.sum(jnp.sin(jacobian(lambda x: jnp.tanh(jnp.tanh(x @ weights) @ W.T))))

    def ours(fn):
        return jacreg.jacobian(jacreg.linearize(fn, xs), jacreg.Exact(5))

    def theirs(fn):
        return jax.vmap(jax.jacrev(lambda x: fn(x[None])[0]))(xs)

    found, truth = (
        jax.jit(jax.grad(lambda w, j=j: total(w, j)))(jnp.asarray(W)) for j in (ours, theirs)
    )
    np.testing.assert_allclose(found, truth, rtol=1e-9, atol=1e-12)


def test_a_product_that_ignores_its_argument():
    found = all_basis_products(lambda us: jnp.zeros((len(us), 2)), (3, 5), jnp.float32, 2)
    np.testing.assert_array_equal(found, np.zeros((3, 5, 2)))


def test_what_all_examples_share_is_computed_once():
    """The first layer's product is that of the basis, not of a basis for each example."""
    xs = jnp.ones((37, 16))
    text = str(
        jax.make_jaxpr(lambda x: jacreg.jacobian(jacreg.linearize(lambda y: jnp.sin(y) @ W, x)))(xs)
    )
    assert "[1,4,16] = dot_general" in text


def test_temporary_memory_is_that_of_a_chunk():
    def temporary(outputs):
        weights = jnp.ones((32, outputs))
        fn = lambda xs: jnp.tanh(jnp.tanh(xs @ jnp.ones((256, 32))) @ weights)  # noqa: E731
        program = jax.jit(lambda xs: jacreg.jacobian(jacreg.linearize(fn, xs), jacreg.Exact(4)))
        compiled = program.lower(jnp.ones((16, 256))).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(128) < 1.5 * temporary(32)
