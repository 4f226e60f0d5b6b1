"""Activations in Equinox that keep the norm of every gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import equinox as eqx

from .._lipschitz._group_sort import check_group_size, group_sort

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PRNGKeyArray


class GroupSort(eqx.Module):
    """Sorts each `group_size` neighbouring channels, largest first (Anil et al. 2019).

    Where no two are equal it permutes them: 1-Lipschitz, and the gradient keeps its norm, which
    a relu halves on the way (arXiv:1811.05381, section 4).

    Example:
        >>> import jax.numpy as jnp, jacreg.eqx
        >>> jacreg.eqx.GroupSort(3)(jnp.array([1.0, 3.0, 2.0]))
        Array([3., 2., 1.], dtype=float32)
    """

    group_size: int = eqx.field(static=True)
    axis: int = eqx.field(static=True)

    def __init__(self, group_size: int = 2, *, axis: int = 0) -> None:
        """Make the activation.

        Args:
            group_size: how many neighbours are sorted together; it divides the channels.
            axis: of the channels, in one example.

        Raises:
            ValueError: `group_size` is below 1.
        """
        self.group_size = check_group_size(group_size)
        self.axis = axis

    def __call__(
        self, x: Float[Array, "*in"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "*in"]:
        """Return the sorted groups of one example.

        Raises:
            ValueError: the groups do not divide the channels.
        """
        del key
        who = f"jacreg.eqx.{type(self).__name__}"
        return group_sort(x, self.group_size, axis=self.axis, who=who)

    def lipschitz_bound(self) -> float:
        """1: it permutes."""
        return 1.0


class MaxMin(GroupSort):
    """Larger and smaller of each two neighbouring channels: `GroupSort(2)`.

    Example:
        >>> import jax.numpy as jnp, jacreg.eqx
        >>> jacreg.eqx.MaxMin()(jnp.array([1.0, 3.0, 4.0, 2.0]))
        Array([3., 1., 4., 2.], dtype=float32)
    """

    def __init__(self, *, axis: int = 0) -> None:
        """Make the activation; `axis` is that of the channels, in one example."""
        super().__init__(2, axis=axis)
