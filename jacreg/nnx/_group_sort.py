"""Activations in nnx that keep the norm of every gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flax import nnx

from .._lipschitz._group_sort import check_group_size, group_sort

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class GroupSort(nnx.Module):
    """Sorts each `group_size` neighbouring channels, largest first (Anil et al. 2019).

    Where no two are equal it permutes them: 1-Lipschitz, and the gradient keeps its norm, which
    a relu halves on the way (arXiv:1811.05381, section 4).

    Example:
        >>> import jax.numpy as jnp, jacreg.nnx
        >>> jacreg.nnx.GroupSort(3)(jnp.array([[1.0, 3.0, 2.0]]))
        Array([[3., 2., 1.]], dtype=float32)
    """

    def __init__(self, group_size: int = 2, *, axis: int = -1) -> None:
        """Make the activation.

        Args:
            group_size: how many neighbours are sorted together; it divides the channels.
            axis: of the channels, in a batch.

        Raises:
            ValueError: `group_size` is below 1.
        """
        self.group_size = check_group_size(group_size)
        self.axis = axis

    def __call__(self, xs: Float[Array, "N *in"]) -> Float[Array, "N *in"]:
        """Return the sorted groups.

        Raises:
            ValueError: the groups do not divide the channels.
        """
        who = f"jacreg.nnx.{type(self).__name__}"
        return group_sort(xs, self.group_size, axis=self.axis, who=who)

    def lipschitz_bound(self) -> float:
        """1: it permutes."""
        return 1.0


class MaxMin(GroupSort):
    """Larger and smaller of each two neighbouring channels: `GroupSort(2)`.

    Example:
        >>> import jax.numpy as jnp, jacreg.nnx
        >>> jacreg.nnx.MaxMin()(jnp.array([[1.0, 3.0, 4.0, 2.0]]))
        Array([[3., 1., 4., 2.]], dtype=float32)
    """

    def __init__(self, *, axis: int = -1) -> None:
        """Make the activation; `axis` is that of the channels, in a batch."""
        super().__init__(2, axis=axis)
