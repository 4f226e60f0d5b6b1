"""Two problems whose solution under a nuclear norm is known, solved by g after h and noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

import jacreg
from train.reproduce import Asked, dense

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# Half of every batch comes from within this radius, so that the unit ball is well seen.
_NEAR = 1.25
# Where the levels are read: away from the jump at radius 1.
_INSIDE = 0.8
_DIRECTIONS = 256


def denoise_ball(
    asked: Asked,
    *,
    dimensions: int,
    eta: float,
    radius: float,
    width: int,
    middle: int,
    steps: int,
    batch: int,
    scale: float,
    rate: float,
) -> dict[str, Any]:
    """Fit the indicator of the unit ball, squared error / 2 plus `eta` times the nuclear norm.

    The domain is the ball of `radius`, points uniform in it (half of a batch drawn near the unit
    ball, and weighted for it). `level` and `outside` are the mean of f within radius 0.8 and
    beyond 1.25; the closed form in R^n is 1 - n eta and 0, in this domain 1 - n eta and
    n eta / (radius^n - 1). `surrogate_ratio` is the mean of (norm(J_g)^2 + norm(J_h)^2) / 2 over
    that of norm(J_f), both exact: 1 at the best factorisation.
    """

    def inner(layers: Any) -> Callable[[Any], Any]:
        return lambda xs: dense.outputs(layers["inner"], xs, "relu")

    def outer(layers: Any) -> Callable[[Any], Any]:
        return lambda hs: dense.outputs(layers["outer"], hs, "relu")

    def loss(layers: Any, key: Array, share: Array) -> Array:
        point_key, noise_key = jax.random.split(key)
        xs, weights = points(point_key, batch, dimensions, radius)
        values = outer(layers)(inner(layers)(xs))[:, 0]
        fit = 0.5 * (values - _indicator(xs)) ** 2
        if not (asked.broken or eta == 0):
            # From 0 over most of the training: at full weight from the start g and h shrink to a
            # constant, a stationary point of the product, before they have seen the ball.
            fit += (
                jnp.minimum(1.0, share / 0.8)
                * eta
                * jacreg.losses.nuclear_norm_penalty(
                    outer(layers), inner(layers), xs, scale=scale, key=noise_key
                )
            )
        return jnp.mean(weights * fit)

    first, second, train_key, test_key = jax.random.split(jax.random.key(asked.seed), 4)
    start = {
        "inner": dense.initial(first, (dimensions, width, width, middle), math.sqrt(2)),
        "outer": dense.initial(second, (middle, width, width, 1), math.sqrt(2)),
    }
    layers = dense.minimised(loss, start, train_key, steps, rate)

    @jax.jit
    def measured(layers: Any, xs: Array) -> tuple[Array, Array, Array]:
        whole = jacreg.linearize(lambda xs: outer(layers)(inner(layers)(xs)), xs)
        lin_h = jacreg.linearize(inner(layers), xs)
        lin_g = jacreg.linearize(outer(layers), lin_h.value)
        of_f, of_h, of_g = (jacreg.frobenius_squared(lin) for lin in (whole, lin_h, lin_g))
        # One output: the nuclear norm is the gradient's length.
        return whole.value[:, 0], jnp.sqrt(of_f), (of_h + of_g) / 2

    xs, weights = points(test_key, 8192, dimensions, radius)
    values, nuclear, surrogate = (np.asarray(found) for found in measured(layers, xs))
    weights = np.asarray(weights)
    radii = np.linalg.norm(np.asarray(xs), axis=1)
    exact = np.where(radii <= 1, 1 - dimensions * eta, 0.0)
    along = np.linspace(0, radius, 81)
    ways = np.random.default_rng(0).standard_normal((_DIRECTIONS, dimensions))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    rays = along[:, None, None] * ways
    profile = measured(layers, jnp.asarray(rays.reshape(-1, dimensions), jnp.float32))[0]
    return {
        "level": values[radii < _INSIDE].mean(),
        "outside": np.average(values[radii > _NEAR], weights=weights[radii > _NEAR]),
        "relative_error": math.sqrt(
            np.sum(weights * (values - exact) ** 2) / np.sum(weights * exact**2)
        ),
        "surrogate_ratio": np.sum(weights * surrogate) / np.sum(weights * nuclear),
        "radii": along,
        "profile": np.asarray(profile).reshape(len(along), -1).mean(1),
    }


def soft_threshold(
    asked: Asked,
    *,
    eta: float,
    steps: int,
    batch: int,
    rate: float,
) -> dict[str, Any]:
    """Fit y = A x, x ~ N(0, I_8), by linear g and h: every singular value falls by `eta`, to 0.

    The minimum of norm(W - A)_F^2 / 2 + eta norm(W)_* has the singular vectors of A and the
    singular values max(s - eta, 0).
    """
    size = 8
    values = np.linspace(2.0, 0.1, size)
    rng = np.random.default_rng([asked.seed, 3])
    left, right = (np.linalg.qr(rng.standard_normal((size, size)))[0] for _ in range(2))
    target = jnp.asarray(left * values @ right, jnp.float32)

    def loss(factors: Any, key: Array, share: Array) -> Array:
        point_key, noise_key = jax.random.split(key)
        xs = jax.random.normal(point_key, (batch, size))
        errors = xs @ (factors["h"] @ factors["g"] - target)
        fit = 0.5 * jnp.sum(errors**2, 1)
        if not asked.broken:
            fit += eta * jacreg.losses.nuclear_norm_penalty(
                lambda hs: hs @ factors["g"],
                lambda xs: xs @ factors["h"],
                xs,
                scale=0.1,
                key=noise_key,
            )
        return jnp.mean(fit)

    first, second, train_key = jax.random.split(jax.random.key(asked.seed), 3)
    start = {
        name: 0.3 * jax.random.normal(key, (size, size))
        for name, key in (("g", first), ("h", second))
    }
    factors = dense.minimised(loss, start, train_key, steps, rate)
    found = np.linalg.svd(np.asarray(factors["h"] @ factors["g"]), compute_uv=False)
    exact = np.maximum(values - eta, 0)
    return {
        "largest_error": np.abs(found - exact).max(),
        "singular_values": found,
        "exact": exact,
        "without": values,
    }


def points(
    key: Array, count: int, dimensions: int, radius: float
) -> tuple[Float[Array, "N D"], Float[Array, " N"]]:
    """Return points of the ball of `radius` with weights that make them uniform in it.

    Half lie within radius 1.25. The weights' mean is radius^D: a weighted mean is an integral in
    units of the unit ball's volume.
    """
    way_key, radius_key = jax.random.split(key)
    ways = jax.random.normal(way_key, (count, dimensions))
    ways /= jnp.linalg.norm(ways, axis=1, keepdims=True)
    near = jnp.arange(count) < count // 2
    low, high = (
        jnp.where(near, 0.0, _NEAR**dimensions),
        jnp.where(near, _NEAR, radius) ** dimensions,
    )
    radii = (low + (high - low) * jax.random.uniform(radius_key, (count,))) ** (1 / dimensions)
    return radii[:, None] * ways, 2 * (high - low)


def _indicator(xs: Array) -> Array:
    return (jnp.sum(xs**2, 1) <= 1).astype(xs.dtype)
