"""Log densities and scores of the built-ins that have a closed form, in float64 numpy.

Points are in the data set's own coordinates, before `data.mean` and `data.std`.
The keyword-only parameters are those options of the built-in that change its density.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

    from train.sections import Data

    # The log density, `[N]`, and its gradient in x, `[N, D]`.
    Known = tuple[Float[np.ndarray, " N"], Float[np.ndarray, "N D"]]

# Eight centres at distance 4 / sqrt(2), and the radii of the rings: the scales of FFJORD's data.
_EIGHTHS = np.arange(8) * (math.pi / 4)
EIGHT_CENTRES = 4 / math.sqrt(2) * np.stack([np.cos(_EIGHTHS), np.sin(_EIGHTHS)], axis=1)
EIGHT_NOISE = 0.354  # 0.5 / sqrt(2)
CIRCLE_RADII = np.asarray([3.0, 1.5])
CIRCLE_NOISE = 0.24
RING_RADII = np.asarray([3.0, 2.25, 1.5, 0.75])
RING_NOISE = 0.08
CHECKERBOARD_SIDE = 2.0


def gaussian(xs: Any, *, correlation: float = 0.0) -> Known:
    """log N(x; 0, S) with S_ij = correlation^|i - j|: a stationary chain of unit variances.

    The score -S^-1 x is taken from the chain's innovations: S^-1 is tridiagonal.
    """
    xs = np.asarray(xs, np.float64)
    # x_i - correlation x_(i-1), [N, D - 1], and their variance.
    innovations, variance = xs[:, 1:] - correlation * xs[:, :-1], 1 - correlation**2
    dimensions = xs.shape[1]
    squares = xs[:, 0] ** 2 + np.sum(innovations**2, axis=1) / variance
    log_det = (dimensions - 1) * math.log(variance)
    score = np.zeros_like(xs)
    score[:, 0] = -xs[:, 0]
    score[:, 1:] -= innovations / variance
    score[:, :-1] += correlation * innovations / variance
    return -0.5 * (squares + log_det + dimensions * math.log(2 * math.pi)), score


def mixture_of(
    dimensions: int, components: int, separation: float
) -> tuple[Float[np.ndarray, "K D"], Float[np.ndarray, " K"]]:
    """Return the means and the weights of `gaussian-mixture`.

    The means stand `separation` apart on the diagonal, centred at 0; weight k is
    proportional to k, because equal weights would hide a score that gets them wrong.
    """
    steps = np.arange(components) - (components - 1) / 2
    means = separation * steps[:, None] * np.full((1, dimensions), 1 / math.sqrt(dimensions))
    weights = np.arange(1.0, components + 1)
    return means, weights / weights.sum()


def gaussian_mixture(
    xs: Any, *, components: int = 3, separation: float = 2.0, noise: float = 0.5
) -> Known:
    """log sum_k w_k N(x; m_k, noise^2 I), see `mixture_of`."""
    means, weights = mixture_of(np.shape(xs)[1], components, separation)
    return _mixture(np.asarray(xs, np.float64), means, weights, noise)


def eight_gaussians(xs: Any, *, noise: float = EIGHT_NOISE) -> Known:
    """Eight equal round Gaussians on a circle."""
    return _mixture(np.asarray(xs, np.float64), EIGHT_CENTRES, np.full(8, 1 / 8), noise)


def _mixture(xs: np.ndarray, means: np.ndarray, weights: np.ndarray, noise: float) -> Known:
    """Return log density `[N]` and score `[N, D]`; a loop over the means keeps memory at [N, D]."""
    from scipy.special import logsumexp

    squares = np.stack([np.sum((xs - mean) ** 2, axis=1) for mean in means], axis=1)
    logs = np.log(weights) - squares / (2 * noise**2)
    total = np.asarray(logsumexp(logs, axis=1))
    shares = np.exp(logs - total[:, None])
    constant = 0.5 * xs.shape[1] * math.log(2 * math.pi * noise**2)
    return total - constant, (shares @ means - xs) / noise**2


def circles(xs: Any, *, noise: float = CIRCLE_NOISE) -> Known:
    """Two noisy circles, see `_rings`."""
    return _rings(np.asarray(xs, np.float64), CIRCLE_RADII, noise)


def rings(xs: Any, *, noise: float = RING_NOISE) -> Known:
    """Four noisy rings, see `_rings`."""
    return _rings(np.asarray(xs, np.float64), RING_RADII, noise)


def _rings(xs: np.ndarray, radii: np.ndarray, noise: float) -> Known:
    """Return log density `[N]` and score `[N, 2]` of equally likely rings under Gaussian noise.

    A uniform angle integrates to a Bessel function: for one ring of radius r, at
    distance q from 0, p(x) = exp(-(q^2 + r^2) / 2 s^2) I_0(q r / s^2) / (2 pi s^2).
    """
    from scipy.special import ive, logsumexp

    distance = np.linalg.norm(xs, axis=1, keepdims=True)
    argument = distance * radii / noise**2
    bessel = ive(0, argument)  # without its factor exp(argument)
    logs = np.log(bessel) - (distance - radii) ** 2 / (2 * noise**2)
    total = np.asarray(logsumexp(logs, axis=1))
    shares = np.exp(logs - total[:, None])
    outward = np.sum(shares * (radii * ive(1, argument) / bessel - distance), axis=1) / noise**2
    direction = np.divide(xs, distance, out=np.zeros_like(xs), where=distance > 0)
    log_density = total - math.log(len(radii) * 2 * math.pi * noise**2)
    return log_density, outward[:, None] * direction


def checkerboard(xs: Any) -> Float[np.ndarray, " N"]:
    """-log 32 on the eight squares of side 2 inside [-4, 4)^2, -inf elsewhere."""
    cells = np.floor(np.asarray(xs, np.float64) / CHECKERBOARD_SIDE)
    inside = np.all((cells >= -2) & (cells < 2), axis=1)
    filled = inside & ((cells[:, 0] + cells[:, 1]) % 2 == 0)
    return np.where(filled, -math.log(8 * CHECKERBOARD_SIDE**2), -np.inf)


def _part(row: Callable[..., Known], index: int) -> Callable[..., np.ndarray]:
    """Return the log density alone, 0, or the score alone, 1."""
    return functools.wraps(row)(lambda xs, **options: row(xs, **options)[index])


_SMOOTH: Mapping[str, Callable[..., Known]] = {
    "gaussian": gaussian,
    "gaussian-mixture": gaussian_mixture,
    "8-gaussians": eight_gaussians,
    "circles": circles,
    "rings": rings,
}
LOG_DENSITIES: Mapping[str, Callable[..., Float[np.ndarray, " N"]]] = {
    **{name: _part(row, 0) for name, row in _SMOOTH.items()},
    "checkerboard": checkerboard,
}
SCORES: Mapping[str, Callable[..., Float[np.ndarray, "N D"]]] = {
    name: _part(row, 1) for name, row in _SMOOTH.items()
}


def true_log_density(options: Data) -> Callable[[Any], Float[np.ndarray, " N"]] | None:
    """Return `xs [N, D] -> log p(x) [N]` in nats for what `[data]` names; None if not known."""
    return _bound(LOG_DENSITIES, options)


def true_score(options: Data) -> Callable[[Any], Float[np.ndarray, "N D"]] | None:
    """Return `xs [N, D] -> grad log p(x) [N, D]` for what `[data]` names; None if not known."""
    return _bound(SCORES, options)


def _bound(rows: Mapping[str, Callable[..., Any]], options: Data) -> Callable[..., Any] | None:
    # With a path the name does not say what the points are.
    name = str(options.name)
    if options.path is not None or name not in rows:
        return None
    row = rows[name]
    keys = [key for key in inspect.signature(row).parameters if key in options.options]
    return functools.partial(row, **{key: options.options[key] for key in keys})
