"""Laplacian of a scalar field, example by example."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ._linearize import linearize
from ._methods import Auto, Method
from ._scalar_field import scalar_field_gradient
from ._trace import divergence

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def laplacian(
    fn: Callable[[Array], Array],
    xs: Float[Array, "N *in"],
    method: Method = Auto(),
    *,
    key: Array | None = None,
) -> Float[Array, " N"]:
    """Laplacian of `fn`, the trace of each example's Hessian: div grad.

    Args:
        fn: `[N, *in] -> [N]`, one number an example (an energy, a log density).
        xs: `[N, *in]`.
        method: as for `divergence`; a `Coloring` is made with `quantity="laplacian"`.
        key: for the stochastic methods.

    Raises:
        ValueError: `fn` does not return one number an example, or a key is missing.
        TypeError: the method does not give a trace.
    """
    gradient = scalar_field_gradient("laplacian", fn)
    return divergence(linearize(gradient, xs, mode="forward"), method, key=key)
