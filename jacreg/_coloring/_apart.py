"""Jacobians as A + B C: colours of what is local, beside values that are set apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp

from .._basis import FlatJacobian, sum_chunked
from .._choice import Choice, many_small, product_cost
from .._exact import dense_jacobian, exact_diagonal, exact_squared, exact_trace
from .._forms import form_of
from .._interpret import bind, on_tangents
from .._linearize import Linearization
from .._sharding import match_sharding
from .._structure import accumulate_dtype
from .._tangent_map import with_tangent_map
from ._apply import dense_by_colors, diagonal_by_colors, norm_by_colors, trace_by_colors
from ._narrow import Apart, Cut, outline
from ._reading import linear_program

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

    from .._dependence import LinearProgram
    from .._typing import PyTree

# Equations whose outputs need not all be zero where the tangents among their operands are.
_MIXED = frozenset({"loop", "call", "opaque"})


class Parts(NamedTuple):
    """The maps of J = A + B C, each a Linearization of which only the products have a meaning.

    Attributes:
        local: A, of the function's inputs and outputs.
        into: C, from the inputs to the values that are set apart.
        onward: B, from these values to the outputs.
        whole: J.
    """

    local: Linearization
    into: Linearization
    onward: Linearization
    whole: Linearization


def parts_of(lin: Linearization, program: LinearProgram, cuts: Sequence[Cut]) -> Parts:
    """Split the derivative of a linearised function at some of its values.

    Args:
        lin: the function.
        program: its opened linear program.
        cuts: the values.
    """
    split = _Split(lin, program, cuts)
    values = [_examples_first(_array(None, split.aval(cut)), cut) for cut in cuts]
    tree = jax.tree.structure(lin.value)

    def local(tangent: PyTree) -> PyTree:
        return jax.tree.unflatten(tree, split.local(jax.tree.leaves(tangent)))

    def into(tangent: PyTree) -> list[Array]:
        return split.into(jax.tree.leaves(tangent))

    def onward(added: list[Array]) -> PyTree:
        return jax.tree.unflatten(tree, split.onward(added))

    return Parts(
        with_tangent_map(lin, local),
        with_tangent_map(lin, into, value=values),
        with_tangent_map(lin, onward, xs=values),
        lin,
    )


class _Split:
    """A linear program in parts; what needs no tangent is evaluated once."""

    def __init__(self, lin: Linearization, program: LinearProgram, cuts: Sequence[Cut]) -> None:
        jaxpr = program.closed.jaxpr
        self._jaxpr, self._tangents = jaxpr, program.tangents
        self._places = {id(eqn): places for eqn, places in on_tangents(jaxpr, program.along)}
        self._cuts = {(cut.equation, cut.output): cut for cut in cuts}
        held = jax.tree.leaves((lin.constants, lin.args, lin.xs))
        self._known = dict(zip(jaxpr.constvars, program.closed.consts, strict=True))
        self._known.update(zip(jaxpr.invars[: program.first_tangent], held, strict=True))
        for equation in jaxpr.eqns:
            # Who is called back hears of the function's own evaluation.
            if id(equation) not in self._places and equation.outvars:
                operands = [self._look_up(atom, self._known) for atom in equation.invars]
                self._known.update(zip(equation.outvars, bind(equation, operands), strict=True))

    def local(self, tangents: Sequence[Array]) -> list[Array]:
        """Outputs, where nothing passes the values at the cuts."""
        return self._outs(self._evaluate(tangents, lambda cut, value: None))

    def into(self, tangents: Sequence[Array]) -> list[Array]:
        """The values at the cuts, where nothing passes any of them."""
        values = []

        def kept(cut: Cut, value: Any) -> None:
            values.append(_examples_first(_array(value, self.aval(cut)), cut))

        last = max(cut.equation for cut in self._cuts.values())
        self._evaluate(tangents, kept, last + 1)
        return values

    def onward(self, added: Sequence[Array]) -> list[Array]:
        """Outputs of what is added at the cuts, which passes the later ones too."""
        rows = dict(zip(self._cuts.values(), added, strict=True))

        def passed(cut: Cut, value: Any) -> Array:
            own = _examples_back(rows[cut], cut)
            return own if value is None else value + own

        return self._outs(self._evaluate([None] * len(self._tangents), passed))

    def aval(self, cut: Cut) -> Any:
        """The type of a value."""
        return self._jaxpr.eqns[cut.equation].outvars[cut.output].aval

    def _outs(self, found: dict[Any, Any]) -> list[Array]:
        return [_array(self._look_up(atom, found), atom.aval) for atom in self._jaxpr.outvars]

    def _evaluate(
        self, tangents: Sequence[Any], at_cut: Callable[[Cut, Any], Any], stop: int | None = None
    ) -> dict[Any, Any]:
        """Values of the equations before `stop`; None is a zero that nobody has to compute.

        Args:
            tangents: of the program.
            at_cut: from a cut and its value to what is passed on.
            stop: number of an equation.
        """
        found = self._known | dict(zip(self._tangents, tangents, strict=True))
        for number, equation in enumerate(self._jaxpr.eqns[:stop]):
            if id(equation) not in self._places:
                continue
            for output, value in enumerate(self._outputs(equation, found)):
                cut = self._cuts.get((number, output))
                passed = value if cut is None else at_cut(cut, value)
                found[equation.outvars[output]] = passed
        return found

    def _outputs(self, equation: Any, found: dict[Any, Any]) -> list[Any]:
        operands = [self._look_up(atom, found) for atom in equation.invars]
        tangents = [
            each for each, place in zip(operands, self._places[id(equation)], strict=True) if place
        ]
        none = all(each is None for each in tangents)
        if none and form_of(equation).kind not in _MIXED:
            return [None] * len(equation.outvars)
        operands = [
            _array(each, atom.aval) for each, atom in zip(operands, equation.invars, strict=True)
        ]
        return list(bind(equation, operands))

    def _look_up(self, atom: Any, found: dict[Any, Any]) -> Any:
        return atom.val if isinstance(atom, jex.Literal) else found[atom]


def _array(value: Any, aval: Any) -> Any:
    # On a mesh the type says on which devices the value is.
    return match_sharding(jnp.zeros(aval.shape, aval.dtype), aval) if value is None else value


def _examples_first(value: Array, cut: Cut) -> Array:
    return value[None] if cut.axis is None else jnp.moveaxis(value, cut.axis, 0)


def _examples_back(rows: Array, cut: Cut) -> Array:
    return rows[0] if cut.axis is None else jnp.moveaxis(rows, 0, cut.axis)


def trace_apart(parts: Parts, found: Apart) -> Float[Array, " N"]:
    """tr A + tr C B: two products an entry of the values, none of them in reverse."""
    into, onward = parts.into, parts.onward

    def around(added: list[Array]) -> list[Array]:
        outs = onward.tangent_map(added)
        like = jax.tree.leaves(into.xs)
        ins = [y.astype(x.dtype) for y, x in zip(jax.tree.leaves(outs), like, strict=True)]
        return into.tangent_map(jax.tree.unflatten(jax.tree.structure(into.xs), ins))

    closed = with_tangent_map(onward, around, value=into.value)
    local = trace_by_colors(parts.local, found.plan, None)
    return local + exact_trace(closed).astype(local.dtype)


def diagonal_apart(parts: Parts, found: Apart) -> PyTree:
    """The diagonal of A and of B C, an entry of the values at a time."""
    onward, into = FlatJacobian(parts.onward), FlatJacobian(parts.into)

    def part(entry: Int[Array, ""]) -> Float[Array, "N n"]:
        return onward.column(entry) * into.row(entry)

    thin = sum_chunked(part, found.size, onward.chunk(None))
    local = diagonal_by_colors(parts.local, found.plan, None)
    return jax.tree.map(jnp.add, local, parts.local.outputs.unflatten(thin))


def norm_apart(parts: Parts, found: Apart) -> Float[Array, " N"]:
    """||A||^2 + <B, (A + J) C^T>, which is ||A||^2 + 2 <A C^T, B> + ||B C||^2."""
    onward, into = FlatJacobian(parts.onward), FlatJacobian(parts.into)
    local, whole = FlatJacobian(parts.local), FlatJacobian(parts.whole)
    wide = accumulate_dtype(local.outputs.dtype)

    def part(entry: Int[Array, ""]) -> Float[Array, " N"]:
        row, column = into.row(entry), onward.column(entry)
        both = local.jvp(row).astype(wide) + whole.jvp(row).astype(wide)
        return jnp.sum(column.astype(wide) * both, axis=1)

    thin = sum_chunked(part, found.size, local.chunk(None))
    return norm_by_colors(parts.local, found.plan, None) + thin.astype(local.outputs.dtype)


def dense_apart(parts: Parts, found: Apart) -> Float[Array, "N M n"]:
    """The whole Jacobian."""
    left = dense_jacobian(FlatJacobian(parts.onward))
    right = dense_jacobian(FlatJacobian(parts.into))
    local = dense_by_colors(parts.local, found.plan, found.relation)
    return local + jnp.einsum("nir,nrj->nij", left, right).astype(local.dtype)


def _whole(lin: Linearization, found: Apart) -> float:
    """Operations of B C and of spreading A, counted as those of a product: many small ones."""
    entries = lin.num_examples * lin.outputs.size * lin.inputs.size
    return many_small(2 * entries * (found.size + 1))


class ComputeApart(NamedTuple):
    """How a quantity is made of the parts.

    Attributes:
        run: of the parts and the colours.
        products: that an entry of a value which is set apart takes.
        plainly: without them.
        beside: operations beside the products, of the function and of what was found.
    """

    run: Callable[[Parts, Apart], Any]
    products: int
    plainly: Callable[[Linearization], Any]
    beside: Callable[[Linearization, Apart], float] = lambda lin, found: 0.0


DIAGONAL_APART = ComputeApart(diagonal_apart, 2, exact_diagonal)
TRACE_APART = ComputeApart(trace_apart, 2, exact_trace)
NORM_APART = ComputeApart(norm_apart, 4, exact_squared)
DENSE_APART = ComputeApart(dense_apart, 2, lambda lin: dense_jacobian(FlatJacobian(lin)), _whole)


def by_colors_apart(lin: Linearization, found: Apart, compute: ComputeApart) -> Choice:
    """The choice of colours beside values that are set apart.

    Args:
        lin: the function.
        found: what was found in the program of one like it.
        compute: the quantity.
    """
    plan = found.plan
    products = plan.num_colors + compute.products * found.size
    product = "J^T u" if plan.reverse else "J v"

    def run(key: Any) -> Any:
        program = linear_program(lin, opened=True)
        if outline(program) != found.outline:
            # JAX has written the same derivative in another way, with other numbers.
            return compute.plainly(lin)
        return compute.run(parts_of(lin, program, found.cuts), found)

    return Choice(
        "colouring",
        products,
        f"{product} for {plan.num_colors} colours, {plan.how}, and {compute.products} products for "
        f"each of {found.size} values that couple distant entries, the first by {found.where}",
        products * product_cost(lin) + compute.beside(lin, found),
        run,
    )
