"""The linear program of a Jacobian: of J v, or of J^T u where there is no forward mode."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class LinearProgram(NamedTuple):
    """A closed jaxpr that is linear in its inputs from `first_tangent` on.

    Attributes:
        closed: what the function closes over, its further arguments and its inputs, then
            tangents of the inputs, to tangents of the outputs; or transposed.
        values: of the inputs before the tangents: the entries of those that are part of the
            program (`structural_value`), None for the others. It is all that a pattern is read
            from beside the program's own text.
        first_tangent: position of the first tangent.
        reverse: whether it maps cotangents of the outputs to those of the inputs.
    """

    closed: Any
    values: tuple[np.ndarray | None, ...]
    first_tangent: int
    reverse: bool

    @property
    def tangents(self) -> list[Any]:
        """The variables of the tangents."""
        return self.closed.jaxpr.invars[self.first_tangent :]

    @property
    def along(self) -> list[bool]:
        """Which inputs are tangents."""
        return [number >= self.first_tangent for number in range(len(self.closed.jaxpr.invars))]


def structural_value(constant: Any) -> np.ndarray | None:
    """Entries of a constant that are part of the program: concrete integers and booleans.

    Floating-point constants are parameters: what is zero today is not a missing edge.
    """
    dtype = getattr(constant, "dtype", None)
    if dtype is None or not is_structural(dtype) or isinstance(constant, jax.ShapeDtypeStruct):
        return None
    try:
        return np.asarray(constant)
    except jax.errors.TracerArrayConversionError:
        return None


def is_structural(dtype: Any) -> bool:
    """Whether entries of that type choose among others: integers and booleans."""
    return not jnp.issubdtype(dtype, jax.dtypes.extended) and np.dtype(dtype).kind in "iub"
