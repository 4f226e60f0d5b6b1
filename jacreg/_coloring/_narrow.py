"""Values of few entries that see most of the input, through which all that is not local passes.

A group norm's means, a pooled context and the code of an autoencoder couple every output entry with
every input entry, and still a Jacobian through them is a sparse matrix and a product of two thin
ones. With such values c as variables of their own (an extended system, as in Coleman and Verma,
Structure and efficient Jacobian calculation, 1996):

    y = A t + B c,    c = C t,    J = A + B C

A, what is left where no value c passes anything on, has colours; B is all that follows from c,
later ones among them, and C what an input does to each of them where no earlier one passes it on.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._dependence import LinearProgram, Operand
from .._forms import form_of
from .._interpret import CALLS, inner_program, on_tangents, opened, propagate
from .._linearize import Linearization
from .._memory import is_symbolic
from .._source import place
from ._coloring import KINDS
from ._plan import Plan, plan_kind
from ._reading import relation_in
from ._relation import Relation

# The values that are set apart see at least this share of the input's entries,
_LEAST_SEEN = 1 / 8
# are each no more than this share of the products that are taken without them,
_WIDEST = 1 / 4
# and the products that they leave are no more than this share of those.
_WORTH = 3 / 4
# As a guess, values are few that are made of so many times more.
_MUCH_FEWER = 16
# Sets of them that are tried, from those that hold the widest values to those without.
_MOST_TRIED = 6


class Cut(NamedTuple):
    """A value that is set apart.

    Attributes:
        equation: number of the equation of the opened linear program that makes it.
        output: which of its outputs it is.
        size: its entries an example.
        axis: that of the examples; None where there is one example.
    """

    equation: int
    output: int
    size: int
    axis: int | None


class Apart(NamedTuple):
    """Values that are set apart, and the colours of what is left.

    Attributes:
        cuts: the values, in the order of the program.
        plan: colours of A.
        relation: which entries of A may differ from zero.
        where: the operation of the first value, with its place in the user's file.
        outline: of the opened linear program in which the values have these numbers.
    """

    cuts: tuple[Cut, ...]
    plan: Plan
    relation: Relation
    where: str
    outline: int

    @property
    def size(self) -> int:
        """Entries of all values an example: columns of B, rows of C."""
        return sum(cut.size for cut in self.cuts)


class _TooMany(Exception):
    """The values that are set apart take as many products as are taken without them."""


def outline(program: LinearProgram) -> int:
    """What programs in which each value has the same number have in common."""
    return hash(
        tuple(
            (equation.primitive.name, *(variable.aval.shape for variable in equation.outvars))
            for equation in program.closed.jaxpr.eqns
        )
    )


def find_apart(
    lin: Linearization,
    program: LinearProgram,
    quantity: str,
    products: int,
    *,
    each: int,
    most_edges: int,
) -> Apart | None:
    """The values to set apart that leave the fewest products; None where none are worth it.

    Args:
        lin: the function.
        program: its opened linear program.
        quantity: as colours know it.
        products: taken without them.
        each: products that an entry of such a value takes.
        most_edges: of a graph of all axes together that is coloured.
    """
    if program.reverse or lin.no_reverse is not None or is_symbolic(lin.num_examples):
        return None
    best, least = None, int(products * _WORTH)
    sizes = [size for size in _sizes(program) if size <= products * _WIDEST]
    for _ in range(_MOST_TRIED):
        if not sizes:
            break
        search = _Search(program, sizes[0], products // each)
        relation = None
        try:
            relation, reader = relation_in(program, search)
        except _TooMany:
            pass
        else:
            if reader.dense_primitives:
                # What is not read counts as a tangent in all that it returns, numbers of the
                # function too, and these must reach what is made of them.
                break
        if not search.cuts:
            break
        widest = max(cut.size for cut in search.cuts)
        sizes = [size for size in sizes if size < widest]
        if relation is None:
            continue
        plan = plan_kind(KINDS[quantity], relation, most_edges=most_edges)
        if plan.num_colors >= products:
            break  # fewer values set apart leave no fewer colours
        cuts = tuple(search.cuts)
        count = plan.num_colors + each * sum(cut.size for cut in cuts)
        if count <= least:
            best = Apart(cuts, plan, relation, search.where, outline(program))
            least = count - 1
    return best


def _sizes(program: LinearProgram) -> list[int]:
    """Entries an example of the values that are narrower than what they are made of, widest first.

    Each number once.
    """
    examples = program.tangents[0].aval.shape[0]
    found = set()
    for equation, places in on_tangents(program.closed.jaxpr, program.along):
        into = max(_count(v) for v, place in zip(equation.invars, places, strict=True) if place)
        # `jax.vmap` may leave the examples on another axis than the first.
        sizes = map(_count, equation.outvars)
        found.update(size // examples for size in sizes if 0 < 2 * size <= into)
    return sorted(found, reverse=True)


def spreads_few(lin: Linearization) -> bool:
    """Whether few values, made of many more, enter a layer half as large as x or larger.

    A guess, told from sizes alone: whether values are set apart is for `find_apart` to say.
    """
    large = math.prod(jax.tree.leaves(lin.xs)[0].shape) // 2
    found = False

    def step(equation: Any, own: list[Any]) -> list[Any]:
        nonlocal found
        if equation.primitive.name in CALLS:
            return propagate(opened(inner_program(equation))[0], own, step)
        into = max(_count(v) for v, each in zip(equation.invars, own, strict=True) if each)
        few = any(each == "few" for each in own)
        picked = form_of(equation).kind == "moved"
        outs = []
        for variable in equation.outvars:
            found = found or (few and _count(variable) >= large)
            made = not picked and _count(variable) * _MUCH_FEWER <= into
            outs.append("few" if few or made else "many")
        return outs

    linear = lin.program.linear
    given = ["many" if each else None for each in lin.program.tangents]
    propagate(linear, given, step)
    return found


def _count(variable: Any) -> int:
    return math.prod(variable.aval.shape)


class _Search:
    """Chooses values while a program is read."""

    def __init__(self, program: LinearProgram, widest: int, most: int) -> None:
        self.cuts: list[Cut] = []
        self.where = ""
        self._program, self._widest, self._most = program, widest, most
        self._examples = program.tangents[0].aval.shape[0]
        self._entries = sum(math.prod(each.aval.shape[1:]) for each in program.tangents)

    def __call__(self, number: int, output: int, found: Operand) -> bool:
        """Whether a value is set apart: what depends on it depends on nothing then."""
        equation = self._program.closed.jaxpr.eqns[number]
        size = math.prod(found.shape) // self._examples
        if not 0 < size <= self._widest:
            return False
        axis = _axis_of_examples(found, self._examples)
        if axis is None and self._examples > 1:
            return False
        if _seen(found) < _LEAST_SEEN * self._entries:
            return False
        # One entry of a complex number is two.
        if not jnp.issubdtype(equation.outvars[output].aval.dtype, jnp.floating):
            return False
        if not self.cuts:
            self.where = f"{equation.primitive.name}{place(equation)}"
        self.cuts.append(Cut(number, output, size, axis))
        if sum(cut.size for cut in self.cuts) >= self._most:
            raise _TooMany
        return True


def _axis_of_examples(operand: Operand, examples: int) -> int | None:
    """The axis along which each entry sees its own example alone; None where there is none."""
    found = set()
    for pattern in chain.from_iterable(operand.dependence.values()):
        (factor,) = (each for each in pattern.factors if 0 in each.inputs)
        if len(factor.axes) != 1 or factor.inputs != (0,) or factor.matrix.nnz != examples:
            return None
        if not np.array_equal(*factor.matrix.entries):
            return None
        found.update(factor.axes)
    return found.pop() if examples > 1 and len(found) == 1 else None


def _seen(operand: Operand) -> int:
    """Input entries that an entry sees, the most of any, where it sees one example."""
    return sum(
        max(math.prod(int(f.matrix.counts.max(initial=0)) for f in each.factors) for each in terms)
        for terms in operand.dependence.values()
    )
