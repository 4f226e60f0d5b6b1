"""The kernel of two blocks of examples from what is held of each."""

from __future__ import annotations

from functools import partial, reduce
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from .._structure import accumulate_dtype, common_dtype
from ._features import Factors, Features

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# Entries of the products between the positions of two blocks of examples that are in memory.
_PAIR_ENTRIES = 1 << 22


def contract(first: Features, second: Features, traced: bool) -> Float[Array, "I J ..."]:
    """Theta between the examples of two blocks, `[I, J]` or `[I, J, M, M]`."""
    terms = [
        _dense(one, other, traced)
        for one, other in zip(first.jacobians, second.jacobians, strict=True)
    ]
    for one, other in zip(first.factors, second.factors, strict=True):
        terms.append(_factored(one, other, traced))
    wide = common_dtype(term.dtype for term in terms)
    return reduce(jnp.add, [term.astype(wide) for term in terms])


def _einsum(equation: str, one: Array, other: Array) -> Array:
    wide = accumulate_dtype(one.dtype)
    return jnp.einsum(equation, one, other, precision="highest", preferred_element_type=wide)


def _dense(one: Array, other: Array, traced: bool) -> Array:
    if traced:
        # Flat: a contraction of two axes is a copy and takes half as long again on CPU.
        return _einsum("ip,jp->ij", _flat(one), _flat(other))
    return _einsum("iap,jbp->ijab", one, other)


def _flat(array: Array) -> Float[Array, "I q"]:
    return array.reshape(array.shape[0], -1)


def _factored(one: Factors, other: Factors, traced: bool) -> Array:
    if one.inputs.shape[2] == 1:
        return _one_position(one, other, traced)
    pairs = one.inputs.shape[1] * one.inputs.shape[2] ** 2 * other.inputs.shape[0]
    if not traced:
        _, outputs, blocks, positions, width = other.cotangents.shape
        pairs = max(pairs, other.inputs.shape[0] * blocks * positions * outputs * width)
    row = partial(_row, other=other, traced=traced)
    batch = max(1, min(_PAIR_ENTRIES // pairs, one.inputs.shape[0]))
    if batch == one.inputs.shape[0]:
        return jax.vmap(row)(one)
    return jax.lax.map(row, one, batch_size=batch)


def _row(one: Factors, other: Factors, traced: bool) -> Array:
    """One example with the others, many positions each."""
    inputs = _einsum("bfk,jbgk->jbfg", one.inputs, other.inputs)
    if traced:
        outputs = _einsum("mbfc,jmbgc->jbfg", one.cotangents, other.cotangents)
        return jnp.sum(inputs * outputs, axis=(1, 2, 3))
    moved = _einsum("jbfg,jmbgc->jmbfc", inputs, other.cotangents.astype(inputs.dtype))
    return _einsum("abfc,jmbfc->jam", one.cotangents.astype(inputs.dtype), moved)


def _one_position(one: Factors, other: Factors, traced: bool) -> Array:
    (left, d), (right, e) = one, other
    inputs = _einsum("ibk,jbk->bij", left[:, :, 0], right[:, :, 0])
    d, e = d[:, :, :, 0], e[:, :, :, 0]
    if left.shape[1] == 1:
        outputs = _dense(d[:, :, 0], e[:, :, 0], traced)
        return inputs[0] * outputs if traced else inputs[0, :, :, None, None] * outputs
    if traced:
        return jnp.sum(inputs * _einsum("imbc,jmbc->bij", d, e), axis=0)
    outputs = _einsum("inbc,jmbc->bijnm", d, e)
    return jnp.sum(inputs[:, :, :, None, None] * outputs, axis=0)
