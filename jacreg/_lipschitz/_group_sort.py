"""Sorting within groups of channels: an activation that keeps the norm of every gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def max_min(xs: Float[Array, "*shape"], *, axis: int = -1) -> Float[Array, "*shape"]:
    """Larger and smaller of each two neighbours along an axis (Anil et al. 2019).

    `(x_1, x_2, x_3, x_4)` becomes `(max(x_1, x_2), min(x_1, x_2), max(x_3, x_4), ...)`: where no
    two are equal a permutation, so 1-Lipschitz, and no gradient is lost.
    """
    axis = axis % xs.ndim
    side = xs.shape[axis]
    pairs = xs.reshape((*xs.shape[:axis], side // 2, 2, *xs.shape[axis + 1 :]))
    first, second = (jax.lax.slice_in_dim(pairs, i, i + 1, axis=axis + 1) for i in (0, 1))
    found = [jnp.maximum(first, second), jnp.minimum(first, second)]
    return jnp.concatenate(found, axis=axis + 1).reshape(xs.shape)


def group_sort(
    xs: Float[Array, "*shape"], group_size: int = 2, *, axis: int = -1, who: str
) -> Float[Array, "*shape"]:
    """Sort each `group_size` neighbours along an axis (Anil et al. 2019); pairs as `max_min`.

    Errors begin with `who`, the layer.

    Raises:
        ValueError: the axis has no whole number of groups.
    """
    check_group_size(group_size)
    axis = axis % xs.ndim
    side = xs.shape[axis]
    if side % group_size:
        raise ValueError(
            f"{who}: axis {axis} has {side} entries, which groups of {group_size} do not divide; "
            f"choose a width that is a multiple of {group_size}, or with axis=... the axis of the "
            f"channels. The input has shape {xs.shape}."
        )
    if group_size == 2:
        return max_min(xs, axis=axis)
    shape = (*xs.shape[:axis], side // group_size, group_size, *xs.shape[axis + 1 :])
    return jnp.sort(xs.reshape(shape), axis=axis + 1, descending=True).reshape(xs.shape)


def check_group_size(group_size: int) -> int:
    """Return it, or raise unless it is a whole number of at least 1.

    Raises:
        ValueError: it is below 1.
        TypeError: it is no integer.
    """
    if isinstance(group_size, bool) or not isinstance(group_size, int):
        raise TypeError(f"GroupSort: group_size must be an int, got {group_size!r}.")
    if group_size < 1:
        raise ValueError(f"GroupSort: group_size must be at least 1, got {group_size}.")
    return group_size
