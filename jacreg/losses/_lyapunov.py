"""Growth rates of perturbations along a trajectory, and the penalty on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from .._linearize import linearize
from .._probes import draw
from .._sharding import match_sharding, match_varying
from .._structure import BatchStructure, accumulate_dtype
from ._checks import check_batch, check_function, check_key, check_same_shape

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from .._typing import PyTree


def lyapunov_exponents(
    step: Callable[..., Any],
    state: Float[Array, "N *in"],
    inputs: PyTree = None,
    *,
    num_exponents: int = 1,
    num_steps: int | None = None,
    skip: int = 0,
    key: Array | None,
) -> Float[Array, "N k"]:
    """Mean log growth a step of `num_exponents` directions along a trajectory, largest first.

    Orthonormal tangents are pushed through the Jacobian of each step, J v, and orthonormalised
    again: the exponents are the means of log R_ii over the steps (Benettin et al. 1980). Over a
    finite time they depend on the first directions, which `skip` steps let align. A direction that
    a step loses altogether counts as the log of the smallest normal number, without a gradient.

    Source: Engelken 2023 (Gradient Flossing, arXiv:2312.17306).

    Args:
        step: `state [N, *in] -> [N, *in]`, or `(state, input)` where there are `inputs`.
        state: `[N, *in]` (or a pytree of such), where the trajectory starts.
        inputs: `[T, ...]`, one entry a step, or a pytree of such.
        num_exponents: k directions an example, k products a step; the entries of a state at most.
        num_steps: T, where there are no `inputs`.
        skip: first steps that move state and directions and are not counted.
        key: of the first directions, uniform.

    Returns:
        `[N, k]`, natural logarithm, a step.

    Raises:
        ValueError: the step changes the state's shape, no number of steps or two, or a count
            out of range.
        TypeError: the state is not floating point, or the step has no forward mode.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> jacreg.losses.lyapunov_exponents(
        ...     lambda zs: 0.5 * zs, jnp.ones((1, 3)), num_exponents=2, num_steps=4,
        ...     key=jax.random.key(0),
        ... ).round(3)
        Array([[-0.693, -0.693]], dtype=float32)
    """
    return _exponents(
        "lyapunov_exponents", step, state, inputs, num_exponents, num_steps, skip, key
    )


def lyapunov_penalty(
    step: Callable[..., Any],
    state: Float[Array, "N *in"],
    inputs: PyTree = None,
    *,
    num_exponents: int = 1,
    num_steps: int | None = None,
    skip: int = 0,
    target: float = 0.0,
    key: Array | None,
) -> Float[Array, " N"]:
    """Sum of (exponent - target)^2 over the leading Lyapunov exponents of a trajectory.

    With target 0 gradients neither explode nor vanish along the leading directions of a recurrent
    network; a negative target asks for contraction. The gradient goes through the Jacobians
    and the trajectory.

    Source: Engelken 2023 (Gradient Flossing, arXiv:2312.17306), whose code takes the mean over
    the k exponents: our weight is theirs divided by k. It applies the loss before training and in
    phases between, to a trajectory of its own.

    Args:
        step, state, inputs, num_exponents, num_steps, skip, key: as in `lyapunov_exponents`.
        target: natural logarithm of the growth a step.

    Returns:
        `[N]`.

    Raises:
        ValueError, TypeError: as in `lyapunov_exponents`.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> weights = jax.random.normal(jax.random.key(0), (8, 8))
        >>> jacreg.losses.lyapunov_penalty(
        ...     lambda hs: jnp.tanh(hs @ weights), jnp.ones((2, 8)), num_exponents=3,
        ...     num_steps=10, key=jax.random.key(1),
        ... ).shape
        (2,)
    """
    found = _exponents("lyapunov_penalty", step, state, inputs, num_exponents, num_steps, skip, key)
    return jnp.sum((found - target) ** 2, axis=1)


def _exponents(
    who: str,
    step: Callable[..., Any],
    state: PyTree,
    inputs: PyTree,
    num_exponents: int,
    num_steps: int | None,
    skip: int,
    key: Array | None,
) -> Float[Array, "N k"]:
    check_function(who, "step", step)
    state, num_examples = check_batch(who, state, "state")
    steps = _count_steps(who, inputs, num_steps)
    structure = BatchStructure.of(state)
    if not 1 <= num_exponents <= structure.size:
        raise ValueError(
            f"{who}: num_exponents must be between 1 and the {structure.size} entries of a state, "
            f"got {num_exponents}."
        )
    if not 0 <= skip < steps:
        raise ValueError(f"{who}: skip must be between 0 and the {steps} steps - 1, got {skip}.")
    dtype = accumulate_dtype(structure.dtype)
    columns = first_directions(check_key(who, key), state, num_exponents)

    def advance(carry: Any, entry: Any) -> tuple[Any, None]:
        state, columns, total = carry
        number, given = entry
        lin = linearize(lambda zs: step(zs) if inputs is None else step(zs, given), state)
        check_same_shape(who, "what the step returns", lin.value, state, "the state")
        pushed = [
            structure.flatten(lin.jvp(structure.unflatten(column))).astype(dtype)
            for column in columns
        ]
        columns, growth = _orthonormal(pushed)
        value = jax.tree.map(lambda new, old: new.astype(old.dtype), lin.value, state)
        return (value, columns, total + jnp.where(number < skip, 0, growth)), None

    total = match_sharding(jnp.zeros((num_examples, num_exponents), dtype), columns[0])
    start = (match_varying(state, inputs), match_varying(columns, inputs), total)
    (_, _, total), _ = jax.lax.scan(advance, start, (jnp.arange(steps), inputs))
    return (total / (steps - skip)).astype(structure.dtype)


def first_directions(key: Array, state: PyTree, count: int) -> list[Float[Array, "N n"]]:
    """Return orthonormal directions of each example, uniformly distributed."""
    structure = BatchStructure.of(state)
    dtype = accumulate_dtype(structure.dtype)
    # Drawn wide: rounded ones would not be uniform, nor those of another precision.
    wide = jax.tree.map(lambda leaf: leaf.astype(dtype), state)
    drawn = [draw(each, wide, "gaussian") for each in jax.random.split(key, count)]
    return _orthonormal([structure.flatten(each).astype(dtype) for each in drawn])[0]


def _orthonormal(
    columns: list[Float[Array, "N n"]],
) -> tuple[list[Float[Array, "N n"]], Float[Array, "N k"]]:
    """Return the columns orthonormalised in their order, and log R_ii of their QR factorisation."""
    found: list[Array] = []
    logs = []
    for column in columns:
        # Twice, so that nearly parallel ones come out orthogonal to rounding.
        for _ in range(2):
            for other in found:
                column = column - jnp.sum(other * column, axis=1, keepdims=True) * other
        # Divided by its largest entry first, whose square may be out of range.
        peak = jax.lax.stop_gradient(jnp.max(jnp.abs(column), axis=1, keepdims=True))
        tiny = jnp.finfo(column.dtype).tiny
        kept = peak >= tiny
        scaled = column / jnp.where(kept, peak, 1)
        square = jnp.where(kept, jnp.sum(scaled**2, axis=1, keepdims=True), 1)
        found.append(scaled * jax.lax.rsqrt(square))
        logs.append((jnp.log(jnp.maximum(peak, tiny)) + 0.5 * jnp.log(square))[:, 0])
    return found, jnp.stack(logs, axis=1)


def _count_steps(who: str, inputs: PyTree, num_steps: int | None) -> int:
    leaves = jax.tree.leaves(inputs)
    if not leaves:
        if num_steps is None or num_steps < 1:
            raise ValueError(f"{who}: num_steps must be positive without inputs, got {num_steps}.")
        return num_steps
    lengths = {jnp.shape(leaf)[:1] for leaf in leaves}
    if len(lengths) > 1 or lengths == {()}:
        raise ValueError(f"{who}: inputs must share a leading axis of steps, got {lengths}.")
    ((length,),) = lengths
    if num_steps is not None and num_steps != length:
        raise ValueError(f"{who}: inputs have {length} steps, but num_steps is {num_steps}.")
    return length
