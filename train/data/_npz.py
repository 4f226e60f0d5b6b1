"""An npz file of arrays, by the names that Keras or MedMNIST give them."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from train.data._dataset import Dataset, Examples, finite_float32
from train.errors import DataError, shown

NPZ_END = ".npz"
_NAMES = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
)
_EXPECTED = " or ".join(", ".join(names) for names in _NAMES)


def npz_file(path: Path) -> Dataset:
    """Load inputs and targets of two splits.

    Inputs of `uint8` are pictures, `[N, H, W]` or `[N, H, W, C]` from black 0 to white 255; floats
    `[N, *in]` reach the model as they are. Targets of integers are class labels from 0, `[N]` or
    `[N, 1]`; floats are numbers to predict, `[N]` or `[N, K]`. Other arrays are not read.

    Raises:
        DataError: the file is torn, lacks an array, or one has another shape or dtype.
    """
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no archive")
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            held = sorted(file.files)
            names = next((each for each in _NAMES if set(each) <= set(held)), None)
            if names is None:
                raise DataError(
                    f"data.path: {path} holds {shown(held)}; expected the arrays {_EXPECTED}."
                )
            arrays = [file[name] for name in names]
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(
            f"data.path: {path} cannot be read as npz ({str(error)[:120]}); expected what "
            "np.savez writes, of numbers."
        ) from None
    xs, ys = _checked(path, names[:2], *arrays[:2])
    test_xs, test_ys = _checked(path, names[2:], *arrays[2:])
    kinds = [(each.shape[1:], each.dtype.name) for each in (xs, ys, test_xs, test_ys)]
    if kinds[:2] != kinds[2:]:
        raise DataError(
            f"data.path: {path}: a training example and its target are of shape and dtype "
            f"{kinds[:2]}, those for test {kinds[2:]}; expected the same."
        )
    count = 1 + max(ys.max(), test_ys.max()) if ys.dtype == np.int32 else 0
    train, test = Examples(xs, ys), Examples(test_xs, test_ys)
    return Dataset(str(path), train, test, tuple(map(str, range(count))))


def _checked(
    path: Path, names: tuple[str, ...], inputs: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    where = [f"data.path: {path}: {name}" for name in names]
    if inputs.ndim < 2 or 0 in inputs.shape:
        raise DataError(f"{where[0]}: got shape {inputs.shape}, expected [N, *in], not empty.")
    if inputs.dtype == np.uint8:
        inputs = inputs[..., None] if inputs.ndim == 3 else inputs
        if inputs.ndim != 4 or inputs.shape[3] > 4:
            raise DataError(
                f"{where[0]}: got uint8 of shape {inputs.shape}, expected pictures [N, H, W] or "
                "[N, H, W, C] of at most four channels; other inputs are floats."
            )
    elif inputs.dtype.kind == "f":
        inputs = finite_float32(inputs, where[0])
    else:
        raise DataError(
            f"{where[0]}: got {inputs.dtype}, expected uint8 for pixels from 0 to 255, or floats."
        )
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if len(targets) != len(inputs):
        raise DataError(f"{where[1]}: {len(targets)} rows for {len(inputs)} of {names[0]}.")
    if targets.dtype.kind in "iu" and targets.ndim == 1:
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= 10_000:
            raise DataError(
                f"{where[1]}: labels run from {low} to {high}, expected classes from 0, below "
                "10000; numbers to predict are floats."
            )
        return inputs, targets.astype(np.int32)
    if targets.dtype.kind == "f" and targets.ndim < 3:
        return inputs, finite_float32(targets.reshape(len(targets), -1), where[1])
    raise DataError(
        f"{where[1]}: got {targets.dtype} of shape {targets.shape}, expected class labels, "
        "integers [N], or floats [N] or [N, K]. One-hot rows are labels by np.argmax(targets, 1)."
    )
