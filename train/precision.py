"""bfloat16 inside the network, float32 around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from train.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import PyTree

    from train.sections import Config

# Tasks whose network is one call; the others solve equations or integrate with it to a tolerance
# that bfloat16 cannot reach, or take it apart.
TASKS = ("classification", "regression", "score")
# They divide a difference of two outputs by its small cause: bfloat16 rounds it away.
_DIFFERENCES = ("noise_injection", "contractive_hessian")


def check_precision(config: Config) -> None:
    """Raise unless what the config asks for can be computed in its precision.

    Raises:
        ConfigError: bfloat16 with a task that needs more, or with a finite difference.
    """
    if config.training.precision == "float32":
        return
    prefix = f'training.precision: got "{config.training.precision}", '
    if config.task.name not in TASKS:
        raise ConfigError(
            f'{prefix}but the task "{config.task.name}" works to a tolerance that it cannot reach; '
            f'expected "float32", or a task among {", ".join(TASKS)}.'
        )
    differences = [
        f"penalty.{index}"
        for index, penalty in enumerate(config.penalty)
        if penalty.name in _DIFFERENCES
        or (penalty.method is not None and penalty.method.name in _DIFFERENCES)
    ]
    if config.task.options.get("loss") == "finite_difference":
        differences.append("task.loss")
    if differences:
        raise ConfigError(
            f"{prefix}but {differences[0]} is a finite difference of outputs, which its 8 bits "
            'round away; expected "float32", or one that takes derivatives.'
        )


def computed_in(apply: Callable[..., Any], precision: str) -> Callable[..., Any]:
    """Return `(params, state, xs, ...) -> (ys, state)` that computes in another precision.

    Parameters and inputs are cast on the way in and outputs on the way out, so that gradients,
    tangents and cotangents outside the network have the dtypes that they had; the state (the
    running statistics) goes in and comes out as it is.
    """
    if precision == "float32":
        return apply
    dtype = jnp.dtype(precision)

    def narrow(params: PyTree, state: PyTree, *inputs: Any, **options: Any) -> Any:
        params, inputs = _cast((params, inputs), jnp.float32, dtype)
        ys, new_state = apply(params, state, *inputs, **options)
        new_state = jax.tree.map(
            lambda new, old: new.astype(old.dtype) if hasattr(old, "dtype") else new,
            new_state,
            state,
        )
        return _cast(ys, dtype, jnp.float32), new_state

    return narrow


def _cast(tree: PyTree, old: Any, new: Any) -> PyTree:
    def cast(leaf: Any) -> Any:
        return leaf.astype(new) if getattr(leaf, "dtype", None) == old else leaf

    return jax.tree.map(cast, tree)
