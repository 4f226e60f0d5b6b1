"""Diagonals, traces and norms by local directions: colours only as far apart as each layer asks.

A colouring takes a product of the whole network for each of its colours. Where what a value sees
grows from layer to layer, the first layers need few of them, and for a diagonal the last ones too.
Along some axes of x the derivatives by what each value sees are therefore carried through the
network side by side, in as many slots as that layer needs; along the others, where all at once
would take too much memory, the colours follow one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._basis import AUTOMATIC_ENTRIES
from .._choice import Choice, many_small
from .._convolution import with_products
from .._dependence import LinearProgram, Operand
from .._dependence._boolean import Boolean
from .._flops import count_equation
from .._forms import form_of
from .._forward_laplacian import Carrier, entries, in_place
from .._interpret import CALLS
from .._linearize import Linearization
from .._memory import is_symbolic
from .._sharding import is_spread
from .._structure import accumulate_dtype
from ._reading import linear_program

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

    from .._forward_laplacian import Directions
    from .._typing import PyTree
    from ._plan import Plan

# Entries of the largest array of a part: what stays in the caches of a processor, and keeps an
# accelerator busy.
_MOST_ENTRIES = AUTOMATIC_ENTRIES // 4
# Positions along an axis of x whose relation to a layer is kept as an array.
_LONGEST = 1 << 11
# Operations beside those of a contraction that an entry takes: it is moved to its slot and masked.
_MOVED = 10
# Local directions that save less than this are not worth a longer program.
_WORTH = 0.9
# Of the directions that are seen, those that are needed for a diagonal: a round number between what
# was counted on chains, residual networks and U-Nets (0.6 to 0.9).
_NEEDED = 0.75
_KINDS = ("elementwise", "moved", "contraction", "window")


class Local(NamedTuple):
    """How local directions are carried.

    Attributes:
        axes: those of x (from 1) along which they are kept apart.
        colors: for each other axis of x the colour of each position.
        cost: operations.
        most: slots of a value, the most of any.
    """

    axes: tuple[int, ...]
    colors: dict[int, np.ndarray]
    cost: float
    most: int

    @property
    def counts(self) -> list[int]:
        """Number of colours of each of the other axes."""
        return [int(each.max(initial=0)) + 1 for each in self.colors.values()]


class Layers:
    """What the values of a linear program see and take, noted while its dependence is read.

    It is a `Cutter` that cuts nothing.
    """

    def __init__(self, program: LinearProgram) -> None:
        self._equations = program.closed.jaxpr.eqns
        self._sizes = tuple(program.tangents[0].aval.shape)
        self._seen: dict[int, list[int]] = {}
        # Most entries of a row of a matrix, which many values have; with it, to keep its id.
        self._most: dict[int, tuple[Boolean, int]] = {}

    def __call__(self, number: int, output: int, found: Operand) -> bool:
        """Note how many positions along each axis of x an entry of an output sees."""
        seen = self._seen.setdefault(number, [1] * (len(self._sizes) - 1))
        for pattern in found.dependence.get(0, ()):
            for factor in pattern.factors:
                for axis in factor.inputs:
                    if axis:
                        own = min(self._most_seen(factor.matrix), self._sizes[axis])
                        seen[axis - 1] = max(seen[axis - 1], own)
        return False

    def _most_seen(self, matrix: Boolean) -> int:
        known = self._most.get(id(matrix))
        if known is None:
            known = self._most[id(matrix)] = matrix, int(matrix.counts.max(initial=0))
        return known[1]

    def plan(self, kind: str, colored: Plan, limit: float) -> Local | None:
        """The cheapest way by local directions; None where there is none that is worth it.

        Args:
            kind: "diagonal" or "columns".
            colored: the colours of the entries of x.
            limit: cost of another way.
        """
        equations = [self._equations[number] for number in self._seen]
        if not equations or not all(map(_is_plain, equations)):
            return None
        operations = np.array([_operations(each) for each in equations], float)
        entries = np.array([_entries(each) for each in equations], float)
        colors = {axes[0] + 1: own for axes, own in colored.groups if len(axes) == 1}
        seen = np.array(list(self._seen.values()))
        if kind == "diagonal":
            # No more slots than colours are needed.
            most = [1 + colors[a].max() if a in colors else n for a, n in enumerate(self._sizes)]
            seen = np.minimum(seen, most[1:])
        best, least = None, _WORTH * limit
        for looped in product(*((False, True) if a + 1 in colors else (False,)
                                for a in range(seen.shape[1]))):  # fmt: skip
            axes = tuple(a + 1 for a, each in enumerate(looped) if not each)
            if not axes or max(self._sizes[axis] for axis in axes) > _LONGEST:
                continue
            slots = seen[:, [axis - 1 for axis in axes]].prod(axis=1)
            if (entries * slots).max() > _MOST_ENTRIES:
                continue
            others = {a: colors[a] for a in colors if a not in axes}
            parts = prod(int(each.max(initial=0)) + 1 for each in others.values())
            cost = many_small(float((operations * slots).sum())) * parts
            if kind == "diagonal" and slots.min() < slots.max():
                # Towards the output, which is not read here, what a value is needed for shrinks as
                # what it sees grows from the input.
                cost *= _NEEDED
            if cost < least:
                best, least = Local(axes, others, cost, int(slots.max())), cost
            if not others:
                break  # no layer has more slots along an axis than that has colours
        return best


def _is_plain(equation: Any) -> bool:
    form = form_of(equation)
    if form.kind == "call":
        return equation.primitive.name in CALLS
    choice = form.kind == "choice" and form.degree == "linear"
    return (form.kind in _KINDS or choice) and not any(
        jnp.issubdtype(atom.aval.dtype, jnp.complexfloating)
        for atom in (*equation.invars, *equation.outvars)
    )


def _entries(equation: Any) -> int:
    atoms = (equation.invars[0], *equation.outvars)
    return max(prod(atom.aval.shape) for atom in atoms)


def _operations(equation: Any) -> int:
    moved = 0 if form_of(equation).kind == "elementwise" else _MOVED * _entries(equation)
    return count_equation(equation) + moved


def layers_of(lin: Linearization, program: LinearProgram) -> Layers | None:
    """What notes the layers of a function; None where local directions do not serve it."""
    single = len(jax.tree.leaves(lin.xs)) == len(jax.tree.leaves(lin.value)) == 1
    if (
        program.reverse
        or not single
        or len(lin.inputs.shapes[0]) == 0
        or is_symbolic(lin.num_examples)
        or is_spread(lin.xs)
        or lin.program.forward_stays_alone
    ):
        return None
    return Layers(program)


def by_local_directions(lin: Linearization, local: Local, compute: ComputeLocal) -> Choice:
    """The choice of local directions.

    Args:
        lin: the function.
        local: as found in the program of one like it.
        compute: what is made of them.
    """
    parts = prod(local.counts)
    apart = f" in each of {parts} parts" if parts > 1 else ""
    return Choice(
        "local directions",
        0,
        f"derivatives by what each value sees{compute.needed}, {local.most} at most{apart}, "
        "carried through the network side by side",
        local.cost,
        lambda key: compute.run(lin, local),
    )


class ComputeLocal(NamedTuple):
    """A quantity that local directions give.

    Attributes:
        run: of the function and how they are carried.
        needed: said of the directions.
    """

    run: Callable[[Linearization, Local], Any]
    needed: str


def _over_parts(
    lin: Linearization,
    local: Local,
    part: Callable[[Directions | None, Array], Array],
    *,
    diagonal: bool,
) -> Array:
    """Sum over the parts of what is made of each.

    Args:
        lin: the function.
        local: how directions are carried.
        part: of the directions, and of the places of x in that part `[1, *in]`.
        diagonal: as for `Carrier`.
    """
    program = linear_program(lin, opened=True)
    (xs,) = jax.tree.leaves(lin.xs)
    held = jax.tree.leaves((lin.constants, lin.args, lin.xs))
    carrier = Carrier(
        program.closed.jaxpr,
        program.along,
        program.closed.consts,
        [*held, xs],
        local.axes,
        diagonal=diagonal,
    )
    counts = local.counts
    ones = jnp.ones((1, *xs.shape[1:]), xs.dtype)

    def places(number: Int[Array, ""]) -> Array:
        found, rest = ones, number
        for (axis, colors), count in zip(local.colors.items(), counts, strict=True):
            own = (jnp.asarray(colors, rest.dtype) == rest % count).astype(xs.dtype)
            found = found * own.reshape([-1 if a == axis else 1 for a in range(xs.ndim)])
            rest = rest // count
        return found

    def one(number: Int[Array, ""]) -> Array:
        inside = places(number)
        return part(carrier.carry(inside), inside)

    numbers = jnp.arange(prod(counts), dtype=jnp.int32)
    run = with_products(one, numbers[0])
    if len(numbers) == 1:
        return run(numbers[0])
    return jax.lax.map(jax.checkpoint(run), numbers).sum(axis=0)


def _diagonal(lin: Linearization, local: Local) -> PyTree:
    (value,), tree = jax.tree.flatten(lin.value)

    def part(found: Directions | None, inside: Array) -> Array:
        return jnp.where(inside > 0, in_place(found, value), 0)

    return jax.tree.unflatten(tree, [_over_parts(lin, local, part, diagonal=True)])


def _trace(lin: Linearization, local: Local) -> Float[Array, " N"]:
    (value,) = jax.tree.leaves(lin.value)
    wide = accumulate_dtype(value.dtype)

    def part(found: Directions | None, inside: Array) -> Array:
        each = jnp.where(inside > 0, in_place(found, value).astype(wide), 0)
        return each.sum(axis=tuple(range(1, each.ndim)))

    return _over_parts(lin, local, part, diagonal=True).astype(value.dtype)


def _norm(lin: Linearization, local: Local) -> Float[Array, " N"]:
    (value,) = jax.tree.leaves(lin.value)
    wide = accumulate_dtype(value.dtype)

    def part(found: Directions | None, inside: Array) -> Array:
        each = jnp.square(entries(found, value).astype(wide))
        return each.sum(axis=tuple(range(1, each.ndim)))

    return _over_parts(lin, local, part, diagonal=False).astype(value.dtype)


LOCAL_DIAGONAL = ComputeLocal(_diagonal, " and is needed for")
LOCAL_TRACE = ComputeLocal(_trace, " and is needed for")
LOCAL_NORM = ComputeLocal(_norm, "")
