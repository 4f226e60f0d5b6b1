"""Which columns of a table hold the pictures and the labels, and what kind of pictures."""

from __future__ import annotations

import io
from typing import Any

from train.errors import DataError, shown

# Kinds of columns that hold pictures.
FILES, ENCODED, ARRAYS = "image files", "bytes of image files", "arrays of numbers"
_READABLE = (
    "expected pictures: the hub's Image, bytes of image files (PNG, JPEG, TIFF, ...), Array2D, "
    "Array3D, or lists of rows of numbers"
)


def image_column(table: Any, name: str, chosen: str | None) -> tuple[str, str]:
    """Return the column of the pictures and its kind.

    Raises:
        DataError: it is absent, ambiguous, or holds no pictures.
    """
    features = table.features
    if chosen is not None:
        _check_there(features, name, "image", chosen)
        kind = kind_of(table, chosen)
        if kind is None:
            raise DataError(
                f"data.image_column: column {chosen} of {name} holds {shown(features[chosen], 200)}"
                f"; {_READABLE}.{_advice(features[chosen])}"
            )
        return chosen, kind
    kinds = {column: kind_of(table, column) for column in features}
    for wanted in (FILES, ARRAYS, ENCODED):
        # A table of pictures may hold lists of numbers beside them, such as boxes.
        found = [
            column for column, kind in kinds.items() if kind == wanted and _named(features, column)
        ]
        found = found or [column for column, kind in kinds.items() if kind == wanted]
        if len(found) == 1:
            return found[0], wanted
        if found:
            raise DataError(
                f"{name}: expected one image column, got {shown(found)} among "
                f"{shown(sorted(features))}; name it: data.image_column=..."
            )
    held = {column: str(feature)[:60] for column, feature in features.items()}
    raise DataError(
        f"{name}: no column holds pictures among {shown(held, 500)}; {_READABLE}."
        + "".join(dict.fromkeys(_advice(feature) for feature in features.values()))
    )


def _check_there(features: Any, name: str, what: str, chosen: str) -> None:
    if chosen not in features:
        raise DataError(
            f"data.{what}_column: got {shown(chosen)}, expected a column of {name}: "
            f"{shown(sorted(features))}."
        )


def _named(features: Any, column: str) -> bool:
    """Return whether a column is declared as pictures, and not only of their shape."""
    return type(features[column]).__name__ in ("Image", "Array2D", "Array3D")


def kind_of(table: Any, column: str) -> str | None:
    """Return how a column holds pictures, None where it does not."""
    feature = table.features[column]
    kind = type(feature).__name__
    if kind == "Image":
        return FILES
    if kind in ("Array2D", "Array3D") or _depth(feature) in (2, 3):
        return ARRAYS
    # What a writer without the hub's metadata leaves of an image: its bytes, or a pair.
    encoded = feature.get("bytes") if isinstance(feature, dict) else feature
    if getattr(encoded, "dtype", None) not in ("binary", "large_binary") or not len(table):
        return None
    return ENCODED if _decodes(table[0][column]) else None


def inner_dtype(feature: Any) -> str:
    """Return the dtype of the numbers in an array or a list of lists."""
    while not hasattr(feature, "dtype") or hasattr(feature, "feature"):
        feature = feature.feature
    return str(feature.dtype)


def _depth(feature: Any) -> int | None:
    """Return how deep numbers lie in lists, None where there are none."""
    depth = 0
    while hasattr(feature, "feature"):
        feature, depth = feature.feature, depth + 1
    numeric = str(getattr(feature, "dtype", "")).startswith(("int", "uint", "float", "bool"))
    return depth if depth and numeric else None


def _decodes(value: Any) -> bool:
    from PIL import Image

    content: Any = value.get("bytes") if isinstance(value, dict) else value
    try:
        with Image.open(io.BytesIO(content)) as picture:
            return picture.width > 0
    except Exception:  # Pillow raises many kinds for what is no image
        return False


def _advice(feature: Any) -> str:
    if _depth(feature) == 1:
        return (
            " A flat list of pixels does not say its height and width: write it as a list of rows."
        )
    if getattr(feature, "dtype", None) in ("binary", "large_binary"):
        return " The bytes of the first row are no image file: encode raw pixels as PNG."
    return ""


def label_column(features: Any, name: str, chosen: str | None) -> str:
    """Return the column of the labels.

    Raises:
        DataError: it is absent or ambiguous.
    """
    if chosen is not None:
        _check_there(features, name, "label", chosen)
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
