"""The dependence that is read from the program holds every edge that any input shows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from local_functions import RECTANGULAR, SQUARE, conv

import jacreg
from jacreg._coloring._reading import dependence_of
from jacreg._dependence import _read

ALL = {**SQUARE, **RECTANGULAR}
# Over these the true pattern is a union over inputs or branches that few draws show.
LOOSE = {
    "max_pool", "pool_by_reshape", "top_k", "max_over_channels", "argmax_gather", "sorted",
    "branch", "einsum_diagonal", "fourier", "gradient_of_energy",
}  # fmt: skip


def true_pattern(fn, shape, draws):
    seen = None
    for seed in range(draws):
        x = jnp.asarray(np.random.default_rng(seed).normal(size=shape))
        blocks = np.asarray(jax.vmap(jax.jacrev(lambda y: fn(y[None])[0]))(x))
        blocks = blocks.reshape(shape[0], -1, int(np.prod(shape[1:])))
        seen = (blocks != 0).any(0) if seen is None else seen | (blocks != 0).any(0)
    return seen


@pytest.mark.parametrize("name", ALL)
def test_no_edge_is_missing(name, x64):
    fn = ALL[name]
    shape = (2, 6, 6, 3)
    lin = jacreg.linearize(fn, jnp.ones(shape))
    relation, _, reader = dependence_of(lin)
    found = relation.matrix().toarray()
    assert not reader.dense_primitives
    if name == "map_over_examples":
        true = true_pattern(SQUARE["conv"], shape, 2)
    else:
        true = true_pattern(fn, shape, 4)
    assert found.shape == true.shape
    assert not (true & ~found).any()
    if name not in LOOSE:
        assert (found & ~true).sum() == 0, "an edge that no input shows"


def test_no_edge_missing_is_a_test_that_can_fail(x64):
    """A dependence of a smaller receptive field lacks edges of the larger one."""
    lin = jacreg.linearize(lambda x: conv(x, 3, size=1), jnp.ones((2, 6, 6, 3)))
    found = dependence_of(lin)[0].matrix().toarray()
    assert (true_pattern(SQUARE["conv"], (2, 6, 6, 3), 1) & ~found).any()


def test_rows_are_seen_to_be_independent(x64):
    xs = jnp.ones((3, 6, 6, 3))
    assert dependence_of(jacreg.linearize(SQUARE["conv_net"], xs))[0].rows_independent
    coupled = jacreg.linearize(lambda x: x - x.mean(0), xs)
    assert not dependence_of(coupled)[0].rows_independent


@pytest.mark.parametrize("first", [0, 1])
def test_a_pattern_holds_the_edges_of_every_example(first, x64):
    """Rows that are treated differently: the plan is one for all of them."""

    def fn(x):
        parts = [x[:1] * jnp.roll(x[:1], 1, axis=1), x[1:] ** 2]
        return jnp.concatenate(parts if first == 0 else [x[:1] ** 2, x[1:] * jnp.roll(x[1:], 1, 1)])

    relation, _, _ = dependence_of(jacreg.linearize(fn, jnp.ones((2, 5))))
    eye = np.eye(5, dtype=bool)
    np.testing.assert_array_equal(relation.matrix().toarray(), eye | np.roll(eye, 1, axis=0))


def test_a_solve_is_dense_and_says_so(x64):
    def solve(x):
        matrix = jnp.eye(6) * 3 + x[:, :, :, 0]
        return jnp.linalg.solve(matrix, x[..., 1])

    coloring = jacreg.color(solve, jnp.ones((2, 6, 6, 3)), quantity="frobenius")
    assert coloring.is_dense
    assert "dense through" in repr(coloring)


def test_zero_parameters_are_not_missing_edges(x64):
    """Weights that are zero today are trained tomorrow."""
    weights = jnp.zeros((3, 3, 3, 3))

    def net(x):
        return jax.lax.conv_general_dilated(
            x, weights, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    relation = dependence_of(jacreg.linearize(net, jnp.ones((1, 6, 6, 3))))[0]
    full = dependence_of(jacreg.linearize(SQUARE["conv"], jnp.ones((1, 6, 6, 3))))[0]
    assert relation.matrix() == full.matrix()


def test_long_scan_is_widened_not_unrolled(x64):
    def fn(x):
        def step(carry, _):
            return jnp.tanh(conv(carry, 3)), None

        return jax.lax.scan(step, x, None, length=60)[0]

    relation = dependence_of(jacreg.linearize(fn, jnp.ones((1, 6, 6, 3))))[0]
    assert relation.entries == 108 * 108


@pytest.mark.parametrize("name", ["matrix", "mask", "condition"])
def test_parameters_that_are_zero_today_are_edges(name):
    """Only integers and booleans are part of a program; a float that it closes over may move."""
    matrix, mask = jnp.diag(jnp.arange(1.0, 6)), jnp.asarray([1.0, 0, 1, 0, 1])
    fn = {
        "matrix": lambda xs: xs @ matrix,
        "mask": lambda xs: jnp.cumsum(xs, 1) * mask,
        "condition": lambda xs: jnp.where(mask > 0, jnp.cumsum(xs, 1), xs),
    }[name]
    xs = jnp.ones((2, 5))
    assert jacreg.color(fn, xs, quantity="frobenius").num_colors == 5


ON_NUMPY = {
    "iota and comparisons": lambda xs: jnp.where(jnp.arange(6) % 2 == 0, jnp.roll(xs, 1, 1), xs),
    "a triangle": lambda xs: xs @ jnp.tril(jnp.ones((6, 6), int), -2).astype(xs.dtype),
    "a table that is turned": lambda xs: xs[:, jnp.flip(jnp.arange(12).reshape(2, 6).T[:, 0])],
    "a window of a table": lambda xs: xs[:, jnp.concatenate([jnp.arange(9)[3:6], jnp.arange(3)])],
    "a choice of three": lambda xs: (
        jnp.cumsum(xs, 1) * jax.lax.select_n(jnp.arange(6) % 3, *(jnp.full(6, k) for k in range(3)))
    ),
    "the outer of two": lambda xs: (
        xs @ (jnp.abs(jnp.arange(6)[:, None] - jnp.arange(6)) <= 1).astype(xs.dtype)
    ),
}


@pytest.mark.parametrize("name", ON_NUMPY)
def test_values_that_the_program_alone_gives(name, x64, monkeypatch):
    """By NumPy and by JAX they are the same, so that the pattern is that of the dense Jacobian."""
    fn = ON_NUMPY[name]
    lin = jacreg.linearize(fn, jnp.ones((1, 6)))
    found = dependence_of(lin)[0].matrix().toarray()
    monkeypatch.setattr(_read, "ON_NUMPY", {})
    np.testing.assert_array_equal(dependence_of(lin)[0].matrix().toarray(), found)
    np.testing.assert_array_equal(found, true_pattern(fn, (1, 6), 1))
