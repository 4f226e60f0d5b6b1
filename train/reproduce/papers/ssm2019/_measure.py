"""What needs no training: the sliced losses over all slices, and the cost by dimension."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

import jacreg
import models
from jacreg import eqx as adapter
from train.data import load
from train.data._densities import mixture_of
from train.reproduce import Asked
from train.reproduce.timing import growth
from train.sections import Data
from train.tasks._score_losses import LINEARISED, Matching

if TYPE_CHECKING:
    from jaxtyping import Array, Float

LOSSES = ("plain", "exact", "automatic", "sliced", "sliced-vr", "denoising")


def slices(asked: Asked, *, dimensions: int, points: int = 64) -> Mapping[str, float]:
    """Compare the sliced losses over all slices with the exact one, at a known score.

    The score is that of `gaussian-mixture`, at draws from it.

    Returns:
        `bias` and `bias_vr`: largest distance of a point's mean over slices from the exact
        loss, over the root mean square of the latter; `variance` and `variance_vr`: the
        variance over slices, a mean over points. `broken` leaves the Jacobian out of the
        sliced losses.
    """

    @jax.jit
    def values(xs: Array, signs: Array) -> tuple[Array, Array, Array]:
        lin = jacreg.linearize(mixture_score(dimensions), xs)
        squares = 0.5 * jnp.sum(lin.value**2, axis=1)

        def terms(sign: Array) -> tuple[Array, Array]:
            probe = jnp.broadcast_to(sign, xs.shape)
            curvature = jnp.sum(probe * lin.jvp(probe), axis=1)
            if asked.broken:
                curvature = jnp.zeros_like(curvature)
            return curvature + 0.5 * (lin.value @ sign) ** 2, curvature + squares

        return jacreg.losses.implicit_score_matching(lin), *jax.lax.map(terms, signs)

    xs = jnp.asarray(draw_mixture(points, dimensions, asked.seed))
    exact, plain, reduced = values(xs, jnp.asarray(all_signs(dimensions)))
    scale = jnp.sqrt(jnp.mean(exact**2))

    def bias(values: Array) -> float:
        return float(jnp.max(jnp.abs(values.mean(0) - exact)) / scale)

    return {
        "bias": bias(plain),
        "bias_vr": bias(reduced),
        "variance": float(plain.var(0).mean()),
        "variance_vr": float(reduced.var(0).mean()),
    }


def all_signs(dimensions: int) -> Float[np.ndarray, "S D"]:
    """Return all 2^D vectors of signs: their mean is the mean over Rademacher slices, exactly."""
    return np.asarray(list(itertools.product((-1.0, 1.0), repeat=dimensions)), np.float32)


def draw_mixture(points: int, dimensions: int, seed: int) -> Float[np.ndarray, "N D"]:
    """Return draws of the built-in `gaussian-mixture`."""
    options = {"num_examples": points, "num_test": 1, "dimensions": dimensions, "seed": seed}
    return np.asarray(load(Data(name="gaussian-mixture", options=options)).train.inputs)


def mixture_score(dimensions: int) -> Callable[[Any], Any]:
    """Return the score of `gaussian-mixture` as a function that JAX differentiates."""
    means, weights = (jnp.asarray(each, jnp.float32) for each in mixture_of(dimensions, 3, 2.0))

    def score(xs: Any) -> Any:
        squares = jnp.sum((xs[:, None] - means) ** 2, axis=2)
        shares = jax.nn.softmax(jnp.log(weights) - squares / (2 * 0.5**2), axis=1)
        return (shares @ means - xs) / 0.5**2

    return score


def cost(
    asked: Asked,
    *,
    dimensions: Sequence[int],
    width: int = 128,
    batch: int = 32,
    repeats: int = 25,
    losses: Sequence[str] = LOSSES,
) -> Mapping[str, Any]:
    """Count core seconds of a gradient of each loss at draws from N(0, I_d), compiled.

    "plain" is the gradient of norm(s)^2 / 2 alone, one pass; "exact" takes
    the trace by a product a dimension, as the paper does, and "automatic" by jacreg's own choice.

    Returns what `growth` returns.
    """

    def make(name: str, size: int) -> Callable[[], Any]:
        return compiled(name, size, asked.seed, width, batch)

    return growth(make, losses, dimensions, repeats)


def compiled(name: str, dimensions: int, seed: int, width: int, batch: int) -> Callable[[], Any]:
    """Return a call of the compiled gradient of one loss in the network's parameters."""
    step, arguments = gradient(name, dimensions, seed, width, batch)
    ready = jax.jit(step).lower(*arguments).compile()
    jax.block_until_ready(ready(*arguments))
    return lambda: jax.block_until_ready(ready(*arguments))


def gradient(
    name: str, dimensions: int, seed: int, width: int, batch: int
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return the gradient of one loss in the network's parameters, and what it is called with."""
    key = jax.random.key(seed)
    network = models.build(
        "score_mlp", framework="equinox", key=key, input_shape=(dimensions,), hidden=(width, width)
    )
    made = adapter.functional(network)
    xs = jax.random.normal(key, (batch, dimensions))
    named = {"exact": "implicit", "automatic": "implicit", "sliced-vr": "sliced_vr"}
    method = jacreg.Exact() if name == "exact" else jacreg.Auto()
    matching = None if name == "plain" else Matching(named.get(name, name), method, scale=0.1)

    def loss(params: Any, xs: Any, key: Any) -> Any:
        def score(xs: Any) -> Any:
            return made.apply(params, made.state, xs)[0]

        if matching is None:
            return 0.5 * jnp.mean(jnp.sum(score(xs) ** 2, axis=1))
        if matching.name in LINEARISED:
            return jnp.mean(matching.of_linearised(jacreg.linearize(score, xs), key))
        return jnp.mean(matching.of_calls(score, xs, (), key))

    return jax.grad(loss), (made.params, xs, key)
