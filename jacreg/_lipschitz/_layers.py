"""The layers as functions of their parameters, and how these are drawn."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ._almost_orthogonal import almost_orthogonal, convolution_sums, dense_sums, positive
from ._layout import Convolution
from ._orthogonal import orthogonal

if TYPE_CHECKING:
    from jaxtyping import Array, Float


# A layer's numbers: what its call needs and what depends on the parameters alone. They can be
# kept through an evaluation; `_fixed` bounds the layer by them, whatever they are.
Numbers = dict[str, Any]


def orthogonal_numbers(kernel: Float[Array, "in out"]) -> Numbers:
    """The orthogonal matrix."""
    return {"kernel": orthogonal(kernel)}


def aol_numbers(kernel: Float[Array, "..."], convolution: Convolution) -> Numbers:
    """The almost orthogonal kernel in the canonical order, and weights that show its norm."""
    scaled, sums = almost_orthogonal(
        convolution.canonical(kernel), convolution.strides, convolution.groups
    )
    return {"kernel": scaled, "weights": jnp.sqrt(sums)}


def aol_convolution(
    xs: Float[Array, "..."],
    numbers: Numbers,
    bias: Float[Array, " out"] | None,
    convolution: Convolution,
) -> Float[Array, "..."]:
    """A convolution by the almost orthogonal kernel, and the bias."""
    ys = convolution(xs, numbers["kernel"])
    return ys if bias is None else ys + convolution.along(bias, convolution.layout[2])


def sll_dense_numbers(
    kernel: Float[Array, "features hidden"], raw: Float[Array, " hidden"]
) -> Numbers:
    """W, T and the q of T."""
    weights = positive(raw)
    return {"kernel": kernel, "weights": weights, "sums": dense_sums(kernel, weights)}


def sll_dense(
    xs: Float[Array, "*N features"], numbers: Numbers, bias: Float[Array, " hidden"]
) -> Float[Array, "*N features"]:
    """x - 2 W T^-1 relu(W^T x + b) (Araujo et al. 2023, theorem 3)."""
    kernel = numbers["kernel"]
    hidden = jax.nn.relu(xs @ kernel + bias)
    return xs - 2 * (hidden / numbers["sums"]) @ kernel.T


def sll_convolution_numbers(
    kernel: Float[Array, "..."], raw: Float[Array, " hidden"], convolution: Convolution
) -> Numbers:
    """W^T in the canonical order, T and the q of T."""
    weights, canonical = positive(raw), convolution.canonical(kernel)
    sums = convolution_sums(jnp.swapaxes(canonical, -1, -2), weights)
    return {"kernel": canonical, "weights": weights, "sums": sums}


def sll_convolution(
    xs: Float[Array, "..."],
    numbers: Numbers,
    bias: Float[Array, " hidden"],
    convolution: Convolution,
) -> Float[Array, "..."]:
    """The same with a convolution as W^T, and its transpose as W."""
    axes = convolution.layout[0]

    def forward(images: Array) -> Array:
        return convolution(images, numbers["kernel"], axes)

    hidden, transpose = jax.vjp(forward, xs)
    hidden = jax.nn.relu(hidden + convolution.along(bias, axes))
    ys = xs - 2 * transpose(hidden / convolution.along(numbers["sums"], axes))[0]
    return jnp.transpose(ys, [axes.index(letter) for letter in convolution.layout[2]])


def draw_aol(convolution: Convolution, into: int, out: int, key: Array, dtype: Any) -> Array:
    """A kernel of norm 1: orthogonal on the pixels of one period of the strides, else zero."""
    into, groups = into // convolution.groups, convolution.groups
    period = [min(n, s) for n, s in zip(convolution.kernel_size, convolution.strides, strict=True)]
    draw = jax.nn.initializers.orthogonal()
    blocks = [
        draw(each, (prod(period) * into, out // groups), dtype)
        for each in jax.random.split(key, groups)
    ]
    block = jnp.concatenate(blocks, axis=1).reshape((*period, into, out))
    kernel = jnp.zeros((*convolution.kernel_size, into, out), dtype)
    before = [(n - p) // 2 for n, p in zip(convolution.kernel_size, period, strict=True)]
    places = tuple(slice(b, b + p) for b, p in zip(before, period, strict=True))
    return convolution.own(kernel.at[places].set(block))


def draw_sll(shape: tuple[int, ...], fan: int, key: Array, dtype: Any) -> Array:
    """Normal entries of variance 1 / fan."""
    return jax.random.normal(key, shape, dtype) * fan**-0.5


def check_sizes(name: str, **sizes: Any) -> None:
    """Raise unless each is a positive int.

    Raises:
        ValueError: one is not.
    """
    for what, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"{name}: {what} must be a positive int, got {size!r}.")
