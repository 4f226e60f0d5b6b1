"""Gaussians of any dimension, whose log density and score are known (`_densities`)."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np

from train.data._densities import mixture_of
from train.data._points import Noise, density
from train.expect import integer, number

Dimensions = Annotated[int, integer(least=1, most=4096)]


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
    means, weights = mixture_of(dimensions, components, separation)
    chosen = rng.choice(components, count, p=weights)
    return means[chosen] + noise * rng.standard_normal((count, dimensions))
