"""One product of a weight and an activation: its positions, inputs and cotangents.

The derivative of `z = a W` by W is the sum over the positions f of `a[f] (x) d[f]`, where d is
the cotangent of z: of a dense layer there is one position, of a convolution each pixel, whose
`a[f]` is the patch that the kernel sees.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp

from .._convolution_spec import met_by_taps
from ._weight import Weight

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class Sizes(NamedTuple):
    """Blocks of the weight that do not meet, positions, inputs and outputs of one position."""

    blocks: int
    positions: int
    inputs: int
    outputs: int


class Use(NamedTuple):
    """One equation `z = a W`.

    Attributes:
        leaf, box, view: the weight's, as in `Weight`.
        roles: what each axis of the weight is; uses of equal roles add up.
        side: which of the two operands is the weight.
        params: of the equation.
        shapes: of a, W and z.
        dtype: of z.
    """

    leaf: int
    box: Any
    view: tuple[Any, ...]
    roles: tuple[Any, ...]
    side: int
    params: dict[str, Any]
    shapes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    dtype: Any

    @property
    def key(self) -> tuple[Any, ...]:
        """Uses of one key see the same entries of the same leaf in the same places."""
        return (self.leaf, self.box, self.view, self.roles)

    def sizes(self) -> Sizes:
        """Return the sizes of what `inputs` and `cotangents` give."""
        activation, weight, result = self.shapes
        if self.roles[0] == "conv":
            groups = self.params["feature_group_count"]
            outputs = weight[self.params["dimension_numbers"].rhs_spec[0]]
            positions = prod(result) // outputs
            return Sizes(groups, positions, prod(weight) // outputs, outputs // groups)
        batch = prod(weight[axis] for axis in self.roles[1])
        inputs = prod(weight[axis] for axis in self.roles[2])
        positions = prod(activation) // max(batch * inputs, 1)
        return Sizes(batch, positions, inputs, prod(weight) // max(batch * inputs, 1))

    def inputs(self, activation: Float[Array, "..."]) -> Float[Array, "B F K"]:
        """The activation as what each position multiplies the weight with."""
        if self.roles[0] == "conv":
            return self._patches(activation)
        batch, contracted, free = self._axes()
        blocks, positions, inputs, _ = self.sizes()
        order = (*batch[0], *free, *contracted[0])
        return jnp.transpose(activation, order).reshape(blocks, positions, inputs)

    def cotangents(self, cotangent: Float[Array, "..."]) -> Float[Array, "B F C"]:
        """The cotangent of z in the same order."""
        blocks, positions, _, outputs = self.sizes()
        if self.roles[0] == "conv":
            batch, feature, *spatial = self.params["dimension_numbers"].out_spec
            found = jnp.transpose(cotangent, (batch, *spatial, feature))
            found = found.reshape(positions, blocks, outputs)
            return jnp.swapaxes(found, 0, 1)
        # The result's axes: batch as the equation lists it, free ones of the left, of the right.
        (_, (left, _)) = self.params["dimension_numbers"]
        weight_batch = self.params["dimension_numbers"][1][self.side]
        by_weight = [list(weight_batch).index(axis) for axis in self.roles[1]]
        rest = range(len(left), len(self.shapes[2]))
        free = len(self._axes()[2])
        split = len(left) + (free if self.side == 1 else len(rest) - free)
        first, second = tuple(range(len(left), split)), tuple(range(split, len(self.shapes[2])))
        order = (*by_weight, *first, *second) if self.side == 1 else (*by_weight, *second, *first)
        return jnp.transpose(cotangent, order).reshape(blocks, positions, outputs)

    def _axes(self) -> tuple[Any, Any, tuple[int, ...]]:
        """Batch and contracted axes, of the activation and of the weight, and free axes."""
        contracted, batch = self.params["dimension_numbers"]
        one, other = 1 - self.side, self.side
        found = []
        for axes in (batch, contracted):
            pairs = sorted(zip(axes[other], axes[one], strict=True))
            found.append(([a for _, a in pairs], [w for w, _ in pairs]))
        used = {*found[0][0], *found[1][0]}
        free = tuple(a for a in range(len(self.shapes[0])) if a not in used)
        return found[0], found[1], free

    def _patches(self, image: Float[Array, "..."]) -> Float[Array, "G F K"]:
        """What the kernel sees at each position, taps before channels."""
        params = self.params
        numbers = params["dimension_numbers"]
        batch, feature, *spatial = numbers.lhs_spec
        image = jnp.transpose(image, (batch, *spatial, feature))
        taps = [self.shapes[1][axis] for axis in numbers.rhs_spec[2:]]
        parts = [seen for _, seen in met_by_taps(image, taps, params)]
        groups, positions, _, _ = self.sizes()
        found = jnp.stack(parts, axis=-2).reshape(positions, len(parts), groups, -1)
        return jnp.moveaxis(found, 2, 0).reshape(groups, positions, -1)


def use_of(equation: Any, operands: list[Any]) -> Use | None:
    """Return the use that an equation makes of its one weight, or None where it is no product."""
    name, params = equation.primitive.name, equation.params
    if name not in ("dot_general", "conv_general_dilated"):
        return None
    side = 1 if isinstance(operands[1], Weight) else 0
    weight, activation = operands[side], equation.invars[1 - side].aval
    result = equation.outvars[0].aval
    if isinstance(operands[1 - side], Weight):
        return None
    for aval in (activation, result, equation.invars[side].aval):
        if not jnp.issubdtype(aval.dtype, jnp.floating) or aval.size == 0:
            return None
    if name == "dot_general":
        contracted, batch = params["dimension_numbers"]
        roles = ("dot", tuple(sorted(batch[side])), tuple(sorted(contracted[side])))
    else:
        if side == 0 or params["batch_group_count"] != 1:
            return None
        roles = ("conv", params["dimension_numbers"].rhs_spec, params["feature_group_count"])
    shapes = (tuple(activation.shape), tuple(weight.array.shape), tuple(result.shape))
    return Use(
        weight.leaf, weight.box, weight.view, roles, side, dict(params), shapes, result.dtype
    )
