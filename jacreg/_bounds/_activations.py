"""Functions of several operations whose Lipschitz constant is known, found in a program.

A row is a function of one array and its constant in the l2 norm. It is found by its program: what
the row's function does, operation by operation, so that a name alone proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from math import sqrt
from typing import Any, NamedTuple

import jax
import jax.nn as nn
import jax.numpy as jnp
import numpy as np

from .._lipschitz._group_sort import max_min
from .._traced import is_traced
from ._program import Known, Program, Step, Tracked, read_program

# The largest slopes, rounded up; those of x times a gate lie beside 0 and above 1.
_ELEMENTWISE: tuple[tuple[Callable[..., Any], float], ...] = (
    (partial(nn.gelu, approximate=True), 1.12900),
    (partial(nn.gelu, approximate=False), 1.12891),
    (nn.silu, 1.09984),
    (nn.mish, 1.08851),
    (nn.softplus, 1.0),
    (nn.log_sigmoid, 1.0),
    (nn.elu, 1.0),
    (nn.celu, 1.0),
    (nn.selu, 1.75810),
    (nn.hard_tanh, 1.0),
    (nn.hard_sigmoid, 1 / 6),
    (nn.hard_silu, 1.5),
    (nn.soft_sign, 1.0),
    (nn.squareplus, 1.0),
    (nn.leaky_relu, 1.0),
    (lambda x: jnp.where(x > 0, x, 0.0), 1.0),
)


def _with_axis(axis: int, side: int) -> list[tuple[Callable[..., Any], float]]:
    found: list[tuple[Callable[..., Any], float]] = [
        # The Jacobian diag(p) - p p^T: v^T J v is a variance, at most a quarter of the square
        # of v's range, and that at most 2 ||v||^2.
        (partial(nn.softmax, axis=axis), 0.5),
        # I - 1 p^T, of norm sqrt(side) ||p||.
        (partial(nn.log_softmax, axis=axis), sqrt(side)),
        (partial(nn.logsumexp, axis=axis), 1.0),
        (partial(nn.logsumexp, axis=axis, keepdims=True), 1.0),
    ]
    if side % 2 == 0:
        found.append((partial(max_min, axis=axis), 1.0))
    return found


@lru_cache(maxsize=64)
def _patterns(shape: tuple[int, ...], dtype: Any) -> tuple[tuple[Program, float], ...]:
    if not jnp.issubdtype(dtype, jnp.floating):
        return ()
    rows = list(_ELEMENTWISE)
    for axis, side in enumerate(shape):
        rows += _with_axis(axis, side)
    struct = jax.ShapeDtypeStruct(shape, dtype)
    with jax.ensure_compile_time_eval():
        return tuple((read_program(fn, struct), constant) for fn, constant in rows)


class Activation(NamedTuple):
    """Steps that are one function of known constant: how many, its argument and its result."""

    count: int
    argument: Tracked
    out: Tracked
    constant: float


def with_activations(program: Program) -> list[Step | Activation]:
    """The program's steps, those of an activation taken together."""
    found: list[Step | Activation] = []
    place = 0
    while place < len(program.steps):
        activation = _find(program, place)
        found.append(activation or program.steps[place])
        place += activation.count if activation else 1
    return found


def _find(program: Program, start: int) -> Activation | None:
    """The longest activation that begins at a step."""
    steps, knowns, best = program.steps, program.knowns, None
    for argument in {each for each in steps[start].operands if isinstance(each, Tracked)}:
        for pattern, constant in _patterns(argument.shape, argument.dtype):
            count = len(pattern.steps)
            if start + count > len(steps) or (best is not None and count <= best.count):
                continue
            names = _match(pattern, steps[start : start + count], argument, knowns)
            if names is None:
                continue
            (result,) = pattern.outputs
            assert isinstance(result, Tracked)
            out = names[result.index]
            inner = {each.index for each in names.values()} - {argument.index, out.index}
            if not inner & _outside(program, start, start + count):
                best = Activation(count, argument, out, constant)
    return best


def _outside(program: Program, start: int, stop: int) -> set[int]:
    """Tracked values that are read by other steps, or returned."""
    others = (*program.steps[:start], *program.steps[stop:])
    read = [each for step in others for each in step.operands]
    return {each.index for each in (*read, *program.outputs) if isinstance(each, Tracked)}


def _match(
    pattern: Program, steps: Sequence[Step], argument: Tracked, knowns: Sequence[Any]
) -> dict[int, Tracked] | None:
    """The tracked values of `steps` by their number in the pattern, where they are the same."""
    names = {0: argument}
    for wanted, found in zip(pattern.steps, steps, strict=True):
        if wanted.name != found.name or len(wanted.operands) != len(found.operands):
            return None
        if repr(sorted(wanted.params.items())) != repr(sorted(found.params.items())):
            return None
        for a, b in zip(wanted.operands, found.operands, strict=True):
            if isinstance(a, Known) != isinstance(b, Known):
                return None
            if isinstance(a, Tracked) and names.get(a.index) != b:
                return None
            if isinstance(a, Known) and not _equal(pattern.knowns[a.index], knowns[b.index]):
                return None
        names.update((a.index, b) for a, b in zip(wanted.outs, found.outs, strict=True))
    return names


def _equal(wanted: Any, found: Any) -> bool:
    if is_traced(found) or np.shape(wanted) != np.shape(found):
        return False
    return bool(np.array_equal(np.asarray(wanted), np.asarray(found), equal_nan=True))
