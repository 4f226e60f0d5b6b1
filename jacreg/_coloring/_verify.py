"""Check a plan against numbers: the second look, at one input."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._basis import FlatJacobian, map_chunked
from .._chain import chain_trace
from .._linearize import Linearization
from ._coloring import Coloring, ColoringError

_POSITIONS = 12


def verify(coloring: Coloring, lin: Linearization, *, seed: int = 0) -> None:
    """Compare products with single basis vectors to what the plan says of them.

    Raises:
        ColoringError: an entry that the plan takes for zero is not, or the coloured
            diagonal differs from single entries.
    """
    flat = FlatJacobian(lin)
    reverse = coloring.reverse
    side, product = (flat.outputs, flat.row) if reverse else (flat.inputs, flat.column)
    if not side.size or not lin.num_examples:
        return
    generator = np.random.default_rng(seed)
    count = min(_POSITIONS, side.size)
    positions = np.sort(generator.choice(side.size, size=count, replace=False))
    # One position at a time: images are large, and this runs once.
    products = np.asarray(map_chunked(product, jnp.asarray(positions), 1), dtype=np.float64)
    allowed = _allowed(coloring, positions)
    outside = (products != 0) & ~allowed[:, None, :]
    if outside.any():
        which, _, where = (int(i[0]) for i in np.nonzero(outside))
        raise ColoringError(
            f"color: the plan takes entry {where} of the product with basis vector "
            f"{int(positions[which])} for zero, but it is {products[outside][0]:.3g}. Please "
            "report this function; Exact() serves meanwhile."
        )
    if coloring.kind == "diagonal":
        _check_diagonal(coloring, lin, positions, products)


def _allowed(coloring: Coloring, positions: np.ndarray) -> np.ndarray:
    """Entries `[k, other side]` that the relation allows in products with basis vectors."""
    relation = coloring.relation if coloring.reverse else coloring.relation.transposed()
    index = np.unravel_index(positions, relation.out_shape) if relation.out_shape else ()
    allowed = np.ones((positions.size, *relation.in_shape), dtype=bool)
    for f in relation.factors:
        rows = (
            np.ravel_multi_index(
                [index[a] for a in f.axes], [relation.out_shape[a] for a in f.axes]
            )
            if f.axes
            else np.zeros(positions.size, dtype=int)
        )
        block = f.matrix[np.atleast_1d(rows)].toarray()
        order = np.argsort(f.inputs)
        block = block.reshape((-1, *(relation.in_shape[i] for i in f.inputs)))
        block = block.transpose((0, *(order + 1)))
        shape = [n if i in f.inputs else 1 for i, n in enumerate(relation.in_shape)]
        allowed &= block.reshape((-1, *shape))
    return allowed.reshape(positions.size, -1)


def _check_diagonal(
    coloring: Coloring, lin: Linearization, positions: np.ndarray, products: np.ndarray
) -> None:
    from ._apply import colored_diagonal

    diagonal: Any = jax.device_get(colored_diagonal(lin, coloring))
    entries = np.stack([products[k, :, p] for k, p in enumerate(positions)], axis=1)
    found = np.asarray(diagonal, dtype=np.float64)[:, positions]
    scale = np.abs(products).max(initial=0.0)
    tolerance = 1e3 * float(jnp.finfo(lin.outputs.dtype).eps) * scale
    if np.abs(entries - found).max(initial=0.0) > tolerance:
        raise ColoringError(
            "color: the coloured diagonal differs from single entries by "
            f"{np.abs(entries - found).max():.3g}. Please report this function; Exact() "
            "serves meanwhile."
        )
    chained: Any = chain_trace(lin)
    if chained is None:
        return
    everything = np.asarray(diagonal, dtype=np.float64)
    size = np.abs(everything).sum(axis=1) + scale
    apart = np.abs(np.asarray(chained, dtype=np.float64) - everything.sum(axis=1))
    # Where the diagonal itself is not finite there is nothing to compare with.
    close = (apart <= 1e4 * float(jnp.finfo(lin.outputs.dtype).eps) * size) | ~np.isfinite(size)
    if not close.all():
        raise ColoringError(
            f"color: the trace by the chain of layers differs from that by colours by "
            f"{apart.max():.3g}. Please report this function; Exact(chunk_size=64) serves "
            "meanwhile."
        )
