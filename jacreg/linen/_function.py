"""A linen module with its variables as a function of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from flax import linen as nn

from .._call import Call
from .._mode import Statistics, check_mode, wrong_module
from ._call import call_module

if TYPE_CHECKING:
    from jaxtyping import PRNGKeyArray


def check_variables(
    who: str, module: Any, variables: Any, dropout_key: Any, options: Mapping[str, Any]
) -> tuple[nn.Module, Mapping[str, Any], dict[str, Any]]:
    """The module apart from its variables, and the options; a bound module brings its own.

    Raises:
        TypeError: this is no linen module, or there is no dict of variable collections.
    """
    if not isinstance(module, nn.Module):
        raise wrong_module(who, "a flax.linen.Module", module)
    if variables is None and module.scope is not None:
        if dropout_key is None and "rngs" not in options:
            rngs = {
                name: getattr(rng, "as_jax_rng", lambda rng=rng: rng)()
                for name, rng in module.scope.rngs.items()
            }
            options = {**options, "rngs": rngs} if rngs.keys() - {"params"} else options
        module, variables = module.unbind()
    if not isinstance(variables, Mapping) or not all(
        isinstance(collection, Mapping) for collection in variables.values()
    ):
        raise TypeError(
            f"{who}: variables must be what module.init returned, a dict of collections "
            f'{{"params": ..., "batch_stats": ...}}; got {_describe(variables)}.'
        )
    return module, variables, dict(options)


def _describe(variables: Any) -> str:
    if variables is None:
        return "none, and the module is not bound to any (module.bind)"
    if isinstance(variables, Mapping):
        return "a dict that holds " + ", ".join(
            f"{name!r}: {type(value).__name__}" for name, value in list(variables.items())[:4]
        )
    return type(variables).__name__


def function(
    module: nn.Module,
    variables: Mapping[str, Any] | None = None,
    *,
    statistics: Statistics = "running",
    dropout_key: PRNGKeyArray | None = None,
    return_state: bool = False,
    method: str | Callable[..., Any] | None = None,
    wrt: str | None = None,
    **options: Any,
) -> Callable[..., Any]:
    """Return a linen module as `fn: [N, *in] -> [N, *out]`, ready for `jacreg.linearize`.

    The module's own flags do not matter, neither its fields nor what its `__call__`
    takes or passes on (`train`, `deterministic`, `use_running_average`, ...): the arguments
    here decide for every BatchNorm and Dropout in it, also where one `train` flag rules both.

    Args:
        module: called as `module(xs, *args)` on a batch.
        variables: what `module.init` returned, `{"params": ..., "batch_stats": ...}`; None
            for a bound module, which brings its own (`module.bind(variables).encoder` too).
        statistics: "running": BatchNorm uses its running averages, so that rows are
            independent and Jacobians per example exist. "batch": it normalises by the
            whole batch as in training; rows then talk to each other (see `CoupledBatch`).
        dropout_key: None turns dropout off. With a key (typed or raw uint32) it is on,
            with the same mask at every call of `fn`: task loss and penalty share it.
        return_state: `fn` returns `(ys, new_state)`, for `linearize(..., has_aux=True)`.
            `new_state` is the dict of all collections but "params";
            `{**variables, **lin.aux}` writes it back.
        method: what to call instead of the module itself: the name of a method or submodule
            ("encode", "decoder.mean"), or a function `(module, xs, *args)`.
        wrt: the parameter that takes the batch, by name. Without it the first one does,
            and in a field `(t, y)` or `(t, y, args)` the state behind the time.
        **options: keyword options of the call (`mask=mask`, `train=False`). With `rngs=`, a
            dict of keys as `module.apply` takes it, noise layers do as the call itself would
            have them, with the same draws at every call.

    Returns:
        `fn(xs, *args)`. Further arguments (time, label) fill the call's other parameters in
        its own order: `fn(ys, ts)` calls a field as `(ts, ys)` or `(ts, ys, None)`.

    Raises:
        TypeError: `module` is not a linen module (a plain function needs no adapter),
            `variables` is no dict of collections, `dropout_key` is no key, or (from `fn`) the
            call does not fit the module; the message shows its signature and the line to write.
        ValueError: `statistics` has another value, or an option says the opposite of it or
            of `dropout_key`; `fn` draws random numbers without a key.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg, jacreg.linen
        >>> from flax import linen as nn
        >>> model, xs = nn.Dense(2), jnp.ones((4, 3))
        >>> variables = model.init(jax.random.key(0), xs)
        >>> def loss(params):
        ...     fn = jacreg.linen.function(model, {**variables, "params": params})
        ...     lin = jacreg.linearize(fn, xs)
        ...     return (lin.value**2).mean() + jacreg.losses.jacobian_penalty(
        ...         lin, key=jax.random.key(1)).mean()
        >>> grads = jax.grad(loss)(variables["params"])
    """
    who = "jacreg.linen.function"
    module, kept, options = check_variables(who, module, variables, dropout_key, options)
    call = Call(who, method, wrt, options)
    mode = check_mode(who, statistics, dropout_key, options, "rngs")

    def fn(xs: Any, *args: Any) -> Any:
        ys, state = call_module(call, module, kept, mode, dropout_key, (xs, *args))
        return (ys, state) if return_state else ys

    return fn
