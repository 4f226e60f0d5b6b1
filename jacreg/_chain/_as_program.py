"""A closed form as a program, before any of it is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .._choice import Unfit
from .._linearize import Linearization
from .._sharding import is_spread
from ._chain import Unreadable
from ._outlook import check_readable


def as_program(lin: Linearization, total: Callable[[Linearization], Any]) -> Any:
    """The program of `total(lin)`; what turns out to be no chain has computed nothing.

    No error crosses the trace: one that did would keep what was traced alive with its frames.

    Raises:
        Unfit: there is no forward mode, or the batch is spread over devices; `total` raised
            Unreadable.
    """
    if is_spread(lin.xs):
        raise Unfit("no closed form for a batch that several devices share")
    if lin.no_forward is not None:
        raise Unfit(f"no closed form without a forward mode ({lin.no_forward})")
    check_readable(lin)
    why: list[str] = []

    def attempt() -> Any:
        try:
            return total(lin)
        except Unreadable as unreadable:
            why.append(str(unreadable))
            return jnp.zeros(())

    program = jax.make_jaxpr(attempt)()
    if why:
        raise Unfit(f"no closed form ({why[0]})")
    return program
