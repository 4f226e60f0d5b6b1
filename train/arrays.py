"""Arrays from Python as a data set, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from train.data import (
    Dataset,
    Examples,
    Pixels,
    finite_float32,
    random_split,
    stratified_split,
)
from train.errors import DataError, shown

NAME = "arrays"
HELD_OUT = 0.2
_EXPECTED = (
    'expected a pair (inputs, targets), a dictionary {"train": pair, "test": pair}, or the name of '
    "a data set"
)


def as_dataset(data: Any, *, labels: bool, targets: bool = True) -> Dataset:
    """Return arrays as a data set; a pair is split, a fifth held out by a fixed seed.

    `uint8` inputs are pixels from 0 to 255 and reach the model as floats in [0, 1]; floats reach it
    as they are.

    Args:
        data: a pair `(inputs [N, *in], targets)`, or a dictionary of two.
        labels: targets are class labels `[N]`; else numbers `[N]` or `[N, K]`.
        targets: whether the task has any; where it has none, a pair's may be None and the inputs
            alone will do.

    Raises:
        DataError: it is nothing of the kind, a split is missing, or an array has another shape or
            dtype.
    """
    if isinstance(data, Mapping):
        if missing := [split for split in ("train", "test") if split not in data]:
            raise DataError(
                f"data: has no {' and no '.join(missing)} split, got {shown(sorted(data))}; "
                'expected {"train": (inputs, targets), "test": (inputs, targets)}. A pair alone is '
                "split for you."
            )
        if unknown := sorted(set(data) - {"train", "test"}):
            raise DataError(f"data: got {shown(unknown)} beside train and test; leave them out.")
        train = _examples(data["train"], 'data["train"]', labels, targets)
        test = _examples(data["test"], 'data["test"]', labels, targets)
        if (train.inputs.shape[1:], train.inputs.dtype) != (
            test.inputs.shape[1:],
            test.inputs.dtype,
        ):
            raise DataError(
                f"data: training inputs are {train.inputs.dtype}{train.inputs.shape}, test inputs "
                f"{test.inputs.dtype}{test.inputs.shape}; expected one shape of an example, one "
                "dtype."
            )
        return _dataset(train, test)
    whole = _examples(data, "data", labels, targets)
    if len(whole) < 2:
        raise DataError("data: got 1 example, expected at least 2, for training and for test.")
    split = stratified_split if labels else random_split
    train, test = split(whole, HELD_OUT)
    if not len(test):
        train, test = random_split(whole, HELD_OUT)
    return _dataset(train, test)


def _dataset(train: Examples, test: Examples) -> Dataset:
    pixels = Pixels(axes="as given") if train.inputs.dtype == np.uint8 else None
    return Dataset(NAME, train, test, pixels=pixels)


def _examples(pair: Any, where: str, labels: bool, targets: bool) -> Examples:
    if not targets and not isinstance(pair, tuple | list):
        pair = (pair, None)
    if isinstance(pair, str) or not isinstance(pair, tuple | list) or len(pair) != 2:
        what = type(pair).__name__
        if isinstance(pair, tuple | list):
            what = f"{what} of {len(pair)}"
        raise DataError(f"{where}: got {what}, {_EXPECTED}.")
    inputs = _inputs(pair[0], f"{where}, inputs")
    if not targets and pair[1] is None:
        return Examples(inputs, None)
    found = (_labels if labels else _numbers)(pair[1], f"{where}, targets")
    if len(found) != len(inputs):
        raise DataError(
            f"{where}: {len(inputs)} inputs, but {len(found)} targets; expected one for each."
        )
    return Examples(inputs, found)


def _array(values: Any, where: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except Exception as error:  # ragged lists, tensors on another device
        raise DataError(f"{where}: is no array ({str(error)[:120]}).") from None
    if array.dtype == object or array.dtype.kind in "USOM":
        raise DataError(
            f"{where}: got {type(values).__name__} of {array.dtype}, expected an array of numbers."
        )
    if array.ndim == 0 or 0 in array.shape:
        raise DataError(
            f"{where}: got shape {array.shape}, expected examples along the first axis."
        )
    return array


def _inputs(values: Any, where: str) -> np.ndarray:
    array = _array(values, where)
    if array.dtype == np.uint8:
        return array
    # bfloat16 is no kind of numpy's own.
    if array.dtype.kind != "f" and "float" not in str(array.dtype):
        raise DataError(
            f"{where}: got {array.dtype}, expected floats, or uint8 for pixels from 0 to 255. "
            "Derivatives in integers do not exist: cast them, x.astype(np.float32)."
        )
    return finite_float32(array, where)


def _labels(values: Any, where: str) -> np.ndarray:
    array = _array(values, where)
    if array.ndim == 2 and array.shape[1] == 1 and array.dtype.kind in "iu":
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(
            f"{where}: got shape {array.shape}, expected class labels [N], one integer an example. "
            "One-hot rows are labels by np.argmax(targets, 1); for numbers to predict give "
            'task="regression".'
        )
    if array.dtype.kind not in "iub":
        raise DataError(
            f"{where}: got {array.dtype}, expected integers from 0, the class of each example. For "
            'numbers to predict give task="regression".'
        )
    if array.min() < 0:
        raise DataError(f"{where}: got a label of {array.min()}, expected labels from 0.")
    return array.astype(np.int32)


def _numbers(values: Any, where: str) -> np.ndarray:
    array = _array(values, where)
    if array.ndim > 2:
        raise DataError(
            f"{where}: got shape {array.shape}, expected [N] or [N, K]: one row an example."
        )
    if array.dtype.kind == "c":
        raise DataError(f"{where}: got {array.dtype}, expected real numbers.")
    return finite_float32(array.reshape(len(array), -1), where)


def with_classes(dataset: Dataset, count: int) -> Dataset:
    """Return the data set with so many classes, those of the model's logits.

    Raises:
        DataError: a label is beyond them.
    """
    from dataclasses import replace

    for split in ("train", "test"):
        found = int(np.max(getattr(dataset, split).targets))
        if found >= count:
            raise DataError(
                f"data, {split} targets: labels run to {found}, but the model returns {count} "
                f"logits an example; expected labels from 0 to {count - 1}, or a model with "
                f"{found + 1} outputs."
            )
    return replace(dataset, classes=tuple(str(number) for number in range(count)))
