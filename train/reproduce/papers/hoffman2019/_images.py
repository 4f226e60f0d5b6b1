"""Other handwritten digits in MNIST's own frame, for table 2."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from train import data
from train.data import Examples
from train.errors import UserError
from train.sections import Data

_INSIDE, _SIDE = 20, 28  # MNIST: digits of 20x20 in a frame of 28x28


def other_digits(name: str, like: np.ndarray) -> Examples:
    """Return the test digits of `digits` or of a folder as images of MNIST's size.

    Each is scaled to 20x20 (bilinear), put in the middle of 28x28 zeros, and stretched so that its
    brightest pixel is 255; MNIST's own are not touched.

    Raises:
        UserError: the images are no square grey ones.
    """
    from PIL import Image

    path = name if Path(name).exists() and name != "digits" else None
    found = data.load(Data(name="digits" if path is None else None, path=path)).test
    images = np.asarray(found.inputs)
    if images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 1:
        raise UserError(f"--data usps: got images {images.shape[1:]}, expected square grey ones.")
    edge = (_SIDE - _INSIDE) // 2
    framed = np.zeros((len(images), _SIDE, _SIDE, 1), like.dtype)
    for number, image in enumerate(images[..., 0]):
        size = (_INSIDE, _INSIDE)
        scaled = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
        inner = np.asarray(scaled, np.float64)
        inner *= 255 / max(1.0, inner.max())
        framed[number, edge:-edge, edge:-edge, 0] = np.rint(inner).astype(like.dtype)
    return Examples(framed, found.targets)
