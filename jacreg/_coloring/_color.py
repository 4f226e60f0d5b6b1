"""Make a colouring from a function."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp

from .._dependence import Cutter, LinearProgram, fingerprint
from .._inputs import check_no_numbers
from .._linearize import Linearization, linearize
from .._scalar_field import linearize_gradient
from .._traced import is_traced
from ._coloring import KINDS, QUANTITIES, Coloring, quantity_name
from ._plan import MOST_EDGES, Plan, plan_kind
from ._reading import linear_program, relation_in
from ._relation import Relation
from ._verify import verify

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from .._typing import PyTree


P = ParamSpec("P")
R = TypeVar("R")


def _of_a_batch(function: Callable[P, R]) -> Callable[P, R]:
    """The same, with an answer to a call without a batch: a Linearization alone, most often."""

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        if len(args) < 2 and "xs" not in kwargs:
            fn = args[0] if args else kwargs.get("fn")
            got = "a Linearization" if isinstance(fn, Linearization) else "no batch"
            raise TypeError(f"color: takes the function and its batch, color(fn, xs); got {got}.")
        return function(*args, **kwargs)

    return called


@_of_a_batch
def color(
    fn: Callable[..., Any],
    xs: Float[Array, "N *in"],
    *args: PyTree,
    quantity: Callable[..., Any] | str = "divergence",
) -> Coloring:
    """Plan the exact evaluation of a local function's divergence, norm, Laplacian or Jacobian.

    The function's derivative is traced and read for which output entry depends on which
    input entry; entries that cannot meet share a product. For the divergence of a
    convolutional network of receptive radius r in d dimensions with C channels that takes
    (r + 1)^d C products, for norms and the dense Jacobian (2 r + 1)^d C, whatever the
    image's size (the classic colouring of Curtis, Powell and Reid 1974, with the weaker
    condition that a diagonal needs). Dependence is read from the program, never from
    values, so a zero weight or a closed relu is not a missing edge; what a mask of integers
    or booleans leaves out of a matrix is one.

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
        quantity: the function that it is for: `jacreg.divergence` (serves `diagonal` too),
            `frobenius_squared`, `jacobian` or `laplacian`; or the name that a config uses,
            "divergence", "frobenius", "jacobian", "laplacian".

    Returns:
        A `Coloring`; `is_dense` where colours save nothing. The means of a group norm make it so;
        `Auto()` sets those apart, so that the rest has colours.

    Raises:
        TypeError: no function, or no batch.
        ValueError: an unknown quantity, or a divergence of a function that is not square.
        ColoringError: (a ValueError) numeric probes refute the plan.
    """
    quantity = quantity_name("color", quantity, QUANTITIES)
    check_no_numbers("color", xs)
    make = partial(linearize_gradient, "color") if quantity == "laplacian" else linearize
    lin = _abstract(partial(make, fn), xs, args)
    found = plan_of(lin, quantity)
    coloring = Coloring(
        quantity=quantity,
        num_colors=found.plan.num_colors,
        reverse=found.plan.reverse,
        is_dense=found.is_dense,
        how=found.plan.how,
        dense_because=found.dense_because,
        place=found.place,
        in_shapes=lin.inputs.shapes,
        out_shapes=lin.outputs.shapes,
        num_examples=lin.num_examples,
        fingerprint=fingerprint(found.program),
        colors=found.plan.colors,
        relation=found.relation,
    )
    if not coloring.is_dense and _is_concrete((xs, args, lin.constants)):
        verify(coloring, lin, jax.tree.map(jnp.asarray, xs))
    return coloring


class Found(NamedTuple):
    """What was read and planned, from which a `Coloring` is made.

    Attributes:
        plan: the colours.
        relation: which output entries see which input entries.
        program: the linear program that was read.
        is_dense, dense_because, place: as in a `Coloring`.
    """

    plan: Plan
    relation: Relation
    program: LinearProgram
    is_dense: bool
    dense_because: tuple[str, ...]
    place: str


def plan_of(
    lin: Linearization,
    quantity: str,
    *,
    most_edges: int | None = None,
    program: LinearProgram | None = None,
    cut: Cutter | None = None,
) -> Found:
    """The colours of a linearised function, of its gradient for a Laplacian.

    Nothing is computed: its leaves may be traced, or placeholders.

    Args:
        lin: the function.
        quantity: the name of the quantity.
        most_edges: of the graph of all axes together that is coloured; None means millions.
        program: its linear program, where that is known.
        cut: as for `read_dependence`.

    Raises:
        ValueError: a divergence of a function that is not square.
    """
    if KINDS[quantity] == "diagonal" and lin.inputs.shapes != lin.outputs.shapes:
        raise ValueError(
            f"color: a {quantity} needs an output of the input's shape, got "
            f"{lin.inputs.describe()} -> {lin.outputs.describe()}; for a rectangular Jacobian "
            'use quantity="frobenius" or "jacobian".'
        )
    program = program or linear_program(lin)
    relation, reader = relation_in(program, cut)
    plan = plan_kind(
        KINDS[quantity],
        relation,
        forward=not program.reverse,
        has_reverse=lambda: lin.no_reverse is None,
        most_edges=most_edges or MOST_EDGES,
    )
    is_dense = plan.num_colors >= min(lin.inputs.size, lin.outputs.size)
    return Found(
        plan,
        relation,
        program,
        is_dense,
        reader.reasons() if is_dense else tuple(reader.dense_primitives),
        reader.places.get(reader.obstacle or "", ""),
    )


def _abstract(make: Callable[..., Linearization], xs: Any, args: tuple[Any, ...]) -> Linearization:
    """A Linearization of placeholders, except for what the function closes over.

    Only its traced function, its shapes and its integers and booleans are used, so that nothing is
    evaluated: an operation at a time, that would compile each of them.
    """
    held = []

    def linearized(xs: Any, args: Any) -> Linearization:
        lin = make(xs, *args)
        held.append(lin.constants)
        return lin

    lin = jax.eval_shape(linearized, xs, args)
    args = jax.tree.map(lambda arg: arg if hasattr(arg, "dtype") else jnp.asarray(arg), args)
    return lin.with_constants(held[0], args)


def _is_concrete(tree: Any) -> bool:
    return not any(
        (is_traced(leaf) or isinstance(leaf, jax.ShapeDtypeStruct))
        for leaf in jax.tree.leaves(tree)
    )
