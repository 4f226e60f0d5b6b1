"""IDX files (the format of the MNIST publication), raw or gzipped, checked byte by byte."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from train.data._dataset import Dataset, Examples
from train.errors import DataError

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_UNSIGNED_BYTE = 0x08
_BLOCK = 1 << 24


def find(folder: Path) -> bool:
    """Return whether the folder holds any of the published names."""
    names = [name for pair in FILES.values() for name in pair]
    return any((folder / f"{name}{end}").is_file() for name in names for end in ("", ".gz"))


def load(folder: Path) -> Dataset:
    """Read the four published files of a folder.

    Raises:
        DataError: a file is missing, torn, of the wrong type, or sizes disagree.
    """
    splits = {}
    for split, (images_name, labels_name) in FILES.items():
        images_path, labels_path = _path(folder, images_name), _path(folder, labels_name)
        images, labels = read(images_path, 3), read(labels_path, 1)
        if len(images) != len(labels):
            raise DataError(
                f"{images_path} holds {len(images)} images, but {labels_path} holds "
                f"{len(labels)} labels; expected as many of each."
            )
        splits[split] = Examples(images[..., None], labels.astype(np.int32))
    train, test = splits["train"], splits["test"]
    if train.inputs.shape[1:] != test.inputs.shape[1:]:
        raise DataError(
            f"{folder}: the training images are {train.inputs.shape[1:3]}, the test images "
            f"{test.inputs.shape[1:3]}; expected one size."
        )
    classes = 1 + max(int(train.targets.max()), int(test.targets.max()))
    return Dataset(str(folder), train, test, tuple(str(label) for label in range(classes)))


def read(path: Path, dimensions: int) -> np.ndarray:
    """Read one IDX file of unsigned bytes.

    Raises:
        DataError: the magic number, the dimensions or the length is not what it says.
    """
    header_size = 4 + 4 * dimensions
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            header = file.read(header_size)
            if len(header) < header_size:
                raise DataError(
                    f"{path} is torn: it ends after {len(header)} bytes, expected an IDX header "
                    f"of {header_size} bytes. Fetch the file again."
                )
            zeros, kind, rank = struct.unpack(">HBB", header[:4])
            if zeros or kind != _UNSIGNED_BYTE or rank != dimensions:
                raise DataError(
                    f"{path} starts with the magic number 0x{header[:4].hex()}, expected "
                    f"0x0000{_UNSIGNED_BYTE:02x}{dimensions:02x} (unsigned bytes, "
                    f"{dimensions} dimension{'s' if dimensions > 1 else ''})."
                )
            shape = struct.unpack(f">{dimensions}I", header[4:])
            size = math.prod(shape)
            body = _read_up_to(file, size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} is torn or not readable ({str(error)[:120]}). Fetch the file again."
        ) from None
    if size == 0:
        raise DataError(f"{path} says it has shape {shape}: no examples.")
    if len(body) != size:
        came = "more" if len(body) > size else f"{len(body)}"
        raise DataError(
            f"{path} is torn: its header says {size} bytes of data (shape {shape}), it holds "
            f"{came}. Fetch the file again."
        )
    return np.frombuffer(body, np.uint8).reshape(shape)


def _read_up_to(file, size: int) -> bytes:
    """Read in blocks, so that a header that lies cannot ask for the memory."""
    parts, left = [], size
    while left > 0 and (part := file.read(min(_BLOCK, left))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _path(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(
        f"{folder}: {name} (or {name}.gz) is missing; expected the four published files "
        + ", ".join(each for pair in FILES.values() for each in pair)
        + "."
    )
