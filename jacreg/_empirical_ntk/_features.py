"""What the kernel needs of each example: Jacobians of some parameters, factors of others.

No Jacobian of a weight is formed by differentiating for it. A zero (a tap) is added to the result
of every product `z = a W`; one backward pass an output, of all taps at once, gives the cotangents
d of every z, and the Jacobian by W is the sum over positions of `a (x) d`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp

from .._interpret import propagate
from .._structure import accumulate_dtype, common_dtype
from ._plan import Group, Plan

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from .._typing import PyTree


class Factors(NamedTuple):
    """Inputs and cotangents of a weight's products, a position each, `[I, B, F, K]` and more.

    Attributes:
        inputs: `[I, B, F, K]`.
        cotangents: `[I, M, B, F, C]`; I is 1 where they are the same for all examples.
    """

    inputs: Float[Array, "I B F K"]
    cotangents: Float[Array, "I M B F C"]


class Features(NamedTuple):
    """Of a block of examples, what a kernel with another block is made of.

    Attributes:
        jacobians: `[I, M, p]` each; I is 1 where they are the same for all examples.
        factors: of the other parameters.
    """

    jacobians: list[Float[Array, "I M p"]]
    factors: list[Factors]


def features_of(
    plan: Plan, values: Sequence[Array], example: PyTree
) -> Callable[[PyTree], Features]:
    """Return the function from a block of examples to its `Features`.

    Args:
        plan: what to hold.
        values: all leaves.
        example: one of them, for its shapes.
    """
    closed, shapes = jax.make_jaxpr(partial(_of_one, plan, values), return_shape=True)(example)
    treedef = jax.tree.structure(shapes)
    own = _own(closed.jaxpr)
    # A factor with many positions is multiplied pair by pair, and simpler with its own row.
    several = [False] * len(shapes.jacobians)
    for factors in shapes.factors:
        several += [True, factors.cotangents.shape[2] > 1]
    own = [a or b for a, b in zip(own, several, strict=True)]

    def found(block: PyTree) -> Features:
        run = jex.jaxpr_as_fun(closed)
        outs = jax.vmap(run, out_axes=[0 if each else None for each in own])(
            *jax.tree.leaves(block)
        )
        rows = [x if each else x[None] for x, each in zip(outs, own, strict=True)]
        return jax.tree.unflatten(treedef, rows)

    return found


def forward_features(
    rows: Callable[[list[Array], PyTree], Float[Array, "N M"]], values: list[Array]
) -> Callable[[PyTree], Features]:
    """Return the function from a block to `Features` where there is a forward mode alone."""

    def one(x: PyTree) -> Features:
        single = jax.tree.map(lambda leaf: leaf[None], x)
        jacobians = jax.jacfwd(lambda values: rows(values, single)[0])(values)
        return Features([j.reshape(j.shape[0], -1) for j in jacobians], [])

    return jax.vmap(one)


def _own(jaxpr: Any) -> list[bool]:
    """Which outputs of a program of one example depend on it."""
    given = [True] * len(jaxpr.invars)
    found = propagate(jaxpr, given, lambda equation, own: [True] * len(equation.outvars))
    return [each is not None for each in found]


def _of_one(plan: Plan, values: Sequence[Array], x: PyTree) -> Features:
    reading = plan.reading
    inputs = [leaf[None] for leaf in jax.tree.leaves(x)]
    taps = [jnp.zeros(use.shapes[2], use.dtype) for use in reading.uses]

    def call(taps: list[Array], general: list[Array]) -> tuple[Array, Any]:
        given = dict(zip(reading.general, general, strict=True))
        merged = [given.get(number, value) for number, value in enumerate(values)]
        (rows,), seen = reading.run(merged, inputs, taps)
        return rows[0], seen

    general = [values[leaf] for leaf in reading.general]
    value, pull, seen = jax.vjp(call, taps, general, has_aux=True)
    cotangents, jacobians = jax.vmap(pull)(jnp.eye(value.size, dtype=value.dtype))
    found = Features([j.reshape(value.size, -1) for j in jacobians], [])
    for group in plan.groups:
        factors = _factors(plan, group, seen, cotangents)
        if group.factored:
            found.factors.append(factors)
        else:
            found.jacobians.append(_jacobian(*factors))
    return found


def _factors(plan: Plan, group: Group, seen: list[Any], cotangents: list[Array]) -> Factors:
    """Of one example, the positions of all uses of a weight one after the other."""
    inputs, outputs = [], []
    for number in group.uses:
        use = plan.reading.uses[number]
        activation, scale = seen[number]
        inputs.append(use.inputs(activation))
        found = jax.vmap(use.cotangents)(cotangents[number])
        outputs.append(found if scale is None else found * jnp.asarray(scale, found.dtype))
    # Uses of several precisions, or results more precise than what they are made of.
    dtypes = {x.dtype for x in (*inputs, *outputs)}
    if len(dtypes) > 1:
        wide = common_dtype(dtypes)
        inputs, outputs = ([x.astype(wide) for x in each] for each in (inputs, outputs))
    return Factors(jnp.concatenate(inputs, 1), jnp.concatenate(outputs, 2))


def _jacobian(inputs: Float[Array, "B F K"], cotangents: Float[Array, "M B F C"]) -> Array:
    wide = accumulate_dtype(cotangents.dtype)
    found = jnp.einsum(
        "bfk,mbfc->mbkc", inputs, cotangents, precision="highest", preferred_element_type=wide
    )
    return found.reshape(cotangents.shape[0], -1)
