"""From a Hugging Face `DatasetDict` with an image and a label column to arrays, once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from train.data._columns import image_column, label_column
from train.data._dataset import Dataset, Examples, stratified_split
from train.data._pictures import read_column
from train.errors import DataError, shown

if TYPE_CHECKING:
    from train.sections import Data

_TEST_NAMES = ("test", "validation", "valid", "val", "dev")


def materialise(splits: Any, name: str, options: Data) -> Dataset:
    """Read every example of the train and the test split into memory.

    Args:
        splits: a `datasets.DatasetDict`.
        name: what messages and records call it.

    Raises:
        DataError: a split or a column is missing or ambiguous, images cannot be read (see
            `read_column`), or labels are missing.
    """
    if "train" not in splits:
        raise DataError(f"{name}: expected a split called train, got {shown(sorted(splits))}.")
    train_table = splits["train"]
    test_name = next((test for test in _TEST_NAMES if test in splits), None)
    column, kind = image_column(train_table, name, options.image_column)
    label = label_column(train_table.features, name, options.label_column)
    names = ["train"] if test_name is None else ["train", test_name]
    tables, where = [splits[each] for each in names], [f"{name}, split {each}" for each in names]
    for table, place in zip(tables, where, strict=True):
        for each in (column, label):
            if each not in table.features:
                raise DataError(f"{place}: has no column {shown(each)}, which split train has.")
    images, pixels = read_column(tables, column, kind, where, options)
    labels = [_raw_labels(table, label, place) for table, place in zip(tables, where, strict=True)]
    if test_name is None:
        encoded, classes = _encode(labels[0], [], train_table.features[label], name)
        train, test = stratified_split(Examples(images[0], encoded), options.test_fraction)
        return Dataset(name, train, test, classes, pixels)
    if images[0].shape[1:] != images[1].shape[1:]:
        raise DataError(
            f"{name}: training images have shape {images[0].shape[1:]}, test images "
            f"{images[1].shape[1:]}; expected one shape."
        )
    encoded, classes = _encode(labels[0], labels[1], train_table.features[label], name)
    count = len(images[0])
    train, test = Examples(images[0], encoded[:count]), Examples(images[1], encoded[count:])
    return Dataset(name, train, test, classes, pixels)


def _raw_labels(table: Any, column: str, where: str) -> list[Any]:
    labels = list(table[column])
    if any(label is None or label == -1 for label in labels):
        raise DataError(f"{where}: column {column} has missing labels (None or -1).")
    if not isinstance(labels[0], int | str):
        raise DataError(
            f"{where}: column {column} holds {shown(labels[0])}, expected integers or strings."
        )
    return labels


def _encode(
    train: list[Any], test: list[Any], feature: Any, name: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    labels = train + test
    if isinstance(labels[0], str):
        classes = sorted(set(labels))
        numbers = {label: number for number, label in enumerate(classes)}
        return np.asarray([numbers[label] for label in labels], np.int32), tuple(classes)
    encoded = np.asarray(labels, np.int64)
    names = getattr(feature, "names", None)
    count = len(names) if names else int(encoded.max()) + 1
    if encoded.min() < 0 or encoded.max() >= count or count > 100_000:
        raise DataError(
            f"{name}: labels run from {encoded.min()} to {encoded.max()}, "
            f"expected 0 to {count - 1}."
        )
    return encoded.astype(np.int32), tuple(names or (str(number) for number in range(count)))
