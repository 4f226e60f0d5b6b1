"""An Equinox model as a pure function of its parameters and state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
from jax import lax

from .._call import Call
from .._functional import Functional
from .._mode import Mode, Statistics, check_mode
from ._call import call_model, clone_state
from ._function import check_model
from ._untrained import warn_untrained

if TYPE_CHECKING:
    from jaxtyping import PRNGKeyArray

_WHO = "jacreg.eqx.functional"


@dataclass(frozen=True, eq=False)
class _Apply:
    static: Any
    has_state: bool
    call: Call
    mode: Mode
    dropout_key: Any

    def __call__(
        self,
        params: Any,
        state: Any,
        xs: Any,
        *args: Any,
        train: bool = False,
        key: Any = None,
    ) -> tuple[Any, Any]:
        call = self.call.for_step(train, key, "key")
        mode, key = self.mode.for_step(_WHO, train, key, self.dropout_key)
        model = eqx.combine(params, self.static)
        warn_untrained(_WHO, model, state, mode)
        return call_model(call, model, state, mode, key, (xs, *args))

    def merge(self, params: Any, state: Any) -> Any:
        model = eqx.combine(params, self.static)
        return (model, clone_state(state)) if self.has_state else model


def functional(
    model: eqx.Module,
    state: eqx.nn.State | None = None,
    *,
    statistics: Statistics = "running",
    dropout_key: PRNGKeyArray | None = None,
    method: str | Callable[..., Any] | None = None,
    wrt: str | None = None,
    **options: Any,
) -> Functional:
    """Return an Equinox model as `Functional(params, state, apply)`, for a pure training step.

    `params` is the model with its inexact arrays alone, `state` the `eqx.nn.State` (None
    where there is none). `apply` takes batches; it does not use the state up.
    `Functional.merge(params, state)` is the model again, `(model, state)` with a state.

    Args:
        model: called as `model(x, *args)` on one example, with `state` and `key` where its
            `__call__` names them.
        state: what `eqx.nn.make_with_state` returned beside the model.
        statistics: what `train=False` normalises by, "running" or "batch" (see `function`).
        dropout_key: None: `train=False` runs without dropout. A key: with this fixed mask.
        method: what to call instead of the model itself (see `function`).
        wrt: the parameter that takes the batch (see `function`).
        **options: keyword options of every call (see `function`); those that tell its mode
            hold for `train=False`.

    Returns:
        `Functional`; `apply(params, state, xs, *args, train=False, key=None) -> (ys, state)`.

    Raises:
        TypeError: `model` is not an Equinox module, `state` no State, `dropout_key` no key, or
            (from `apply`) the call does not fit the model.
        ValueError: `statistics` has another value or an option contradicts it;
            `apply(train=True)` without a key on a model with active dropout.

    Example:
        >>> import equinox as eqx, jax, jax.numpy as jnp, jacreg.eqx
        >>> model, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(3, "batch", mode="batch")
        >>> params, state, apply = jacreg.eqx.functional(model, state)
        >>> ys, state = apply(params, state, jnp.ones((4, 3)), train=True)
    """
    call = Call(_WHO, method, wrt, options)
    model = check_model(call, model, state)
    mode = check_mode(_WHO, statistics, dropout_key, options, "key")
    # Initial values of state are no parameters, although they are arrays in the model.
    params, static = eqx.partition(eqx.nn.delete_init_state(model), eqx.is_inexact_array)
    apply = _Apply(static, state is not None, call, mode, dropout_key)
    # Strong types, as a checkpoint gives them back: a weak one would compile anew then.
    state = jax.tree.map(lambda leaf: lax.convert_element_type(leaf, leaf.dtype), state)
    return Functional(params, state, apply)
