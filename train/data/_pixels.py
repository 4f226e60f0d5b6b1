"""What is black and what is white: the range of the values of pictures, told or refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from train.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from train.sections import Data


@dataclass(frozen=True)
class Pixels:
    """How the values of pictures are meant, and what they were read from.

    Attributes:
        low, high: the values of black and of white; pixels are `(value - low) / (high - low)`.
        stored: how the source kept them: modes of image files with their counts, or a dtype.
        axes: the order of the axes in the source: "HW", "HWC" or "CHW".
    """

    low: float = 0.0
    high: float = 255.0
    stored: str = "uint8"
    axes: str = "HWC"

    def shares(self, raw: Any) -> Any:
        """Return raw values of numpy or JAX, cast to float32, as shares of the range, in [0, 1]."""
        values = raw.astype(np.float32)
        if self.low:
            values = values - np.float32(self.low)
        return values / np.float32(self.high - self.low)

    def describe(self) -> dict[str, Any]:
        """Return what `environment.json` records."""
        return {"range": [self.low, self.high], "stored": self.stored, "axes": self.axes}


def refuse_keys(options: Data, what: str) -> None:
    """Raise where a key says how to read pictures that say it themselves, or are none.

    Raises:
        DataError: with the key.
    """
    for key in ("pixel_range", "image_axes", "background"):
        if getattr(options, key) is not None:
            raise DataError(f"data.{key}: has no meaning for {what}; leave it out.")


def range_of(
    arrays: list[ArrayLike], asked: tuple[float, float] | None, where: str
) -> tuple[float, float]:
    """Return the values of black and of white.

    A byte runs to 255, a 16-bit integer to 65535, a float to 1 or 255, any other integer to 255
    or 65535. Where the values found would then fill less than half of the range that they do not
    say themselves, nobody can tell what they mean: that is refused.

    Args:
        arrays: all pictures, of one dtype.
        where: the data set and its column, for messages.

    Raises:
        DataError: the values are not finite, leave the range, or do not tell it.
    """
    pictures = [np.asarray(array) for array in arrays]
    dtype = pictures[0].dtype
    least = min(float(array.min()) for array in pictures)
    largest = max(float(array.max()) for array in pictures)
    if not np.isfinite([least, largest]).all():
        raise DataError(
            f"{where} holds {dtype} values that are not finite ({least:g} to {largest:g}), outside "
            "0..1 and 0..255; expected finite numbers."
        )
    if asked is not None:
        if least < asked[0] or largest > asked[1]:
            raise DataError(
                f"data.pixel_range: got [{asked[0]:g}, {asked[1]:g}], but {where} holds {dtype} "
                f"values from {least:g} to {largest:g}, outside of it."
            )
        return asked
    found = _told(dtype, largest) if least >= 0 else None
    if found is None:
        guess = _guess(least, largest)
        raise DataError(
            f"{where} holds {dtype} values from {least:g} to {largest:g}, outside 0..1 and 0..255 "
            "or in a small part of them, so it is not clear what is black and what is white. Say "
            f"it: data.pixel_range=[{guess[0]:g}, {guess[1]:g}], for instance."
        )
    return 0.0, found


def _told(dtype: np.dtype, largest: float) -> float | None:
    """Return the value of white that a dtype and the largest value tell, None where they do not."""
    if dtype == np.bool_:
        return 1.0
    if dtype == np.uint8:
        # Zeros and ones in bytes are masks or binarised pictures: dark by a factor of 255.
        return None if largest == 1 else 255.0
    if dtype == np.uint16:
        return 65535.0 if largest > 255 else None
    if dtype.kind == "f" and largest <= 1:
        return 1.0
    if 127 < largest <= 255:
        return 255.0
    return 65535.0 if dtype.kind in "iu" and 32767 < largest <= 65535 else None


def _guess(least: float, largest: float) -> tuple[float, float]:
    """Return a range that holds the values, as an example of what to write."""
    size = max(abs(least), abs(largest))
    usual = (1.0, 255.0, 1023.0, 4095.0, 16383.0, 65535.0)
    high = next((each for each in usual if size <= each), size)
    return (-high if least < 0 else 0.0), high
