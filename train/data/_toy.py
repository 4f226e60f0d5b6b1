"""The eight toy densities on which FFJORD (Grathwohl et al. 2019) shows its samples.

Shapes and scales are those of its official code. `noise` is the standard deviation of
the Gaussian noise in the coordinates of the points; where angles or arms are drawn,
every point draws its own, so that rows are independent.
"""

from __future__ import annotations

import math

import numpy as np

from train.data import _densities
from train.data._dataset import Dataset
from train.data._points import Count, Noise, Seed, density, sklearn_seed


def two_moons(
    *,
    num_examples: Count = 20_000,
    num_test: Count = 4_000,
    noise: Noise = 0.2,
    seed: Seed = 0,
) -> Dataset:
    """Two interleaved half circles, a 2-D density (scikit-learn's, twice as large)."""

    def sample(count: int, rng: np.random.Generator) -> np.ndarray:
        from sklearn.datasets import make_moons

        points, _ = make_moons(count, noise=noise / 2, random_state=sklearn_seed(rng))
        return 2 * points + np.asarray([-1.0, -0.2])

    return density("two-moons", sample, num_examples=num_examples, num_test=num_test, seed=seed)


def circles(
    *,
    num_examples: Count = 20_000,
    num_test: Count = 4_000,
    noise: Noise = _densities.CIRCLE_NOISE,
    seed: Seed = 0,
) -> Dataset:
    """Two circles of radius 3 and 1.5, a 2-D density (scikit-learn's, three times as large)."""

    def sample(count: int, rng: np.random.Generator) -> np.ndarray:
        from sklearn.datasets import make_circles

        outer, inner = _densities.CIRCLE_RADII
        points, _ = make_circles(
            count, factor=inner / outer, noise=noise / outer, random_state=sklearn_seed(rng)
        )
        return outer * points

    return density("circles", sample, num_examples=num_examples, num_test=num_test, seed=seed)


def swiss_roll(
    *,
    num_examples: Count = 20_000,
    num_test: Count = 4_000,
    noise: Noise = 0.2,
    seed: Seed = 0,
) -> Dataset:
    """A spiral: scikit-learn's swiss roll from its side, a fifth as large, a 2-D density."""

    def sample(count: int, rng: np.random.Generator) -> np.ndarray:
        from sklearn.datasets import make_swiss_roll

        points, _ = make_swiss_roll(count, noise=5 * noise, random_state=sklearn_seed(rng))
        return points[:, [0, 2]] / 5

    return density("swiss-roll", sample, num_examples=num_examples, num_test=num_test, seed=seed)


def eight_gaussians(
    *,
    num_examples: Count = 20_000,
    num_test: Count = 4_000,
    noise: Noise = _densities.EIGHT_NOISE,
    seed: Seed = 0,
) -> Dataset:
    """Eight equal Gaussians on a circle of radius 2.83, a 2-D density."""

    def sample(count: int, rng: np.random.Generator) -> np.ndarray:
        centres = _densities.EIGHT_CENTRES[rng.integers(8, size=count)]
        return centres + noise * rng.standard_normal((count, 2))

    return density("8-gaussians", sample, num_examples=num_examples, num_test=num_test, seed=seed)


def pinwheel(*, num_examples: Count = 20_000, num_test: Count = 4_000, seed: Seed = 0) -> Dataset:
    """Five bent arms: Gaussians turned by an angle that grows outwards, a 2-D density."""

    def sample(count: int, rng: np.random.Generator) -> np.ndarray:
        along, across = (rng.standard_normal((count, 2)) * [0.3, 0.1] + [1.0, 0.0]).T
        angles = rng.integers(5, size=count) * (2 * math.pi / 5) + 0.25 * np.exp(along)
        cos, sin = np.cos(angles), np.sin(angles)
        return 2 * np.stack([cos * along + sin * across, cos * across - sin * along], axis=1)

    return density("pinwheel", sample, num_examples=num_examples, num_test=num_test, seed=seed)


def rings(
    *,
    num_examples: Count = 20_000,
    num_test: Count = 4_000,
    noise: Noise = _densities.RING_NOISE,
    seed: Seed = 0,
) -> Dataset:
    """Four rings of radius 0.75 to 3, equally likely, a 2-D density."""

    def sample(count: int, rng: np.random.Generator) -> np.ndarray:
        radii = rng.choice(_densities.RING_RADII, (count, 1))
        angles = rng.uniform(0, 2 * math.pi, count)
        circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        return radii * circle + noise * rng.standard_normal((count, 2))

    return density("rings", sample, num_examples=num_examples, num_test=num_test, seed=seed)


def two_spirals(
    *,
    num_examples: Count = 20_000,
    num_test: Count = 4_000,
    noise: Noise = 0.1,
    seed: Seed = 0,
) -> Dataset:
    """Two arms of one and a half turns, a 2-D density."""

    def sample(count: int, rng: np.random.Generator) -> np.ndarray:
        # The square root spreads the points evenly over the length of an arm, up to 3 pi.
        angles = 3 * math.pi * np.sqrt(rng.random(count))
        arm = np.stack([-np.cos(angles) * angles, np.sin(angles) * angles], axis=1)
        arm += 0.5 * rng.random((count, 2))
        sign = rng.choice([-1.0, 1.0], (count, 1))
        return sign * arm / 3 + noise * rng.standard_normal((count, 2))

    return density("2-spirals", sample, num_examples=num_examples, num_test=num_test, seed=seed)


def checkerboard(
    *, num_examples: Count = 20_000, num_test: Count = 4_000, seed: Seed = 0
) -> Dataset:
    """Uniform on eight squares of side 2, a 2-D density with sharp edges."""

    def sample(count: int, rng: np.random.Generator) -> np.ndarray:
        columns = rng.integers(-2, 2, count)
        rows = 2 * rng.integers(-1, 1, count) + columns % 2
        # Steps of 2^-22: the cast to float32 is exact, so no point leaves its square.
        inside = rng.integers(2**22, size=(count, 2)) / 2**22
        return _densities.CHECKERBOARD_SIDE * (np.stack([columns, rows], axis=1) + inside)

    return density("checkerboard", sample, num_examples=num_examples, num_test=num_test, seed=seed)
