"""Make a colouring from a function."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import DirectionError
from .._linearize import Linearization, linearize
from .._methods import check_count
from .._scalar_field import scalar_field_gradient
from ._coloring import KINDS, QUANTITIES, Coloring
from ._verify import verify

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from .._typing import PyTree


def color(
    fn: Callable[..., Any],
    xs: Float[Array, "N *in"],
    *args: PyTree,
    quantity: str = "divergence",
    chunk_size: int | None = None,
) -> Coloring:
    """Plan the exact evaluation of a local function's divergence, norm, Laplacian or Jacobian.

    The function's derivative is traced and read for which output entry depends on which
    input entry; entries that cannot meet share a product. For the divergence of a
    convolutional network of receptive radius r in d dimensions with C channels that takes
    (r + 1)^d C products, for norms and the dense Jacobian (2 r + 1)^d C, whatever the
    image's size (the classic colouring of Curtis, Powell and Reid 1974, with the weaker
    condition that a diagonal needs). Dependence is read from the program, never from
    values, so a zero weight or a closed relu is not a missing edge.

    Call it once, outside jit, and pass the result as a method:

        >>> import jax, jax.numpy as jnp, jacreg
        >>> fn = lambda xs: jnp.tanh(xs + jnp.roll(xs, 1, axis=1))
        >>> xs = jnp.ones((2, 12))
        >>> coloring = jacreg.color(fn, xs)
        >>> coloring.num_colors
        2
        >>> jacreg.divergence(jacreg.linearize(fn, xs), coloring).shape
        (2,)

    Args:
        fn: as for `linearize`; for `quantity="laplacian"` a field `[N, *in] -> [N]`.
        xs: `[N, *in]`, any batch size; concrete values let numeric probes check the plan
            a second time, `jax.ShapeDtypeStruct` is enough for the plan itself.
        *args: further inputs of `fn`.
        quantity: "divergence" (serves `diagonal` too), "frobenius", "jacobian", "laplacian".
        chunk_size: products evaluated at once when the colouring is used.

    Returns:
        A `Coloring`; `is_dense` where colours save nothing.

    Raises:
        ValueError: an unknown quantity, or a divergence of a function that is not square.
        ColoringError: (a ValueError) numeric probes refute the plan.
    """
    if quantity not in QUANTITIES:
        raise ValueError(f"color: quantity must be one of {QUANTITIES}, got {quantity!r}.")
    if chunk_size is not None:
        check_count("color", "chunk_size", chunk_size)
    function = scalar_field_gradient("color", fn) if quantity == "laplacian" else fn
    lin = _linearized(function, xs, args)
    if KINDS[quantity] == "diagonal" and lin.inputs.shapes != lin.outputs.shapes:
        raise ValueError(
            f"color: a {quantity} needs an output of the input's shape, got "
            f"{lin.inputs.describe()} -> {lin.outputs.describe()}; for a rectangular Jacobian "
            'use quantity="frobenius" or "jacobian".'
        )
    # Planning needs sparse matrices; `import jacreg` does not.
    from ._plan import plan_columns, plan_diagonal
    from ._reading import dependence_of, fingerprint

    relation, program, reader = dependence_of(lin)
    if KINDS[quantity] == "diagonal":
        plan = plan_diagonal(relation, reverse=program.reverse)
    else:
        plan = plan_columns(
            relation, forward=not program.reverse, reverse=program.reverse or _has_reverse(lin)
        )
    inputs, outputs = prod_all(lin.inputs.shapes), prod_all(lin.outputs.shapes)
    coloring = Coloring(
        quantity=quantity,
        num_colors=plan.num_colors,
        reverse=plan.reverse,
        is_dense=plan.num_colors >= min(inputs, outputs),
        how=plan.how,
        dense_because=tuple(reader.dense_primitives),
        chunk_size=chunk_size,
        in_shapes=lin.inputs.shapes,
        out_shapes=lin.outputs.shapes,
        num_examples=lin.num_examples,
        fingerprint=fingerprint(program.closed),
        colors=plan.colors,
        relation=relation,
    )
    if _is_concrete((lin.xs, lin.args, lin.value)):
        verify(coloring, lin)
    return coloring


def _has_reverse(lin: Linearization) -> bool:
    try:
        jax.eval_shape(lin.vjp, lin.value)
    except DirectionError:
        return False
    return True


def prod_all(shapes: tuple[tuple[int, ...], ...]) -> int:
    """Entries of all leaves together."""
    return sum(prod(shape) for shape in shapes)


def _linearized(fn: Callable[..., Any], xs: Any, args: tuple[Any, ...]) -> Linearization:
    leaves = jax.tree.leaves((xs, args))
    if not any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves):
        return linearize(fn, xs, *args)
    # A Linearization of placeholders: only its traced function and shapes are used.
    return jax.eval_shape(lambda xs, args: linearize(fn, xs, *args), xs, args)


def _is_concrete(tree: Any) -> bool:
    try:
        for leaf in jax.tree.leaves(tree):
            if isinstance(leaf, jax.ShapeDtypeStruct):
                return False
            if not jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
                np.asarray(leaf)
    except jax.errors.TracerArrayConversionError:
        return False
    return True
