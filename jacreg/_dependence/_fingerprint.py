"""What identifies a program: its primitives, parameters and literals, not its arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import numpy as np

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
    for kind, token in _tokens(program.closed.jaxpr, program.closed.consts):
        hashes[kind].update(token.encode() + b";")
    return Fingerprint(*(h.hexdigest() for h in (structure, sizes, constants)))


def constants_digest(values: Iterable[np.ndarray | None]) -> str:
    """Digest of structural values, of which those that are not known have none."""
    return hashlib.sha256(";".join(map(_digest, values)).encode()).hexdigest()


def _digest(value: np.ndarray | None) -> str:
    if value is None:
        return "unknown"
    return f"{value.dtype}{value.shape}{hashlib.sha256(value.tobytes()).hexdigest()}"


def _tokens(jaxpr: Any, consts: Any) -> Iterator[tuple[str, str]]:
    names: dict[Any, str] = {}
    count = 0

    def name(atom: Any) -> str:
        if isinstance(atom, jex.Literal):
            return f"literal {_digest(np.asarray(atom.val))}"
        return names[atom]

    for variable in (*jaxpr.constvars, *jaxpr.invars):
        names[variable], count = f"v{count}", count + 1
        yield from _aval(variable.aval)
    for constant in consts:
        yield "constant", _digest(structural_value(constant))
    for equation in jaxpr.eqns:
        if equation.primitive.name in _PLACEMENT:
            for variable, atom in zip(equation.outvars, equation.invars, strict=True):
                names[variable] = name(atom)
            continue
        yield "structure", equation.primitive.name
        for atom in equation.invars:
            yield "structure", name(atom)
        for key in sorted(equation.params):
            if key not in _IGNORED:
                yield "structure", key
                yield from _parameter(equation.params[key], size=key in _SIZES)
        for variable in equation.outvars:
            names[variable], count = f"v{count}", count + 1
            yield from _aval(variable.aval)
    for atom in jaxpr.outvars:
        yield "structure", f"out {name(atom)}"


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
