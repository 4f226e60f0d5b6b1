"""An nnx module as a pure function of its parameters and state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flax import nnx

from .._call import Call
from .._functional import Functional
from .._mode import Mode, Statistics, check_mode, wrong_module
from ._private_copy import call_copy, private, take_apart

if TYPE_CHECKING:
    from jaxtyping import PRNGKeyArray

_WHO = "jacreg.nnx.functional"


@dataclass(frozen=True, eq=False)
class _Apply:
    graphdef: Any
    hidden: nnx.State
    call: Call
    mode: Mode
    dropout_key: Any

    def __call__(
        self,
        params: nnx.State,
        state: nnx.State,
        xs: Any,
        *args: Any,
        train: bool = False,
        key: Any = None,
    ) -> tuple[Any, nnx.State]:
        call = self.call.for_step(train, key, "rngs")
        mode, key = self.mode.for_step(_WHO, train, key, self.dropout_key)
        parts = (self.graphdef, params, state, self.hidden)
        ys, new_state = call_copy(call, parts, mode, key, (xs, *args))
        return ys, new_state if mode.batch_statistics else state

    def merge(self, params: nnx.State, state: nnx.State) -> nnx.Module:
        return nnx.merge(self.graphdef, params, state, self.hidden, copy=True)


def functional(
    module: nnx.Module,
    *,
    statistics: Statistics = "running",
    dropout_key: PRNGKeyArray | None = None,
    method: str | Callable[..., Any] | None = None,
    wrt: str | None = None,
    **options: Any,
) -> Functional:
    """Return an nnx module as `Functional(params, state, apply)`, for a pure training step.

    `params` is an `nnx.State` of the module's `nnx.Param`, `state` an `nnx.State` of its
    other variables (running statistics) without random streams. Both are pytrees
    for `jax.grad`, optax and orbax; their arrays are the module's own, so copy them before
    donating where the module is needed later. `Functional.merge(params, state)`
    gives a module back; `nnx.update(module, params, state)` writes into the old one.

    Args:
        module: called as `module(xs, *args)` on a batch.
        statistics: what `train=False` normalises by, "running" or "batch" (see `function`).
        dropout_key: None: `train=False` runs without dropout. A key: with this fixed mask.
        method: what to call instead of the module itself (see `function`).
        wrt: the parameter that takes the batch (see `function`).
        **options: keyword options of every call (see `function`); those that tell its mode
            hold for `train=False`.

    Returns:
        `Functional`; `apply(params, state, xs, *args, train=False, key=None) -> (ys, state)`.

    Raises:
        TypeError: `module` is not an nnx module, `dropout_key` is no key, or (from `apply`) the
            call does not fit the module.
        ValueError: `statistics` has another value or an option contradicts it;
            `apply(train=True)` without a key on a module with active dropout.

    Example:
        >>> import jax.numpy as jnp, jacreg.nnx
        >>> from flax import nnx
        >>> model = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
        >>> params, state, apply = jacreg.nnx.functional(model)
        >>> ys, state = apply(params, state, jnp.ones((4, 3)), train=True)
    """
    if not isinstance(module, nnx.Module):
        raise wrong_module(_WHO, "an nnx.Module", module)
    call = Call(_WHO, method, wrt, {name: private(value) for name, value in options.items()})
    mode = check_mode(_WHO, statistics, dropout_key, options, "rngs")
    graphdef, params, state, hidden = take_apart(module)
    return Functional(params, state, _Apply(graphdef, hidden, call, mode, dropout_key))
