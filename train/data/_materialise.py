"""From a Hugging Face `DatasetDict` with an image and a label column to uint8 arrays, once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from train.data._dataset import Dataset, Examples, stratified_split
from train.errors import DataError, shown

if TYPE_CHECKING:
    from train.config import Data

_TEST_NAMES = ("test", "validation", "valid", "val", "dev")
_BATCH = 1000


def materialise(splits: Any, name: str, options: Data) -> Dataset:
    """Read every example of the train and the test split into memory.

    Args:
        splits: a `datasets.DatasetDict`.
        name: what messages and records call it.
        options: `image_column`, `label_column` and `test_fraction` of the config.

    Raises:
        DataError: a split or a column is missing or ambiguous, images differ in
            size, an image does not decode, or labels are missing.
    """
    if "train" not in splits:
        raise DataError(f"{name}: expected a split called train, got {shown(sorted(splits))}.")
    train_table = splits["train"]
    test_name = next((test for test in _TEST_NAMES if test in splits), None)
    image = _image_column(train_table.features, name, options.image_column)
    label = _label_column(train_table.features, name, options.label_column)
    train_images = _images(train_table, image, f"{name}, split train")
    train_raw = _raw_labels(train_table, label, f"{name}, split train")
    if test_name is None:
        labels, classes = _encode(train_raw, [], train_table.features[label], name)
        whole = Examples(train_images, labels)
        train, test = stratified_split(whole, options.test_fraction)
        return Dataset(name, train, test, classes)
    where = f"{name}, split {test_name}"
    test_images = _images(splits[test_name], image, where)
    test_raw = _raw_labels(splits[test_name], label, where)
    if train_images.shape[1:] != test_images.shape[1:]:
        raise DataError(
            f"{name}: training images have shape {train_images.shape[1:]}, test images "
            f"{test_images.shape[1:]}; expected one shape."
        )
    labels, classes = _encode(train_raw, test_raw, train_table.features[label], name)
    train = Examples(train_images, labels[: len(train_images)])
    return Dataset(name, train, Examples(test_images, labels[len(train_images) :]), classes)


def _image_column(features: Any, name: str, chosen: str | None) -> str:
    if chosen is not None:
        if chosen not in features:
            raise DataError(
                f"data.image_column: got {shown(chosen)}, expected a column of {name}: "
                f"{shown(sorted(features))}."
            )
        return chosen
    kinds = ("Image", "Array2D", "Array3D")
    found = [key for key, feature in features.items() if type(feature).__name__ in kinds]
    if len(found) != 1:
        raise DataError(
            f"{name}: expected one image column, got {shown(found)} among "
            f"{shown(sorted(features))}; name it: data.image_column=..."
        )
    return found[0]


def _label_column(features: Any, name: str, chosen: str | None) -> str:
    if chosen is not None:
        if chosen not in features:
            raise DataError(
                f"data.label_column: got {shown(chosen)}, expected a column of {name}: "
                f"{shown(sorted(features))}."
            )
        return chosen
    found = [key for key, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    for usual in ("label", "labels", "class", "target"):
        if not found and usual in features:
            found = [usual]
    if len(found) != 1:
        raise DataError(
            f"{name}: expected one label column, got {shown(found)} among "
            f"{shown(sorted(features))}; name it: data.label_column=..."
        )
    return found[0]


def _images(table: Any, column: str, where: str) -> np.ndarray:
    """Return `uint8[N, H, W, C]`, one channel for grey images, three for all others."""
    if len(table) == 0:
        raise DataError(f"{where}: holds no examples.")
    if type(table.features[column]).__name__ in ("Array2D", "Array3D"):
        # Without a dtype such a column comes back as int64.
        array = np.asarray(table.with_format("numpy", columns=[column])[:][column])
        if not np.all((array >= 0) & (array <= 255)):  # nan is neither
            raise DataError(f"{where}: column {column} has values outside 0..255.")
        return array.astype(np.uint8).reshape(*array.shape[:3], -1)
    from PIL.Image import DecompressionBombError

    arrays: list[np.ndarray] = []
    mode = None
    try:
        for batch in table.select_columns([column]).iter(_BATCH):
            for picture in batch[column]:
                mode = mode or ("L" if picture.mode in ("1", "L") else "RGB")
                arrays.append(np.asarray(picture.convert(mode), np.uint8))
    except (OSError, ValueError, SyntaxError, AttributeError, DecompressionBombError) as error:
        raise DataError(
            f"{where}: an image near row {len(arrays)} does not decode ({str(error)[:120]})."
        ) from None
    shapes = sorted({array.shape[:2] for array in arrays})
    if len(shapes) > 1:
        raise DataError(
            f"{where}: images have {len(shapes)} sizes, for instance {shapes[0]} and "
            f"{shapes[-1]}; expected one. Resize them first."
        )
    stacked = np.stack(arrays)
    return stacked[..., None] if stacked.ndim == 3 else stacked


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
