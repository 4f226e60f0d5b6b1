"""Initialisers of convolution kernels in any layout.

Each takes a layout and returns a function `(key, shape, dtype) -> kernel` as
`jax.nn.initializers` do. Fans are computed from the layout's own axes: the window times `I` in,
the window times `O` out. Kernels are drawn in the layout's canonical order and transposed, so
that one key gives the same function in every layout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.nn import initializers

from ._layout import ConvLayout, transpose_axes


def glorot_uniform(layout: ConvLayout | Sequence[str] | None = None) -> Callable:
    """Uniform, variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010; "Xavier")."""
    return by_layout(initializers.glorot_uniform(), layout)


def glorot_normal(layout: ConvLayout | Sequence[str] | None = None) -> Callable:
    """Truncated normal, variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010; "Xavier")."""
    return by_layout(initializers.glorot_normal(), layout)


def lecun_uniform(layout: ConvLayout | Sequence[str] | None = None) -> Callable:
    """Uniform, variance 1 / fan_in (LeCun et al. 1998)."""
    return by_layout(initializers.lecun_uniform(), layout)


def lecun_normal(layout: ConvLayout | Sequence[str] | None = None) -> Callable:
    """Truncated normal, variance 1 / fan_in (LeCun et al. 1998)."""
    return by_layout(initializers.lecun_normal(), layout)


def he_uniform(layout: ConvLayout | Sequence[str] | None = None) -> Callable:
    """Uniform, variance 2 / fan_in (He et al. 2015)."""
    return by_layout(initializers.he_uniform(), layout)


def he_normal(layout: ConvLayout | Sequence[str] | None = None) -> Callable:
    """Truncated normal, variance 2 / fan_in (He et al. 2015)."""
    return by_layout(initializers.he_normal(), layout)


def by_layout(initializer: Callable, layout: ConvLayout | Sequence[str] | None = None) -> Callable:
    """Any initialiser that expects `(*window, in, out)`, drawn so and put in the layout's order."""
    layout = ConvLayout.of(layout)
    canonical = layout.canonical.kernel

    def init(key, shape: Sequence[int], dtype=float):
        if len(shape) != len(layout.kernel):
            raise ValueError(
                f"A kernel with the axes {layout.kernel!r} has {len(layout.kernel)} of them, got "
                f"shape {tuple(shape)}."
            )
        sizes = dict(zip(layout.kernel, shape, strict=True))
        ordered = tuple(sizes[letter] for letter in canonical)
        kernel = initializer(key, ordered, jax.dtypes.canonicalize_dtype(dtype))
        return transpose_axes(jnp.asarray(kernel), canonical, layout.kernel)

    return init
