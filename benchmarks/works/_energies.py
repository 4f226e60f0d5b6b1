"""Energies `[N, *in] -> [N]` as people write them: dense, convolutional, attention."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.methods import _kernel

Energy = Callable[[Any], Any]


def mlp(sizes: Sequence[int], activation: Any) -> Energy:
    """Dense layers with an activation between them, one output."""
    kernels = [_kernel(pair, i) for i, pair in enumerate(itertools.pairwise(sizes))]

    def energy(xs: Any) -> Any:
        for kernel in kernels[:-1]:
            xs = activation(xs @ kernel)
        return (xs @ kernels[-1])[..., 0]

    return energy


def convolutions(
    width: int = 8, *, strides: Sequence[int] = (1, 1, 1), groups: int | None = None
) -> Energy:
    """Three 3x3 convolutions of one channel, a group norm behind each where asked, squares."""
    kernels = [_kernel((3, 3, a, width), i) for i, a in enumerate((1, width, width))]

    def energy(xs: Any) -> Any:
        for kernel, stride in zip(kernels, strides, strict=True):
            xs = jax.lax.conv_general_dilated(
                xs, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            xs = jnp.tanh(xs if groups is None else _group_norm(xs, groups))
        return (xs**2).sum((1, 2, 3))

    return energy


def attention(features: int, *, blocks: int = 2, expansion: int = 4) -> Energy:
    """Pre-norm blocks of one head and a GELU MLP on `[N, tokens, features]`, squares."""
    wide = features * expansion
    shapes = (*[(features, features)] * 4, (features, wide), (wide, features))
    weights = [[_kernel(s, 10 * b + i) for i, s in enumerate(shapes)] for b in range(blocks)]

    def energy(xs: Any) -> Any:
        for query, key, value, out, up, down in weights:
            h = _layer_norm(xs)
            scores = (h @ query) @ jnp.swapaxes(h @ key, -1, -2) / features**0.5
            xs = xs + jax.nn.softmax(scores, axis=-1) @ (h @ value) @ out
            xs = xs + jax.nn.gelu(_layer_norm(xs) @ up) @ down
        return (xs**2).sum((1, 2))

    return energy


def _layer_norm(xs: Any) -> Any:
    centred = xs - xs.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5)


def _group_norm(xs: Any, groups: int) -> Any:
    batch, height, width, channels = xs.shape
    split = xs.reshape(batch, height, width, groups, channels // groups)
    centred = split - split.mean((1, 2, 4), keepdims=True)
    scaled = centred * jax.lax.rsqrt((centred**2).mean((1, 2, 4), keepdims=True) + 1e-5)
    return scaled.reshape(xs.shape)
