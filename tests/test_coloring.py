"""Coloured quantities equal dense ones, with the counts that theory promises; misuse is refused."""

import subprocess
import sys

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
    kernel,
    max_pool,
    sorted_rows,
    unet,
)  # fmt: skip

import jacreg
from jacreg._coloring import _apply, _coloring, _plan
from jacreg._coloring._reading import dependence_of
from jacreg._dependence import _rules_linear, _windows

SHAPE = (2, 6, 6, 3)


def images(shape=SHAPE, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


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


@pytest.mark.parametrize(("depth", "expected"), [(1, 12), (2, 27), (3, 48), (4, 75)])
@pytest.mark.parametrize("size", [16, 32])
def test_counts_of_convolutions_do_not_grow_with_the_image(depth, expected, size):
    def net(x):
        return conv_net(x, depth)

    abstract = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    assert jacreg.color(net, abstract).num_colors == expected
    norm = jacreg.color(net, abstract, quantity="frobenius")
    assert norm.num_colors == (2 * depth + 1) ** 2 * 3


def test_counts_of_named_cases():
    def color(fn, shape):
        return jacreg.color(fn, jax.ShapeDtypeStruct(shape, jnp.float32))

    assert color(conv_net, (1, 32, 32, 3)).num_colors == 48
    assert color(conv_net, (1, 128, 128, 3)).num_colors == 48
    assert color(unet, (1, 64, 64, 1)).num_colors <= 60
    assert color(lambda x: x**2, (1, 32, 32, 3)).num_colors == 1
    assert color(SQUARE["strided_then_transposed"], (1, 8, 8, 3)).num_colors <= 33
    assert color(SQUARE["strided_then_transposed"], (1, 64, 64, 3)).num_colors <= 36
    # One dimension, and three.
    line = kernel((3, 2, 2))
    one = color(
        lambda x: jax.lax.conv_general_dilated(
            x, line, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
        ),
        (1, 40, 2),
    )
    assert one.num_colors == 2 * 2
    volume = kernel((3, 3, 3, 1, 1))
    three = color(
        lambda x: jax.lax.conv_general_dilated(
            x, volume, (1, 1, 1), "SAME", dimension_numbers=("NCDHW", "DHWIO", "NCDHW")
        ),
        (1, 1, 9, 9, 9),
    )
    assert three.num_colors == 2**3


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


def test_dense_functions_say_so(x64):
    coloring = jacreg.color(attention, images())
    assert coloring.is_dense
    assert "dense" in repr(coloring)
    flat = jacreg.color(RECTANGULAR["dense"], images(), quantity="frobenius")
    assert flat.is_dense
    assert flat.num_colors == 4


def test_another_function_is_refused(x64):
    xs = images()
    coloring = jacreg.color(lambda x: conv(x, 3), xs)
    others = {
        "deeper": conv_net,
        "dilated": lambda x: conv(x, 3, dilation=2),
        "larger kernel": lambda x: conv(x, 3, size=5),
    }
    for other in others.values():
        for batch in (xs, images((5, 6, 6, 3))):
            with pytest.raises(jacreg.ColoringError, match="another function"):
                jacreg.divergence(jacreg.linearize(other, batch), coloring)
    with pytest.raises(jacreg.ColoringError, match="shapes"):
        jacreg.divergence(jacreg.linearize(lambda x: conv(x, 3), images((2, 7, 6, 3))), coloring)


def test_layers_taken_from_a_stack_are_the_same_function_traced_or_not(x64):
    """JAX unstacks an array that it iterates over, and slices a tracer."""
    stack = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3)))

    def fn(stack):
        def net(xs):
            for scales in stack:
                xs = jnp.tanh(scales * xs + jnp.roll(xs, 1, axis=1))
            return xs

        return net

    coloring = jacreg.color(fn(stack), images())
    step = jax.jit(lambda stack, xs: jacreg.divergence(jacreg.linearize(fn(stack), xs), coloring))
    expected = jacreg.divergence(jacreg.linearize(fn(stack), images()), jacreg.Exact())
    np.testing.assert_allclose(step(stack, images()), expected, rtol=1e-12)


def test_other_indices_are_read_again(x64):
    def shifted(by):
        index = jnp.roll(jnp.arange(6), by)
        return lambda x: x * x[:, index]

    coloring = jacreg.color(shifted(1), images())
    # Two colours keep neighbours apart, and entries three apart, but not entries two apart.
    with pytest.raises(jacreg.ColoringError, match="indices"):
        jacreg.divergence(jacreg.linearize(shifted(2), images()), coloring)
    lin = jacreg.linearize(shifted(3), images())
    np.testing.assert_allclose(jacreg.divergence(lin, coloring), jacreg.divergence(lin), atol=1e-12)


def test_other_indices_are_read_again_for_norms_too(x64):
    def windows(starts, second=1, third=2):
        first, second, third = (jnp.array(starts) + shift for shift in (0, second, third))
        return lambda x: x[:, first] * x[:, second] * x[:, third]

    coloring = jacreg.color(windows([0, 1, 2, 3]), images(), quantity="frobenius")
    assert not coloring.is_dense
    # The same windows in another order meet no others; wider ones do.
    other = jacreg.linearize(windows([3, 1, 0, 2]), images())
    np.testing.assert_allclose(
        jacreg.frobenius_squared(other, coloring),
        jacreg.frobenius_squared(other, jacreg.Exact()),
        rtol=1e-11,
    )

    spread = windows([0, 1, 0, 1], 2, 3)
    with pytest.raises(jacreg.ColoringError, match="indices"):
        jacreg.frobenius_squared(jacreg.linearize(spread, images()), coloring)


def test_another_quantity_is_refused(x64):
    xs = images()
    coloring = jacreg.color(conv_net, xs)
    with pytest.raises(TypeError, match="frobenius"):
        jacreg.frobenius_squared(jacreg.linearize(conv_net, xs), coloring)
    with pytest.raises(ValueError, match="quantity"):
        jacreg.color(conv_net, xs, quantity="determinant")
    with pytest.raises(ValueError, match="shape"):
        jacreg.color(max_pool, xs)


def test_planted_violations_are_caught(x64, monkeypatch):
    """A wrong rule loses edges; the numeric probes see it."""
    xs = images()
    narrow = _windows.window

    def blind(*args, **kwargs):
        return narrow(*args, **{**kwargs, "taps": 1})

    monkeypatch.setattr(_rules_linear, "window", blind)
    with pytest.raises(jacreg.ColoringError, match="takes entry"):
        jacreg.color(conv_net, xs)


def test_planted_colors_are_caught(x64, monkeypatch):
    """Too few colours make a wrong diagonal; the numeric probes see it."""
    from jacreg._coloring import _plan

    def everything_at_once(edges):
        return np.zeros(edges.shape[0], dtype=np.int32)

    monkeypatch.setattr(_plan, "color_graph", everything_at_once)
    with pytest.raises(jacreg.ColoringError, match="differs from single entries"):
        jacreg.color(conv_net, images())


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


def test_coloring_is_hashable_equal_and_explains_itself(x64):
    a, b = (jacreg.color(conv_net, images()) for _ in range(2))
    assert a == b
    assert hash(a) == hash(b)
    assert a != jacreg.color(conv_net, images(), quantity="frobenius")
    assert repr(a).startswith("Coloring(divergence: 48 products")
    with pytest.raises(ValueError, match="read-only"):
        a.colors[0] = 1


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


def test_asdex_reads_the_same_pattern(x64):
    asdex = pytest.importorskip("asdex", exc_type=ImportError)
    xs = images((1, 12, 12, 3))
    pattern = asdex.jacobian_sparsity(lambda x: conv_net(x[None])[0], xs[0])
    ours = jacreg._coloring._reading.dependence_of(jacreg.linearize(conv_net, xs))[0]
    theirs = np.asarray(pattern.todense()) != 0
    np.testing.assert_array_equal(ours.matrix().toarray(), theirs)


def test_planning_a_large_image_needs_little_memory():
    """In a process of its own, so that the peak is the plan's."""
    code = (
        "import resource, jax, jax.numpy as jnp, jacreg, sys; sys.path.insert(0, 'tests')\n"
        "from local_functions import conv_net\n"
        "jax.make_jaxpr(conv_net)(jnp.ones((1, 8, 8, 3)))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "c = jacreg.color(conv_net, jax.ShapeDtypeStruct((1, 128, 128, 3), jnp.float32))\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(c.num_colors, (after - before) // 1024)\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert int(out[0]) == 48
    assert int(out[1]) < 300, "megabytes"


def test_kinds_cover_every_quantity():
    assert set(_coloring.KINDS) == set(_coloring.QUANTITIES)
    assert callable(_apply.colored_diagonal)


def _layers(count):
    kernels = np.random.default_rng(0).normal(size=(count, 3, 3, 2, 2)).astype(np.float32)

    def fn(xs):
        for weights in kernels:
            xs = jnp.tanh(
                jax.lax.conv_general_dilated(
                    xs, weights, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
                )
            )
        return xs

    return fn


def _scanned(xs):
    return jax.lax.scan(lambda c, w: (jnp.sin(c) * w + c, None), xs, jnp.ones(4))[0]


CONCRETE = {
    "one convolution": (_layers(1), (2, 9, 9, 2)),
    "six convolutions": (_layers(6), (2, 20, 20, 2)),
    "dense": (lambda xs: jnp.sin(jnp.tanh(xs @ np.ones((7, 7)))), (2, 7)),
    "norm": (lambda xs: jax.nn.standardize(xs, axis=-1) * xs, (2, 5, 6)),
    "neighbours": (lambda xs: xs * jnp.roll(xs, 1, 1) + jax.nn.softplus(xs), (2, 8)),
    "scan": (_scanned, (2, 6)),
}


@pytest.mark.parametrize("quantity", [jacreg.divergence, jacreg.frobenius_squared])
@pytest.mark.parametrize("name", CONCRETE)
def test_a_concrete_batch_compiles_whole_products_alone(name, quantity, compilations):
    """Not the network, operation by operation; and a dense plan is not tried with n products."""
    fn, shape = CONCRETE[name]
    xs = jnp.ones(shape)
    compilations.clear()
    jacreg.color(fn, xs, quantity=quantity)
    assert len(compilations) <= 2


def patches(xs):
    """A vision transformer in small: patches to tokens, which are mixed and added to themselves."""
    numbers = ("NHWC", "HWIO", "NHWC")
    kernel = jnp.ones((4, 4, 3, 5))
    tokens = jax.lax.conv_general_dilated(xs, kernel, (4, 4), "SAME", dimension_numbers=numbers)
    tokens = tokens.reshape(xs.shape[0], -1, 5)
    return (tokens + jnp.tanh(jnp.ones((tokens.shape[1],) * 2) @ tokens)).mean(1)


def test_tokens_that_see_all_patches_see_all_of_each_axis():
    """No matrix over all pixels of an image: it would have the square of their number."""
    lin = jacreg.linearize(patches, jnp.ones((1, 32, 24, 3)))
    relation, *_ = dependence_of(lin)
    assert sorted(f.inputs for f in relation.factors) == [(0,), (1,), (2,)]


def test_too_many_that_are_seen_together_are_taken_to_see_all(monkeypatch):
    def plus(xs):
        return xs + jnp.roll(xs, 1, 1) + jnp.roll(xs, 1, 2)

    relation, *_ = dependence_of(jacreg.linearize(plus, jnp.ones((1, 9, 9))))
    assert _plan.plan_columns(relation).num_colors < 12
    monkeypatch.setattr(_plan, "_MOST_PAIRS", 10)
    assert _plan.plan_columns(relation).num_colors == 81
