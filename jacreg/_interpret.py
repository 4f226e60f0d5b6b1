"""Run a program (a jaxpr) one equation after the other, each as the caller says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.extend.core as jex
from jax.extend.source_info_util import user_context

from ._sharding import match_varying

JIT = frozenset({"jit", "pjit"})
# Programs inside a program that are the same as their equations one after the other (a custom
# derivative is not: its equations' derivative is another), and under which name they are held. To
# keep checkpoints, take `JIT`. Releases of JAX differ: `eval_jaxpr` is `closed_call` since 0.12.
HELD = {
    **dict.fromkeys((*JIT, "remat", "remat2", "checkpoint"), "jaxpr"),
    **dict.fromkeys(("closed_call", "core_call", "eval_jaxpr"), "call_jaxpr"),
}
CALLS = frozenset(HELD)


def equations(jaxpr: Any) -> Iterator[Any]:
    """The equations of a program, each before those inside its parameters."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jex.jaxprs_in_params(equation.params):
            yield from equations(inner)


def contains(jaxpr: Any, wanted: Callable[[Any], bool]) -> bool:
    """Whether such an equation occurs in a program or inside its parameters."""
    return any(map(wanted, equations(jaxpr)))


def mentions(jaxpr: Any, name: str) -> bool:
    """Whether a primitive whose name starts so occurs in a program or inside its parameters."""
    return contains(jaxpr, lambda equation: equation.primitive.name.startswith(name))


def calls_back(jaxpr: Any) -> bool:
    """Whether a program leaves JAX: a check that may raise, a solver of the host's.

    `jax.vmap` has no rule for some of those, and under it a branch that raises is always taken.
    """
    return any(mentions(jaxpr, name) for name in ("pure_callback", "io_callback", "ffi_call"))


def collective_axes(jaxpr: Any) -> list[Any]:
    """Names of the axes along which a program talks to other devices, each once, in its order."""
    found: dict[Any, None] = {}
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("axis_index", "shard_map"):
            continue  # no talk; axes of its own
        for name in ("axes", "axis_name"):
            axes = equation.params.get(name, ())
            for axis in axes if isinstance(axes, tuple | list) else (axes,):
                if not hasattr(axis, "__index__"):  # else an axis of the array
                    found[axis] = None
        for inner in jex.jaxprs_in_params(equation.params):
            found.update(dict.fromkeys(collective_axes(inner)))
    return list(found)


def interpret(
    jaxpr: Any,
    consts: Sequence[Any],
    args: Sequence[Any],
    apply: Callable[[Any, list[Any]], Sequence[Any]],
) -> list[Any]:
    """Return the program's outputs, where `apply(equation, operands)` gives those of an equation.

    Operands are whatever `args` and earlier equations gave, and the values of literals.
    """
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, jex.Literal) else values[atom]

    for equation in jaxpr.eqns:
        outs = apply(equation, [read(atom) for atom in equation.invars])
        values.update(zip(equation.outvars, outs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def on_tangents(
    jaxpr: Any, along: Sequence[bool] | None = None
) -> Iterator[tuple[Any, list[bool]]]:
    """The equations of a linear program that take a tangent, and which operands are tangents.

    Args:
        jaxpr: linear in its inputs, or in some of them.
        along: which inputs are tangents; None means all.
    """
    given = [True] * len(jaxpr.invars) if along is None else along
    tangents = {v for v, each in zip(jaxpr.invars, given, strict=True) if each}
    for equation in jaxpr.eqns:
        places = [not isinstance(v, jex.Literal) and v in tangents for v in equation.invars]
        if any(places):
            tangents.update(equation.outvars)
            yield equation, places


def propagate(
    jaxpr: Any, given: Sequence[Any], step: Callable[[Any, list[Any]], Sequence[Any]]
) -> list[Any]:
    """What is known of each output, of what is known of the inputs; None or False is nothing.

    Args:
        jaxpr: any program; of its constants and literals nothing is known.
        given: of each input.
        step: from an equation and what is known of its operands, of one at least, to what is of
            its outputs.
    """
    known = dict(zip(jaxpr.invars, given, strict=True))

    def read(atom: Any) -> Any:
        return None if isinstance(atom, jex.Literal) else known.get(atom)

    for equation in jaxpr.eqns:
        own = list(map(read, equation.invars))
        if any(own):
            known.update(zip(equation.outvars, step(equation, own), strict=True))
    return list(map(read, jaxpr.outvars))


def opened(program: Any) -> tuple[Any, Sequence[Any]]:
    """The equations and the constants of a program, closed or not."""
    return getattr(program, "jaxpr", program), getattr(program, "consts", ())


def inner_program(equation: Any) -> Any:
    """The program of one of `CALLS`, or of a custom derivative."""
    return equation.params[HELD.get(equation.primitive.name, "call_jaxpr")]


def interpret_inner(
    equation: Any, operands: Sequence[Any], apply: Callable[[Any, list[Any]], Sequence[Any]]
) -> list[Any]:
    """Run the program of one of `CALLS`, or of a custom derivative, as `interpret` does."""
    return interpret(*opened(inner_program(equation)), operands, apply)


def without_arrays(jaxpr: Any) -> Any:
    """A jaxpr that is static data: its constants are inputs, which come first.

    Since jax 0.12 one holds their values, which a cache of compiled functions would keep.
    """
    return jaxpr.with_consts([]) if hasattr(jaxpr, "with_consts") else jaxpr


def scan_counts(equation: Any) -> tuple[int, int]:
    """Numbers of constants and of carries of a `scan`.

    Told from the ranks: what is scanned loses its first axis inside, and what is stacked gains one.
    How the primitive itself writes the numbers down differs between releases of JAX.
    """
    body = equation.params["jaxpr"].jaxpr
    carries = sum(
        len(inside.aval.shape) == len(outside.aval.shape)
        for inside, outside in zip(body.outvars, equation.outvars, strict=True)
    )
    scanned = sum(
        len(inside.aval.shape) < len(outside.aval.shape)
        for inside, outside in zip(body.invars, equation.invars, strict=True)
    )
    return len(equation.invars) - carries - scanned, carries


def scan_like(
    equation: Any, step: Callable[[Any, Any], Any], start: Any, rows: Any, *, reverse: bool
) -> tuple[Any, Any]:
    """A `scan` of another body over as many steps."""
    # Of a loop over what it takes apart JAX finds the length, and may not be told a symbol.
    length = None if jax.tree.leaves(rows) else equation.params["length"]
    unroll = equation.params["unroll"]
    return jax.lax.scan(step, start, rows, length=length, reverse=reverse, unroll=unroll)


def bind(equation: Any, operands: Sequence[Any], **changed: Any) -> list[Any]:
    """Evaluate one equation on arrays, with some of its parameters changed.

    To `jax.shard_map` an operand may be the same on all devices where the equation's own is not
    (the directions of x are numbers); a primitive wants them as its own are.
    """
    if len(operands) == len(equation.invars):  # else a body with operands of its own
        like = (atom.aval for atom in equation.invars)
        operands = [match_varying(x, aval) for x, aval in zip(operands, like, strict=True)]
    found = equation.primitive.get_bind_params({**equation.params, **changed})
    # Older releases of JAX return functions beside the parameters.
    functions, params = found if isinstance(found, tuple) else ((), found)
    # What is made of it stands where it stood.
    with user_context(equation.source_info.traceback):
        outs = equation.primitive.bind(*functions, *operands, **params)
    return list(outs) if equation.primitive.multiple_results else [outs]
