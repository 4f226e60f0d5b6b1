"""Known functions, for regression on values and Jacobians.

Those with derivatives are of the examples of Lutter et al.'s `deep_differential_network`: uniform
inputs in [-pi, pi]^D for training, an even grid for the test. The scalar one is that on which Bai
et al. show what their Jacobian penalty does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np

from train.data._dataset import Dataset, Examples
from train.data._points import Count, Seed, streams
from train.expect import integer, number

if TYPE_CHECKING:
    from jaxtyping import Float

TargetNoise = Annotated[float, number(least=0, most=10)]


@dataclass(frozen=True)
class KnownFunction:
    """A function `xs [N, D] -> [N, 1]` and its derivatives, in the precision of the inputs.

    Attributes:
        dimensions: D.
        value: `[N, 1]`.
        jacobian: `[N, 1, D]`.
        hessian: `[N, 1, D, D]`, what no network is trained on.
    """

    dimensions: int
    value: Callable[[np.ndarray], Float[np.ndarray, "N 1"]]
    jacobian: Callable[[np.ndarray], Float[np.ndarray, "N 1 D"]]
    hessian: Callable[[np.ndarray], Float[np.ndarray, "N 1 D D"]]


def _product_jacobian(xs: np.ndarray) -> np.ndarray:
    x, y = xs[:, 0], xs[:, 1]
    return np.stack([-np.sin(x) * np.sin(y), np.cos(x) * np.cos(y)], axis=1)[:, None]


def _product_hessian(xs: np.ndarray) -> np.ndarray:
    x, y = xs[:, 0], xs[:, 1]
    same, mixed = -np.cos(x) * np.sin(y), -np.sin(x) * np.cos(y)
    return np.stack([same, mixed, mixed, same], axis=1).reshape(-1, 1, 2, 2)


FUNCTIONS: Mapping[str, KnownFunction] = {
    "function-1d": KnownFunction(
        1, np.sin, lambda xs: np.cos(xs)[:, None], lambda xs: -np.sin(xs)[:, None, None]
    ),
    "function-2d": KnownFunction(
        2,
        lambda xs: np.cos(xs[:, :1]) * np.sin(xs[:, 1:]),
        _product_jacobian,
        _product_hessian,
    ),
}


def function_1d(
    *,
    num_examples: Count = 25_600,
    test_grid: Annotated[int, integer(least=2, most=1_000_000)] = 100,
    noise: TargetNoise = 0.0,
    seed: Seed = 0,
) -> Dataset:
    """sin(x) on [-pi, pi]: targets `value` and `jacobian`, tested on an even grid."""
    return _regression("function-1d", num_examples, test_grid, noise, seed)


def function_2d(
    *,
    num_examples: Count = 25_600,
    test_grid: Annotated[int, integer(least=2, most=1_000)] = 50,
    noise: TargetNoise = 0.0,
    seed: Seed = 0,
) -> Dataset:
    """cos(x) sin(y) on [-pi, pi]^2: targets `value` and `jacobian`, tested on an even grid."""
    return _regression("function-2d", num_examples, test_grid, noise, seed)


def _regression(name: str, num_examples: int, test_grid: int, noise: float, seed: int) -> Dataset:
    """Return the data set; the official examples have noise 0.001 on inputs and targets.

    The noise is on the training inputs and both training targets, never on the test.
    """
    function = FUNCTIONS[name]
    rng, _ = streams(seed)
    xs = rng.uniform(-math.pi, math.pi, (num_examples, function.dimensions))
    axes = [np.linspace(-math.pi, math.pi, test_grid)] * function.dimensions
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, function.dimensions)

    def examples(points: np.ndarray, scale: float) -> Examples:
        def noisy(array: np.ndarray) -> np.ndarray:
            # Noise 0 adds exact zeros: the draws stay the same for every scale.
            return (array + scale * rng.standard_normal(array.shape)).astype(np.float32)

        targets = {"value": function.value(points), "jacobian": function.jacobian(points)}
        return Examples(noisy(points), {key: noisy(array) for key, array in targets.items()})

    return Dataset(name, examples(xs, noise), examples(grid, 0.0))


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
