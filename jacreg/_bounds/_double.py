"""Double precision inside a program in single precision, with derivatives of either mode.

A bound has to count its own rounding. In float32 the a-priori error of a product of two large
matrices is as large as the product; in float64 it is a hundred-millionth. So bounds are computed
in float64 whatever `jax_enable_x64` says, and handed back rounded up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def in_double(
    fn: Callable[[Sequence[Array]], Float[Array, ""]], arrays: Sequence[Any], dtype: Any
) -> Float[Array, ""]:
    """Evaluate `fn(arrays)`, a scalar, with floating arrays in float64; round up to `dtype`.

    The derivative is taken in double precision too, within the same context.
    """
    arrays = [jnp.asarray(each) for each in arrays]
    floating = [i for i, each in enumerate(arrays) if jnp.issubdtype(each.dtype, jnp.floating)]

    # All arrays are arguments: what a rule of derivatives closes over would outlive its trace.
    def scalar(*wide: Array) -> Array:
        return fn(wide)

    @jax.custom_jvp
    def run(*given: Array) -> Array:
        with jax.enable_x64(True):
            return _round_up(scalar(*_widen(given)), dtype)

    @run.defjvp
    def _(primals: Sequence[Array], tangents: Sequence[Array]) -> tuple[Array, Array]:
        with jax.enable_x64(True):
            value, grads = jax.value_and_grad(scalar, argnums=tuple(floating))(*_widen(primals))
            value = _round_up(value, dtype)
            grads = [g.astype(primals[i].dtype) for i, g in zip(floating, grads, strict=True)]
        tangent = sum(
            jnp.sum(g.astype(dtype) * tangents[i].astype(dtype))
            for i, g in zip(floating, grads, strict=True)
        )
        return value, jnp.asarray(tangent, dtype)

    if not floating:
        with jax.enable_x64(True):
            return _round_up(scalar(*arrays), dtype)
    return run(*arrays)


def _widen(arrays: Sequence[Array]) -> list[Array]:
    return [
        jax.lax.convert_element_type(each, jnp.float64)
        if jnp.issubdtype(each.dtype, jnp.floating)
        else each
        for each in arrays
    ]


def _round_up(value: Array, dtype: Any) -> Array:
    """The nearest number of `dtype` may lie below; one unit in the last place more does not."""
    limits = jnp.finfo(dtype)
    rounded = (value * (1 + 2 * float(limits.eps))).astype(dtype)
    # What is too small for `dtype` would be rounded to 0.
    return jnp.where((value > 0) & (rounded < limits.tiny), limits.tiny, rounded)
