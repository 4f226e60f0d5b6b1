"""The losses of score matching by name, and which options each takes.

Those of `LINEARISED` need the Jacobian of the score; the others call the score alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import jacreg
from jacreg import losses
from train.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Array, Float

LINEARISED = ("implicit", "sliced", "sliced_vr")
Loss = Literal["implicit", "sliced", "sliced_vr", "denoising", "finite_difference"]


@dataclass(frozen=True)
class Matching:
    """One loss with its options.

    Attributes:
        name: a `Loss`.
        method: of the trace, for "implicit".
        num_probes: slices an example, for the sliced losses.
        scale: the noise of "denoising", the step of "finite_difference".
        smoothing: noise added to the data beforehand, by the other losses.
        scales: least and largest noise level of a conditional network.
    """

    name: str
    method: Any = field(default_factory=jacreg.Auto)
    num_probes: int = 1
    scale: float | None = None
    smoothing: float = 0.0
    scales: tuple[float, float] | None = None

    @property
    def levels(self) -> tuple[float, float]:
        """The noise under which the score of the data is learnt: least and largest."""
        if self.scales is not None:
            return self.scales
        level = self.scale if self.name == "denoising" else self.smoothing
        return (level or 0.0, level or 0.0)

    def at_noise(self, xs: Any, key: Array) -> tuple[Any, tuple[Any, ...], Any]:
        """Return points under the noise of training, the network's further arguments, weights.

        With `scales` each example draws a level, uniform in the logarithm; its argument is the
        level, `[N]`, and its weight level^2.
        """
        level_key, noise_key = jax.random.split(key)
        if self.scales is None:
            level = self.levels[0]
            return xs if level == 0 else _noisy(xs, jnp.asarray(level), noise_key), (), 1.0
        least, most = np.log(self.scales)
        exponents = jax.random.uniform(level_key, (len(xs),), xs.dtype, least, most)
        level = jnp.exp(exponents)
        return _noisy(xs, level, noise_key), (level,), level**2

    def least_level(self, count: int) -> tuple[Any, ...]:
        """Return the further arguments of the network for `count` rows at the least level."""
        return () if self.scales is None else (jnp.full(count, self.scales[0], jnp.float32),)

    def of_linearised(self, lin: jacreg.Linearization, key: Array) -> Float[Array, " N"]:
        """Return the loss of a score linearised at the points where it is matched."""
        if self.name == "implicit":
            return losses.implicit_score_matching(lin, self.method, key=key)
        return losses.sliced_score_matching(
            lin, num_probes=self.num_probes, variance_reduced=self.name == "sliced_vr", key=key
        )

    def of_calls(
        self, score: Callable[[Any], Any], xs: Any, args: tuple[Any, ...], key: Array
    ) -> Float[Array, " N"]:
        """Return the loss of a score by its values; "denoising" takes the clean points."""
        if self.name == "denoising":
            level = args[0] if args else self.levels[0]
            return losses.denoising_score_matching(score, xs, scale=level, key=key)
        assert self.scale is not None  # by check_options
        return losses.finite_difference_score_matching(score, xs, scale=self.scale, key=key)


def _noisy(xs: Any, level: Any, key: Array) -> Any:
    shaped = level.reshape((-1,) + (1,) * (xs.ndim - 1)) if level.ndim else level
    return xs + shaped.astype(xs.dtype) * jax.random.normal(key, xs.shape, xs.dtype)


def check_options(
    name: str,
    method: Any,
    num_probes: int,
    scale: float | None,
    smoothing: float,
    scales: tuple[float, float] | None,
) -> None:
    """Raise where an option is missing, or given to a loss that does not take it.

    Raises:
        ConfigError: with the key at fault.
    """
    loss = f'task.loss="{name}"'
    if method is not None and name != "implicit":
        raise ConfigError(
            f'task.method: got "{method.name}", but {loss} has no trace to compute; leave it '
            'out, or set task.loss="implicit".'
        )
    if num_probes != 1 and not name.startswith("sliced"):
        raise ConfigError(
            f'task.num_probes: got {num_probes}, but {loss} draws no slices; set task.loss="sliced'
            '_vr", or the probes of task.method.'
        )
    if scales is not None and not scales[0] < scales[1]:
        raise ConfigError(
            f"task.scales: got {list(scales)}, expected [least, largest] with least < largest."
        )
    takes_scale = name == "finite_difference" or (name == "denoising" and scales is None)
    if takes_scale and scale is None:
        what = "the noise's deviation" if name == "denoising" else "the step of the differences"
        raise ConfigError(
            f"task.scale is missing: expected a finite number > 0, {what} in units of the "
            "network's input. Write `scale = 0.1` in section [task]."
        )
    if scale is not None and not takes_scale:
        taken = "task.scales already says the noise" if name == "denoising" else f"{loss} has none"
        raise ConfigError(
            f"task.scale: got {scale:g}, but {taken}; leave it out (noise added to the data is "
            "task.smoothing)."
        )
    if smoothing and (name == "denoising" or scales is not None):
        other = "task.scales" if scales is not None else "task.scale"
        raise ConfigError(
            f"task.smoothing: got {smoothing:g}, but {other} says the noise of the data here; "
            "leave it out."
        )
