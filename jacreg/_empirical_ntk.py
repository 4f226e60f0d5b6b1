"""Empirical neural tangent kernel: inner products of parameter Jacobians."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ._errors import DirectionError
from ._flops import count_flops
from ._memory import check_fits
from ._methods import check_count
from ._structure import BatchStructure

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from ._typing import PyTree

    RowFunction = Callable[[list[Array], PyTree], Float[Array, "N M"]]

# Entries of the parameter Jacobian of one block of examples.
_BLOCK_ENTRIES = 1 << 24
# Up to so many blocks a symmetric kernel is unrolled; the compiler may then compute each of
# them once and keep it, so that the bound on memory is that of all of them together.
_FEW_BLOCKS = 2


def empirical_ntk(
    apply: Callable[[PyTree, PyTree], PyTree],
    params: PyTree,
    xs: Float[Array, "N1 *in"],
    others: Float[Array, "N2 *in"] | None = None,
    *,
    trace_outputs: bool = True,
    chunk_size: int | None = None,
) -> Float[Array, "N1 N2"]:
    """Empirical neural tangent kernel of `apply` at `params`.

    Theta[i, j] = sum_m <d f_m(x_i) / d params, d f_m(x_j) / d params>: the plain sum over
    the M outputs, not divided by M. With `trace_outputs=False` the full kernel
    Theta[i, j, a, b] = <d f_a(x_i) / d params, d f_b(x_j) / d params>.

    The memory is bounded: blocks of the parameter Jacobian of at most 64 MiB (float32), two at
    once, never that of a larger batch. Two strategies, the one
    with fewer operations: blocks of it, contracted with each other (the rows of a
    symmetric kernel once); or, where one example's M x P block is itself too large or
    the outputs are many, one column at a time by a vjp and the jvp after it. A network with
    one direction only (a custom VJP, a `while_loop`) takes the blocks, by that direction.

    Args:
        apply: `apply(params, xs) -> [N, *out]`, for any N, its rows independent.
        params: any pytree; leaves that are not floating point are ignored.
        xs: `[N1, *in]`, an array or a pytree of such.
        others: `[N2, *in]`; None means `xs`, a symmetric kernel.
        trace_outputs: sum over the outputs, or keep them all.
        chunk_size: examples at once; None bounds the memory.

    Returns:
        `[N1, N2]`, or `[N1, N2, M, M]` with M = prod(out).

    Raises:
        TypeError: the outputs are not floating point, or no parameter is.
        ValueError: the outputs lose the batch axis, or differ for `xs` and `others`.

    Source: Jacot, Gabriel, Hongler 2018; the strategies as in Novak, Sohl-Dickstein,
    Schoenholz 2022.
    """
    if chunk_size is not None:
        check_count("empirical_ntk", "chunk_size", chunk_size)
    floats, call = _over_floats(apply, params)
    xs = _as_arrays("xs", xs)
    symmetric = others is None
    others = xs if others is None else _as_arrays("others", others)
    outputs = _check_output(call, floats, xs, "xs")
    if outputs != (other_outputs := _check_output(call, floats, others, "others")):
        raise ValueError(
            "empirical_ntk: apply must return outputs of one shape for xs and others, got "
            f"{outputs.describe()} and {other_outputs.describe()}."
        )
    n1, n2, m = _length(xs), _length(others), outputs.size
    if min(n1, n2, m) == 0:
        shape = (n1, n2) if trace_outputs else (n1, n2, m, m)
        return jnp.zeros(shape, outputs.dtype)

    check_fits(
        "empirical_ntk",
        "the kernel",
        (n1, n2) if trace_outputs else (n1, n2, m, m),
        outputs.dtype,
        "Take fewer examples at once" + ("." if trace_outputs else ", or trace_outputs=True."),
    )

    def rows(values: list[Array], batch: PyTree) -> Float[Array, "N M"]:
        return outputs.flatten(call(values, batch))

    block = chunk_size or _block_size(floats, m, n1, n2)
    transform, both = _directions(rows, floats, xs)
    if not both or _contraction_is_cheaper(
        rows, floats, xs, (n1, n2, m), block, trace_outputs, symmetric
    ):
        kernel = _by_contraction(
            rows, floats, xs, others, trace_outputs, block, symmetric, transform
        )
    else:
        kernel = _by_products(rows, floats, xs, others, trace_outputs, chunk_size or 1)
    return kernel.astype(outputs.dtype)


def _directions(
    rows: RowFunction, floats: list[Array], xs: PyTree
) -> tuple[Callable[..., Any], bool]:
    """`jax.jacrev`, or `jax.jacfwd` where only that works, and whether both do.

    Raises:
        DirectionError: neither works.
    """
    first = jax.tree.map(lambda x: x[:1], xs)
    working, errors = [], []
    for transform in (jax.jacrev, jax.jacfwd):
        try:
            jax.eval_shape(transform(lambda v: rows(v, first)), floats)
        except (TypeError, ValueError, NotImplementedError) as error:
            errors.append(error)
        else:
            working.append(transform)
    if not working:
        raise DirectionError(
            "empirical_ntk: apply has neither a reverse-mode nor a forward-mode derivative in its "
            f"parameters: {errors[0]}"
        ) from errors[0]
    return working[0], len(working) == 2


def _over_floats(apply: Callable[..., Any], params: PyTree) -> tuple[list[Array], Any]:
    """The floating-point leaves, and `apply` as a function of them."""
    leaves, treedef = jax.tree.flatten(params)
    is_float = [
        (hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating))
        or isinstance(leaf, float)
        for leaf in leaves
    ]
    if not any(is_float):
        raise TypeError(
            "empirical_ntk: params has no floating-point leaf to differentiate; pass the "
            f"network's parameters, got {treedef}."
        )

    def call(values: list[Array], batch: PyTree) -> PyTree:
        given = iter(values)
        merged = [next(given) if f else leaf for f, leaf in zip(is_float, leaves, strict=True)]
        return apply(jax.tree.unflatten(treedef, merged), batch)

    return [jnp.asarray(x) for x, f in zip(leaves, is_float, strict=True) if f], call


def _as_arrays(name: str, batch: PyTree) -> PyTree:
    try:
        batch = jax.tree.map(jnp.asarray, batch)
    except OverflowError as error:
        raise ValueError(f"empirical_ntk: {name} is too large a number: {error}.") from None
    leaves = jax.tree.leaves(batch)
    if not leaves or any(leaf.ndim == 0 for leaf in leaves):
        raise ValueError(f"empirical_ntk: {name} must be a batch [N, *in], got {batch!r}.")
    return batch


def _length(batch: PyTree) -> int:
    return jax.tree.leaves(batch)[0].shape[0]


def _check_output(call: Any, floats: list[Array], batch: PyTree, name: str) -> BatchStructure:
    shapes = jax.eval_shape(call, floats, batch)
    for leaf in jax.tree.leaves(shapes):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(
                f"empirical_ntk: apply must return floating-point values, got {leaf.dtype}; "
                "return logits rather than labels."
            )
        if leaf.shape[:1] != (_length(batch),):
            raise ValueError(
                f"empirical_ntk: apply must keep the batch axis: {name} has "
                f"N={_length(batch)}, the output has shape {tuple(leaf.shape)}. Return one row "
                "an example, not a sum or a mean."
            )
    return BatchStructure.of(shapes)


def _block_size(floats: list[Array], m: int, n1: int, n2: int) -> int:
    """Examples a block: bounded memory, and never the whole batch at once."""
    entries = m * sum(leaf.size for leaf in floats)
    return max(1, min(_BLOCK_ENTRIES // max(entries, 1), (max(n1, n2) + 1) // 2))


def _contraction_is_cheaper(
    rows: RowFunction,
    floats: list[Array],
    xs: PyTree,
    sizes: tuple[int, int, int],
    block: int,
    traced: bool,
    symmetric: bool,
) -> bool:
    n1, n2, m = sizes
    parameters = sum(leaf.size for leaf in floats)
    if m * parameters > 4 * _BLOCK_ENTRIES:
        return False
    one = count_flops(rows, floats, jax.tree.map(lambda x: x[:1], xs))
    blocks1, blocks2 = -(-n1 // block), -(-n2 // block)
    pairs = blocks1 * (blocks1 + 1) // 2 if symmetric else blocks1 * blocks2
    computed = 2 * pairs if symmetric else blocks1 + pairs
    if symmetric and blocks1 <= _FEW_BLOCKS:
        computed = pairs
    contraction = computed * block * m * 2 * one
    contraction += pairs * block**2 * m * (1 if traced else m) * 2 * parameters
    products = n2 * m * (2 * one + n1 * 2 * one)
    return contraction <= products


def _by_contraction(
    rows: RowFunction,
    floats: list[Array],
    xs: PyTree,
    others: PyTree,
    traced: bool,
    block: int,
    symmetric: bool,
    transform: Callable[..., Any],
) -> Float[Array, "N1 N2 ..."]:
    left, right = _blocks(xs, block), _blocks(others, block)
    count1, count2 = _length(left), _length(right)

    def jacobians(batch: PyTree) -> list[Float[Array, "B M P"]]:
        def one(x: PyTree) -> list[Array]:
            return transform(lambda v: rows(v, jax.tree.map(lambda a: a[None], x))[0])(floats)

        found = jax.vmap(one)(batch)
        return [j.reshape((*j.shape[:2], -1)) for j in found]

    def contract(first: list[Array], second: list[Array]) -> Float[Array, "B B ..."]:
        equation = "imp,jmp->ij" if traced else "iap,jbp->ijab"
        terms = [
            jnp.einsum(equation, a, b, precision="highest")
            for a, b in zip(first, second, strict=True)
        ]
        return reduce(jnp.add, terms)

    if symmetric and count1 <= _FEW_BLOCKS:
        # Few enough for a program of their own each: a row's block is computed once.
        found: dict[tuple[int, int], Array] = {}
        for i in range(count1):
            held = jacobians(_at(left, i))
            found[i, i] = contract(held, held)
            for j in range(i + 1, count1):
                found[i, j] = contract(held, jacobians(_at(left, j)))
                mirror = jnp.swapaxes(found[i, j], 0, 1)
                found[j, i] = mirror if traced else jnp.swapaxes(mirror, 2, 3)
        grid = jnp.stack([found[i, j] for i in range(count1) for j in range(count1)])
    elif symmetric:
        pairs = [(i, j) for i in range(count1) for j in range(i, count1)]
        firsts, seconds = (jnp.array([p[side] for p in pairs]) for side in (0, 1))
        parts = jax.lax.map(
            lambda ij: contract(jacobians(_at(left, ij[0])), jacobians(_at(left, ij[1]))),
            (firsts, seconds),
        )
        # (i, j) and its mirror (j, i), whose outputs change places too.
        place = {pair: k for k, pair in enumerate(pairs)}
        mirrored = jnp.swapaxes(parts, 1, 2)
        mirrored = mirrored if traced else jnp.swapaxes(mirrored, 3, 4)
        order = jnp.array(
            [
                place[i, j] if i <= j else len(pairs) + place[j, i]
                for i in range(count1)
                for j in range(count1)
            ]
        )
        grid = jnp.concatenate([parts, mirrored])[order]
    else:

        def row(i: Array) -> Array:
            held = jacobians(_at(left, i))
            return jax.lax.map(
                lambda j: contract(held, jacobians(_at(right, j))), jnp.arange(count2)
            )

        grid = jax.lax.map(row, jnp.arange(count1))
    grid = grid.reshape((count1, count2, *grid.shape[-(2 if traced else 4) :]))
    grid = jnp.moveaxis(grid, 2, 1)
    full = grid.reshape((count1 * block, count2 * block, *grid.shape[4:]))
    return full[: _length(xs), : _length(others)]


def _blocks(batch: PyTree, block: int) -> PyTree:
    """`[N, ...]` as `[blocks, block, ...]`, the last row repeated to fill the last block."""
    length = _length(batch)
    count = -(-length // block)
    index = jnp.minimum(jnp.arange(count * block), length - 1)
    return jax.tree.map(lambda x: x[index].reshape((count, block, *x.shape[1:])), batch)


def _at(batch: PyTree, index: Array | int) -> PyTree:
    return jax.tree.map(lambda x: x[index], batch)


def _by_products(
    rows: RowFunction,
    floats: list[Array],
    xs: PyTree,
    others: PyTree,
    traced: bool,
    chunk: int,
) -> Float[Array, "N1 N2 ..."]:
    _, push = jax.linearize(lambda v: rows(v, xs), floats)

    def columns(x: PyTree) -> Float[Array, "N1 ..."]:
        """The kernel between every row of `xs` and the example x."""
        value, pull = jax.vjp(lambda v: rows(v, jax.tree.map(lambda a: a[None], x))[0], floats)

        def column(index: Array) -> Float[Array, "N1 M"]:
            cotangent = (jnp.arange(value.size) == index).astype(value.dtype)
            image = push(pull(cotangent)[0])
            return jnp.take(image, index, axis=1) if traced else image

        if traced:
            total = jnp.zeros(_length(xs), value.dtype)
            return jax.lax.fori_loop(0, value.size, lambda i, t: t + column(i), total)
        return jnp.moveaxis(jax.lax.map(column, jnp.arange(value.size)), 0, 2)

    return jnp.moveaxis(jax.lax.map(columns, others, batch_size=chunk), 0, 1)
