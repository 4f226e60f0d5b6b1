"""A closed form as a program, before any of it is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .._choice import Unfit
from ._chain import Unreadable


def as_program(total: Callable[[], Any]) -> Any:
    """The program of `total()`; what turns out to be no chain has computed nothing.

    No error crosses the trace: one that did would keep what was traced alive with its frames.

    Raises:
        Unfit: `total` raised Unreadable.
    """
    why: list[str] = []

    def attempt() -> Any:
        try:
            return total()
        except Unreadable as unreadable:
            why.append(str(unreadable))
            return jnp.zeros(())

    program = jax.make_jaxpr(attempt)()
    if why:
        raise Unfit(f"no closed form ({why[0]})")
    return program
