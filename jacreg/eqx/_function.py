"""An Equinox model, written for one example, as a function of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx

from .._call import Call
from .._mode import Statistics, check_mode, wrong_module
from .._target import find_target
from ._call import call_model, clone_state
from ._untrained import warn_untrained

if TYPE_CHECKING:
    from jaxtyping import PRNGKeyArray


_JITTED: type = type(eqx.filter_jit(lambda: None))


def check_model(call: Call, model: Any, state: Any) -> Any:
    """The model, out of `eqx.filter_jit`, which hides its layers from what sets their mode.

    Raises:
        TypeError: this is no Equinox model with its state or without one.
    """
    who = call.who
    if isinstance(model, _JITTED) and isinstance(model.__wrapped__, eqx.Module):
        model = model.__wrapped__
    if not isinstance(model, eqx.Module):
        raise wrong_module(who, "an eqx.Module", model)
    find_target(call, model)
    if state is not None and not isinstance(state, eqx.nn.State):
        raise TypeError(
            f"{who}: state must be an eqx.nn.State (from eqx.nn.make_with_state) or None, "
            f"got {type(state).__name__}."
        )
    return model


def function(
    model: eqx.Module,
    state: eqx.nn.State | None = None,
    *,
    statistics: Statistics = "running",
    dropout_key: PRNGKeyArray | None = None,
    return_state: bool = False,
    method: str | Callable[..., Any] | None = None,
    wrt: str | None = None,
    **options: Any,
) -> Callable[..., Any]:
    """Return an Equinox model as `fn: [N, *in] -> [N, *out]`, ready for `jacreg.linearize`.

    The model is written for one example; `fn` maps it over the batch, with the
    axis name that its BatchNorm layers carry. The `inference` flags of the model
    do not matter, nor those that it passes to its layers: the arguments here decide
    for every BatchNorm and Dropout in it, by whatever name its call is told
    (`inference`, `enable_dropout`, ...). The state is cloned, so it stays usable.

    Args:
        model: called as `model(x, *args)`, with `state` and `key` where its `__call__` names
            them; each example gets a key of its own.
        state: what `eqx.nn.make_with_state` returned beside the model.
        statistics: "running": BatchNorm uses its running averages, so that rows are
            independent and Jacobians per example exist. "batch": it normalises by the
            whole batch as in training; rows then talk to each other (see `CoupledBatch`).
        dropout_key: None turns dropout off. With a key (typed or raw uint32) it is on,
            with the same mask at every call of `fn`: task loss and penalty share it.
        return_state: `fn` returns `(ys, new_state)`, for `linearize(..., has_aux=True)`;
            `state = lin.aux` is the way to keep the new statistics.
        method: what to call instead of the model itself: the name of a method or submodule
            ("encode", "decoder.mean"), or a function `(model, x, *args)`.
        wrt: the parameter that takes the batch, by name. Without it the first one does,
            and in a field `(t, y)` or `(t, y, args)` the state behind the time.
        **options: keyword options of the call, the same for all examples (`mask=mask`,
            `enable_dropout=False`). With `key=` noise layers do as the call itself would
            have them, with a key an example and the same draws at every call.

    Returns:
        `fn(xs, *args)`. Further arguments (time, label) are mapped too, scalars shared; they
        fill the call's other parameters in its own order: `fn(ys, ts)` calls a field as
        `(t, y)` or `(t, y, None)`.

    Raises:
        TypeError: `model` is not an Equinox module (a plain function needs no adapter),
            `state` no State, `dropout_key` no key, or (from `fn`) the call does not fit the
            model; the message shows its signature and the line to write.
        ValueError: `statistics` has another value, or an option says the opposite of it or
            of `dropout_key`; the model needs a state and has none.

    Example:
        >>> import equinox as eqx, jax, jax.numpy as jnp, jacreg, jacreg.eqx
        >>> model, xs = eqx.nn.Linear(3, 2, key=jax.random.key(0)), jnp.ones((4, 3))
        >>> def loss(model):
        ...     lin = jacreg.linearize(jacreg.eqx.function(model), xs)
        ...     return (lin.value**2).mean() + jacreg.losses.jacobian_penalty(
        ...         lin, key=jax.random.key(1)).mean()
        >>> grads = eqx.filter_grad(loss)(model)
    """
    who = "jacreg.eqx.function"
    call = Call(who, method, wrt, options)
    model = check_model(call, model, state)
    mode = check_mode(who, statistics, dropout_key, options, "key")
    kept = clone_state(state)
    warn_untrained(who, model, kept, mode)

    def fn(xs: Any, *args: Any) -> Any:
        ys, new_state = call_model(call, model, kept, mode, dropout_key, (xs, *args))
        return (ys, new_state) if return_state else ys

    return fn
