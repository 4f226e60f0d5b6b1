"""The pictures of a column as arrays of one shape, each kept in its own range."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from train.data._columns import ARRAYS, ENCODED, inner_dtype
from train.data._pixels import Pixels, range_of
from train.errors import DataError

if TYPE_CHECKING:
    from train.sections import Data

_BATCH = 1000
# Pillow's modes with one channel; all others are colours.
_GREY = ("1", "L", "LA", "La")
_MOST_CHANNELS = 4


def read_column(
    tables: Sequence[Any], column: str, kind: str, where: Sequence[str], options: Data
) -> tuple[list[np.ndarray], Pixels]:
    """Return the pictures `[N, H, W, C]` of each split, and how they were read.

    What the splits hold is judged together: one range, one number of channels.

    Args:
        tables: a `datasets.Dataset` for each split.
        column, kind: from `image_column`.
        where: what messages call each split.
        options: `pixel_range`, `image_axes` and `background` of the config.

    Raises:
        DataError: an image does not decode, or pictures differ in size or depth, or their range
            or the order of their axes is not clear.
    """
    for table, place in zip(tables, where, strict=True):
        if len(table) == 0:
            raise DataError(f"{place}: holds no examples.")
    if kind == ARRAYS:
        return _arrays(tables, column, where, options)
    return _files(tables, column, kind, where, options)


def _arrays(
    tables: Sequence[Any], column: str, where: Sequence[str], options: Data
) -> tuple[list[np.ndarray], Pixels]:
    if options.background is not None:
        raise DataError(
            f'data.background: got "{options.background}", but {where[0]}: column {column} holds '
            "arrays of numbers, none of them transparent; leave it out."
        )
    dtype = np.dtype(inner_dtype(tables[0].features[column]))
    found = []
    for table, place in zip(tables, where, strict=True):
        array = np.asarray(table.with_format("numpy", columns=[column])[:][column])
        if array.dtype == object or array.ndim not in (3, 4):
            raise DataError(
                f"{place}: column {column} has pictures of several sizes; expected one. Resize "
                "them first."
            )
        # The library gives every integer as int64, and a missing one as nan.
        found.append(
            array if array.dtype.kind == "f" and dtype.kind != "f" else array.astype(dtype)
        )
    axes = _axes(found[0].shape[1:], options.image_axes, f"{where[0]}: column {column}")
    low, high = range_of(list(found), options.pixel_range, f"{where[0]}: column {column}")
    if axes == "HW":
        found = [array[..., None] for array in found]
    elif axes == "CHW":
        found = [np.moveaxis(array, 1, -1) for array in found]
    stored = str(found[0].dtype)
    return [_kept(array) for array in found], Pixels(low, high, stored, axes)


def _axes(shape: tuple[int, ...], asked: str | None, where: str) -> str:
    """Return the order of the axes of one picture.

    An axis of 1 to 4 is the channels; where both ends could be, the reading whose picture is the
    less narrow by far.
    """
    if len(shape) == 2:
        if asked is not None:
            raise DataError(
                f'data.image_axes: got "{asked}", but {where} has pictures of shape {shape}, '
                "without channels; leave it out."
            )
        return "HW"
    if asked is not None:
        return asked
    last = min(shape[:2]) if shape[2] <= _MOST_CHANNELS else 0
    first = min(shape[1:]) if shape[0] <= _MOST_CHANNELS else 0
    if last >= max(2 * first, 1):
        return "HWC"
    if first >= max(2 * last, 1):
        return "CHW"
    raise DataError(
        f"{where} has pictures of shape {shape}, in which it is not clear which axis holds the "
        'channels. Say it: data.image_axes="HWC" or data.image_axes="CHW".'
    )


def _files(
    tables: Sequence[Any], column: str, kind: str, where: Sequence[str], options: Data
) -> tuple[list[np.ndarray], Pixels]:
    if options.image_axes is not None:
        raise DataError(
            f'data.image_axes: got "{options.image_axes}", but {where[0]}: column {column} holds '
            f"{kind}, which say where their channels are; leave it out."
        )
    if kind == ENCODED:
        import datasets

        tables = [table.cast_column(column, datasets.Image()) for table in tables]
    modes: Counter[str] = Counter()
    splits = [
        _decoded(table, column, place, options.background, modes)
        for table, place in zip(tables, where, strict=True)
    ]
    stored = ", ".join(f"{mode} ({count})" for mode, count in sorted(modes.items()))
    pictures = [picture for split in splits for picture in split]
    if len({picture.dtype for picture in pictures}) > 1:
        raise DataError(
            f"{where[0]}: column {column} mixes pictures of several depths, by Pillow's modes "
            f"{stored}; expected one. Convert them to one mode first."
        )
    sizes = sorted({picture.shape[:2] for picture in pictures})
    if len(sizes) > 1:
        raise DataError(
            f"{where[0]}: images have {len(sizes)} sizes, for instance {sizes[0]} and "
            f"{sizes[-1]}; expected one. Resize them first."
        )
    low, high = range_of(list(pictures), options.pixel_range, f"{where[0]}: column {column}")
    channels = 3 if any(picture.ndim == 3 for picture in pictures) else 1
    stacked = [np.stack([_with_channels(each, channels) for each in split]) for split in splits]
    return [_kept(array) for array in stacked], Pixels(low, high, stored)


def _decoded(
    table: Any, column: str, where: str, background: str | None, modes: Counter[str]
) -> list[np.ndarray]:
    """Return each picture as it is, `[H, W]` where it is grey, `[H, W, 3]` else."""
    from PIL.Image import DecompressionBombError

    arrays: list[np.ndarray] = []
    try:
        for batch in table.select_columns([column]).iter(_BATCH):
            for picture in batch[column]:
                arrays.append(
                    _array(picture, background, f"{where}: the image of row {len(arrays)}")
                )
                modes[picture.mode] += 1
    except DataError:
        raise
    except (OSError, ValueError, SyntaxError, AttributeError, DecompressionBombError) as error:
        raise DataError(
            f"{where}: an image near row {len(arrays)} does not decode ({str(error)[:120]})."
        ) from None
    return arrays


def _array(picture: Any, background: str | None, where: str) -> np.ndarray:
    mode = picture.mode
    if mode.startswith(("I", "F")):  # 16 or 32 bits, grey: `convert` would clip them to a byte
        array = np.asarray(picture)
        return array.astype(array.dtype.newbyteorder("="))
    grey = mode in _GREY
    if picture.has_transparency_data:
        picture = _opaque(picture.convert("RGBA"), background, where)
    return np.asarray(picture.convert("L" if grey else "RGB"), np.uint8)


def _opaque(picture: Any, background: str | None, where: str) -> Any:
    """Put a picture with transparent parts on its background.

    Raises:
        DataError: there are such parts and no background: colours below them mean nothing.
    """
    from PIL import Image

    if picture.getchannel("A").getextrema()[0] == 255:
        return picture
    if background is None:
        raise DataError(
            f"{where} is transparent in places, so it depends on what is behind it. Say it: "
            'data.background="white" or data.background="black".'
        )
    return Image.alpha_composite(Image.new("RGBA", picture.size, background), picture)


def _with_channels(picture: np.ndarray, channels: int) -> np.ndarray:
    if picture.ndim == 3:
        return picture
    return np.repeat(picture[..., None], channels, axis=-1)


def _kept(array: np.ndarray) -> np.ndarray:
    """Return pictures as they are kept: bytes and 16-bit integers as they are, else float32."""
    kept = array.dtype if array.dtype in (np.uint8, np.uint16) else np.float32
    return np.ascontiguousarray(array, kept)
