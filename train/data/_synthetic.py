"""The scalar regression on which Bai et al. show what their Jacobian penalty does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np

from train.data._dataset import Dataset, Examples
from train.data._points import Count, Seed, streams
from train.expect import number

if TYPE_CHECKING:
    from jaxtyping import Float


def curve(xs: Float[np.ndarray, "N 1"]) -> Float[np.ndarray, "N 1"]:
    """1.5 x^3 + x^2 - 5 x + 2 sin x - 3 (Bai, Koltun and Kolter 2021, arXiv:2106.14342)."""
    return 1.5 * xs**3 + xs**2 - 5 * xs + 2 * np.sin(xs) - 3


def synthetic_equilibrium(
    *,
    num_examples: Count = 4096,
    num_test: Count = 1000,
    half_width: Annotated[float, number(above=0, most=100)] = 2.0,
    noise: Annotated[float, number(least=0, most=10)] = 0.05,
    seed: Seed = 0,
) -> Dataset:
    """Noisy values of `curve` at uniform x in [-half_width, half_width], both `float32[N, 1]`.

    Sizes and noise are the paper's. It does not give the range of x, so that is ours; it also
    writes +5x in the appendix and -5x in the text, which is what this takes. The noise, its
    N(0, 0.05), is taken as a standard deviation, in both splits.
    """

    def examples(count: int, rng: np.random.Generator) -> Examples:
        xs = rng.uniform(-half_width, half_width, (count, 1))
        ys = curve(xs) + noise * rng.standard_normal((count, 1))
        return Examples(xs.astype(np.float32), ys.astype(np.float32))

    train, test = (
        examples(count, rng)
        for count, rng in zip((num_examples, num_test), streams(seed), strict=True)
    )
    return Dataset("synthetic-equilibrium", train, test)
