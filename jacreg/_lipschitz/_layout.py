"""A convolution in lax's three strings, for layers that work on its kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float

Padding = str | int | Sequence[int] | Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Convolution:
    """What is static about a layer's convolution; numbers go in the kernel's spatial order.

    Attributes:
        layout: order of the axes of inputs, kernel and outputs, as lax has them.
        kernel_size, strides: one number a spatial axis.
        padding: "SAME", "VALID", or a pair a spatial axis.
        groups: of channels.
    """

    layout: tuple[str, str, str]
    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str | tuple[tuple[int, int], ...]
    groups: int

    @classmethod
    def of(
        cls,
        name: str,
        layout: Any,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: Padding = "SAME",
        groups: int = 1,
    ) -> Convolution:
        """Check and complete the arguments of a layer called `name`.

        Raises:
            ValueError: a layout or a number that does not fit.
        """
        layout = tuple(getattr(layout, "dimension_numbers", layout))
        rank = _rank(name, layout)
        size, strides = (
            _each(name, "kernel_size", kernel_size, rank),
            _each(name, "strides", strides, rank),
        )
        if groups < 1:
            raise ValueError(f"{name}: groups must be at least 1, got {groups}.")
        if isinstance(padding, str):
            if padding not in ("SAME", "VALID"):
                raise ValueError(
                    f'{name}: padding must be "SAME", "VALID" or numbers, got {padding!r}.'
                )
            return cls(layout, size, strides, padding, groups)
        numbers = [padding] * rank if isinstance(padding, int) else list(padding)
        if len(numbers) != rank:
            raise ValueError(f"{name}: padding needs {rank} entries, got {padding!r}.")
        pairs = tuple((n, n) if isinstance(n, int) else (n[0], n[1]) for n in numbers)
        return cls(layout, size, strides, pairs, groups)

    def kernel_shape(self, into: int, out: int) -> tuple[int, ...]:
        """The kernel's shape in the layout's own order.

        Raises:
            ValueError: the groups do not divide the channels.
        """
        if into % self.groups or out % self.groups:
            raise ValueError(
                f"groups must divide the channels, got {self.groups} for {into} and {out}."
            )
        sizes = dict(zip(self.spatial, self.kernel_size, strict=True))
        sizes |= {"I": into // self.groups, "O": out}
        return tuple(sizes[letter] for letter in self.layout[1])

    @property
    def spatial(self) -> str:
        """The spatial letters in the kernel's order."""
        return "".join(letter for letter in self.layout[1] if letter not in "IO")

    def check_input(
        self, who: str, shape: tuple[int, ...], kernel: Float[Array, "*taps in out"], axes: str
    ) -> None:
        """Raise unless an input has the axes and the channels that a canonical kernel takes.

        Args:
            who: the layer, first in the error.
            shape: of the input.
            kernel: of the layer.
            axes: letters of the input's axes: those of the layout, or these without N.

        Raises:
            ValueError: another number of axes, or the channels are not where the layout has them.
        """
        into, place = kernel.shape[-2] * self.groups, axes.index("C")
        if len(shape) == len(axes) and shape[place] == into:
            return
        what = "one example" if "N" not in axes else "a batch"
        advice = ""
        if len(shape) == len(axes) and into in shape[axes.find("N") + 1 :]:
            found = shape.index(into, axes.find("N") + 1)
            advice = (
                f" If axis {found} has the channels, move them, jnp.moveaxis(x, {found}, {place}),"
            )
            advice += " or give the layer another layout=."
        elif len(shape) == len(axes) + 1 and "N" not in axes:
            advice = " Of a batch it is jax.vmap(layer)."
        raise ValueError(
            f"{who}: takes {what} with axes {axes}, {into} channels in axis {place}; got shape "
            f"{tuple(shape)}.{advice}"
        )

    def canonical(self, kernel: Float[Array, "..."]) -> Float[Array, "*taps in out"]:
        """The kernel with its channels last, input channels first."""
        return jnp.transpose(kernel, [self.layout[1].index(c) for c in f"{self.spatial}IO"])

    def own(self, kernel: Float[Array, "*taps in out"]) -> Float[Array, "..."]:
        """A canonical kernel in the layout's order."""
        return jnp.transpose(kernel, [f"{self.spatial}IO".index(c) for c in self.layout[1]])

    def __call__(
        self, xs: Float[Array, "..."], kernel: Float[Array, "*taps in out"], outputs: str = ""
    ) -> Float[Array, "..."]:
        """Convolve a batch by a canonical kernel, into the layout's outputs or other ones."""
        return jax.lax.conv_general_dilated(
            xs,
            kernel.astype(xs.dtype),
            self.strides,
            self.padding if isinstance(self.padding, str) else list(self.padding),
            dimension_numbers=(self.layout[0], f"{self.spatial}IO", outputs or self.layout[2]),
            feature_group_count=self.groups,
        )

    def along(self, vector: Float[Array, " C"], axes: str) -> Float[Array, "..."]:
        """A vector of channels, to be multiplied or added to arrays with such axes."""
        return vector.reshape([-1 if letter == "C" else 1 for letter in axes])


def _rank(name: str, layout: tuple[Any, ...]) -> int:
    wanted = (
        f'{name}: layout must be three strings of axes such as ("NHWC", "HWIO", "NHWC"), '
        f"got {layout!r}"
    )
    if len(layout) != 3 or not all(isinstance(part, str) for part in layout):
        raise ValueError(f"{wanted}.")
    spatial = [
        set(part) - set(roles) for part, roles in zip(layout, ("NC", "IO", "NC"), strict=True)
    ]
    rank = len(layout[1]) - 2
    complete = all(
        len(part) == len(set(part)) == rank + 2 and set(roles) <= set(part)
        for part, roles in zip(layout, ("NC", "IO", "NC"), strict=True)
    )
    if not complete or not spatial[0] == spatial[1] == spatial[2] or not 1 <= rank <= 3:
        raise ValueError(f"{wanted}: N and C, I and O, and the same one to three others in each.")
    return rank


def _each(name: str, what: str, value: int | Sequence[int], rank: int) -> tuple[int, ...]:
    numbers = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(numbers) != rank or not all(isinstance(n, int) and n >= 1 for n in numbers):
        raise ValueError(
            f"{name}: {what} must be a positive int or {rank} of them, one a spatial axis of the "
            f"layout, got {value!r}."
        )
    return numbers
