"""What identifies a program: its primitives, parameters and literals, not its arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from .._forms import form_of
from ._program import LinearProgram, structural_value


class Fingerprint(NamedTuple):
    """Identity of a linear program.

    Attributes:
        structure: digest of primitives, parameters that are no sizes, and wiring.
        sizes: digest of all array sizes, the batch's among them.
        constants: digest of every constant that a pattern is read from, traced or not: the
            integers and booleans that a function closes over or takes as arguments.
    """

    structure: str
    sizes: str
    constants: str


# Parameters that hold sizes of arrays: they change with the batch.
_SIZES = {
    "shape", "new_sizes", "start_indices", "limit_indices", "slice_sizes", "length", "sizes",
    "dimension", "update_shape",
}  # fmt: skip
# Parameters without a meaning for the dependence, or that differ from trace to trace.
_IGNORED = {
    "name", "debug_info", "sharding", "out_sharding", "ctx_mesh", "in_shardings",
    "out_shardings", "in_layouts", "out_layouts", "donated_invars", "inline", "keep_unused",
    "compiler_options_kvs", "precision", "policy", "prevent_cse", "unroll", "jvp", "fwd", "bwd",
    "jvp_jaxpr_fun", "jvp_jaxpr_thunk", "fwd_jaxpr_thunk", "call", "linear",
}  # fmt: skip

# Equations that say where an array lives, not what is in it: one function, sharded or not.
_PLACEMENT = {"reshard", "mesh_cast", "sharding_constraint", "pvary", "pcast", "device_put"}


def fingerprint(program: LinearProgram) -> Fingerprint:
    """Return the fingerprint of a linear program."""
    structure, sizes = hashlib.sha256(), hashlib.sha256()
    constants = hashlib.sha256(constants_digest(program.values).encode())
    hashes = {"structure": structure, "size": sizes, "constant": constants}
    inputs = program.closed.jaxpr.invars[: program.first_tangent]
    held = {v for v in inputs if jnp.issubdtype(v.aval.dtype, jnp.inexact)}
    for kind, token in _tokens(program.closed.jaxpr, program.closed.consts, held):
        hashes[kind].update(token.encode() + b";")
    return Fingerprint(*(h.hexdigest() for h in (structure, sizes, constants)))


def constants_digest(values: Iterable[np.ndarray | None]) -> str:
    """Digest of structural values, of which those that are not known have none."""
    return hashlib.sha256(";".join(map(_digest, values)).encode()).hexdigest()


def _digest(value: np.ndarray | None) -> str:
    if value is None:
        return "unknown"
    return f"{value.dtype}{value.shape}{hashlib.sha256(value.tobytes()).hexdigest()}"


def _tokens(jaxpr: Any, consts: Any, held: Iterable[Any] = ()) -> Iterator[tuple[str, str]]:
    """What stands in a program, one after the other.

    Args:
        jaxpr: the program.
        consts: its constants.
        held: those of its inputs that have no tangent and of whose entries nothing is known. Where
            these are only moved, as little is known of the result, and JAX does not always write it
            in one way: `for w in ws` is another program of an array than of a tracer.
    """
    names: dict[Any, str] = {}
    placed: dict[Any, Any] = {}
    unknown = set(held)

    def operand(atom: Any) -> Any:
        return atom if isinstance(atom, jex.Literal) else placed.get(atom, atom)

    def define(variable: Any) -> Iterator[tuple[str, str]]:
        names[variable] = f"v{len(names)}"
        yield from _aval(variable.aval)

    def use(atom: Any, what: str = "") -> Iterator[tuple[str, str]]:
        atom = operand(atom)
        if isinstance(atom, jex.Literal):
            yield "structure", f"{what}literal {_digest(np.asarray(atom.val))}"
            return
        if atom not in names:
            yield from define(atom)
        yield "structure", f"{what}{names[atom]}"

    for variable in (*jaxpr.constvars, *jaxpr.invars):
        yield from define(variable)
    for constant in consts:
        yield "constant", _digest(structural_value(constant))
    for equation in jaxpr.eqns:
        operands = list(map(operand, equation.invars))
        if equation.primitive.name in _PLACEMENT:
            placed.update(zip(equation.outvars, operands, strict=True))
            continue
        if form_of(equation).kind == "moved" and all(
            not isinstance(atom, jex.Literal) and atom in unknown for atom in operands
        ):
            unknown.update(equation.outvars)
            continue
        yield "structure", equation.primitive.name
        for atom in operands:
            yield from use(atom)
        for key in sorted(equation.params):
            if key not in _IGNORED:
                yield "structure", key
                yield from _parameter(equation.params[key], size=key in _SIZES)
        for variable in equation.outvars:
            yield from define(variable)
    for atom in jaxpr.outvars:
        yield from use(atom, "out ")


def _aval(aval: Any) -> Iterator[tuple[str, str]]:
    shape = tuple(getattr(aval, "shape", ()))
    yield "structure", f"{getattr(aval, 'dtype', '?')} rank {len(shape)}"
    yield "size", str(shape)


def _parameter(value: Any, *, size: bool) -> Iterator[tuple[str, str]]:
    if hasattr(value, "jaxpr") and hasattr(value, "consts"):
        yield from _tokens(value.jaxpr, value.consts)
    elif hasattr(value, "eqns"):
        yield from _tokens(value, [])
    elif isinstance(value, tuple | list):
        yield "structure", f"{len(value)} of"
        for item in value:
            yield from _parameter(item, size=size)
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            yield "structure", str(key)
            yield from _parameter(value[key], size=size)
    elif isinstance(value, np.ndarray | jax.Array):
        yield "constant", _digest(np.asarray(value))
    elif size:
        yield "size", repr(value)
    elif value is None or isinstance(value, bool | int | float | str | np.dtype | np.generic):
        yield "structure", repr(value)
    elif callable(value):
        # Function objects differ from trace to trace; what they do stands in the equations.
        yield "structure", "function"
    else:
        text = repr(value)
        yield "structure", text if " at 0x" not in text else type(value).__name__
