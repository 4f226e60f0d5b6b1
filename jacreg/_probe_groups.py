"""How to take several probes, read from the program of one; the figures are of CPUs.

Dense layers: `jax.vmap` over a group of probes gives products of more rows. That pays while one
probe has few: the weights are read once a group, and XLA's products of a handful of rows are slow
(16 probes of 4 rows by 2048 x 2048, one after the other, take forty times as long as in pairs).

Convolutions are as fast in a loop (`_convolution` has the layout that XLA:CPU needs there) and one
after the other stays in the caches; vmap over four of them took twice as long. Their gradient
takes less time, too, if it computes each of them again. Dense layers take a third more, so
theirs does it only where much would be kept.

Whatever else (loops, factorisations, pooling): one after the other, in the memory of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import jax.extend.core as jex
import jax.numpy as jnp

from ._convolution import NAME
from ._forms import FORMS
from ._interpret import CALLS, mentions, propagate
from ._memory import array_bytes, known_size

# Rows of a matrix product from which more of them gain nothing on a CPU.
_ROWS = 256
# Of the largest array of a group, in bytes.
_MOST_BYTES = 1 << 24
# Of one array of all probes, from which on the gradient computes them again.
_KEPT_BYTES = 1 << 26

_CALLS = CALLS | {"custom_jvp_call", "custom_vjp_call"}
# With the probes along a new first axis these cost what they cost for each probe: some kinds,
# without what looks up places, and with reductions.
_PLAIN = ("elementwise", "moved", "constant")
_NOT_PLAIN = {"dynamic_slice", "dynamic_update_slice", "gather", "scatter", "rng_bit_generator"}
_REDUCTIONS = {"reduce_sum", "reduce_max", "reduce_min", "reduce_and", "reduce_or"}


class _Cost(NamedTuple):
    """Of what depends on the probe.

    Attributes:
        rows: of the matrix product that has most; 0 where there is none.
        size: bytes of the largest array.
    """

    rows: int
    size: int


class Plan(NamedTuple):
    """How to take the probes.

    Attributes:
        at_once: probes that share a pass by `jax.vmap`, one group after the other.
        again: the gradient computes each group again, in the memory of one.
    """

    at_once: int
    again: bool


class _Unknown(Exception):
    """Something that may be slower for several probes at once."""


def read_plan(closed: Any, count: int) -> Plan:
    """Return how to take the probes.

    Args:
        closed: the program of one probe; its arguments are what differs from probe to probe.
        count: how many probes there are.
    """
    convolves = any(mentions(closed.jaxpr, name) for name in ("conv_general_dilated", NAME))
    # What the gradient of a loop keeps of every probe is some arrays of this size.
    largest = max((_bytes(v.aval) for each in closed.jaxpr.eqns for v in each.outvars), default=0)
    again = convolves or count * largest > _KEPT_BYTES
    return Plan(1 if convolves else _at_once(closed.jaxpr, count), again)


def _at_once(jaxpr: Any, count: int) -> int:
    """Groups are few and, if that can be, equally long."""
    try:
        _, cost = _read(jaxpr, [True] * len(jaxpr.invars))
    except _Unknown:
        return 1
    if cost.rows == 0:
        return 1
    most = max(1, min(_ROWS // cost.rows, _MOST_BYTES // max(cost.size, 1)))
    even = max(length for length in range(1, most + 1) if count % length == 0)
    # A shorter last group is compiled apart, so there is none if groups stay large without.
    passes = -(-count // most)
    return even if 2 * even > min(most, count) else -(-count // passes)


def _read(jaxpr: Any, varying: Sequence[bool]) -> tuple[list[bool], _Cost]:
    """Return which outputs vary with the probe, and what it costs."""
    most = _Cost(0, 0)

    def step(equation: Any, own: list[bool | None]) -> Sequence[bool]:
        nonlocal most
        outs, cost = _read_equation(equation, list(map(bool, own)))
        most = _Cost(*map(max, most, cost))
        return outs

    return list(map(bool, propagate(jaxpr, varying, step))), most


def _read_equation(equation: Any, varies: Sequence[bool]) -> tuple[Sequence[bool], _Cost]:
    name = equation.primitive.name
    if name in _CALLS:
        inner = list(jex.jaxprs_in_params(equation.params))
        if len(inner) != 1 or len(inner[0].invars) != len(varies):
            raise _Unknown
        return _read(inner[0], varies)
    rows = 0
    if name == "dot_general":
        rows = _rows(equation, varies)
    elif not _is_plain(name):
        raise _Unknown
    size = max((_bytes(var.aval) for var in equation.outvars), default=0)
    return [True] * len(equation.outvars), _Cost(rows, size)


def _is_plain(name: str) -> bool:
    kind = FORMS[name].kind if name in FORMS else "opaque"
    return name in _REDUCTIONS or (kind in _PLAIN and name not in _NOT_PLAIN)


def _rows(equation: Any, varies: Sequence[bool]) -> int:
    """Rows of the operand that varies; the other is the same matrix for every probe and example."""
    contracted, batch = equation.params["dimension_numbers"]
    if all(varies) or batch[0]:
        raise _Unknown
    side = varies.index(True)
    shape = equation.invars[side].aval.shape
    return prod(known_size(n) for axis, n in enumerate(shape) if axis not in contracted[side])


def _bytes(aval: Any) -> int:
    if not jnp.issubdtype(getattr(aval, "dtype", bool), jnp.number):
        return 0  # keys and truth values
    return array_bytes(aval)
