"""Traces by chains of layers equal dense ones; what is no chain is left to the products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chains import (
    chain_trace,
    conv,
    held,
    kernels,
    left_to_products,
    loop_products,
    net,
    numbers,
    with_jacobian,
)

import jacreg
from jacreg._chain import _examples
from jacreg._chain._twins import first_twins

UNEVEN = [numbers(3, 2, 2, 3), numbers(1, 4, 3, 4), numbers(5, 3, 4, 3), numbers(2, 2, 3, 2)]
TWO, FOUR = kernels(2), kernels(4)
LOCAL = {
    "1 layer": (net(kernels(1)), (4, 3, 2)),
    "2 layers": (net(TWO), (4, 3, 2)),
    "3 layers": (net(kernels(3)), (5, 3, 2)),
    "4 layers": (net(FOUR), (5, 4, 2)),
    "4 layers, 1-D": (net(kernels(4, (3,))), (6, 2)),
    "3 layers, 3-D": (net(kernels(3, (2, 3, 2))), (3, 2, 3, 2)),
    "kernels of other sizes": (net(UNEVEN), (6, 5, 2)),
    "smaller than its kernels": (net(FOUR), (1, 2, 2)),
    "relu, residual": (lambda xs: xs + net(TWO, jax.nn.relu)(xs), (4, 4, 2)),
    "silu behind": (lambda xs: jax.nn.silu(net(TWO)(xs)), (4, 4, 2)),
    "3 layers, 3 diagonals": (
        lambda xs: jnp.sin(net([UNEVEN[0], FOUR[1], UNEVEN[3]])(xs)), (5, 4, 2)
    ),
    "linear layers between": (net(FOUR, lambda x: 2 * x), (4, 4, 2)),
    "VALID, then padded": (
        lambda xs: conv(jnp.tanh(conv(xs, TWO[0], "VALID")), TWO[1], [(2, 2), (2, 2)]), (4, 5, 2)
    ),
    "channel matrices": (
        lambda xs: conv(jnp.tanh(jnp.tanh(xs @ TWO[0][0, 0]) @ FOUR[1][0, 0]), FOUR[3]),
        (4, 4, 2),
    ),
    "elementwise": (jnp.sin, (3, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", LOCAL)
def test_local_networks(name, x64):
    fn, shape = LOCAL[name]
    held(fn, numbers(2, *shape))


def test_channels_first(x64):
    def first(xs, kernel):
        numbers = ("NCHW", "HWIO", "NCHW")
        return jax.lax.conv_general_dilated(xs, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    held(net(kernels(3), layer=first), numbers(2, 2, 4, 3))


@pytest.mark.parametrize("count", [1, 3, 5])
def test_matrices(count, x64):
    activation = jnp.tanh if count % 2 else jax.nn.softplus
    mlp = net(kernels(count, ()), activation, jnp.matmul)
    xs = numbers(3, 2)
    held(mlp, xs)
    held(jax.grad(lambda xs: (mlp(xs) ** 2).sum()), xs)
    held(jax.grad(lambda xs: activation(mlp(xs))[:, 0].sum()), xs)


def test_functions_of_one_example(x64):
    first, second = numbers(5, 3), numbers(3, 5)
    held(jax.vmap(lambda x: second @ jnp.tanh(first @ x)), numbers(4, 3))


@pytest.mark.parametrize("outer", [jnp.square, lambda y: jax.nn.softplus(y)])
def test_laplacian_of_a_convolutional_energy(outer, x64):
    fn = net(TWO)
    held(jax.grad(lambda xs: outer(fn(xs)).sum()), numbers(2, 4, 3, 2))


def test_what_is_no_chain_is_left_to_products(x64):
    xs = numbers(2, 4, 4, 2)
    others = {
        "five convolutions": net(kernels(5)),
        "input by its own": lambda xs: net(FOUR)(jnp.sin(xs)),
        "mean": lambda xs: xs - net(TWO)(xs).mean((1, 2), keepdims=True),
        "roll": lambda xs: jnp.tanh(jnp.roll(xs, 1, 1)) * xs,
        "kernel from the input": lambda xs: jax.vmap(
            lambda x: conv(x[None], jnp.ones((1, 1, 2, 2)) * x.sum())[0]
        )(xs),
        "flipped": lambda xs: jnp.tanh(xs).swapaxes(1, 2),
    }
    for name, fn in others.items():
        found = jax.eval_shape(lambda xs: chain_trace(jacreg.linearize(fn, xs)), xs)  # noqa: B023
        assert found is None, name
    left_to_products(others["mean"], xs)


X6, W6, NARROW = numbers(3, 6), numbers(6, 6), numbers(6, 1)
IMAGE = numbers(3, 4, 5, 2)
BROADCAST = {
    "a column": (lambda xs: xs + jnp.tanh(xs @ NARROW), X6),
    "minus a column": (lambda xs: jnp.tanh(xs @ W6) - jnp.sin(xs @ NARROW), X6),
    "a linear column": (lambda xs: xs + xs @ NARROW, X6),
    "a pixel": (lambda xs: xs + conv(xs, numbers(4, 5, 2, 2), "VALID"), IMAGE),
    "a channel": (lambda xs: xs + conv(jnp.tanh(xs), numbers(3, 3, 2, 1)), IMAGE),
    "two axes contracted": (
        lambda xs: jnp.einsum("nij,ijkl->nkl", xs, numbers(2, 3, 2, 3)),
        numbers(3, 2, 3),
    ),
    "none contracted": (lambda xs: jnp.einsum("nd,k->ndk", xs, jnp.ones(2)).sum(-1), X6),
    "nothing between": (
        lambda xs: conv(
            jnp.tanh(conv(xs, numbers(6, 6, 2, 2), "VALID")), numbers(1, 1, 2, 2), [(2, 2), (2, 3)]
        ),
        IMAGE,
    ),
}


@pytest.mark.parametrize("name", BROADCAST)
def test_what_broadcasts_or_contracts_otherwise_is_left_to_products(name, x64):
    left_to_products(*BROADCAST[name])


def test_factors_of_an_example_or_a_channel(x64):
    """A time or a noise scale an example, as `[N, 1]`; what all share, as `[1, D]`."""
    times, shared = 1 + numbers(3, 1) ** 2, 1 + numbers(1, 6) ** 2

    def field(xs, times):
        return shared * (jnp.tanh(times * xs @ W6) @ W6.T) / times

    @jax.jit
    def both(xs, times):
        single = jax.jacfwd(lambda x, time: field(x[None], time[None])[0])
        return chain_trace(jacreg.linearize(field, xs, times)), jax.vmap(single)(xs, times)

    found, blocks = both(X6, times)
    np.testing.assert_allclose(found, np.trace(blocks, axis1=1, axis2=2), rtol=1e-10)


def chain_beside_products(fn, xs):
    @jax.jit
    def both(xs):
        lin = jacreg.linearize(fn, xs)
        return chain_trace(lin), jacreg.divergence(lin, jacreg.Exact(chunk_size=6))

    found, by_products = both(xs)
    assert np.isfinite(by_products).all()
    np.testing.assert_allclose(found, by_products, rtol=1e-10)


def test_a_case_that_is_not_chosen_may_be_infinite(x64):
    xs = jnp.asarray([[-1.0, 0.0, 4.0], [1.0, 2.0, -3.0]])

    def field(xs):
        return jnp.where(xs > 0, jnp.sqrt(xs), 0.0) @ jnp.asarray(numbers(3, 3))

    chain_beside_products(field, xs)


def infinite(ys, factor):
    """The identity with another derivative, which is infinite in places."""
    same = jax.custom_jvp(lambda y: y)
    same.defjvp(lambda primals, tangents: (primals[0], tangents[0] * factor))
    return same(ys)


OUT = np.asarray([[0.5, np.inf, 2.0], [1.0, 2.0, 3.0]])
ROWS = np.asarray([[False], [True]]).repeat(3, 1)
PIXELS = np.ones((2, 6, 6, 2), bool)
PIXELS[0, :3, :3] = False
CORNER = np.ones((2, 6, 6, 2))
CORNER[0, 0, 0, 1] = np.inf
W3 = numbers(3, 3)
LEFT_OUT = {
    "one matrix on": lambda xs: jnp.where(ROWS, infinite(xs, OUT) @ W3, 0.0) @ W3,
    "and an activation": lambda xs: (
        jnp.tanh(jnp.where(ROWS, infinite(jnp.tanh(xs @ W3), OUT) @ W3, 0.0) @ W3) @ W3
    ),
    "two convolutions": lambda xs: conv(
        jnp.where(PIXELS, conv(infinite(xs, CORNER), SQUARE), 0.0), SQUARE
    ),
    "four convolutions": lambda xs: conv(
        jnp.tanh(
            conv(jnp.where(PIXELS, conv(infinite(conv(xs, SQUARE), CORNER), SQUARE), 0.0), SQUARE)
        ),
        SQUARE,
    ),
}
SQUARE = numbers(3, 3, 2, 2)


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_a_condition_leaves_out_may_be_infinite_some_layers_before(name, x64):
    xs = numbers(2, 3) if "conv" not in name else numbers(2, 6, 6, 2)
    chain_beside_products(LEFT_OUT[name], xs)


def test_the_batch_is_the_first_axis_whatever_a_convolution_says(x64):
    """Rows as positions of a convolution of one tap, and one that no tangent reaches."""
    rows = jax.lax.ConvDimensionNumbers((1, 2, 0), (2, 1, 0), (1, 2, 0))

    def along_rows(xs):
        return jnp.tanh(
            jax.lax.conv_general_dilated(
                xs, numbers(1, 2, 2), (1,), [(0, 0)], dimension_numbers=rows
            )
        )

    def beside(xs):
        still = jax.lax.stop_gradient(xs).transpose(3, 1, 2, 0)
        gate = jax.lax.conv_general_dilated(
            still,
            jnp.ones((3, 3, 3, 3)),
            (1, 1),
            "SAME",
            dimension_numbers=("CHWN", "HWIO", "CHWN"),
        )
        return jnp.sin(xs) * gate.transpose(3, 1, 2, 0)

    for fn, xs in ((along_rows, numbers(4, 4, 2)), (jax.checkpoint(beside), numbers(3, 4, 4, 3))):
        found, expected = with_jacobian(jacreg.divergence, fn, xs, coupled=True)
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_kernels_of_lower_precision_are_left_to_products():
    low = jnp.asarray(W6, jnp.bfloat16)

    def field(xs):
        return jax.lax.dot_general(
            jnp.tanh(xs), low, (((1,), (0,)), ((), ())), preferred_element_type=jnp.float32
        )

    assert chain_trace(jacreg.linearize(field, jnp.asarray(X6, jnp.float32))) is None


def test_a_chain_is_taken_by_auto_and_by_no_method_that_says_another_way(x64):
    fn, xs = net(kernels(3)), numbers(2, 5, 5, 2)
    coloring = jacreg.color(fn, jax.ShapeDtypeStruct(xs.shape, xs.dtype))
    methods = {jacreg.Auto(): 0, jacreg.Exact(): 50, jacreg.Exact(7): 50, coloring: None}
    lin = jacreg.linearize(fn, xs)
    for method, products in methods.items():
        count = coloring.num_colors if products is None else products
        assert jacreg.plan(jacreg.divergence, lin, method).num_products == count
    expected, *others = jax.jit(lambda xs: [
        jacreg.divergence(jacreg.linearize(fn, xs), method) for method in methods
    ])(xs)  # fmt: skip
    for found in others:
        np.testing.assert_allclose(found, expected, rtol=1e-11)


@pytest.mark.parametrize("count", [3, 4])
def test_gradients_of_the_trace(count, x64):
    xs, weights = numbers(2, 3, 2, 2), kernels(count, hidden=2)

    def total(weights, xs, method):
        return (jacreg.divergence(jacreg.linearize(net(weights), xs), method) ** 2).sum()

    gradient = jax.jit(jax.grad(total, argnums=(0, 1)), static_argnums=2)
    by_chain = gradient(weights, xs, jacreg.Auto())
    by_products = gradient(weights, xs, jacreg.Exact(12))
    for found, expected in zip(jax.tree.leaves(by_chain), jax.tree.leaves(by_products), strict=True):  # fmt: skip  # noqa: E501
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_examples_in_turns_give_the_same(x64, monkeypatch):
    fn, xs = net(FOUR), numbers(5, 3, 3, 2)
    mlp, vectors = net(kernels(4, ()), layer=jnp.matmul), numbers(5, 2)

    def evaluate():
        def total(vectors):
            return chain_trace(jacreg.linearize(mlp, vectors)).sum()

        def everything(xs, vectors):
            return chain_trace(jacreg.linearize(fn, xs)), jax.value_and_grad(total)(vectors)

        return jax.jit(everything)(xs, vectors)

    whole = evaluate()
    monkeypatch.setattr(_examples, "_CACHE_ENTRIES", 6)
    monkeypatch.setattr(_examples, "MOST_ENTRIES", 20)
    # Images one by one, vectors two at a time and the last alone, computed again backwards.
    for found, expected in zip(jax.tree.leaves(evaluate()), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-11)


@pytest.mark.parametrize("activation", [jnp.tanh, jax.nn.softplus, jax.nn.silu])
def test_the_two_halves_of_a_hessian_are_one(activation, x64, monkeypatch):
    """Of three hidden layers, the first two are passed once: two products, not six."""
    monkeypatch.setattr(_examples, "_CACHE_ENTRIES", 6)

    def total(kernels, xs):
        mlp = net(kernels, activation, jnp.matmul)
        lin = jacreg.linearize(jax.grad(lambda xs: mlp(xs)[:, 0].sum()), xs)
        return chain_trace(lin).sum()

    deep = [numbers(2, 5), numbers(5, 5), numbers(5, 5, seed=1), numbers(5, 1)]
    assert loop_products(jax.make_jaxpr(total)(deep, numbers(4, 2)).jaxpr) == 2
    held(jax.grad(lambda xs: net(deep, activation, jnp.matmul)(xs)[:, 0].sum()), numbers(4, 2))


def test_halves_that_differ_are_two(x64):
    """The same matrices, other activations on the way back: no half serves for the other."""

    def energy(xs):
        hidden = xs @ W6
        return ((jnp.tanh(hidden) @ W6) * (jnp.sin(hidden) @ W6)).sum()

    held(jax.grad(energy), X6)


def test_twins_are_computed_in_the_same_way():
    def arrays(lin):
        a, b = lin.evaluate(lin.xs), lin.xs * 2.0
        again = jax.jit(jnp.sin)(lin.xs)
        return [
            a, b, again, 1.0 * again, b * again, again * b, b - again, again - b,
            jnp.transpose(jnp.transpose(a)), lin.xs * 3.0, lin.xs, jax.nn.relu(a), jax.nn.relu(a),
        ]  # fmt: skip

    lin = jacreg.linearize(jnp.sin, jnp.asarray(X6, jnp.float32))
    assert list(first_twins(lin, arrays)) == [0, 1, 0, 0, 4, 4, 6, 7, 0, 9, 10, 11, 11]


def turned(x, order):
    return jax.lax.reshape(x, x.shape, dimensions=order)


# Operations of one name that differ in one parameter, on a square matrix `a` and another `b`; the
# first of each is what the second must not be taken for.
APART = {
    "reshape, dimensions": lambda a, b: (a, turned(a, (1, 0))),
    "reshape of a reshape": lambda a, b: (turned(a, (1, 0)), turned(turned(a, (1, 0)), (1, 0))),
    "transpose": lambda a, b: (a, a.T),
    "rev, dimensions": lambda a, b: (jnp.flip(a, 0), jnp.flip(a, 1)),
    "slice, start": lambda a, b: (a[:2], a[1:3]),
    "slice, strides": lambda a, b: (a[:2], a[:4:2]),
    "slice of the transposed": lambda a, b: (a.T[:2], a[:2].T),
    "broadcast_in_dim, dimensions": lambda a, b: (
        jax.lax.broadcast_in_dim(a[0], (6, 6), (0,)), jax.lax.broadcast_in_dim(a[0], (6, 6), (1,))
    ),
    "cumsum, reverse": lambda a, b: (jax.lax.cumsum(a), jax.lax.cumsum(a, reverse=True)),
    "cumsum, axis": lambda a, b: (jax.lax.cumsum(a, 0), jax.lax.cumsum(a, 1)),
    "reduce_sum, axes": lambda a, b: (a.sum(0), a.sum(1)),
    "sort, dimension": lambda a, b: (jnp.sort(a, 0), jnp.sort(a, 1)),
    "sort, num_keys": lambda a, b: (
        jax.lax.sort((a, b), num_keys=1)[1], jax.lax.sort((a, b), num_keys=2)[1]
    ),
    "pad, interior": lambda a, b: (
        jax.lax.pad(a, 0.0, [(0, 5, 0), (0, 0, 0)]), jax.lax.pad(a, 0.0, [(0, 0, 1), (0, 0, 0)])
    ),
    "pad, filler": lambda a, b: (
        jax.lax.pad(a, 0.0, [(1, 0, 0), (0, 0, 0)]), jax.lax.pad(a, 1.0, [(1, 0, 0), (0, 0, 0)])
    ),
    "dot_general, dimensions": lambda a, b: (a @ b, a @ b.T),
    "order of a product": lambda a, b: (a @ b, b @ a),
    "gather, mode": lambda a, b: (
        a.at[jnp.array([7, 1])].get(mode="clip"), a.at[jnp.array([7, 1])].get(mode="fill")
    ),
    "gather, indices": lambda a, b: (a[jnp.array([0, 1])], a[jnp.array([1, 0])]),
    "scatter, mode": lambda a, b: (
        a.at[jnp.array([7])].set(b[:1], mode="clip"), a.at[jnp.array([7])].set(b[:1], mode="drop")
    ),
    "split, place": lambda a, b: jnp.split(a, 2),
    "select_n, cases": lambda a, b: (jnp.where(a > 0, a, b), jnp.where(a > 0, b, a)),
    "clamp": lambda a, b: (jnp.clip(a, 0, 1), jnp.clip(a, 1, 2)),
    "dynamic_slice, start": lambda a, b: (
        jax.lax.dynamic_slice_in_dim(a, 0, 2), jax.lax.dynamic_slice_in_dim(a, 1, 2)
    ),
    "integer_pow": lambda a, b: (a**2, a**3),
    "convert_element_type": lambda a, b: (a, a.astype(jnp.int32).astype(a.dtype)),
    "reduce_precision": lambda a, b: (
        jax.lax.reduce_precision(a, 8, 3), jax.lax.reduce_precision(a, 8, 5)
    ),
    "scan, reverse": lambda a, b: tuple(
        jax.lax.scan(lambda c, x: (c + x, c), b[0], a, reverse=reverse)[1]
        for reverse in (False, True)
    ),
    "custom_jvp_call": lambda a, b: (jax.nn.relu(a), jax.nn.relu6(a * 4)),
    "rng_uniform": lambda a, b: tuple(jax.lax.rng_uniform(0.0, 1.0, (2,)) for _ in range(2)),
    "add of a vector": lambda a, b: (a, a + jnp.arange(6.0)),
    "conv, dilation": lambda a, b: tuple(
        jax.lax.conv_general_dilated(
            a[None, None], b[None, None, :2, :2], (1, 1), "SAME", rhs_dilation=(n, n)
        )
        for n in (1, 2)
    ),
    "window, dilation": lambda a, b: tuple(
        jax.lax.reduce_window(a, 0.0, jax.lax.add, (2, 1), (1, 1), "SAME", window_dilation=(n, 1))
        for n in (1, 2)
    ),
    "callback": lambda a, b: tuple(
        jax.pure_callback(f, jax.ShapeDtypeStruct(a.shape, a.dtype), a, vmap_method="sequential")
        for f in (np.sin, np.cos)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", APART)
def test_no_parameter_is_left_out_of_account(name):
    """Values that differ in one parameter of one operation are two, in either order."""

    def arrays(lin):
        a = jnp.sin(lin.xs)
        first, second = APART[name](a, jnp.cos(lin.xs))
        return [first, second, first]

    lin = jacreg.linearize(jnp.sin, jnp.ones((6, 6), jnp.float32))
    assert list(first_twins(lin, arrays)) == [0, 1, 0]


def test_gates_that_differ_by_a_transposition(x64):
    """A reshape in another order is no reshape."""

    def f(xs):
        gate = jax.lax.stop_gradient(jnp.exp(xs)).reshape(-1, 2, 3)
        other = turned(gate.reshape(-1, 3, 2), (0, 2, 1)).reshape(-1, 6)
        gate = gate.reshape(-1, 6)
        hidden = (xs @ W6) * gate
        hidden = (hidden @ W6) * other
        return ((hidden @ W6) * jnp.cos(gate)) @ W6

    held(f, X6)
