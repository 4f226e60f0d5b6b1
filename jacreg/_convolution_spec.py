"""What is static about a convolution: parameters, and shapes of images, kernel and result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array

OUT, IMAGES, KERNEL = "out", "images", "kernel"
# The operands of each product, in order.
OPERANDS = {OUT: (IMAGES, KERNEL), IMAGES: (KERNEL, OUT), KERNEL: (IMAGES, OUT)}


class Convolution(NamedTuple):
    """What is static about a convolution.

    Attributes:
        params: of `conv_general_dilated`, by name.
        images, kernel, out: shape and dtype of each.
    """

    params: tuple[tuple[str, Any], ...]
    images: tuple[tuple[int, ...], Any]
    kernel: tuple[tuple[int, ...], Any]
    out: tuple[tuple[int, ...], Any]

    @classmethod
    def of(cls, equation: Any) -> Convolution:
        """Read it from an equation of `conv_general_dilated`."""
        avals = [each.aval for each in (*equation.invars, *equation.outvars)]
        params = tuple(sorted(equation.params.items()))
        return cls(params, *((aval.shape, aval.dtype) for aval in avals))

    def struct(self, role: str) -> jax.ShapeDtypeStruct:
        """Return the shape and dtype of one of the three."""
        return jax.ShapeDtypeStruct(*getattr(self, role))

    def batch_axis(self, role: str) -> int | None:
        """Return the axis of the examples, where that can be longer by itself."""
        params = dict(self.params)
        if role == KERNEL or params["batch_group_count"] != 1:
            return None
        numbers = params["dimension_numbers"]
        return (numbers.lhs_spec if role == IMAGES else numbers.out_spec)[0]

    @property
    def num_examples(self) -> int:
        """Return how many there are, where `batch_axis` is known."""
        axis = self.batch_axis(IMAGES)
        assert axis is not None
        return self.images[0][axis]

    def with_examples(self, count: int) -> Convolution:
        """Return the same for `count` examples."""
        changed = {}
        for role in (IMAGES, OUT):
            shape, dtype = getattr(self, role)
            axis = self.batch_axis(role)
            shape = tuple(count if a == axis else n for a, n in enumerate(shape))
            changed[role] = (shape, dtype)
        return self._replace(**changed)


def met_by_taps(
    images: Array, taps: Sequence[int], params: Mapping[str, Any]
) -> Iterator[tuple[tuple[int, ...], Array]]:
    """What each tap of a kernel meets, `[N, *out, C]`, of images `[N, *in, C]`.

    Args:
        images: with the channels last.
        taps: of the kernel along each spatial axis.
        params: of `conv_general_dilated`.
    """
    edges = zip(params["padding"], params["lhs_dilation"], strict=True)
    edges = [(0, 0, 0), *((*ends, apart - 1) for ends, apart in edges), (0, 0, 0)]
    images = jax.lax.pad(images, jnp.zeros((), images.dtype), edges)
    strides, apart = params["window_strides"], params["rhs_dilation"]
    sizes = zip(images.shape[1:-1], taps, apart, strides, strict=True)
    # Of the last output along each axis, the first entry that is read.
    last = [(n - (count - 1) * step - 1) // stride * stride for n, count, step, stride in sizes]
    for tap in product(*map(range, taps)):
        low = [place * step for place, step in zip(tap, apart, strict=True)]
        high = [start + end + 1 for start, end in zip(low, last, strict=True)]
        ends = (0, *low, 0), (images.shape[0], *high, images.shape[-1])
        yield tap, jax.lax.slice(images, *ends, (1, *strides, 1))
