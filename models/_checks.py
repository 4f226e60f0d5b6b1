"""Checks of options and inputs that the networks share."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp

from .conv import ConvLayout


def positive_integers(name: str, values, *, length: int | None = None) -> tuple[int, ...]:
    """The values as a tuple of positive integers.

    Raises: TypeError where it is no sequence of integers, ValueError where one is below 1 or
    where there are not `length` of them.
    """
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f"{name} must be a list of integers, got {values!r}.")
    for value in values:
        positive_integer(f"each of {name}", value)
    if length is not None and len(values) != length:
        raise ValueError(f"{name} must have {length} entries, got {list(values)!r}.")
    return tuple(int(value) for value in values)


def positive_integer(name: str, value) -> int:
    """The value as an integer. Raises: TypeError, or ValueError where it is below 1."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}.")
    return int(value)


def dropout_rate(value) -> float:
    """The value as a rate. Raises: TypeError, or ValueError where it is not in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"dropout must be a number, got {value!r}.")
    if not 0 <= value < 1:
        raise ValueError(f"dropout must be at least 0 and below 1, got {value}.")
    return float(value)


def noise_scale(value) -> float:
    """The value as a standard deviation. Raises: TypeError, or ValueError where it is negative."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"noise must be a number, got {value!r}.")
    if not 0 <= value < float("inf"):
        raise ValueError(f"noise must be finite and at least 0, got {value}.")
    return float(value)


def check_image_spec(spec, *, each: str | None = None) -> None:
    """Bring a specification's layout, input_shape and widths to their types.

    `each` is what a width belongs to where there must be one.

    Raises: TypeError or ValueError where they are none, or do not fit each other.
    """
    layout = ConvLayout.of(spec.layout)
    rank = len(layout.spatial_dims) + 1
    shape = positive_integers("input_shape", spec.input_shape, length=rank)
    widths = positive_integers("widths", spec.widths)
    if each is not None and not widths:
        raise ValueError(f"widths must name at least one {each}, got none.")
    for name, value in (("layout", layout), ("input_shape", shape), ("widths", widths)):
        object.__setattr__(spec, name, value)


def check_images(
    network: str, xs, layout: ConvLayout, input_shape: Sequence[int | None], *, batched: bool
) -> None:
    """Raises TypeError for integer images and ValueError for images of another shape.

    `input_shape` is one example's shape in the canonical order; an entry None fits any size.
    """
    check_floating(network, xs)
    axes = layout.inputs if batched else layout.example_axes()
    sizes = dict(zip(layout.canonical.inputs, (None, *input_shape), strict=True))
    wanted = [sizes[letter] for letter in axes]
    fits = jnp.ndim(xs) == len(axes) and all(
        size in (None, got) for size, got in zip(wanted, jnp.shape(xs), strict=True)
    )
    if not fits:
        shape = ", ".join(
            letter if size is None else str(size) for letter, size in zip(axes, wanted, strict=True)
        )
        raise ValueError(
            f"{network} takes {'batches' if batched else 'one example'} [{shape}] with the axes "
            f"{axes!r}, got shape {jnp.shape(xs)}. Transpose the images to the layout, or set "
            "input_shape (spatial sizes, then channels) and layout to what they have."
        )


def check_floating(network: str, xs) -> None:
    """Raises TypeError where the inputs are integers."""
    if not jnp.issubdtype(jnp.result_type(xs), jnp.floating):
        raise TypeError(
            f"{network} takes floating-point inputs, got {jnp.result_type(xs)}: cast and scale "
            "first, such as images.astype(jnp.float32) / 255."
        )
