"""Functions of several operations whose Lipschitz constant is known, found in a program.

A row is a function of one array and its constant in the l2 norm. It is found by its program: what
the row's function does, operation by operation, so that a name alone proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from math import sqrt
from typing import Any

import jax
import jax.nn as nn
import jax.numpy as jnp
import numpy as np

from .._lipschitz._group_sort import max_min
from .._traced import is_traced
from ._program import Activation, Known, Program, Step, Tracked, read_program
from ._two_slopes import two_slopes

# The largest slopes, rounded up; those of x times a gate lie beside 0 and above 1.
_ELEMENTWISE: tuple[tuple[Callable[..., Any], float], ...] = (
    (partial(nn.gelu, approximate=True), 1.12900),
    (partial(nn.gelu, approximate=False), 1.12891),
    (nn.silu, 1.09984),
    (nn.mish, 1.08851),
    (nn.softplus, 1.0),
    (nn.log_sigmoid, 1.0),
    (nn.hard_tanh, 1.0),
    (nn.hard_sigmoid, 1 / 6),
    (nn.hard_silu, 1.5),
    (nn.soft_sign, 1.0),
    (nn.squareplus, 1.0),
)
# A number that stands for any, and is exact in every precision. Constants take the numbers that
# were found, in the order of the program.
_ANY = 0.7421875
_COMMUTE = frozenset({"add", "mul", "max", "min"})


def _elu(*alphas: Any) -> Any:
    return jnp.maximum(1, jnp.max(jnp.stack([_largest(alpha) for alpha in alphas])))


def _celu(*alphas: Any) -> Any:
    """Where x < 0 the slope is b / a exp(x / a), a the first number and b the last: JAX's alpha."""
    a, b = alphas[0], alphas[-1]
    slope = jnp.maximum(1, _largest(b / jnp.where(a > 0, a, 1)))
    return jnp.where(jnp.min(a) > 0, slope, jnp.inf)


def _largest(array: Any) -> Any:
    return jnp.max(jnp.abs(array.astype(jnp.float64)), initial=0)


def _always(constant: float, *numbers: Any) -> float:
    del numbers
    return constant


_WITH_NUMBERS: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
    (lambda x: nn.elu(x, _ANY), _elu),
    (lambda x: nn.celu(x, _ANY), _celu),
    (lambda x: x * nn.sigmoid(_ANY * x), partial(_always, 1.09984)),
]


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
def _patterns(shape: tuple[int, ...], dtype: Any) -> tuple[tuple[Program, Callable[..., Any]], ...]:
    if not jnp.issubdtype(dtype, jnp.floating):
        return ()
    fixed = list(_ELEMENTWISE)
    for axis, side in enumerate(shape):
        fixed += _with_axis(axis, side)
    rows = [*_WITH_NUMBERS, *((fn, partial(_always, constant)) for fn, constant in fixed)]
    struct = jax.ShapeDtypeStruct(shape, dtype)
    with jax.ensure_compile_time_eval():
        return tuple((read_program(fn, struct), constant) for fn, constant in rows)


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
    steps, knowns = program.steps, program.knowns
    best = two_slopes(program, start)
    if best is not None and _read_outside(program, start, best):
        best = None
    for argument in {each for each in steps[start].operands if isinstance(each, Tracked)}:
        for pattern, constant in _patterns(argument.shape, argument.dtype):
            count = len(pattern.steps)
            if start + count > len(steps) or (best is not None and count <= best.count):
                continue
            found = _match(pattern, steps[start : start + count], argument, knowns)
            if found is None:
                continue
            names, numbers = found
            (result,) = pattern.outputs
            assert isinstance(result, Tracked)
            bound = partial(_constant, constant, tuple(numbers))
            activation = Activation(count, argument, names[result.index], bound)
            if not _read_outside(program, start, activation):
                best = activation
    return best


def _constant(constant: Callable[..., Any], numbers: Sequence[Known], knowns: Any) -> Any:
    return constant(*(knowns[each.index] for each in numbers))


def _read_outside(program: Program, start: int, activation: Activation) -> bool:
    """Whether other steps read what an activation computes on its way."""
    stop = start + activation.count
    inner = {out.index for step in program.steps[start:stop] for out in step.outs}
    return bool((inner - {activation.out.index}) & _outside(program, start, stop))


def _outside(program: Program, start: int, stop: int) -> set[int]:
    """Tracked values that are read by other steps, or returned."""
    others = (*program.steps[:start], *program.steps[stop:])
    read = [each for step in others for each in step.operands]
    return {each.index for each in (*read, *program.outputs) if isinstance(each, Tracked)}


def _match(
    pattern: Program, steps: Sequence[Step], argument: Tracked, knowns: Sequence[Any]
) -> tuple[dict[int, Tracked], list[Known]] | None:
    """The tracked values of `steps` by their number in the pattern, where they are the same.

    And the known ones in the places of numbers that may be any.
    """
    names, numbers = {0: argument}, []
    for wanted, found in zip(pattern.steps, steps, strict=True):
        if wanted.name != found.name or len(wanted.operands) != len(found.operands):
            return None
        if repr(sorted(wanted.params.items())) != repr(sorted(found.params.items())):
            return None
        orders = [found.operands]
        if wanted.name in _COMMUTE:
            orders.append(found.operands[::-1])
        for operands in orders:
            pairs = list(zip(wanted.operands, operands, strict=True))
            if all(_same(a, b, names, pattern.knowns, knowns) for a, b in pairs):
                break
        else:
            return None
        numbers += [b for a, b in pairs if isinstance(b, Known) and _any(a, pattern.knowns)]
        names.update((a.index, b) for a, b in zip(wanted.outs, found.outs, strict=True))
    return names, numbers


def _same(
    wanted: Tracked | Known,
    found: Tracked | Known,
    names: dict[int, Tracked],
    pattern_knowns: Sequence[Any],
    knowns: Sequence[Any],
) -> bool:
    if isinstance(wanted, Known) != isinstance(found, Known):
        return False
    if isinstance(wanted, Tracked):
        return names.get(wanted.index) == found
    if _any(wanted, pattern_knowns):
        return True
    return _equal(pattern_knowns[wanted.index], knowns[found.index])


def _any(operand: Tracked | Known, pattern_knowns: Sequence[Any]) -> bool:
    return isinstance(operand, Known) and bool(
        np.all(np.asarray(pattern_knowns[operand.index]) == _ANY)
    )


def _equal(wanted: Any, found: Any) -> bool:
    if is_traced(found) or np.shape(wanted) != np.shape(found):
        return False
    return bool(np.array_equal(np.asarray(wanted), np.asarray(found), equal_nan=True))
