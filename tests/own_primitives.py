"""Primitives as a user may add them to JAX, with what JAX itself asks of one, and no row here."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
from jax.interpreters import ad, batching, mlir


def primitive(
    name: str, fn: Callable[..., Any], *, batched: Sequence[int] | None = None
) -> Callable[..., Any]:
    """A function as one operation of programs, differentiated and evaluated as `fn` is.

    Args:
        name: of the primitive.
        fn: elementwise, or of arrays whose last axes it works along; a tuple where it returns
            several.
        batched: the axes for which it has a rule of `jax.vmap`; None means all, none that there is
            no rule.
    """
    own = jex.Primitive(name)
    own.multiple_results = True
    own.def_impl(lambda *operands: _several(fn(*operands)))
    own.def_abstract_eval(
        lambda *avals: [
            jax.core.ShapedArray(out.shape, out.dtype)
            for out in _several(jax.eval_shape(fn, *avals))
        ]
    )
    mlir.register_lowering(
        own, mlir.lower_fun(lambda *operands: _several(fn(*operands)), multiple_results=True)
    )

    def jvp(primals: Any, tangents: Any) -> Any:
        tangents = [ad.instantiate_zeros(tangent) for tangent in tangents]
        _, outs = jax.jvp(lambda *at: _several(fn(*at)), list(primals), tangents)
        return own.bind(*primals), outs

    ad.primitive_jvps[own] = jvp
    if batched is None or len(batched):

        def batch(operands: Any, axes: Any) -> Any:
            if batched is not None and not {*axes} <= {None, *batched}:
                raise NotImplementedError(f"{name}: vmap over axes {axes}")
            moved = [
                each if axis is None else jnp.moveaxis(each, axis, 0)
                for each, axis in zip(operands, axes, strict=True)
            ]
            outs = jax.vmap(fn, [None if axis is None else 0 for axis in axes])(*moved)
            return _several(outs), [0] * len(_several(outs))

        batching.primitive_batchers[own] = batch
    return lambda *operands: _unpacked(own.bind(*operands))


def _several(outs: Any) -> list[Any]:
    return list(outs) if isinstance(outs, tuple) else [outs]


def _unpacked(outs: list[Any]) -> Any:
    return outs[0] if len(outs) == 1 else tuple(outs)
