"""A penalty of the user's own: called, and what went wrong in it told with its name and line."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from train.errors import ConfigError, reason, shown


def own_penalty(given: Callable[..., Any], index: int) -> Callable[..., Any]:
    """Return a callable `(lin, key) -> [N]` whose mistakes are told as those of `penalty.INDEX`."""
    who = f"penalty.{index} ({getattr(given, '__name__', type(given).__name__)})"

    def compute(lin: Any, key: Any) -> Any:
        try:
            values = given(lin, key)
        except MemoryError:
            raise
        except Exception as error:  # whatever the user's own code raises
            why = reason(error, 600).rstrip(".")
            raise ConfigError(
                f"{who} raised {type(error).__name__}{_line(error)}: {why}. It is called as "
                "(lin, key), a jacreg.Linearization of the batch and a random key, and returns "
                "one value an example, [N]."
            ) from error
        rows = len(jax.tree.leaves(lin.value)[0])
        if getattr(values, "shape", None) != (rows,) or not _is_real(values):
            raise ConfigError(
                f"{who} returned {_described(values)}, expected real numbers of shape ({rows},): "
                "(lin, key) -> [N], one value an example of the batch."
            )
        return jnp.asarray(values)

    return compute


def _is_real(values: Any) -> bool:
    return not jnp.issubdtype(values.dtype, jnp.complexfloating)


def _described(values: Any) -> str:
    shape = getattr(values, "shape", None)
    if shape is None:
        return "None" if values is None else f"{shown(values)} ({type(values).__name__})"
    return f"an array of shape {shape} and type {values.dtype}"


def _line(error: Exception) -> str:
    """ " at file:line" of the line of the user's function that raised, "" where it was not entered.

    That is the innermost in the file to which the call went first.
    """
    frames = traceback.extract_tb(error.__traceback__)[1:]
    own = [frame for frame in frames if frame.filename == frames[0].filename]
    return f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
