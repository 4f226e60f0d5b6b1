"""What `linearize` takes: a batch, and arguments that share its axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ._traced import is_traced

if TYPE_CHECKING:
    from jaxtyping import Array

    from ._typing import PyTree


def check_no_numbers(who: str, xs: PyTree) -> None:
    """Raise a TypeError where a batch is a list of numbers."""
    numbers = [x for x in jax.tree.leaves(xs) if isinstance(x, bool | int | float | complex)]
    if numbers and isinstance(xs, list | tuple):
        raise TypeError(
            f"{who}: xs must be arrays [N, *in], got a {type(xs).__name__} of numbers such as "
            f"{numbers[0]!r}, which is a tree of scalars to JAX. Pass an array, jnp.asarray(xs)."
        )


def as_input(leaf: Any) -> Array:
    """A leaf of the batch as an array.

    Raises:
        TypeError: it is none.
    """
    try:
        return jnp.asarray(leaf)
    except TypeError:
        raise TypeError(
            f"linearize: xs must be arrays [N, *in] of floating-point numbers, got {_shown(leaf)}."
        ) from None


def as_argument(number: int, leaf: Any) -> Array:
    """A leaf of the argument of that number, counted after the batch, as an array.

    Raises:
        TypeError: it is none.
    """
    try:
        return jnp.asarray(leaf)
    except TypeError:
        raise TypeError(
            f"linearize: argument {number} after xs is {_shown(leaf)}, which JAX cannot trace. "
            "Arguments are arrays that share the batch axis; close over options, functions and "
            "modules: linearize(lambda x: fn(x, option), xs)."
        ) from None


def _shown(leaf: Any) -> str:
    if isinstance(leaf, str | bytes):
        return repr(leaf)
    dtype = f" of {leaf.dtype}" if hasattr(leaf, "dtype") else ""
    return f"{type(leaf).__name__}{dtype}"


def note_flag(error: Exception, args: tuple[Any, ...]) -> bool:
    """Say of a flag or a count among the arguments that it is traced, if the function read it."""
    errors = jax.errors.ConcretizationTypeError | jax.errors.TracerIntegerConversionError
    if not isinstance(error, errors):
        return False
    for number, arg in enumerate(args, start=1):
        for leaf in jax.tree.leaves(arg):
            own = {bool: "b", int: "i"}.get(type(leaf), "")
            kind = getattr(leaf.dtype, "kind", "") if hasattr(leaf, "dtype") else own
            if is_traced(leaf) or np.ndim(leaf) or kind not in "biu":
                continue
            whole = f"{leaf}" if leaf is arg else f"argument_{number}"
            error.add_note(
                f"linearize: argument {number} after xs is a {'flag' if kind == 'b' else 'number'} "
                f"({leaf}). Arguments are traced, so that no `if`, range or shape may read them; "
                f"close over flags and counts: linearize(lambda x: fn(x, {whole}), xs)."
            )
            return True
    return False


def check_inputs(xs: PyTree, args: tuple[PyTree, ...]) -> int:
    """The number of examples.

    Raises:
        TypeError: the batch is not real and of floating point.
        ValueError: it has no batch axis, or others have another one.
    """
    leaves = jax.tree.leaves(xs)
    if not leaves:
        raise ValueError("linearize: xs holds no array; pass the batch [N, *in] to differentiate.")
    for x in leaves:
        if jnp.issubdtype(x.dtype, jnp.complexfloating):
            raise TypeError(
                f"linearize: xs must be real, got {x.dtype}; pass the real and the imaginary part "
                "as two inputs: linearize(lambda x: fn(x[0] + 1j * x[1]), (xs.real, xs.imag))."
            )
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(
                f"linearize: xs must be floating point to have a Jacobian, got {x.dtype}; "
                "cast it (xs.astype(jnp.float32)) or pass it after xs as an argument that "
                "is not differentiated."
            )
        if x.ndim == 0:
            raise ValueError(
                "linearize: xs must have a batch axis [N, *in], got a scalar; use xs[None]."
            )
    sizes = {x.shape[0] for x in leaves}
    if len(sizes) > 1:
        raise ValueError(
            f"linearize: the leaves of xs must share the batch axis, got lengths {sorted(sizes)}."
        )
    (num_examples,) = sizes
    for number, arg in enumerate(args, start=1):
        for leaf in jax.tree.leaves(arg):
            if leaf.ndim and leaf.shape[0] != num_examples:
                raise ValueError(
                    f"linearize: argument {number} after xs has shape {leaf.shape}, but the "
                    f"batch has N={num_examples}. Arguments share the batch axis (or are "
                    "scalars); close over what does not: linearize(lambda x: fn(x, table), xs)."
                )
    return num_examples
