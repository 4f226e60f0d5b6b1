"""The dense Jacobian of each example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from . import _coloring as colored
from ._basis import FlatJacobian
from ._choice import Quantity
from ._exact import jacobian_by_products, sparse_by_products
from ._linearize import Linearization
from ._methods import Auto, Exact, Method
from ._sharding import reshape_rows

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def jacobian(
    lin: Linearization, method: Method = Auto(), *, sparse: bool = False
) -> Float[Array, "N *out *in"]:
    """Dense Jacobian d value / d xs of each example, `[N, *out, *in]`.

    No `[N, *out, N, *in]` array ever exists, and the function is never called on
    single examples.

    Args:
        lin: from `linearize`.
        method: `Auto()` (the cheapest way that the program allows), `Exact()` (products in the
            cheaper direction that exists; its `chunk_size` bounds how many at once), or a
            `Coloring` made with `quantity=jacreg.jacobian`, which needs as many products as it
            has colours.
        sparse: return the entries that may differ from zero, as `jax.experimental.sparse.BCOO`
            of the same shape: those that the colours tell apart, else all of them.

    Returns:
        `[N, *out, *in]`; for pytrees, the outputs' tree of the inputs' trees, as
        `jax.jacobian` returns it.

    Raises:
        TypeError: the method does not give a dense Jacobian.
        ValueError: a sparse Jacobian of a pytree of several arrays.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: xs @ jnp.array([[3.0, 4.0]]), jnp.ones((1, 1)))
        >>> jacreg.jacobian(lin)
        Array([[[3.],
                [4.]]], dtype=float32)
    """
    if sparse:
        return _sparse(lin, method)
    return _unflatten_blocks(FlatJacobian(lin), JACOBIAN.decide(lin, method).run(None))


def _sparse(lin: Linearization, method: Method) -> Any:
    from jax.experimental.sparse import BCOO  # slow to import, and seldom needed

    if len(lin.inputs.shapes) != 1 or len(lin.outputs.shapes) != 1:
        raise ValueError(
            f"jacobian: with sparse=True both sides must be one array, got {lin.inputs.describe()} "
            f"-> {lin.outputs.describe()}."
        )
    (out_shape,), (in_shape,) = lin.outputs.shapes, lin.inputs.shapes
    row, column, values = SPARSE.decide(lin, method).run(None)
    place = (
        *(np.unravel_index(row, out_shape) if out_shape else ()),
        *(np.unravel_index(column, in_shape) if in_shape else ()),
    )
    indices = np.stack(place, axis=1) if place else np.zeros((row.size, 0), int)
    # One pattern for all examples; several operations of BCOO want it written out.
    return BCOO(
        (
            values,
            jnp.broadcast_to(jnp.asarray(indices, jnp.int32), (lin.num_examples, *indices.shape)),
        ),
        shape=(lin.num_examples, *out_shape, *in_shape),
        unique_indices=True,
    )


def _unflatten_blocks(flat: FlatJacobian, dense: Float[Array, "N M n"]) -> Any:
    """Cut `[N, M, n]` into one block for each pair of an output and an input leaf."""
    blocks, row = [], 0
    for out_shape, out_size in zip(flat.outputs.shapes, flat.outputs.sizes, strict=True):
        parts, column = [], 0
        for in_shape, in_size in zip(flat.inputs.shapes, flat.inputs.sizes, strict=True):
            part = dense[:, row : row + out_size, column : column + in_size]
            parts.append(reshape_rows(part, (*out_shape, *in_shape)))
            column += in_size
        blocks.append(jax.tree.unflatten(flat.inputs.treedef, parts))
        row += out_size
    return jax.tree.unflatten(flat.outputs.treedef, blocks)


JACOBIAN = Quantity(
    "jacobian",
    {Exact: jacobian_by_products, colored.Coloring: colored.jacobian},
    auto=(jacobian_by_products, colored.jacobian_by_found_colors),
)
SPARSE = Quantity(
    "jacobian",
    {Exact: sparse_by_products, colored.Coloring: colored.sparse_jacobian},
    auto=(sparse_by_products, colored.entries_by_found_colors),
)
