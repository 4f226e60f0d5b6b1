"""Densities to draw from: FFJORD's eight toys (Grathwohl et al. 2019), and Gaussians.

Shapes and scales of the toys are those of its official code. `noise` is the standard deviation of
the Gaussian noise in the coordinates of the points; where angles or arms are drawn,
every point draws its own, so that rows are independent.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np

from train.data import _densities
from train.data._points import Noise, density, sklearn_seed
from train.expect import integer, number

Dimensions = Annotated[int, integer(least=1, most=4096)]


@density("two-moons")
def two_moons(count: int, rng: np.random.Generator, *, noise: Noise = 0.2) -> np.ndarray:
    """Two interleaved half circles, a 2-D density (scikit-learn's, twice as large)."""
    from sklearn.datasets import make_moons

    points, _ = make_moons(count, noise=noise / 2, random_state=sklearn_seed(rng))
    return 2 * points + np.asarray([-1.0, -0.2])


@density("circles")
def circles(
    count: int, rng: np.random.Generator, *, noise: Noise = _densities.CIRCLE_NOISE
) -> np.ndarray:
    """Two circles of radius 3 and 1.5, a 2-D density (scikit-learn's, three times as large)."""
    from sklearn.datasets import make_circles

    outer, inner = _densities.CIRCLE_RADII
    points, _ = make_circles(
        count, factor=inner / outer, noise=noise / outer, random_state=sklearn_seed(rng)
    )
    return outer * points


@density("swiss-roll")
def swiss_roll(count: int, rng: np.random.Generator, *, noise: Noise = 0.2) -> np.ndarray:
    """A spiral: scikit-learn's swiss roll from its side, a fifth as large, a 2-D density."""
    from sklearn.datasets import make_swiss_roll

    points, _ = make_swiss_roll(count, noise=5 * noise, random_state=sklearn_seed(rng))
    return points[:, [0, 2]] / 5


@density("8-gaussians")
def eight_gaussians(
    count: int, rng: np.random.Generator, *, noise: Noise = _densities.EIGHT_NOISE
) -> np.ndarray:
    """Eight equal Gaussians on a circle of radius 2.83, a 2-D density."""
    centres = _densities.EIGHT_CENTRES[rng.integers(8, size=count)]
    return centres + noise * rng.standard_normal((count, 2))


@density("pinwheel")
def pinwheel(count: int, rng: np.random.Generator) -> np.ndarray:
    """Five bent arms: Gaussians turned by an angle that grows outwards, a 2-D density."""
    along, across = (rng.standard_normal((count, 2)) * [0.3, 0.1] + [1.0, 0.0]).T
    angles = rng.integers(5, size=count) * (2 * math.pi / 5) + 0.25 * np.exp(along)
    cos, sin = np.cos(angles), np.sin(angles)
    return 2 * np.stack([cos * along + sin * across, cos * across - sin * along], axis=1)


@density("rings")
def rings(
    count: int, rng: np.random.Generator, *, noise: Noise = _densities.RING_NOISE
) -> np.ndarray:
    """Four rings of radius 0.75 to 3, equally likely, a 2-D density."""
    radii = rng.choice(_densities.RING_RADII, (count, 1))
    angles = rng.uniform(0, 2 * math.pi, count)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return radii * circle + noise * rng.standard_normal((count, 2))


@density("2-spirals")
def two_spirals(count: int, rng: np.random.Generator, *, noise: Noise = 0.1) -> np.ndarray:
    """Two arms of one and a half turns, a 2-D density."""
    # The square root spreads the points evenly over the length of an arm, up to 3 pi.
    angles = 3 * math.pi * np.sqrt(rng.random(count))
    arm = np.stack([-np.cos(angles) * angles, np.sin(angles) * angles], axis=1)
    arm += 0.5 * rng.random((count, 2))
    sign = rng.choice([-1.0, 1.0], (count, 1))
    return sign * arm / 3 + noise * rng.standard_normal((count, 2))


@density("checkerboard")
def checkerboard(count: int, rng: np.random.Generator) -> np.ndarray:
    """Uniform on eight squares of side 2, a 2-D density with sharp edges."""
    columns = rng.integers(-2, 2, count)
    rows = 2 * rng.integers(-1, 1, count) + columns % 2
    # Steps of 2^-22: the cast to float32 is exact, so no point leaves its square.
    inside = rng.integers(2**22, size=(count, 2)) / 2**22
    return _densities.CHECKERBOARD_SIDE * (np.stack([columns, rows], axis=1) + inside)


@density("gaussian")
def gaussian(
    count: int,
    rng: np.random.Generator,
    *,
    dimensions: Dimensions = 2,
    correlation: Annotated[float, number(least=-0.999, most=0.999)] = 0.0,
) -> np.ndarray:
    """A Gaussian of mean 0 and covariance correlation^|i - j|; its score is known."""
    points = rng.standard_normal((count, dimensions))
    points[:, 1:] *= math.sqrt(1 - correlation**2)
    if correlation != 0:
        for i in range(1, dimensions):
            points[:, i] += correlation * points[:, i - 1]
    return points


@density("gaussian-mixture")
def gaussian_mixture(
    count: int,
    rng: np.random.Generator,
    *,
    dimensions: Dimensions = 2,
    components: Annotated[int, integer(least=1, most=100)] = 3,
    separation: Annotated[float, number(least=0, most=100)] = 2.0,
    noise: Noise = 0.5,
) -> np.ndarray:
    """Round Gaussians on the diagonal with weights 1 : 2 : 3 ...; the score is known."""
    means, weights = _densities.mixture_of(dimensions, components, separation)
    chosen = rng.choice(components, count, p=weights)
    return means[chosen] + noise * rng.standard_normal((count, dimensions))
