"""Samplers by name: from a score at every noise level to samples.

A row is `(*, options) -> Sampler`; its keyword-only parameters are the keys of
`[task] sampler = { name = ..., ... }`. Noise levels are standard deviations in units of what
the network takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from jacreg._convolution import as_products
from train.expect import integer, number

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    # `(xs [N, *in], level []) -> [N, *in]`: the score of the data under noise of that level.
    Score = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Sampler:
    """A way to draw samples.

    Attributes:
        run: `(score, start, levels, key) -> samples`: `start` is `[N, *in]`, `levels` the
            least and the largest noise level, equal where the score is known at one.
        needs_levels: whether it walks from the largest level to the least.
    """

    run: Callable[[Score, Any, tuple[float, float], Any], Any]
    needs_levels: bool = False


def langevin(
    *,
    num_steps: Annotated[int, integer(least=1)] = 100,
    num_levels: Annotated[int, integer(least=1)] = 12,
    step: Annotated[float, number(above=0, most=4)] = 0.2,
    denoise: bool = True,
) -> Sampler:
    """Langevin dynamics, annealed where the score is known at a range of levels.

    x <- x + a / 2 s(x) + sqrt(a) e with e ~ N(0, I) and a = step * level^2 (1 where there is
    no noise), `num_steps` at each of `num_levels` levels in geometric progression from
    the largest. Unadjusted: its law is the density's up to an error of O(step).

    Args:
        num_steps: at each level.
        num_levels: used where there is a range of levels.
        step: of the dynamics in units of level^2; above 4 it is unstable.
        denoise: end with the mean of the clean data given x, x + level^2 s(x).
    """

    def run(score: Score, start: Any, levels: tuple[float, float], key: Any) -> Any:
        ladder = _ladder(levels, num_levels if levels[1] > levels[0] else 1)
        # Without noise the dynamics has the unit of the data.
        sizes = step * np.where(ladder > 0, ladder, 1) ** 2
        plan = (np.repeat(ladder, num_steps), np.repeat(sizes, num_steps))

        def move(xs: Array, now: Any) -> tuple[Array, None]:
            level, size, step_key = now
            noise = jax.random.normal(step_key, xs.shape, xs.dtype)
            return xs + 0.5 * size * score(xs, level) + jnp.sqrt(size) * noise, None

        xs = _walk(move, start, plan, key)
        return _denoised(score, xs, levels[0]) if denoise else xs

    return Sampler(run)


def reverse_sde(
    *, num_steps: Annotated[int, integer(least=1)] = 500, denoise: bool = True
) -> Sampler:
    """The diffusion that adds noise up to the largest level, run backwards.

    dx = -d(level^2) s(x, level) + noise of variance -d(level^2), by Euler-Maruyama on levels in
    geometric progression; the noise of each step is that of the diffusion between its levels.

    Args:
        num_steps: from the largest level to the least.
        denoise: end with the mean of the clean data given x, x + level^2 s(x).
    """

    def run(score: Score, start: Any, levels: tuple[float, float], key: Any) -> Any:
        ladder = _ladder(levels, num_steps + 1)
        removed = ladder[:-1] ** 2 - ladder[1:] ** 2
        # The variance of a point between two others on the way: never more than what is left.
        variances = removed * (ladder[1:] / ladder[:-1]) ** 2

        def move(xs: Array, now: Any) -> tuple[Array, None]:
            level, gone, variance, step_key = now
            noise = jax.random.normal(step_key, xs.shape, xs.dtype)
            return xs + gone * score(xs, level) + jnp.sqrt(variance) * noise, None

        xs = _walk(move, start, (ladder[:-1], removed, variances), key)
        return _denoised(score, xs, levels[0]) if denoise else xs

    return Sampler(run, needs_levels=True)


def _ladder(levels: tuple[float, float], count: int) -> Float[np.ndarray, " count"]:
    """Return levels in geometric progression, the largest first."""
    least, most = levels
    return np.full(count, most) if least == most else np.geomspace(most, least, count)


def _walk(move: Callable[..., Any], start: Any, plan: tuple[np.ndarray, ...], key: Any) -> Any:
    xs = jnp.asarray(start)
    keys = jax.random.split(key, len(plan[0]))
    columns = [jnp.asarray(column, xs.dtype) for column in plan]
    return jax.lax.scan(as_products(move), xs, (*columns, keys))[0]


def _denoised(score: Score, xs: Any, level: float) -> Any:
    if level == 0:
        return xs
    last = jnp.asarray(level, xs.dtype)
    return xs + last**2 * score(xs, last)


SAMPLERS: Mapping[str, Callable[..., Sampler]] = {
    "langevin": langevin,
    "reverse_sde": reverse_sde,
}
