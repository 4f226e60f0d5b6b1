"""Local directions: derivatives by what each value sees and is needed for, in slots of its own."""

from functools import partial

import jax
import jax.numpy as jnp
import local_functions as local
import numpy as np
import pytest
from jax import lax

import jacreg
from jacreg._coloring import _automatic, _local
from jacreg._flops import count_flops
from jacreg._recent import Recent

pytestmark = pytest.mark.usefixtures("x64")

IMAGES = np.random.default_rng(0).normal(size=(2, 8, 6, 2))
QUANTITIES = (jacreg.divergence, jacreg.diagonal, jacreg.frobenius_squared)


def convolutions(xs, depth=5, width=3):
    channels = xs.shape[-1]
    for layer in range(depth - 1):
        xs = jnp.tanh(local.conv(xs, width, seed=layer))
    return local.conv(xs, channels, seed=depth)


def residual(xs):
    ys = local.conv(xs, 4)
    for layer in range(2):
        ys = ys + local.conv(jnp.tanh(local.conv(ys, 4, seed=layer)), 4, seed=layer + 5)
    return xs + local.conv(jnp.sin(ys), 2)


def dilated(xs):
    for layer, dilation in enumerate((1, 2, 3)):
        xs = xs + jnp.tanh(local.conv(xs, 2, dilation=dilation, seed=layer))
    return xs


def reflecting(xs):
    for layer in range(3):
        padded = jnp.pad(xs, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        xs = jnp.tanh(local.conv(padded, 2, padding="VALID", seed=layer))
    return xs


def down_and_up(xs):
    ys = jnp.tanh(local.conv(xs, 4, stride=2))
    ys = jnp.tanh(local.conv(ys, 4, seed=1))
    ys = jax.image.resize(ys, (*xs.shape[:3], 4), "bilinear")
    return local.conv(ys, 2) + xs


def shuffled(xs):
    ys = local.pixel_shuffle(local.average_pool(jnp.tanh(local.conv(xs, 2))))
    return jnp.sin(ys) * xs


def pooled(xs):
    ys = local.max_pool(jnp.tanh(local.conv(xs, 2)))
    return xs + jnp.repeat(jnp.repeat(local.conv(ys, 2), 2, axis=1), 2, axis=2)


def channels_first(xs):
    def conv(ys, seed):
        weights = local.kernel((2, 2, 3, 3), seed)
        return lax.conv_general_dilated(ys, weights, (1, 1), "SAME")

    ys = jnp.moveaxis(xs, -1, 1)
    for layer in range(4):
        ys = jnp.sin(conv(ys, layer))
    return jnp.moveaxis(ys, 1, -1)


def an_example_at_a_time(xs):
    return jax.vmap(lambda x: convolutions(x[None], 4)[0])(xs)


def flattened(xs):
    """A network on images that takes them as vectors."""
    return convolutions(xs.reshape(-1, *IMAGES.shape[1:]), 4).reshape(xs.shape)


def rows_alone(xs):
    """Convolutions along one axis; the others pass, or are mixed at once."""
    for layer in range(4):
        xs = jnp.tanh(local.conv(xs, 2, seed=layer)[:, :, ::-1][:, :, ::-1])
        xs = jnp.roll(xs, 1, axis=1)
    return xs * 2.0


def attention_of_windows(xs):
    """Each pair of rows attends to itself."""
    n, h, w, c = xs.shape
    tokens = local.conv(xs, 2).reshape(n, h // 2, 2 * w, c)
    scores = jax.nn.softmax(tokens @ jnp.swapaxes(tokens, -1, -2), axis=-1)
    return local.conv((scores @ tokens).reshape(xs.shape), 2) + xs


def masked(xs):
    """Odd and even entries take turns, as in a coupling of a flow."""
    mask = (jnp.arange(xs.shape[1])[:, None, None] + jnp.arange(xs.shape[2])[:, None]) % 2
    for layer in range(3):
        change = jnp.tanh(local.conv(jnp.where(mask == 1, xs, 0.0), 2, seed=layer))
        xs, mask = jnp.where(mask == 1, xs, xs * jnp.exp(change)), 1 - mask
    return xs


def picked(xs):
    """Rows by a table that is known, and sums over overlapping windows."""
    order = np.array([1, 0, 3, 2, 5, 4, 7, 6])
    ys = jnp.tanh(local.conv(xs, 2))[:, order]
    ys = lax.reduce_window(ys, 0.0, lax.add, (1, 3, 1, 1), (1, 1, 1, 1), "SAME")
    return ys.at[:, 0].add(xs[:, 1]) * xs


FUNCTIONS = {
    "convolutions": convolutions,
    "residual": residual,
    "dilated": dilated,
    "reflecting": reflecting,
    "down and up": down_and_up,
    "shuffled": shuffled,
    "pooled": pooled,
    "channels first": channels_first,
    "an example at a time": an_example_at_a_time,
    "rows": rows_alone,
    "U-Net": local.unet,
    "attention of windows": attention_of_windows,
    "masked": masked,
    "picked": picked,
    "stencil": lambda xs: local.stencil(jnp.sin(local.stencil(local.stencil(xs)))),
    "coupling": lambda xs: local.coupling(jnp.sin(local.coupling(xs))),
}


def dense(fn, xs):
    each = jax.vmap(jax.jacfwd(lambda x: fn(x[None])[0]))(xs)
    return each.reshape(len(xs), -1, xs[0].size)


def expected(quantity, full, shape):
    if quantity is jacreg.divergence:
        return jnp.trace(full, axis1=1, axis2=2)
    if quantity is jacreg.diagonal:
        return jnp.diagonal(full, axis1=1, axis2=2).reshape(shape)
    return (full**2).sum(axis=(1, 2))


@pytest.fixture
def always(monkeypatch):
    """Local directions for every network, of as many entries at once as is said."""

    def take(entries=1 << 22):
        monkeypatch.setattr(_local, "_WORTH", float("inf"))
        monkeypatch.setattr(_local, "_MOST_ENTRIES", entries)
        monkeypatch.setattr(_automatic, "_FEW", 0)
        monkeypatch.setattr(_automatic, "_FOUND", Recent(64))

    return take


def found(quantity, lin):
    """Local directions of a network, whatever else would cost."""
    name = "frobenius" if quantity is jacreg.frobenius_squared else "divergence"
    compute = {
        jacreg.divergence: _local.LOCAL_TRACE,
        jacreg.diagonal: _local.LOCAL_DIAGONAL,
        jacreg.frobenius_squared: _local.LOCAL_NORM,
    }[quantity]
    known = _automatic._find(lin, name, 0, compute)
    assert known.local is not None
    return _local.by_local_directions(lin, known.local, compute), known.local


@pytest.mark.parametrize("quantity", QUANTITIES, ids=lambda each: each.__name__)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_local_directions_are_exact(always, name, quantity):
    fn = FUNCTIONS[name]
    full = dense(fn, IMAGES)
    lin = jacreg.linearize(fn, IMAGES)
    parts = set()
    for entries in (1 << 22, 12_000, 4_000):
        always(entries)
        try:
            choice, local_ = found(quantity, lin)
        except AssertionError:
            continue
        parts.add(np.prod(local_.counts))
        np.testing.assert_allclose(
            choice.run(None), expected(quantity, full, IMAGES.shape), rtol=1e-10, atol=1e-12
        )
    assert parts


@pytest.mark.parametrize("quantity", QUANTITIES, ids=lambda each: each.__name__)
def test_parts_one_after_the_other(always, quantity):
    """Less and less at once, until nothing is kept apart."""
    full = dense(convolutions, IMAGES)
    lin = jacreg.linearize(convolutions, IMAGES)
    axes = []
    for entries in (100_000, 20_000, 8_000, 3_000):
        always(entries)
        choice, local_ = found(quantity, lin)
        axes.append(local_.axes)
        np.testing.assert_allclose(
            choice.run(None), expected(quantity, full, IMAGES.shape), rtol=1e-10, atol=1e-12
        )
    assert axes[0] == (1, 2, 3), axes
    assert len(axes[-1]) == 1, axes


@pytest.mark.parametrize("quantity", QUANTITIES, ids=lambda each: each.__name__)
@pytest.mark.parametrize(
    ("name", "entries"),
    [("residual", 1 << 22), ("residual", 4_000), ("down and up", 1 << 22), ("masked", 1 << 22)],
)
def test_gradients_by_the_input_are_those_of_the_dense_jacobian(always, name, entries, quantity):
    always(entries)
    fn = FUNCTIONS[name]
    found(quantity, jacreg.linearize(fn, IMAGES))

    def own(xs):
        lin = jacreg.linearize(fn, xs)
        return jnp.sum(jnp.sin(found(quantity, lin)[0].run(None)))

    def plain(xs):
        return jnp.sum(jnp.sin(expected(quantity, dense(fn, xs), xs.shape)))

    got, wanted = jax.jit(jax.grad(own))(IMAGES), jax.jit(jax.grad(plain))(IMAGES)
    np.testing.assert_allclose(got, wanted, rtol=1e-8, atol=1e-10)
    tangent = local.images(IMAGES.shape, 3)
    got, wanted = (
        jax.jit(lambda xs, f=f: jax.jvp(jax.grad(f), (xs,), (tangent,))[1])(IMAGES)
        for f in (own, plain)
    )
    np.testing.assert_allclose(got, wanted, rtol=1e-7, atol=1e-9)


def test_vectors_that_are_images_have_one_axis(always):
    always()
    xs = IMAGES.reshape(2, -1)
    choice, local_ = found(jacreg.divergence, jacreg.linearize(flattened, xs))
    assert local_.axes == (1,)
    full = dense(flattened, xs)
    np.testing.assert_allclose(choice.run(None), jnp.trace(full, axis1=1, axis2=2), rtol=1e-10)


def test_a_function_of_nothing_that_is_needed(always):
    """The diagonal is zero, whatever stands beside it."""
    always()
    shift = lambda xs: jnp.roll(jnp.tanh(local.conv(xs, 2)), 4, axis=1)  # noqa: E731
    choice, _ = found(jacreg.divergence, jacreg.linearize(shift, IMAGES))
    np.testing.assert_allclose(
        choice.run(None), jnp.trace(dense(shift, IMAGES), axis1=1, axis2=2), atol=1e-12
    )


@pytest.mark.parametrize(("quantity", "most"), [("divergence", 0.75), ("frobenius", 0.67)])
def test_six_convolutions_take_fewer_operations_than_their_colours(quantity, most):
    xs = jnp.ones((2, 32, 32, 3))
    function = jacreg.divergence if quantity == "divergence" else jacreg.frobenius_squared
    fn = partial(convolutions, depth=6, width=16)
    lin = jacreg.linearize(fn, xs)
    plan = jacreg.plan(function, lin)
    assert (plan.path, plan.num_products) == ("local directions", 0)
    coloring = jacreg.color(fn, xs, quantity=quantity)
    own, colored = (
        count_flops(lambda xs, m=m: function(jacreg.linearize(fn, xs), *m), xs)
        for m in ((), (coloring,))
    )
    assert own < most * colored, own / colored


@pytest.mark.parametrize("examples", [1, 16, 64])
def test_no_array_of_a_part_is_larger_than_what_may_be_held(examples):
    xs = jnp.ones((examples, 16, 16, 3), jnp.float32)
    fn = partial(convolutions, depth=6, width=8)

    def largest(jaxpr):
        inner = [
            largest(each) for e in jaxpr.eqns for each in jax.extend.core.jaxprs_in_params(e.params)
        ]
        return max([0, *inner, *(v.aval.size for e in jaxpr.eqns for v in e.outvars)])

    for quantity in (jacreg.divergence, jacreg.frobenius_squared):
        plan = jacreg.plan(quantity, jacreg.linearize(fn, xs))
        assert plan.path == "local directions"
        traced = jax.make_jaxpr(lambda xs, q=quantity: q(jacreg.linearize(fn, xs)))(xs)
        assert largest(traced.jaxpr) <= 2 * _local._MOST_ENTRIES


@pytest.mark.parametrize("quantity", QUANTITIES, ids=lambda each: each.__name__)
def test_what_a_condition_leaves_out_may_be_infinite(always, quantity):
    """The slope of a root at zero, in a branch that is not taken, moved before it is left out."""
    always()
    xs = np.where(np.arange(6)[:, None] % 3 == 0, 0.0, np.abs(IMAGES))

    def fn(xs):
        roots = jnp.sqrt(xs).reshape(len(xs), -1).reshape(xs.shape)
        ys = jnp.where(xs > 0, roots, 0.0)
        return local.conv(jnp.tanh(local.conv(ys, 3)), 2) + jnp.sin(xs)

    def kept(xs):
        """The same without the branch: its entries stand still."""
        roots = jnp.where(xs > 0, jnp.sqrt(jnp.where(xs > 0, xs, 1.0)), 0.0)
        return local.conv(jnp.tanh(local.conv(roots, 3)), 2) + jnp.sin(xs)

    got = found(quantity, jacreg.linearize(fn, xs))[0].run(None)
    wanted = expected(quantity, dense(kept, xs), xs.shape)
    np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("quantity", QUANTITIES, ids=lambda each: each.__name__)
def test_an_output_of_a_wider_type_keeps_its_digits(always, quantity):
    always()
    xs = jnp.asarray(IMAGES, jnp.bfloat16)
    fn = lambda xs: residual(xs.astype(jnp.float64))  # noqa: E731
    lin = jacreg.linearize(fn, xs)
    wide = jacreg.linearize(fn, xs.astype(jnp.float64))
    got = found(quantity, lin)[0].run(None)
    assert got.dtype == jnp.float64
    np.testing.assert_allclose(got, quantity(wide, jacreg.Exact()), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("quantity", [jacreg.laplacian, jacreg.frobenius_squared])
def test_where_a_resized_image_is_read_is_known(quantity):
    """JAX computes it of numbers: with it an entry sees as little as of a repeated image."""

    def network(xs, resize):
        low = jnp.tanh(local.conv(xs, 4, stride=2))
        ys = jnp.tanh(local.conv(resize(low), 4))
        return local.conv(ys, 1)

    def nearest(low):
        return jax.image.resize(low, (2, 24, 24, 4), "nearest")

    def repeated(low):
        return jnp.repeat(jnp.repeat(low, 2, axis=1), 2, axis=2)

    def operations(resize):
        def call(xs):
            field = partial(network, resize=resize)
            energy = lambda xs: jnp.sum(field(xs) ** 2, axis=(1, 2, 3))  # noqa: E731
            return quantity(jacreg.linearize(energy if quantity is jacreg.laplacian else field, xs))

        return count_flops(call, jnp.ones((2, 24, 24, 1)))

    assert operations(nearest) < 1.5 * operations(repeated)
