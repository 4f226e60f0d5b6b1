"""Schedules of a factor over training, for the learning rate and for penalty weights.

A row of `SCHEDULES` is one function `(steps, *, options) -> optax.Schedule`: the
factor that multiplies the base value at each step. Adding one is adding a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated

import jax.numpy as jnp
import optax

from train.expect import number, sequence

if TYPE_CHECKING:
    from train.named import Named


def constant(steps: int) -> optax.Schedule:
    """Factor 1 throughout."""
    return optax.constant_schedule(1.0)


def thirds(steps: int, *, factor: Annotated[float, number(above=0)] = 0.1) -> optax.Schedule:
    """Multiply by `factor` after each third of training (Hoffman et al. 2019)."""
    return optax.piecewise_constant_schedule(1.0, {steps // 3: factor, 2 * steps // 3: factor})


def piecewise(
    steps: int,
    *,
    boundaries: Annotated[tuple[float, ...], sequence(number(above=0, most=1))],
    factor: Annotated[float, number(above=0)] = 0.1,
) -> optax.Schedule:
    """Multiply by `factor` at each boundary, a fraction of training."""
    return optax.piecewise_constant_schedule(
        1.0, {int(boundary * steps): factor for boundary in boundaries}
    )


def cosine(
    steps: int,
    *,
    final: Annotated[float, number(least=0)] = 0.0,
    warmup: Annotated[float, number(least=0, most=0.99)] = 0.0,
) -> optax.Schedule:
    """Rise linearly over the fraction `warmup`, then fall to `final` along a cosine."""
    rise = int(warmup * steps)
    decay = optax.cosine_decay_schedule(1.0, max(steps - rise, 1), alpha=final)
    if rise == 0:
        return decay
    return optax.join_schedules([optax.linear_schedule(0.0, 1.0, rise), decay], [rise])


def ramp(
    steps: int,
    *,
    begin: Annotated[float, number(least=0, most=1)] = 0.0,
    end: Annotated[float, number(above=0, most=1)] = 1.0,
    initial: Annotated[float, number(least=0)] = 0.0,
) -> optax.Schedule:
    """Rise linearly from `initial` to 1 between two fractions of training (Bai et al. 2021)."""
    if end < begin:
        raise ValueError(f"got begin = {begin:g} and end = {end:g}, expected begin <= end.")
    first, last = begin * steps, end * steps

    def schedule(step):
        progress = jnp.clip((step - first) / jnp.maximum(last - first, 1.0), 0.0, 1.0)
        return initial + (1.0 - initial) * progress

    return schedule


SCHEDULES: Mapping[str, Callable[..., optax.Schedule]] = {
    "constant": constant,
    "thirds": thirds,
    "piecewise": piecewise,
    "cosine": cosine,
    "ramp": ramp,
}


def make_schedule(named: Named, steps: int = 1) -> optax.Schedule:
    """Return the factor that a config names, a function of the step.

    Raises:
        ValueError: its options do not fit together.
    """
    return SCHEDULES[named.name](steps, **named.options)
