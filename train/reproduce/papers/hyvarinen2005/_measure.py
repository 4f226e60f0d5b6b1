"""What has a closed form: the theorem on a grid of nodes, and the model that is a Gaussian."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

import jacreg
import models
from jacreg import eqx as adapter
from train.data import SCORES
from train.data._densities import mixture_of
from train.reproduce import Asked

if TYPE_CHECKING:
    from jaxtyping import Float

_NOISE = 0.5  # of the built-in mixture


def theorem(asked: Asked, *, nodes: int = 40, fields: int = 8) -> Mapping[str, Any]:
    """Compare the objective with the distance to the true score, for networks drawn at random.

    Theorem 1: E[tr ds/dx + norm(s)^2 / 2] = E[norm(s - grad log p)^2] / 2 - c with
    c = E[norm(grad log p)^2] / 2. The means are over the built-in mixture in the plane, by
    Gauss-Hermite quadrature with `nodes`^2 nodes a component, so without any sampling.

    Returns:
        `residual`: the largest distance of the two sides over c; `objective` and `distance`, one
        a network. `broken` leaves the trace out of the objective.
    """
    points, weights = quadrature(nodes)
    truth = SCORES["gaussian-mixture"](points)
    constant = 0.5 * float(weights @ np.sum(truth**2, axis=1))
    xs = jnp.asarray(points, jnp.float32)

    @jax.jit
    def terms(key: Any) -> tuple[Any, Any]:
        network = models.build(
            "score_mlp", framework="equinox", key=key, input_shape=(2,), hidden=(32, 32)
        )
        # Larger than at the start of training, so that the curvature is seen.
        lin = jacreg.linearize(lambda xs: 4 * adapter.function(network)(xs), xs)
        trace = jacreg.divergence(lin)
        squares = 0.5 * jnp.sum(lin.value**2, axis=1)
        return (squares if asked.broken else trace + squares), lin.value

    objectives, distances = [], []
    for key in jax.random.split(jax.random.key(asked.seed), fields):
        values, score = (np.asarray(each, np.float64) for each in terms(key))
        objectives.append(float(weights @ values))
        distances.append(0.5 * float(weights @ np.sum((score - truth) ** 2, axis=1)))
    residual = np.abs(np.asarray(objectives) - np.asarray(distances) + constant).max()
    return {
        "residual": float(residual) / constant,
        "constant": constant,
        "objective": np.asarray(objectives),
        "distance": np.asarray(distances),
    }


def quadrature(nodes: int) -> tuple[Float[np.ndarray, "N 2"], Float[np.ndarray, " N"]]:
    """Return points and weights whose sum is the mean over `gaussian-mixture` in the plane."""
    places, shares = np.polynomial.hermite_e.hermegauss(nodes)
    shares = shares / shares.sum()
    grid = np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 2)
    product = np.outer(shares, shares).ravel()
    means, weights = mixture_of(2, 3, 2.0)
    points = np.concatenate([mean + _NOISE * grid for mean in means])
    return points, np.concatenate([weight * product for weight in weights])


def gaussian_model(
    asked: Asked,
    *,
    dimensions: int,
    counts: Sequence[int],
    correlation: float = 0.5,
    draws: int = 16,
) -> Mapping[str, Any]:
    """Fit the score of a Gaussian, s(x) = -P (x - m), by exact score matching.

    The objective is quadratic in s's kernel and bias, so one Newton step from 0 is its minimum:
    P should be the inverse of the sample's covariance, and come to that of the density as
    the sample grows.

    Returns:
        `to_sample`: the largest distance of P from the inverse sample covariance over all
        samples, relative in the Frobenius norm; `counts` and `to_truth`, the root mean square
        over `draws` samples of the distance from the density's P, by the size of the sample, and
        `exponent`, its slope in logarithms. `broken` leaves the trace out of the objective.
    """
    rng = np.random.default_rng(asked.seed)
    places = np.arange(dimensions)
    covariance = correlation ** np.abs(places[:, None] - places)
    truth = np.linalg.inv(covariance)

    @jax.jit
    def derivatives(xs: Any, shares: Any) -> Any:
        start = jnp.zeros(dimensions * (dimensions + 1))
        gradient = jax.grad(objective)(start, xs, shares)
        return gradient, jax.hessian(objective)(start, xs, shares)

    def objective(flat: Any, xs: Any, shares: Any) -> Any:
        kernel, bias = flat[:-dimensions].reshape(dimensions, dimensions), flat[-dimensions:]
        lin = jacreg.linearize(lambda xs: xs @ kernel.T + bias, xs)
        squares = 0.5 * jnp.sum(lin.value**2, axis=1)
        return shares @ (squares if asked.broken else jacreg.losses.implicit_score_matching(lin))

    def fit(drawn: np.ndarray, count: int) -> np.ndarray:
        # Rows beyond the sample count nothing: one shape, compiled once.
        shares = np.where(np.arange(len(drawn)) < count, 1 / count, 0.0)
        found = derivatives(jnp.asarray(drawn, jnp.float32), jnp.asarray(shares, jnp.float32))
        gradient, curvature = (np.asarray(each, np.float64) for each in found)
        minimum = -np.linalg.solve(curvature, gradient)
        return -minimum[:-dimensions].reshape(dimensions, dimensions)

    to_sample, to_truth = [], []
    for _ in range(draws):
        drawn = rng.multivariate_normal(np.zeros(dimensions), covariance, max(counts))
        precisions = [fit(drawn, count) for count in counts]
        samples = [np.linalg.inv(np.cov(drawn[:count].T, bias=True)) for count in counts]
        pairs = zip(precisions, samples, strict=True)
        to_sample += [np.linalg.norm(one - other) / np.linalg.norm(other) for one, other in pairs]
        to_truth.append(
            [np.linalg.norm(each - truth) / np.linalg.norm(truth) for each in precisions]
        )
    errors = np.sqrt(np.mean(np.square(to_truth), axis=0))
    return {
        "to_sample": float(max(to_sample)),
        "exponent": float(np.polyfit(np.log(counts), np.log(errors), 1)[0]),
        "counts": np.asarray(counts),
        "to_truth": errors,
    }
