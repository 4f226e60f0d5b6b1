"""What the synthetic data sets share: their options and how the two splits are drawn."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np

from train.data._dataset import Dataset, Examples
from train.errors import DataError
from train.expect import integer, number

Count = Annotated[int, integer(least=1, most=10_000_000)]
Seed = Annotated[int, integer(least=0, most=2**32 - 1)]
Noise = Annotated[float, number(above=0, most=10)]

_MOST_VALUES = 2**28  # 1 GiB of float32


def density(name: str) -> Callable[[Callable[..., np.ndarray]], Callable[..., Dataset]]:
    """Make a built-in data set of `(count, generator, *, options) -> [count, D]`.

    The built-in takes `num_examples`, `num_test`, the sampler's own options and `seed`, and returns
    independent training and test points, `float32[N, D]`, without targets. Each split has a stream
    of its own: another `num_test` leaves the training points as they are.

    The built-in raises `DataError` where the points would fill more than 1 GiB.
    """

    def made(sample: Callable[..., np.ndarray]) -> Callable[..., Dataset]:
        def builtin(
            *, num_examples: Count = 20_000, num_test: Count = 4_000, seed: Seed = 0, **options: Any
        ) -> Dataset:
            dimensions = options.get("dimensions", 2)
            values = (num_examples + num_test) * dimensions
            if values > _MOST_VALUES:
                raise DataError(
                    f"data.num_examples: {num_examples} + {num_test} points of {dimensions} "
                    f"dimensions are {values} numbers, expected at most {_MOST_VALUES} (1 GiB); "
                    "ask for fewer."
                )
            train, test = (
                Examples(np.ascontiguousarray(sample(count, rng, **options), np.float32), None)
                for count, rng in zip((num_examples, num_test), streams(seed), strict=True)
            )
            return Dataset(name, train, test)

        examples, test, seed, _ = inspect.signature(builtin, eval_str=True).parameters.values()
        own = list(inspect.signature(sample).parameters.values())[2:]
        found: Any = functools.wraps(sample)(builtin)
        found.__signature__ = inspect.Signature([examples, test, *own, seed])
        return found

    return made


def streams(seed: int) -> tuple[np.random.Generator, np.random.Generator]:
    """Return the generators of the training and of the test split."""
    return np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])


def sklearn_seed(rng: np.random.Generator) -> int:
    """Return a seed for a function that takes an integer."""
    return int(rng.integers(2**32))
