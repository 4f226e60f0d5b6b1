"""The layers as functions of their parameters, and how these are drawn."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ._almost_orthogonal import almost_orthogonal, convolution_sums, dense_sums, positive
from ._layout import Convolution

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def aol_convolution(
    xs: Float[Array, "..."],
    kernel: Float[Array, "..."],
    bias: Float[Array, " out"] | None,
    convolution: Convolution,
) -> Float[Array, "..."]:
    """A convolution by the almost orthogonal kernel, and the bias."""
    scaled = almost_orthogonal(
        convolution.canonical(kernel), convolution.strides, convolution.groups
    )
    ys = convolution(xs, scaled)
    return ys if bias is None else ys + convolution.along(bias, convolution.layout[2])


def sll_dense(
    xs: Float[Array, "*N features"],
    kernel: Float[Array, "features hidden"],
    raw: Float[Array, " hidden"],
    bias: Float[Array, " hidden"],
) -> Float[Array, "*N features"]:
    """x - 2 W T^-1 relu(W^T x + b) (Araujo et al. 2023, theorem 3)."""
    sums = dense_sums(kernel, positive(raw))
    hidden = jax.nn.relu(xs @ kernel + bias)
    return xs - 2 * (hidden / sums) @ kernel.T


def sll_convolution(
    xs: Float[Array, "..."],
    kernel: Float[Array, "..."],
    raw: Float[Array, " hidden"],
    bias: Float[Array, " hidden"],
    convolution: Convolution,
) -> Float[Array, "..."]:
    """The same with a convolution as W^T, and its transpose as W."""
    canonical = convolution.canonical(kernel)
    sums = convolution_sums(jnp.swapaxes(canonical, -1, -2), positive(raw))
    axes = convolution.layout[0]

    def forward(images: Array) -> Array:
        return convolution(images, canonical, axes)

    hidden, transpose = jax.vjp(forward, xs)
    hidden = jax.nn.relu(hidden + convolution.along(bias, axes)) / convolution.along(sums, axes)
    ys = xs - 2 * transpose(hidden)[0]
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
