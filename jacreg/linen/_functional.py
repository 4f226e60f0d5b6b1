"""A linen module as a pure function of its parameters and state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flax import linen as nn

from .._call import Call
from .._functional import Functional
from .._mode import Mode, Statistics, check_mode
from ._call import call_module, evolving
from ._function import check_variables

if TYPE_CHECKING:
    from jaxtyping import PRNGKeyArray

_WHO = "jacreg.linen.functional"


@dataclass(frozen=True, eq=False)
class _Apply:
    module: nn.Module
    call: Call
    mode: Mode
    dropout_key: Any

    def __call__(
        self,
        params: Mapping[str, Any],
        state: Mapping[str, Any],
        xs: Any,
        *args: Any,
        train: bool = False,
        key: Any = None,
    ) -> tuple[Any, Mapping[str, Any]]:
        call = self.call.for_step(train, key, "rngs")
        mode, key = self.mode.for_step(_WHO, train, key, self.dropout_key)
        variables = self.merge(params, state)
        ys, new_state = call_module(call, self.module, variables, mode, key, (xs, *args))
        return ys, new_state if mode.batch_statistics else state

    def merge(self, params: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
        return {"params": params, **state}


def functional(
    module: nn.Module,
    variables: Mapping[str, Any] | None = None,
    *,
    statistics: Statistics = "running",
    dropout_key: PRNGKeyArray | None = None,
    method: str | Callable[..., Any] | None = None,
    wrt: str | None = None,
    **options: Any,
) -> Functional:
    """Return a linen module as `Functional(params, state, apply)`, for a pure training step.

    `params` is `variables["params"]`, `state` a dict of the other collections (batch
    statistics). `Functional.merge(params, state)` is the variables dict again.

    Args:
        module: called as `module(xs, *args)` on a batch.
        variables: what `module.init` returned; None for a bound module, which brings its own.
        statistics: what `train=False` normalises by, "running" or "batch" (see `function`).
        dropout_key: None: `train=False` runs without dropout. A key: with this fixed mask.
        method: what to call instead of the module itself (see `function`).
        wrt: the parameter that takes the batch (see `function`).
        **options: keyword options of every call (see `function`); those that tell its mode
            hold for `train=False`.

    Returns:
        `Functional`; `apply(params, state, xs, *args, train=False, key=None) -> (ys, state)`.

    Raises:
        TypeError: `module` is not a linen module, `variables` is no dict of collections, or
            `dropout_key` is no key, or (from `apply`) the call does not fit the module.
        ValueError: `statistics` has another value or an option contradicts it;
            `apply(train=True)` without a key on a module with active dropout.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg.linen
        >>> from flax import linen as nn
        >>> model, xs = nn.BatchNorm(), jnp.ones((4, 3))
        >>> variables = model.init(jax.random.key(0), xs, use_running_average=True)
        >>> params, state, apply = jacreg.linen.functional(model, variables)
        >>> ys, state = apply(params, state, xs, train=True)
    """
    module, kept, options = check_variables(_WHO, module, variables, dropout_key, options)
    mode = check_mode(_WHO, statistics, dropout_key, options, "rngs")
    apply = _Apply(module, Call(_WHO, method, wrt, options), mode, dropout_key)
    return Functional(kept.get("params", {}), evolving(kept), apply)
