"""Factorisations and solves of a batch of matrices: one after the other on a CPU, where they are.

jaxlib's LAPACK kernels share a batch out over XLA's threads and wait for them; two that run at once
on two threads wait for each other for ever (jaxlib 0.10: the Q of a QR beside a solve with its R,
of 16 matrices of 784 x 32). In a loop over the batch each kernel has one matrix and shares nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from ._interpret import JIT, bind, interpret, interpret_inner
from ._sharding import explicit_sharding, is_spread

_KERNELS = frozenset({"qr", "householder_product", "triangular_solve", "lu", "svd", "eigh", "eig"})


def one_by_one(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return `fn` with such kernels as loops over their first axis where it is lowered for a CPU.

    A batch spread over devices stays whole, since a loop over it would gather it; on an explicit
    mesh, whose types such kernels do not keep, each device takes its own part. The derivatives of
    the result do the same.
    """

    def called(*args: Any) -> Any:
        leaves = jax.tree.leaves(args)
        split = [spec for spec in map(explicit_sharding, leaves) if spec is not None]
        if split:
            rows = jax.sharding.PartitionSpec(split[0].spec[0])
            return jax.shard_map(fn, in_specs=rows, out_specs=rows)(*args)
        if any(is_spread(leaf) for leaf in leaves):
            return fn(*args)
        closed, shapes = jax.make_jaxpr(fn, return_shape=True)(*args)
        outs = interpret(closed.jaxpr, closed.consts, leaves, _apply)
        return jax.tree.unflatten(jax.tree.structure(shapes), outs)

    return called


def _apply(equation: Any, operands: Sequence[Any]) -> list[Any]:
    name = equation.primitive.name
    if name in JIT:
        return interpret_inner(equation, operands, _apply)
    if name in _KERNELS and _is_batch(operands):
        return jax.lax.platform_dependent(
            operands,
            cpu=lambda batch: jax.lax.map(lambda each: bind(equation, each), batch),
            default=lambda batch: bind(equation, batch),
        )
    return bind(equation, operands)


def _is_batch(operands: Sequence[Any]) -> bool:
    lengths = {each.shape[0] for each in operands}
    return all(each.ndim > 2 for each in operands) and len(lengths) == 1
