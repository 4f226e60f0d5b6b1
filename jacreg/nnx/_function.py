"""An nnx module as a function of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flax import nnx

from .._call import Call
from .._mode import Statistics, check_mode, wrong_module
from ._private_copy import call_copy, private, take_apart

if TYPE_CHECKING:
    from jaxtyping import PRNGKeyArray


def function(
    module: nnx.Module,
    *,
    statistics: Statistics = "running",
    dropout_key: PRNGKeyArray | None = None,
    return_state: bool = False,
    method: str | Callable[..., Any] | None = None,
    wrt: str | None = None,
    **options: Any,
) -> Callable[..., Any]:
    """Return an nnx module as `fn: [N, *in] -> [N, *out]`, ready for `jacreg.linearize`.

    Each call of `fn` reads the module as it is then and runs a private copy, so
    the module is never changed and inside `nnx.grad`, `nnx.value_and_grad` and
    `nnx.jit` the link to the traced parameters holds. The module's own train or
    eval flags do not matter, nor those that it passes to its layers: the arguments
    here decide for every BatchNorm and Dropout in it, by whatever name its call is
    told (`train`, `deterministic`, `enable_dropout`, ...).

    Args:
        module: called as `module(xs, *args)` on a batch.
        statistics: "running": BatchNorm uses its running averages, so that rows are
            independent and Jacobians per example exist. "batch": it normalises by the
            whole batch as in training; rows then talk to each other (see `CoupledBatch`).
        dropout_key: None turns dropout off. With a key (typed or raw uint32) it is on,
            with the same mask at every call of `fn`: task loss and penalty share it.
        return_state: `fn` returns `(ys, new_state)`, for `linearize(..., has_aux=True)`.
            `new_state` is the `nnx.State` of all variables but parameters and random
            streams; `nnx.update(module, lin.aux)` writes it back.
        method: what to call instead of the module itself: the name of a method or submodule
            ("encode", "decoder.mean"), or a function `(module, xs, *args)`.
        wrt: the parameter that takes the batch, by name. Without it the first one does,
            and in a field `(t, y)` or `(t, y, args)` the state behind the time.
        **options: keyword options of the call (`mask=mask`, `train=False`). With `rngs=` noise
            layers do as the call itself would have them, with the same draws at every call.

    Returns:
        `fn(xs, *args)`. Further arguments (time, label) fill the call's other parameters in
        its own order: `fn(ys, ts)` calls a field as `(ts, ys)` or `(ts, ys, None)`.

    Raises:
        TypeError: `module` is not an nnx module (a plain function needs no adapter),
            `dropout_key` is no key, or (from `fn`) the call does not fit the module; the
            message shows its signature and the line to write.
        ValueError: `statistics` has another value, or an option says the opposite of it or
            of `dropout_key`.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg, jacreg.nnx
        >>> from flax import nnx
        >>> model, xs = nnx.Linear(3, 2, rngs=nnx.Rngs(0)), jnp.ones((4, 3))
        >>> def loss(model):
        ...     lin = jacreg.linearize(jacreg.nnx.function(model), xs)
        ...     return (lin.value**2).mean() + jacreg.losses.jacobian_penalty(
        ...         lin, key=jax.random.key(1)).mean()
        >>> grads = nnx.grad(loss)(model)
    """
    who = "jacreg.nnx.function"
    if not isinstance(module, nnx.Module):
        raise wrong_module(who, "an nnx.Module", module)
    call = Call(who, method, wrt, {name: private(value) for name, value in options.items()})
    mode = check_mode(who, statistics, dropout_key, options, "rngs")

    def fn(xs: Any, *args: Any) -> Any:
        ys, state = call_copy(call, take_apart(module), mode, dropout_key, (xs, *args))
        return (ys, state) if return_state else ys

    return fn
