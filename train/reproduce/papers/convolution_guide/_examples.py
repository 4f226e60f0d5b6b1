"""The guide's examples, each through `models.conv` and through JAX's own functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from models.conv import ConvLayout, conv, conv_transpose, gaussian_window, smooth
from train.reproduce import Asked

_LAYOUTS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NHWDC", "HWDIO", "NHWDC")}


@dataclass(frozen=True)
class Example:
    """A convolution of the guide.

    Attributes:
        title: what it shows.
        dimensions: spatial ones, which say the inputs and the kernel.
        shape: the shape that the guide prints.
        ours: arguments of `models.conv.conv`.
        theirs: strides, padding, input dilation, kernel dilation of `lax.conv_general_dilated`.
        layout: of inputs, kernel and outputs; NHWC, HWIO and its like where None.
    """

    title: str
    dimensions: int
    shape: tuple[int, ...]
    ours: Mapping[str, Any]
    theirs: tuple[Any, ...]
    layout: tuple[str, str, str] | None = None

    @property
    def axes(self) -> tuple[str, str, str]:
        """Return the layout."""
        return self.layout or _LAYOUTS[self.dimensions]


_FIRST = ("NCHW", "OIHW", "NCHW")
EXAMPLES: Mapping[str, Example] = {
    "conv": Example("lax.conv, channels first", 2, (1, 3, 200, 198), {}, (1, "SAME", 1, 1), _FIRST),
    "padding": Example(
        "conv_with_general_padding, two pixels a side",
        2,
        (1, 3, 202, 200),
        {"padding": ((2, 2), (2, 2))},
        (1, [(2, 2), (2, 2)], 1, 1),
        _FIRST,
    ),
    "same": Example("SAME", 2, (1, 200, 198, 3), {}, (1, "SAME", 1, 1)),
    "valid": Example("VALID", 2, (1, 198, 196, 3), {"padding": "VALID"}, (1, "VALID", 1, 1)),
    "strides": Example("strides of 2", 2, (1, 100, 99, 3), {"strides": 2}, (2, "SAME", 1, 1)),
    "atrous": Example(
        "kernel dilation of 12 (atrous)",
        2,
        (1, 176, 174, 3),
        {"padding": "VALID", "kernel_dilation": 12},
        (1, "VALID", 1, 12),
    ),
    "transposed": Example(
        "input dilation of 2 (transposed)",
        2,
        (1, 397, 393, 3),
        {"padding": 0, "input_dilation": 2},
        (1, [(0, 0), (0, 0)], 2, 1),
    ),
    "one-d": Example("one dimension", 1, (1, 200, 2), {}, (1, "SAME", 1, 1)),
    "one-d-strides": Example(
        "one dimension, strides of 2", 1, (1, 100, 2), {"strides": 2}, (2, "SAME", 1, 1)
    ),
    "three-d": Example("three dimensions", 3, (1, 30, 30, 30, 1), {}, (1, "SAME", 1, 1)),
}


def inputs(dimensions: int) -> tuple[Any, Any]:
    """Return the guide's inputs and kernel, channels last."""
    if dimensions == 1:
        kernel = np.array([[[1, 0, -1], [-1, 0, 1]], [[1, 1, 1], [-1, -1, -1]]], np.float32)
        data = np.zeros((1, 200, 2), np.float32)
        for i in range(2):
            for k in range(2):
                start = 35 * i + 30 + 60 * k
                data[0, start : start + 30, k] = 1.0
        return data, kernel.transpose(2, 1, 0)
    if dimensions == 2:
        edge = np.array([[1, 1, 0], [1, 0, -1], [0, -1, -1]], np.float32)
        kernel = np.zeros((3, 3, 3, 3), np.float32) + edge[:, :, None, None]
        image = np.zeros((1, 200, 198, 3), np.float32)
        for k in range(3):
            x, y = 30 + 60 * k, 20 + 60 * k
            image[0, x : x + 10, y : y + 10, k] = 1.0
        return image, kernel
    plane = np.array([[0, -1, 0], [-1, 0, -1], [0, -1, 0]], np.float32)
    point = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], np.float32)
    kernel = np.stack([point, plane, point])[..., None, None]
    x, y, z = np.mgrid[0:1:30j, 0:1:30j, 0:1:30j]
    waves = np.sin(2 * np.pi * x) * np.cos(2 * np.pi * y) * np.cos(2 * np.pi * z)
    return waves[None, ..., None].astype(np.float32), kernel


def compare(asked: Asked) -> Mapping[str, Any]:
    """Run every example both ways; return shapes, largest differences and the pictures' arrays."""
    found: dict[str, Any] = {}
    for name, example in EXAMPLES.items():
        layout, axes = ConvLayout(*example.axes), _LAYOUTS[example.dimensions]
        data, kernel = inputs(example.dimensions)
        xs = data.transpose([axes[0].index(letter) for letter in layout.inputs])
        weights = kernel.transpose([axes[1].index(letter) for letter in layout.kernel])
        ys = np.asarray(conv(xs, weights, layout, **example.ours))
        strides, padding, spread, dilation = example.theirs
        each = [(value,) * example.dimensions for value in (strides, spread, dilation)]
        theirs = lax.conv_general_dilated(
            xs, weights, each[0], padding, each[1], each[2], layout.dimension_numbers
        )
        found[f"{name}/same_shape"] = float(ys.shape == example.shape == theirs.shape)
        found[f"{name}/difference"] = float(np.max(np.abs(ys - np.asarray(theirs))))
        found[f"{name}/output"] = ys.transpose([layout.outputs.index(a) for a in axes[2]])
        found[f"{name}/shape"] = np.asarray(ys.shape)
    return {**found, **_transposed()}


def _transposed() -> Mapping[str, Any]:
    """Compare `conv_transpose` with the guide's gradient-like form, padding (2, 1), SAME."""
    image, kernel = inputs(2)
    layout = ConvLayout(*_LAYOUTS[2])
    ys = np.asarray(conv_transpose(image, kernel, layout, strides=2))
    theirs = np.asarray(lax.conv_transpose(image, kernel, (2, 2), "SAME"))
    return {
        "conv-transpose/same_shape": float(ys.shape == theirs.shape == (1, 400, 396, 3)),
        "conv-transpose/difference": float(np.max(np.abs(ys - theirs))),
        "conv-transpose/output": ys,
        "conv-transpose/shape": np.asarray(ys.shape),
    }


def smoothing(asked: Asked, *, pictures: bool) -> Mapping[str, Any]:
    """Smooth a noisy sine and a noisy photograph: how much noise is left, and the pictures."""
    from sklearn.datasets import load_sample_image

    first, second = jax.random.split(jax.random.key(asked.seed))
    x = jnp.linspace(0, 10, 500)
    noisy = jnp.sin(x) + 0.2 * jax.random.normal(first, x.shape)
    smoothed = smooth(noisy, jnp.ones(10) / 10)
    inside = slice(10, -10)  # the window sees zeros beyond the ends

    def left(after: Any, before: Any, truth: Any, part: Any) -> float:
        return float(jnp.std((after - truth)[part]) / jnp.std((before - truth)[part]))

    image = jnp.asarray(load_sample_image("flower.jpg")[::2, ::2].mean(-1))
    rough = image + 50 * jax.random.normal(second, image.shape)
    window = gaussian_window(1.0, 2)
    clean = smooth(rough, window)
    middle = (slice(8, -8), slice(8, -8))
    reference: Callable[..., Any] = jax.scipy.signal.convolve
    found = {
        "line/noise_left": left(smoothed, noisy, jnp.sin(x), inside),
        "line/difference": float(
            jnp.max(jnp.abs(smoothed - jnp.convolve(noisy, jnp.ones(10) / 10, mode="same")))
        ),
        "image/noise_left": left(clean, rough, image, middle),
        "image/difference": float(jnp.max(jnp.abs(clean - reference(rough, window, mode="same")))),
    }
    if pictures:
        shown = {"x": x, "noisy": noisy, "smoothed": smoothed}
        shown |= {"image": image, "rough": rough, "clean": clean}
        found |= {f"picture/{name}": np.asarray(value) for name, value in shown.items()}
    return found
