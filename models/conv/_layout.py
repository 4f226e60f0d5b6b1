"""The order of the axes of a convolution's inputs, kernel and outputs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Shaped

_ROLES = {
    "inputs": {"N": "batch", "C": "channels"},
    "kernel": {"I": "input channels", "O": "output channels"},
    "outputs": {"N": "batch", "C": "channels"},
}


@dataclasses.dataclass(frozen=True)
class ConvLayout:
    """The order of the axes of a convolution's inputs, kernel and outputs.

    One letter an axis: `N` batch and `C` channels in `inputs` and `outputs`, `I` input and `O`
    output channels in `kernel`. One to three further letters or digits, the same in all three,
    are the spatial axes: `ConvLayout("NWC", "WIO", "NWC")`, `ConvLayout("NCHW", "OIHW", "NCHW")`,
    `ConvLayout("NHWDC", "HWDIO", "NHWDC")`. Any order is allowed, and the outputs may have
    another one than the inputs.

    Where a function takes one number a spatial axis (strides, dilations, windows, padding),
    the numbers go in the order of the kernel's spatial letters, `spatial_dims`, as in
    `jax.lax.conv_general_dilated`.

    Raises: TypeError where a field is no string; ValueError where one is not a permutation of
    its letters, or where the spatial letters of the three differ.
    """

    inputs: str = "NHWC"
    kernel: str = "HWIO"
    outputs: str = "NHWC"

    def __post_init__(self):
        for name, roles in _ROLES.items():
            _check_axes(name, getattr(self, name), roles)
        spatial = {name: _spatial(getattr(self, name), _ROLES[name]) for name in _ROLES}
        if not set(spatial["inputs"]) == set(spatial["kernel"]) == set(spatial["outputs"]):
            raise ValueError(
                f"The spatial letters of a layout must be the same in all three parts, but "
                f"inputs {self.inputs!r} has {spatial['inputs']!r}, kernel {self.kernel!r} has "
                f"{spatial['kernel']!r} and outputs {self.outputs!r} has {spatial['outputs']!r}."
            )

    @classmethod
    def of(cls, layout: ConvLayout | Sequence[str] | None) -> ConvLayout:
        """The layout that a config's list of three strings names; `None` is the default layout.

        Raises: TypeError where it is neither a layout nor a list; ValueError where the list
        does not hold three strings that make a layout.
        """
        if layout is None:
            return cls()
        if isinstance(layout, cls):
            return layout
        if isinstance(layout, str) or not isinstance(layout, Sequence):
            raise TypeError(
                f"A layout is a ConvLayout or a list of three strings (inputs, kernel, outputs) "
                f'such as ["NHWC", "HWIO", "NHWC"], got {layout!r}.'
            )
        if len(layout) != 3:
            raise ValueError(
                f"A layout has three parts (inputs, kernel, outputs) such as "
                f'["NHWC", "HWIO", "NHWC"], got {len(layout)}: {list(layout)!r}.'
            )
        return cls(*layout)

    @property
    def spatial_dims(self) -> str:
        """The spatial letters in the kernel's order: the order of strides, windows and padding."""
        return _spatial(self.kernel, _ROLES["kernel"])

    @property
    def dimension_numbers(self) -> tuple[str, str, str]:
        """What `jax.lax.conv_general_dilated` takes as `dimension_numbers`."""
        return self.inputs, self.kernel, self.outputs

    @property
    def batch_axis(self) -> int:
        """The index of the batch axis of the inputs."""
        return self.inputs.index("N")

    @property
    def following(self) -> ConvLayout:
        """The layout of the next layer: it takes and gives this layout's outputs."""
        return ConvLayout(self.outputs, self.kernel, self.outputs)

    @property
    def canonical(self) -> ConvLayout:
        """Batch first, spatial letters in alphabetical order, channels last.

        Weights are drawn, flattened and transferred in this order, so that none of it depends
        on a network's own layout.
        """
        spatial = "".join(sorted(self.spatial_dims))
        return ConvLayout(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C")

    def example_axes(self, part: str = "inputs") -> str:
        """The letters of one example: `inputs` or `outputs` without the batch axis."""
        return getattr(self, part).replace("N", "")

    def input_shape(self, batch_size: int, example_shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of a batch whose examples have `example_shape` in the canonical order.

        `ConvLayout("NCHW", "OIHW", "NCHW").input_shape(8, (28, 28, 1))` is `(8, 1, 28, 28)`.
        """
        sizes = dict(zip(self.canonical.inputs, (batch_size, *example_shape), strict=True))
        return tuple(sizes[letter] for letter in self.inputs)

    def kernel_shape(self, window: Sequence[int], inputs: int, outputs: int) -> tuple[int, ...]:
        """The shape of a kernel in this layout; `window` goes in the order of `spatial_dims`."""
        sizes = dict(zip(self.spatial_dims, window, strict=True), I=inputs, O=outputs)
        return tuple(sizes[letter] for letter in self.kernel)


def transpose_axes(xs: Shaped[Array, "..."], source: str, target: str) -> Shaped[Array, "..."]:
    """Transpose an array whose axes are the letters of `source` to the order of `target`.

    `transpose_axes(images, "NHWC", "NCHW")`, `transpose_axes(kernel, "HWIO", "OIHW")`.

    Raises: ValueError where the letters differ, or where the array has another number of axes.
    """
    if sorted(source) != sorted(target) or len(set(source)) != len(source):
        raise ValueError(
            f"{target!r} is not a permutation of {source!r}: both must name each axis once."
        )
    if jnp.ndim(xs) != len(source):
        raise ValueError(
            f"The axes {source!r} need an array of {len(source)} dimensions, got shape "
            f"{jnp.shape(xs)}."
        )
    if source == target:
        return xs
    return jnp.transpose(xs, tuple(source.index(letter) for letter in target))


def flatten(xs: Shaped[Array, "..."], axes: str) -> Shaped[Array, "..."]:
    """Each example as a vector: `[N, features]`, or `[features]` where `axes` has no `N`.

    Features go in the canonical order (spatial letters in alphabetical order, then channels)
    whatever the order of `axes`, so that a dense layer behind it does not depend on the layout.
    """
    batch = "N" if "N" in axes else ""
    spatial = "".join(sorted(letter for letter in axes if letter not in "NC"))
    xs = transpose_axes(xs, axes, f"{batch}{spatial}C")
    lead = xs.shape[: len(batch)]
    return xs.reshape(*lead, math.prod(xs.shape[len(batch) :]))


def _spatial(axes: str, roles: dict[str, str]) -> str:
    return "".join(letter for letter in axes if letter not in roles)


def _check_axes(name: str, axes: str, roles: dict[str, str]) -> None:
    if not isinstance(axes, str):
        raise TypeError(f"{name} of a layout must be a string of axis letters, got {axes!r}.")
    wanted = " and ".join(f"{letter} ({role})" for letter, role in roles.items())
    expected = f"{name} must hold {wanted} and one to three spatial letters, each once"
    repeated = sorted({letter for letter in axes if axes.count(letter) > 1})
    if repeated:
        raise ValueError(f"{expected}, but {axes!r} repeats {', '.join(repeated)}.")
    missing = [letter for letter in roles if letter not in axes]
    if missing:
        raise ValueError(f"{expected}, but {axes!r} lacks {', '.join(missing)}.")
    spatial = _spatial(axes, roles)
    # N, C, I and O keep one meaning in all three parts; lower case is a slip, not an axis.
    wrong = [
        letter
        for letter in spatial
        if letter in "NCIO" or not (letter.isupper() or letter.isdigit())
    ]
    if wrong:
        raise ValueError(f"{expected}, but {axes!r} has {', '.join(map(repr, wrong))}.")
    if not 1 <= len(spatial) <= 3:
        raise ValueError(f"{expected}, but {axes!r} has {len(spatial)} spatial letters.")


CHANNELS_LAST = ConvLayout()
