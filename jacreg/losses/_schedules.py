"""Weights that depend on the step: sparse in time, random, or rising.

A schedule is a function of the step, a Python or a traced integer, and returns a
floating-point scalar; multiply them: `lambda step: rise(step) * sparse(step)`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import check_count
from ._checks import check_key

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int

    Schedule = Callable[[Int[Array, ""] | int], Float[Array, ""]]

_LAST_STEP = 2**31 - 1  # steps are counted in 32 bits
_SALT = 0x7A5  # any number; it only has to be this file's own


def every(k: int) -> Schedule:
    """Weight k at steps 0, k, 2k, ... and 0 at the others, 1 on average.

    The expected gradient is that of the penalty at every step, at 1/k of its cost, if
    the skipped steps do not compute it. Multiplying by 0 computes it; `jax.lax.cond` does
    not:

        weight = every(8)(step)
        term = weight * jax.lax.cond(
            weight > 0,
            lambda lin: jnp.mean(jacobian_penalty(lin, key=key)),
            lambda lin: jnp.zeros((), lin.value.dtype),
            lin,
        )

    The pattern works inside `jax.grad`, forward and backward pass are both skipped, and
    for every schedule here. Under `vmap` (several
    seeds at once) a cond with a batched condition computes both branches; a shared step
    is not batched. Known as lazy regularisation (Karras et al. 2020).

    Args:
        k: the interval, at least 1.

    Returns:
        step -> weight.

    Raises:
        TypeError: `k` is no integer.
        ValueError: `k` is less than 1.

    Example:
        >>> from jacreg import losses
        >>> [float(losses.every(3)(step)) for step in range(5)]
        [3.0, 0.0, 0.0, 3.0, 0.0]
    """
    check_count("every", "k", k)
    return lambda step: _either(_whole("every", step) % k == 0, k)


def bernoulli(probability: float, *, key: Array | None) -> Schedule:
    """Weight 1 / probability with that probability, independently at every step, else 0.

    1 on average, so the expected gradient is that of the penalty at every step; use it
    with `jax.lax.cond` as shown at `every`. Bai, Koltun and Kolter 2021 draw tau ~
    Bernoulli(p) and do not divide by p: their gamma is our weight gamma * p (CIFAR-10: gamma
    0.5, p 0.05, so 0.025).

    Args:
        probability: p in (0, 1].
        key: one for the whole run; the step is folded in.

    Returns:
        step -> weight.

    Raises:
        TypeError: the probability is no Python number.
        ValueError: it is not in (0, 1], or the key is missing.

    Example:
        >>> import jax, jacreg
        >>> weight = jacreg.losses.bernoulli(0.5, key=jax.random.key(0))
        >>> sorted({float(weight(step)) for step in range(20)})
        [0.0, 2.0]
    """
    _check_number("bernoulli", "probability", probability)
    if not 0 < probability <= 1:
        raise ValueError(f"bernoulli: probability must be in (0, 1], got {probability}.")
    # Apart from what else the caller may draw from fold_in(key, step).
    key = jax.random.fold_in(check_key("bernoulli", key), _SALT)

    def schedule(step: Int[Array, ""] | int) -> Float[Array, ""]:
        drawn = jax.random.bernoulli(
            jax.random.fold_in(key, _whole("bernoulli", step)), probability
        )
        return _either(drawn, 1 / probability)

    return schedule


def ramp(
    start: float, stop: float, num_steps: int, *, begin: int = 0, num_stages: int | None = None
) -> Schedule:
    """Weight that goes from `start` to `stop` over `num_steps` steps and then stays.

    Linear, or in `num_stages` equal jumps: the raised gamma of Bai, Koltun and Kolter 2021,
    whose code adds 0.1 after every so many steps, is
    `ramp(gamma, gamma + 0.1 * n, n * steps, num_stages=n)`.

    Args:
        start: weight up to and including step `begin`.
        stop: weight from step `begin + num_steps` on.
        num_steps: length of the ramp, at least 1.
        begin: step at which it begins, not negative.
        num_stages: number of jumps, the k-th after k / num_stages of the ramp; None for
            a line.

    Returns:
        step -> weight.

    Raises:
        TypeError: a weight is no Python number, or a count no integer.
        ValueError: a weight is not finite, or a count out of range.

    Example:
        >>> from jacreg import losses
        >>> [float(losses.ramp(0.0, 1.0, 4)(step)) for step in range(6)]
        [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """
    _check_number("ramp", "start", start)
    _check_number("ramp", "stop", stop)
    start, stop = float(start), float(stop)
    check_count("ramp", "num_steps", num_steps)
    check_count("ramp", "begin", begin, least=0)
    if num_stages is not None:
        check_count("ramp", "num_stages", num_stages)
    num_jumps = num_stages or 0
    # Whole steps: a floor of rounded quotients would jump a step late.
    jumps = np.array([-(-k * num_steps // num_jumps) for k in range(1, num_jumps + 1)])

    def schedule(step: Int[Array, ""] | int) -> Float[Array, ""]:
        done = jnp.clip(_whole("ramp", step) - begin, 0, num_steps)
        fraction = jnp.sum(done >= jumps) / num_jumps if num_jumps else done / num_steps
        return start + (stop - start) * fraction

    return schedule


def _either(drawn: Bool[Array, ""], weight: float) -> Float[Array, ""]:
    return jnp.where(drawn, weight, 0).astype(float)


def _whole(who: str, step: Any) -> Int[Array, ""]:
    """Return the step as an integer array, or raise."""
    if isinstance(step, int) and not isinstance(step, bool) and not 0 <= step <= _LAST_STEP:
        raise ValueError(f"{who}: step must be 0 to {_LAST_STEP}, got {step}.")
    if not jnp.issubdtype(jnp.result_type(step), jnp.integer):
        raise TypeError(f"{who}: step must be an integer, got {step!r}.")
    # Signed and wide: without a sign step - begin wraps, and in 8 bits k does not fit.
    array = jnp.asarray(step)
    return array.astype(jnp.int64 if array.dtype.itemsize == 8 else jnp.int32)


def _check_number(who: str, name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{who}: {name} must be a Python number, got {value!r}.")
    if not isfinite(value):
        raise ValueError(f"{who}: {name} must be finite, got {value}.")
