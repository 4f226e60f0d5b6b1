"""The dense Jacobian of each example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax

from . import _coloring as colored
from ._basis import FlatJacobian
from ._exact import dense_jacobian
from ._linearize import Linearization
from ._methods import Exact, check_count, select

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def jacobian(
    lin: Linearization, method: Any = Exact(), *, chunk_size: int | None = None
) -> Float[Array, "N *out *in"]:
    """Dense Jacobian d value / d xs of each example, `[N, *out, *in]`.

    No `[N, *out, N, *in]` array ever exists, and the function is never called on
    single examples.

    Args:
        lin: from `linearize`.
        method: `Exact()` by the cheaper direction that exists, or a `Coloring` made
            with `quantity="jacobian"` (or "frobenius"), which needs as many products
            as it has colours.
        chunk_size: tangents evaluated at once, in place of the method's own.

    Returns:
        `[N, *out, *in]`; for pytrees, the outputs' tree of the inputs' trees, as
        `jax.jacobian` returns it.

    Raises:
        TypeError: the method does not give a dense Jacobian.
    """
    flat = FlatJacobian(lin)
    if chunk_size is not None:
        check_count("jacobian", "chunk_size", chunk_size)
    dense = select("jacobian", method, _METHODS)(flat, method, chunk_size)
    return _unflatten_blocks(flat, dense)


def _exact(flat: FlatJacobian, method: Exact, chunk_size: int | None) -> Float[Array, "N M n"]:
    return dense_jacobian(flat, chunk_size or method.chunk_size)


def _unflatten_blocks(flat: FlatJacobian, dense: Float[Array, "N M n"]) -> Any:
    """Cut `[N, M, n]` into one block for each pair of an output and an input leaf."""
    blocks, row = [], 0
    for out_shape, out_size in zip(flat.outputs.shapes, flat.outputs.sizes, strict=True):
        parts, column = [], 0
        for in_shape, in_size in zip(flat.inputs.shapes, flat.inputs.sizes, strict=True):
            part = dense[:, row : row + out_size, column : column + in_size]
            parts.append(part.reshape((flat.num_examples, *out_shape, *in_shape)))
            column += in_size
        blocks.append(jax.tree.unflatten(flat.inputs.treedef, parts))
        row += out_size
    return jax.tree.unflatten(flat.outputs.treedef, blocks)


_METHODS: dict[type, Any] = {Exact: _exact, colored.Coloring: colored.jacobian}
