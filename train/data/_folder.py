"""A local path: IDX files, parquet and image files in the hub's format, a csv or an npz file."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from train.cache import cached_arrays
from train.data import _idx
from train.data._dataset import Dataset, Examples
from train.data._materialise import materialise
from train.data._npz import NPZ_END, npz_file
from train.data._pixels import Pixels, refuse_keys
from train.data._tables import TABLE_ENDS, csv_table, tables_in
from train.errors import DataError, reason

if TYPE_CHECKING:
    from train.sections import Data

_IMAGE_ENDS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")


def load_folder(options: Data) -> Dataset:
    """Load `data.path`.

    Raises:
        DataError: the path is absent, holds nothing that is known, or is torn.
    """
    folder = Path(str(options.path))
    if folder.is_file() and folder.suffix.lower() in TABLE_ENDS:
        refuse_keys(options, "a csv table")
        return csv_table(options)
    if folder.is_file() and folder.suffix.lower() == NPZ_END:
        refuse_keys(options, "an npz file, whose dtype says it")
        return npz_file(folder)
    if not folder.is_dir():
        came = "is a file" if folder.is_file() else "does not exist"
        raise DataError(
            f"data.path: {folder} {came}; expected a folder with parquet files or images "
            "(as on the hub), the four published IDX files, a csv or an npz file."
        )
    if _idx.find(folder):
        refuse_keys(options, "IDX files, which hold bytes from black 0 to white 255")
        return _idx.load(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    # Only these: other formats that `datasets` reads may hold pickles or code.
    known = [path for path in files if path.suffix.lower() in (".parquet", *_IMAGE_ENDS)]
    if not known and tables_in(folder):
        refuse_keys(options, "a csv table")
        return csv_table(options)
    if not known:
        seen = ", ".join(path.name for path in files[:5]) or "nothing"
        raise DataError(
            f"data.path: {folder} holds {seen}; expected *.parquet files, images, a csv file, or "
            "the four published IDX files (train-images-idx3-ubyte, ...)."
        )
    arrays = cached_arrays(f"folder-{_signature(known, options)}", lambda: _read(folder, options))
    low, high = (float(end) for end in arrays["range"])
    stored, axes = (str(word) for word in arrays["pixels"])
    return Dataset(
        str(folder),
        Examples(arrays["train_images"], arrays["train_labels"]),
        Examples(arrays["test_images"], arrays["test_labels"]),
        tuple(str(name) for name in arrays["classes"]),
        Pixels(low, high, stored, axes),
    )


def _signature(files: list[Path], options: Data) -> str:
    """Return a digest that changes with any file's name, size or time of change."""
    asked = (
        options.image_column, options.label_column, options.test_fraction,
        options.pixel_range, options.image_axes, options.background,
    )  # fmt: skip
    digest = hashlib.sha256(f"v2 {asked}".encode())
    for path in files:
        status = path.stat()
        digest.update(f"{path.resolve()} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:24]


def _read(folder: Path, options: Data) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as scratch:
        splits = load_dataset(str(folder), cache_dir=scratch)
        dataset = materialise(splits, str(folder), options)
    pixels = dataset.pixels or Pixels()
    return {
        "train_images": dataset.train.inputs,
        "train_labels": np.asarray(dataset.train.targets),
        "test_images": dataset.test.inputs,
        "test_labels": np.asarray(dataset.test.targets),
        "classes": np.asarray(dataset.classes),
        "range": np.asarray([pixels.low, pixels.high]),
        "pixels": np.asarray([pixels.stored, pixels.axes]),
    }


def load_dataset(name: str, **options: Any) -> Any:
    """Call `datasets.load_dataset` quietly; what goes wrong is one `DataError`."""
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        return datasets.load_dataset(name, **options)
    except Exception as error:  # the library raises a dozen kinds for a torn file
        cause = error.__cause__ or error
        detail = f"{type(cause).__name__}: {reason(cause, 300)}"
        raise DataError(
            f"{name}: cannot be read as a data set ({detail}). A file may be torn: fetch it again."
        ) from None
