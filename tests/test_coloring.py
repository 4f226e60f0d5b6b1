"""Coloured quantities equal dense ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from local_functions import (
    RECTANGULAR,
    SQUARE,
    argmax_gather,
    attention,
    average_pool,
    conv,
    conv_net,
    images,
    kernel,
    max_pool,
    sorted_rows,
)  # fmt: skip

import jacreg

SHAPE = (2, 6, 6, 3)


def with_dense_blocks(fn, quantities, per_example=None):
    """A program of a batch: `quantities(lin)` and the dense blocks `[N, out, in]`.

    `per_example` stands for a function that maps over the batch itself.
    """

    @jax.jit
    def run(xs):
        blocks = jax.vmap(jax.jacrev(lambda x: (per_example or fn)(x[None])[0]))(xs)
        return quantities(jacreg.linearize(fn, xs)), blocks.reshape(xs.shape[0], -1, xs[0].size)

    return lambda xs: jax.tree.map(np.asarray, run(xs))


def example_of(name):
    return SQUARE["conv"] if name == "map_over_examples" else None


# Branches taken on the whole batch have no per-example reference.
PER_EXAMPLE = [name for name in SQUARE if name != "branch"]


@pytest.mark.parametrize("name", PER_EXAMPLE)
def test_diagonal_and_divergence_equal_the_dense_ones(name, x64):
    fn, xs = SQUARE[name], images()
    coloring = jacreg.color(fn, xs)
    (entries, traces), dense = with_dense_blocks(
        fn,
        lambda lin: (jacreg.diagonal(lin, coloring), jacreg.divergence(lin, coloring)),
        example_of(name),
    )(xs)
    diagonal = np.diagonal(dense, axis1=1, axis2=2)
    np.testing.assert_allclose(entries, diagonal.reshape(SHAPE), atol=1e-11)
    np.testing.assert_allclose(traces, diagonal.sum(1), atol=1e-11)


# Of the square ones those whose columns meet in ways of their own.
NORMED = ["depthwise", "strided_then_transposed", "stencil", "coupling", "reverse_only",
          "fori_loop", "straight_through", "permuted"]  # fmt: skip


@pytest.mark.parametrize("name", [*NORMED, *RECTANGULAR])
def test_norm_and_jacobian_equal_the_dense_ones(name, x64):
    fn, xs = {**SQUARE, **RECTANGULAR}[name], images()
    coloring = jacreg.color(fn, xs, quantity="jacobian")
    (value, found, norms), dense = with_dense_blocks(
        fn,
        lambda lin: (
            lin.value,
            jacreg.jacobian(lin, coloring),
            jacreg.frobenius_squared(lin, coloring),
        ),
        example_of(name),
    )(xs)
    assert found.shape == (*value.shape, *xs.shape[1:])
    np.testing.assert_allclose(found.reshape(dense.shape), dense, atol=1e-11)
    np.testing.assert_allclose(norms, (dense**2).sum((1, 2)), rtol=1e-11)


@pytest.mark.parametrize("pool", [max_pool, average_pool])
def test_laplacian_of_a_convolutional_energy(pool, x64):
    def energy(x):
        return (jnp.tanh(conv(pool(jnp.tanh(conv(x, 4))), 2)) ** 2).sum((1, 2, 3))

    xs = images((2, 4, 4, 2))
    coloring = jacreg.color(energy, xs, quantity="laplacian")

    @jax.jit
    def run(xs):
        hessians = jax.vmap(jax.hessian(lambda x: energy(x[None])[0]))(xs).reshape(2, 32, 32)
        return jacreg.laplacian(jacreg.linearize(energy, xs), coloring), hessians

    found, hessians = run(xs)
    np.testing.assert_allclose(found, np.trace(hessians, axis1=1, axis2=2), rtol=1e-10)


def test_pooled_network_is_exact_where_asdex_raises(x64):
    """conv / max-pool / conv / average-pool / conv, upsampled back to a square Jacobian."""

    def net(x):
        y = conv(average_pool(conv(max_pool(conv(x, 4)), 4)), 2)
        return jnp.repeat(jnp.repeat(y, 4, axis=1), 4, axis=2)

    xs = images((2, 16, 16, 2))
    coloring = jacreg.color(net, xs)
    assert not coloring.is_dense
    found, dense = with_dense_blocks(net, lambda lin: jacreg.divergence(lin, coloring))(xs)
    np.testing.assert_allclose(found, np.trace(dense, axis1=1, axis2=2), atol=1e-10)
    asdex = pytest.importorskip("asdex", exc_type=ImportError)
    with pytest.raises(NotImplementedError):
        asdex.jacobian_sparsity(lambda x: net(x[None])[0], xs[0])


@pytest.mark.parametrize("fn", [sorted_rows, argmax_gather, attention])
def test_data_dependent_routing_is_exact_at_every_input(fn, x64):
    coloring = jacreg.color(fn, images())
    run = with_dense_blocks(fn, lambda lin: jacreg.divergence(lin, coloring))
    for seed in range(1, 4):
        found, dense = run(images(seed=seed))
        np.testing.assert_allclose(found, np.trace(dense, axis1=1, axis2=2), atol=1e-10)


def test_parameters_may_be_traced_and_the_batch_may_change(x64):
    """Coloured once with concrete parameters, used under jit, grad and vmap with traced ones."""

    def net(weights, x):
        return jnp.tanh(
            jax.lax.conv_general_dilated(
                x, weights, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        )

    weights = kernel((3, 3, 3, 3))
    coloring = jacreg.color(lambda x: net(weights, x), images())
    compiled = []

    def total(weights, xs, method):
        compiled.append(1)
        return jacreg.divergence(jacreg.linearize(lambda x: net(weights, x), xs), method).sum()

    total = jax.jit(total, static_argnums=2)
    for batch in (images(), images((5, 6, 6, 3))):
        for method in (coloring, jacreg.Exact()):
            gradient = jax.grad(total)(weights, batch, method)
            if method is coloring:
                first = gradient
        np.testing.assert_allclose(first, gradient, atol=1e-11)
    count = len(compiled)
    total(weights + 1, images(), jacreg.color(lambda x: net(weights, x), images()))
    total(weights + 2, images(), coloring)
    assert len(compiled) <= count + 1, "an equal colouring is the same static argument"
    each = jax.vmap(lambda x: total(weights, x[None], coloring))(images())
    np.testing.assert_allclose(each.sum(), total(weights, images(), coloring), rtol=1e-12)


def test_pytrees_in_and_out(x64):
    def field(tree):
        return {"a": conv(tree["a"], 3) + tree["b"][..., None], "b": tree["b"] ** 2}

    tree = {"a": images(), "b": images()[..., 0]}
    coloring = jacreg.color(field, tree)
    assert not coloring.is_dense
    lin = jacreg.linearize(field, tree)
    np.testing.assert_allclose(jacreg.divergence(lin, coloring), jacreg.divergence(lin), atol=1e-11)
    norm = jacreg.color(field, tree, quantity="frobenius")
    np.testing.assert_allclose(
        jacreg.frobenius_squared(lin, norm),
        jacreg.frobenius_squared(lin, jacreg.Exact()),
        rtol=1e-11,
    )


def test_chunks_do_not_change_the_answer(x64):
    xs = images((2, 4, 4, 3))

    def net(x):
        return conv_net(x, depth=2)

    def total(xs, method):
        traces = jacreg.divergence(jacreg.linearize(net, xs), method)
        return traces.sum(), traces

    run = jax.jit(jax.value_and_grad(total, has_aux=True), static_argnums=1)
    methods = (
        jacreg.Exact(chunk_size=50),
        jacreg.color(net, xs),
        jacreg.Auto(),
    )
    assert methods[1].num_colors == 27
    ((_, truth), slope), *others = (run(xs, method) for method in methods)
    for (_, found), gradient in others:
        np.testing.assert_allclose(found, truth, atol=1e-12)
        np.testing.assert_allclose(gradient, slope, atol=1e-11)
