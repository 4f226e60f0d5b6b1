"""Traces by chains through channels put beside each other: times, conditions, skip connections."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chains import chain_trace, conv, held, left_to_products, loop_products, net, numbers

import jacreg
from jacreg._chain import _examples

N = 3
TIMES = 0.1 + np.arange(N) / 7
VECTORS, IMAGES = numbers(N, 4), numbers(N, 4, 5, 2)
# Which channels a wrong offset takes is seen: every one has a kernel of its own.
INTO, BETWEEN, OUT = numbers(5, 7), numbers(8, 6), numbers(7, 4)
HALF, BACK = numbers(2, 5), numbers(5, 2)


def with_time(xs, axis=-1, *, first=False):
    """A channel that holds the time of each example."""
    shape = list(xs.shape)
    shape[axis] = 1
    channel = jnp.broadcast_to(TIMES.reshape(-1, *[1] * (xs.ndim - 1)), shape)
    return jnp.concatenate([channel, xs] if first else [xs, channel], axis)


def timed_mlp(xs):
    hidden = jnp.tanh(with_time(xs) @ INTO)
    return with_time(jnp.tanh(with_time(hidden) @ BETWEEN)) @ OUT


def timed_convolutions(count, *, first=False):
    widths = [2, *[3] * (count - 1), 2]

    def apply(xs):
        for number in range(count):
            kernel = numbers(3, 3, widths[number] + 1, widths[number + 1], seed=number)
            xs = conv(with_time(xs, first=first), kernel)
            xs = jax.nn.softplus(xs) if number < count - 1 else xs
        return xs

    return apply


def timed_channels_first(xs):
    layout = ("NCHW", "HWIO", "NCHW")
    for number in range(2):
        kernel = numbers(3, 3, (3, 5)[number], (4, 2)[number])
        xs = with_time(xs, 1, first=number == 1)
        xs = jax.lax.conv_general_dilated(xs, kernel, (1, 1), "SAME", dimension_numbers=layout)
        xs = jnp.tanh(xs) if number == 0 else xs
    return xs


def coupled(xs):
    kept, moved = jnp.split(xs, 2, axis=-1)
    shift = jnp.tanh(kept @ HALF) @ BACK
    return jnp.concatenate([kept, moved * jnp.exp(shift) + shift], axis=-1)


def damped(xs):
    """Positions and momenta: the divergence is that of the friction alone."""

    def energy(xs):
        return (jnp.tanh(xs[:, :2] @ HALF) @ BACK).sum() + (xs[:, 2:] ** 2).sum()

    slope = jax.grad(energy)(xs)
    return jnp.concatenate([slope[:, 2:], -slope[:, :2] - 0.3 * jnp.sin(xs[:, 2:])], axis=-1)


def skipped(xs):
    """What two layers gave, and the time, in front of the third."""
    first = jax.nn.relu(conv(xs, numbers(3, 3, 2, 3)))
    second = jax.nn.relu(conv(first, numbers(3, 3, 3, 3)))
    return conv(with_time(jnp.concatenate([first, second], -1)), numbers(3, 3, 7, 2))


def padded(xs):
    wide = jnp.pad(jnp.tanh(xs), ((0, 0), (1, 2)))
    return jax.nn.elu(jnp.sin(wide) @ BETWEEN[:7])[:, 1:5]


def taken_twice(xs):
    part = xs[:, 1:][:, :2]
    return jnp.concatenate([jnp.tanh(part @ HALF) @ BACK, jnp.sin(xs)[:, :2]], axis=-1)


def left_behind(xs):
    """A part that nothing of the input reaches, multiplied by what a kernel may be."""
    still, moving = jnp.split(with_time(jnp.tanh(xs), first=True), [1], axis=-1)
    return moving @ numbers(4, 4) + still @ numbers(1, 4)


FIELDS = {
    "time beside vectors": (timed_mlp, VECTORS),
    "one example at a time": (
        lambda xs: jax.vmap(
            lambda x, t: jnp.tanh(jnp.concatenate([x, t[None]]) @ INTO) @ OUT
        )(xs, TIMES), VECTORS
    ),
    "its energy": (jax.grad(lambda xs: (timed_mlp(xs) ** 2).sum()), VECTORS),
    "time beside images, 2 layers": (timed_convolutions(2), IMAGES),
    "3 layers": (timed_convolutions(3), IMAGES),
    "4 layers, in front": (timed_convolutions(4, first=True), IMAGES),
    "its energy, images": (jax.grad(lambda xs: (timed_convolutions(2)(xs) ** 2).sum()), IMAGES),
    "channels first": (timed_channels_first, numbers(N, 2, 4, 3)),
    "coupling": (coupled, VECTORS),
    "damped": (damped, VECTORS),
    "skip connection": (skipped, IMAGES),
    "padded and cut": (padded, VECTORS),
    "taken twice": (taken_twice, VECTORS),
    "left behind": (left_behind, VECTORS),
    "halves exchanged": (
        lambda xs: jnp.concatenate([jnp.sin(xs[:, 2:]), xs[:, :2] @ HALF @ BACK], -1), VECTORS
    ),
    "images cut and joined": (
        lambda xs: conv(jnp.concatenate([jnp.tanh(xs[..., :1]), xs], -1), numbers(3, 3, 3, 2)),
        IMAGES,
    ),
    "left out where a factor is infinite": (
        lambda xs: with_time((xs * jnp.asarray([jnp.inf, 1.0, 2.0, 3.0]))[:, 1:]), VECTORS
    ),
    "and before a layer": (
        lambda xs: (jnp.sin(xs) * jnp.asarray([1.0, 2.0, 3.0, jnp.inf]))[:, :2] @ HALF[:, :4],
        VECTORS,
    ),
    "zeros where a factor is infinite": (
        lambda xs: (with_time(xs, first=True) * jnp.asarray([jnp.inf, 1.0, 2.0, 3.0, 4.0]))[:, 1:],
        VECTORS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_channels_beside_each_other(name, x64):
    fn, xs = FIELDS[name]
    held(fn, xs, coupled=True)  # TIMES belong to examples


OTHERS = {
    "rows beside rows": lambda xs: jnp.concatenate([jnp.tanh(xs), xs], 1)[:, 2:6],
    "padded rows": lambda xs: jnp.pad(jnp.tanh(xs), ((0, 0), (1, 0), (0, 0), (0, 0)))[:, :-1],
    "every other channel": lambda xs: jnp.repeat(xs, 2, -1)[..., ::2] * 1.5,
    "a split of rows": lambda xs: jnp.concatenate(jnp.split(jnp.tanh(xs), 2, 1)[::-1], 1),
    "zeros between": lambda xs: jax.lax.pad(xs, 0.0, [(0, 0, 0)] * 3 + [(0, 0, 1)])[..., ::2],
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_axes_are_left_to_products(name, x64):
    left_to_products(OTHERS[name], IMAGES, coupled=True)


@pytest.mark.parametrize("name", ["4 layers, in front", "time beside vectors", "coupling"])
def test_gradients(name, x64):
    fn, xs = FIELDS[name]

    def total(scale, xs, method):
        lin = jacreg.linearize(lambda xs: fn(scale * xs), xs)
        return (jacreg.divergence(lin, method) ** 2).sum()

    gradient = jax.jit(jax.grad(total, argnums=(0, 1)), static_argnums=2)
    by_chain, by_products = gradient(1.1, xs, jacreg.Auto()), gradient(1.1, xs, jacreg.Exact(40))
    for found, expected in zip(by_chain, by_products, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_the_two_halves_of_a_timed_hessian_are_one(x64, monkeypatch):
    """A kernel cut on the way there is the one cut on the way back, transposed."""
    monkeypatch.setattr(_examples, "_CACHE_ENTRIES", 6)
    deep = [numbers(3, 5), numbers(6, 5), numbers(6, 5, seed=1), numbers(6, 1)]

    def timed(kernels):
        return net(kernels, layer=lambda xs, kernel: with_time(xs) @ kernel)

    def total(kernels, xs):
        lin = jacreg.linearize(jax.grad(lambda xs: timed(kernels)(xs).sum()), xs)
        return chain_trace(lin).sum()

    assert loop_products(jax.make_jaxpr(total)(deep, numbers(N, 2)).jaxpr) == 2


ROOTS = np.abs(numbers(2, 4)) * np.asarray([[0.0, 1.0, 1.0, 1.0]])
PIXELS = np.abs(numbers(1, 3, 3, 3)) * (np.arange(9).reshape(1, 3, 3, 1) != 4)
HOLES = np.ones((1, 9, 9, 2))
HOLES[0, 4, 4, 0] = np.inf
AROUND = np.ones((1, 9, 9, 2), bool)
AROUND[:, 3:6, 3:6] = False
SQUARE = [numbers(3, 3, 2, 2, seed=seed) for seed in range(3)]


def positive_half(xs):
    return jnp.where(xs[..., :2] > 0, jnp.sqrt(xs)[..., :2], 0.0)


def halves(xs):
    first, second = jnp.split(jnp.sqrt(xs), 2, -1)
    first = jnp.where(xs[..., :2] > 0, first, 0.0)
    return jnp.tanh(first) @ HALF[:, :4] + jnp.concatenate([second, second], -1)


LEFT_OUT = {
    "a part behind a condition, then a layer": (lambda xs: positive_half(xs) @ HALF[:, :4], ROOTS),
    "of one example": (jax.vmap(lambda x: positive_half(x) @ HALF[:, :4]), ROOTS),
    "one of two halves": (halves, ROOTS),
    "beside what passes": (
        lambda xs: jnp.concatenate([positive_half(xs) @ HALF[:, :2], xs[:, 2:]], -1), ROOTS
    ),
    "pixels": (lambda xs: conv(positive_half(xs), numbers(3, 3, 2, 3)), PIXELS),
    "a part of a part": (
        lambda xs: jnp.sin((jnp.log(xs)[:, :3])[:, 1:]) @ HALF[:, :4], ROOTS
    ),
    "around a hole": (
        lambda xs: jnp.where(
            AROUND, conv(conv(jnp.tanh(conv(xs, SQUARE[0])), SQUARE[1]) * HOLES, SQUARE[2]), 0.0
        ), np.abs(numbers(1, 9, 9, 2)),
    ),
    "one number": (
        lambda xs: jnp.where(xs[0, 0] > 0, jnp.sqrt(xs[0, 0]), 0.0)[None, None], np.zeros((1, 1))
    ),
    "by a number": (
        lambda xs: jnp.where(jnp.asarray(0.0) > 0, jnp.sqrt(xs), jnp.sin(xs)), np.zeros((2, 3))
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_left_out_may_be_infinite(name, x64):
    fn, xs = LEFT_OUT[name]

    @jax.jit
    def both(xs):
        lin = jacreg.linearize(fn, xs)
        return jacreg.divergence(lin), jacreg.divergence(lin, jacreg.Exact(xs[0].size))

    found, by_products = both(xs)
    assert np.isfinite(by_products).all()
    np.testing.assert_allclose(found, by_products, rtol=1e-10, atol=1e-12)


def test_an_image_no_larger_than_a_kernel_is_left_to_products(x64):
    """Three diagonals around three convolutions take all offsets that kernels have."""
    kernels = [numbers(5, 5, 2, 3), numbers(5, 5, 3, 3), numbers(5, 5, 3, 2)]

    def field(xs):
        return jnp.sin(net(kernels)(xs))

    small = numbers(2, 4, 6, 2)
    assert jax.eval_shape(lambda xs: chain_trace(jacreg.linearize(field, xs)), small) is None
    held(field, numbers(2, 5, 6, 2))
