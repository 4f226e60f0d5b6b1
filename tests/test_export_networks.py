"""Networks with structure exported for a batch of any length: colours and all, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jacreg

pytestmark = pytest.mark.usefixtures("x64")
RNG = np.random.default_rng(1)
KEY = np.asarray(jax.random.key_data(jax.random.key(3)))
SMALL, KERNEL = RNG.normal(size=(3, 3, 2, 2)) / 4, RNG.normal(size=(3, 1, 1))
UP, MIXED = RNG.normal(size=(2, 2, 2, 2)), RNG.normal(size=(4, 4)) / 2
BLOCKS = np.kron(np.eye(6), np.ones((2, 2))) * RNG.normal(size=(12, 12))
MASK = np.kron(np.eye(6), np.ones((2, 2))) > 0
ORDER = np.array([3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8])


def convolved(xs, kernel, stride=1, padding="SAME"):
    return jax.lax.conv_general_dilated(
        xs, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def images(xs):
    """Several convolutions, so that no closed form reads it."""
    for _ in range(2):
        xs = jnp.tanh(convolved(xs, SMALL)) * xs
    return xs


def strided(xs):
    """Patches down, and up again by a transposed convolution."""
    down = jnp.tanh(convolved(xs, UP, 2, "VALID"))
    return jax.lax.conv_transpose(
        down, UP, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def circular(xs):
    padded = jnp.pad(xs, ((0, 0), (1, 1)), mode="wrap")[:, :, None]
    found = jax.lax.conv_general_dilated(
        padded, KERNEL, (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC")
    )
    return jnp.tanh(found[:, :, 0]) * xs


def masked(xs):
    for _ in range(2):
        xs = jnp.sin(xs @ jnp.where(MASK, BLOCKS, 0.0)) + xs
    return jnp.max(xs.reshape(-1, 6, 2), 2, keepdims=True).repeat(2, 2).reshape(xs.shape)


def tables(xs):
    """Integer tables, as indices and under `vmap`."""
    return jax.vmap(lambda x: jnp.sin(x[ORDER]) * x)(xs) + xs.at[:, :4].multiply(xs[:, 4:8])


def attention(xs):
    """Tokens of two entries, each of which sees two neighbours."""
    tokens = xs.reshape(-1, 6, 2)
    scores = jnp.einsum("nqe,nke->nqk", tokens, tokens)
    near = abs(np.arange(6)[:, None] - np.arange(6)) < 2
    weights = jax.nn.softmax(jnp.where(near, scores, -1e9), axis=-1)
    return (weights @ tokens).reshape(xs.shape)


def recurrent(xs):
    """A scan along the axis, and one over the batch, as `jax.lax.map` writes it."""

    def step(state, x):
        state = jnp.tanh(0.5 * state + x)
        return state, state * x

    _, ys = jax.lax.scan(step, jnp.zeros_like(xs[:, 0]), xs.T)
    return ys.T + jax.lax.map(lambda x: x**3, xs)


def chosen(xs):
    """Constants that JAX repeats along the batch: a condition, indices of every row."""
    near = jnp.where(jnp.arange(12) % 3 == 0, jnp.roll(xs, 1, axis=1), xs**2)
    order = jnp.broadcast_to(ORDER, xs.shape)
    return near + jnp.take_along_axis(xs, order, axis=1) * jnp.where(ORDER > 5, xs, 1.0)


def flat_rows(xs):
    """Rows of all examples as one batch of more, which is a multiple of the symbol."""
    rows = xs.reshape(-1, 4)
    return jnp.tanh(rows @ MIXED).reshape(xs.shape) + jnp.sin(xs) * xs.shape[0] ** 0


SHAPES = {"images": (6, 6, 2), "strided": (4, 4, 2)}
NETS = {
    f.__name__: f
    for f in (images, strided, circular, masked, tables, attention, recurrent, flat_rows, chosen)
}  # fmt: skip
DENSE = ("attention", "recurrent")  # to the reader: softmax over all tokens, a recurrence


def energy(name):
    return lambda xs: jnp.sum(jnp.sin(NETS[name](xs)).reshape(xs.shape[0], -1), axis=1)


def shape_of(name):
    return SHAPES.get(name, (12,))


def batch(name, count):
    return jnp.asarray(np.random.default_rng(count).normal(size=(count, *shape_of(name))))


def both(name, quantity, count):
    """The exported call and the plain one."""
    call = jax.jit(quantity)
    (length,) = export.symbolic_shape("b")
    like = jax.ShapeDtypeStruct((length, *shape_of(name)), jnp.float64)
    key_like = jax.ShapeDtypeStruct(KEY.shape, KEY.dtype)
    exported = export.export(call)(like, key_like)
    for each in count:
        yield exported.call(batch(name, each), KEY), call(batch(name, each), KEY)


def agree(name, quantity, count=(2, 5), tolerance=1e-12):
    for found, expected in both(name, quantity, count):
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", NETS)
def test_automatic_ways(name):
    """Divergence, diagonal, norm and both Jacobians, by colours where the plain call has them."""
    paths = []

    def every(xs, key):
        lin = jacreg.linearize(NETS[name], xs)
        quantities = (jacreg.divergence, jacreg.diagonal, jacreg.frobenius_squared, jacreg.jacobian)
        paths.append([jacreg.plan(quantity, lin).path for quantity in quantities])
        sparse = jacreg.jacobian(lin, sparse=True)
        return [quantity(lin) for quantity in quantities], sparse.data, sparse.indices

    agree(name, every)
    for found in paths:  # the layers' own directions are those of a batch of known length alone
        found[:] = ["colouring" if path == "local directions" else path for path in found]
    if name == "circular":  # JAX pads by a gather there, which no closed form reads
        paths[0][0] = "closed form"
    assert paths[0] == paths[1]


@pytest.mark.parametrize("name", NETS)
def test_laplacians(name):
    def every(xs, key):
        lin = jacreg.linearize(energy(name), xs)
        return jacreg.laplacian(lin), jacreg.hessian_diagonal(lin)

    agree(name, every, tolerance=1e-11)


@pytest.mark.parametrize("name", NETS)
def test_colourings_and_probing(name):
    xs = batch(name, 3)
    diagonal = jacreg.color(NETS[name], xs, quantity="divergence")
    columns = jacreg.color(NETS[name], xs, quantity="jacobian")
    assert (name in DENSE) == columns.is_dense

    def every(xs, key):
        lin, key = jacreg.linearize(NETS[name], xs), jax.random.wrap_key_data(key)
        signs = jacreg.Probing(3)
        return (
            [jacreg.divergence(lin, diagonal), jacreg.diagonal(lin, diagonal)],
            [jacreg.frobenius_squared(lin, columns), jacreg.jacobian(lin, columns)],
            jacreg.jacobian(lin, columns, sparse=True).data,
            [jacreg.divergence(lin, signs, key=key), jacreg.diagonal(lin, signs, key=key)],
            jacreg.frobenius_squared(lin, signs, key=key),
        )

    agree(name, every)


def rolled_by_the_length(xs):
    return jnp.sin(jnp.roll(xs, xs.shape[0], axis=1)) * xs


def rolled_by_the_count(xs):
    count = jnp.sum(jnp.ones_like(xs[:, 0], int))
    return jnp.sin(jnp.roll(xs, count, axis=1)) * xs


def rolled_by_the_last(xs):
    """By the index of the last row, of two outputs of one operation."""
    places, _ = jax.lax.top_k(jnp.cumsum(jnp.ones_like(xs[:, 0], int)), 1)
    return jnp.sin(jnp.roll(xs, places[0], axis=1)) * xs


def padded_by_the_length(xs):
    return jnp.sin(jnp.pad(xs, ((0, 0), (xs.shape[0], 0)))[:, : xs.shape[1]]) * xs


def chosen_by_place(xs):
    """The entry that each row sees is its place in the batch."""
    place = jnp.arange(xs.shape[0]) % 12
    return xs * jnp.take_along_axis(xs, place[:, None], axis=1)


def chosen_by_table(xs):
    """The same from a table, as many rows of it as there are."""
    place = jax.lax.slice_in_dim(jnp.asarray([3, 3, 3, 3, 3, 3, 2, 1, 0, 3, 3, 3]), 0, xs.shape[0])
    return xs * jnp.take_along_axis(xs, place[:, None], axis=1)


def masked_by_place(xs):
    late = jnp.arange(xs.shape[0])[:, None] > 5
    return xs * jnp.where(late, jnp.roll(xs, 1, axis=1), xs)


def masked_by_rows_laid_out_anew(xs):
    """As many rows as the number has that stands for the length of the batch, as many columns."""
    count, head = xs.shape[0], xs[:, :5]
    table = jnp.broadcast_to(jnp.arange(5)[:, None], (5, count)).reshape(count, 5)
    even = table == jax.lax.rev(table, (1,))
    return jnp.concatenate([jnp.where(even, head, jnp.roll(head, 1, axis=1) ** 2), xs[:, 5:]], 1)


def chosen_by_step(xs):
    """The same by a counter of a loop over the batch."""

    def step(count, x):
        return count + 1, x * x[count]

    return jax.lax.scan(step, 0, xs)[1]


def first_columns(xs):
    """As many columns as there are rows."""
    return xs * jnp.sum(jax.lax.slice_in_dim(xs, 0, xs.shape[0], axis=1), 1, keepdims=True)


BY_LENGTH = (
    rolled_by_the_length, rolled_by_the_count, rolled_by_the_last, padded_by_the_length,
    chosen_by_place, chosen_by_table, masked_by_place,
    masked_by_rows_laid_out_anew, chosen_by_step, first_columns,
)  # fmt: skip


@pytest.mark.parametrize("fn", BY_LENGTH, ids=lambda fn: fn.__name__)
def test_what_the_length_chooses_is_in_no_pattern(fn):
    """Colours that are exact for some lengths alone would be wrong for others without a word."""
    jacobian = jax.jit(lambda xs: jacreg.jacobian(jacreg.linearize(fn, xs)))
    (length,) = export.symbolic_shape("b", constraints=["b <= 12"])
    exported = export.export(jacobian)(jax.ShapeDtypeStruct((length, 12), jnp.float64))
    for count in (1, 5, 9):
        xs = batch("masked", count)
        found, dense = jax.jit(lambda xs: (exported.call(xs), jax.jacobian(fn)(xs)))(xs)
        expected = np.asarray(dense)[np.arange(count), :, np.arange(count)]
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_a_colouring_of_another_function_is_refused():
    coloring = jacreg.color(jnp.sin, jnp.ones((2, 12)), quantity="jacobian")

    def call(xs):
        lin = jacreg.linearize(lambda xs: jnp.sin(jnp.roll(xs, 1, axis=1)) * xs, xs)
        return jacreg.jacobian(lin, coloring)

    (length,) = export.symbolic_shape("b")
    with pytest.raises(jacreg.ColoringError, match="symbol"):
        export.export(jax.jit(call))(jax.ShapeDtypeStruct((length, 12), jnp.float64))


def test_colours_are_taken_apart_by_the_function_that_is_exported():
    """One colour fits any order of the entries, and says nothing of which it is."""

    def ordered(order):
        return lambda xs: xs[:, order] ** 2

    order, xs = np.random.default_rng(0).permutation(12), batch("masked", 2)
    coloring = jacreg.color(ordered(np.arange(12)), xs, quantity="jacobian")
    call = jax.jit(lambda xs: jacreg.jacobian(jacreg.linearize(ordered(order), xs), coloring))
    (length,) = export.symbolic_shape("b")
    exported = export.export(call)(jax.ShapeDtypeStruct((length, 12), jnp.float64))
    expected = 2 * np.asarray(xs)[:, order, None] * np.eye(12)[order]
    np.testing.assert_allclose(exported.call(xs), expected, rtol=1e-12)


def test_a_length_that_is_no_multiple_says_so():
    coloring = jacreg.color(jnp.sin, jnp.ones((2, 12)))

    def call(xs):
        return jacreg.divergence(jacreg.linearize(padded_by_the_length, xs), coloring)

    (length,) = export.symbolic_shape("b")
    with pytest.raises(jacreg.ColoringError, match=r"length b \+ 12"):
        export.export(jax.jit(call))(jax.ShapeDtypeStruct((length, 12), jnp.float64))
