"""A data set in memory: arrays of inputs and targets, split into train and test."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from train.data._pixels import Pixels
from train.errors import DataError

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt


@dataclass(frozen=True)
class Examples:
    """Inputs and targets that share their first axis.

    Attributes:
        inputs: images `[N, H, W, C]` in `uint8`, `uint16` or `float32`, in a range that the data
            set's `pixels` say; `float32[N, *in]` for anything else.
        targets: class labels `int32[N]`, or `float32[N, *out]`, or several such arrays by
            name (`{"value": [N, K], "jacobian": [N, K, D]}`); None for a density.

    Raises:
        ValueError: an array of targets has another number of rows than the inputs.
    """

    inputs: UInt[np.ndarray, "N H W C"] | Float[np.ndarray, "N *in"]
    targets: (
        Int[np.ndarray, " N"]
        | Float[np.ndarray, " N *out"]
        | Mapping[str, Float[np.ndarray, " N *out"]]
        | None
    )

    def __post_init__(self) -> None:
        for name, array in _named(self.targets):
            if np.shape(array)[:1] != (len(self.inputs),):
                raise ValueError(
                    f"Examples: targets{name} has shape {np.shape(array)}, expected "
                    f"{len(self.inputs)} rows, one for each input."
                )

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, indices: np.ndarray) -> Examples:
        """Return the chosen rows."""
        return Examples(self.inputs[indices], map_targets(lambda rows: rows[indices], self.targets))


@dataclass(frozen=True)
class Dataset:
    """A named data set.

    Attributes:
        name: what the config called it.
        train, test: the two splits.
        classes: class names in the order of the labels; empty where targets are no labels.
        pixels: how the inputs are meant where they are images; bytes are, from 0 to 255.
    """

    name: str
    train: Examples
    test: Examples
    classes: tuple[str, ...] = ()
    pixels: Pixels | None = None

    def __post_init__(self) -> None:
        if self.pixels is None and self.train.inputs.dtype == np.uint8:
            object.__setattr__(self, "pixels", Pixels())

    @property
    def is_image(self) -> bool:
        """Whether the inputs are pixels."""
        return self.pixels is not None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input; (H, W, C) for images."""
        return self.train.inputs.shape[1:]

    def describe(self) -> dict[str, Any]:
        """Return what `environment.json` records: sizes and a fingerprint of every array."""
        return {
            "name": self.name,
            "train": len(self.train),
            "test": len(self.test),
            "input_shape": list(self.input_shape),
            "target_shape": map_targets(lambda array: list(array.shape[1:]), self.train.targets),
            "classes": len(self.classes),
            **({"pixels": self.pixels.describe()} if self.pixels is not None else {}),
            "sha256": self.fingerprint(),
        }

    def fingerprint(self) -> str:
        """Return a SHA-256 over the arrays of both splits."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            for name, array in (("", split.inputs), *_named(split.targets)):
                digest.update(f"{name}{array.dtype}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def map_targets(function: Callable[[np.ndarray], Any], targets: Any) -> Any:
    """Return `function` of the targets: of each array where they are named, None for None."""
    if isinstance(targets, Mapping):
        return {name: function(array) for name, array in targets.items()}
    return None if targets is None else function(targets)


def finite_float32(array: np.ndarray, where: str) -> np.ndarray:
    """Return numbers as float32.

    Raises:
        DataError: some are not finite there; with `where` they stand.
    """
    with np.errstate(over="ignore"):
        small = np.ascontiguousarray(array, np.float32)
    if bad := int(np.sum(~np.isfinite(small))):
        raise DataError(
            f"{where}: {bad} of {small.size} values are not finite in float32; expected finite "
            "numbers."
        )
    return small


def _named(targets: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the arrays of targets in the order of their names; a single array has none."""
    if isinstance(targets, Mapping):
        yield from ((f".{name}", targets[name]) for name in sorted(targets))
    elif targets is not None:
        yield "", targets


def random_split(examples: Examples, fraction: float, seed: int = 0) -> tuple[Examples, Examples]:
    """Split off `fraction` of the rows, by a fixed seed; both parts come shuffled and not empty.

    Raises:
        ValueError: fewer than two rows.
    """
    if len(examples) < 2:
        raise ValueError(f"random_split: got {len(examples)} rows, expected at least 2.")
    rows = np.random.default_rng(seed).permutation(len(examples))
    held = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
    return examples.take(rows[held:]), examples.take(rows[:held])


def stratified_split(
    examples: Examples, fraction: float, seed: int = 0
) -> tuple[Examples, Examples]:
    """Split off `fraction` of each class, by a fixed seed; both parts come shuffled."""
    rng = np.random.default_rng(seed)
    kept, held = [], []
    for rows in _rows_by_class(examples.targets):
        rows = rng.permutation(rows)
        count = round(fraction * len(rows))
        held.append(rows[:count])
        kept.append(rows[count:])
    return (
        examples.take(rng.permutation(np.concatenate(kept))),
        examples.take(rng.permutation(np.concatenate(held))),
    )


def subset(dataset: Dataset, samples_per_class: int) -> Dataset:
    """Keep so many training examples of each class, chosen by a fixed seed.

    Raises:
        DataError: a class has fewer.
    """
    if not dataset.classes:
        raise DataError(
            f"data.samples_per_class: got {samples_per_class}, but {dataset.name} has no class "
            "labels; leave it out."
        )
    rng = np.random.default_rng(0)
    chosen = []
    for rows in _rows_by_class(dataset.train.targets):
        if len(rows) < samples_per_class:
            raise DataError(
                f"data.samples_per_class: got {samples_per_class}, but the smallest class of "
                f"{dataset.name} has {len(rows)} training examples."
            )
        chosen.append(rng.permutation(rows)[:samples_per_class])
    return replace(dataset, train=dataset.train.take(rng.permutation(np.concatenate(chosen))))


def _rows_by_class(labels: Any) -> list[np.ndarray]:
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]
