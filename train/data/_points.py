"""What the synthetic data sets share: their options and how the two splits are drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np

from train.data._dataset import Dataset, Examples
from train.errors import DataError
from train.expect import integer, number

Count = Annotated[int, integer(least=1, most=10_000_000)]
Seed = Annotated[int, integer(least=0, most=2**32 - 1)]
Noise = Annotated[float, number(above=0, most=10)]

_MOST_VALUES = 2**28  # 1 GiB of float32

Sampler = Callable[[int, np.random.Generator], np.ndarray]


def density(
    name: str, sample: Sampler, *, num_examples: int, num_test: int, seed: int, dimensions: int = 2
) -> Dataset:
    """Return independent training and test points of a density, `float32[N, D]`, no targets.

    Each split has a stream of its own: another `num_test` leaves the training points as they are.

    Args:
        name: of the data set.
        sample: `(count, generator) -> [count, D]`.
        num_examples, num_test, seed: the options of the same name.
        dimensions: D.

    Raises:
        DataError: the points would fill more than 1 GiB.
    """
    values = (num_examples + num_test) * dimensions
    if values > _MOST_VALUES:
        raise DataError(
            f"data.num_examples: {num_examples} + {num_test} points of {dimensions} dimensions "
            f"are {values} numbers, expected at most {_MOST_VALUES} (1 GiB); ask for fewer."
        )
    train, test = (
        Examples(np.ascontiguousarray(sample(count, rng), np.float32), None)
        for count, rng in zip((num_examples, num_test), streams(seed), strict=True)
    )
    return Dataset(name, train, test)


def streams(seed: int) -> tuple[np.random.Generator, np.random.Generator]:
    """Return the generators of the training and of the test split."""
    return np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])


def sklearn_seed(rng: np.random.Generator) -> int:
    """Return a seed for a function that takes an integer."""
    return int(rng.integers(2**32))
