"""Call a linen module in a given mode, whatever flags it has or passes to its layers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import linen as nn
from flax.errors import InvalidRngError, ScopeCollectionNotFound

from .._call import Call
from .._keys import check_key
from .._mode import Mode, flag_names, is_flag_value
from .._target import find_target

_NOT_STATE = ("params", "intermediates", "perturbations")


def evolving(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The collections that are neither parameters nor records of a forward pass."""
    return {name: value for name, value in variables.items() if name not in _NOT_STATE}


def call_module(
    call: Call,
    module: nn.Module,
    variables: Mapping[str, Any],
    mode: Mode,
    key: Any,
    inputs: tuple[Any, ...],
) -> tuple[Any, dict[str, Any]]:
    """Apply a module to a batch; return its outputs and its new state collections.

    Raises:
        ValueError: the module draws random numbers and there is no key.
        TypeError: `variables` are the parameters alone, without their collection.
    """
    state = evolving(variables)
    # Streams that are not named fall back to "params", so custom noise is seeded too.
    rngs = {} if key is None else {"dropout": key, "params": key}
    if key is None and "rngs" in call.options:
        rngs = _streams(call)
    # nn.jit caches by the structure of the streams but not by interceptors: a stream that
    # nobody draws from keeps our traces from the user's own calls, and modes apart.
    rngs[f"jacreg {mode}"] = jax.random.key(0)
    mutable = list(state) if mode.batch_statistics else []

    def run(bound: nn.Module) -> Any:
        target = find_target(call.without("rngs"), bound)
        if "rngs" in target.signature.parameters:
            target = find_target(call, bound)
        flags = mode.call_flags(target.signature)
        known = {*flag_names(target.signature), *target.call.options}
        batch = target.batch_parameter(known, len(inputs))
        named = {**flags, **target.call.options}
        positional, keywords = target.arrange(inputs, named, known, batch)
        return target.fn(*positional, **keywords)

    try:
        with nn.intercept_methods(_interceptor(mode)):
            ys, updated = module.apply(variables, method=run, rngs=rngs, mutable=mutable)
    except InvalidRngError as error:
        raise ValueError(
            f"{call.who}: {type(module).__name__} draws random numbers (dropout is active) and "
            "there is no key; pass dropout_key=... to function, key=jax.random.fold_in(key, step) "
            f"to apply, or set the rate to 0. Flax says: {str(error).splitlines()[0]}"
        ) from error
    except ScopeCollectionNotFound as error:
        if "params" in variables:
            raise
        raise TypeError(
            f"{call.who}: variables must be what module.init returned, a dict of collections "
            f'{{"params": ..., "batch_stats": ...}}; got one of {", ".join(map(repr, variables))}. '
            'If these are the parameters alone, pass {"params": params}. '
            f"Flax says: {str(error).splitlines()[0]}"
        ) from error
    return ys, {**state, **dict(updated)}


def _streams(call: Call) -> dict[str, Any]:
    """The option `rngs`, as `module.apply` takes it: keys by the names of their streams."""
    rngs = call.options["rngs"]
    if isinstance(rngs, Mapping):
        return dict(rngs)
    check_key(call.who, "rngs (or each value of it)", rngs)
    return {"dropout": rngs, "params": rngs}


def _interceptor(mode: Mode) -> Callable[..., Any]:
    """Overrule every mode flag, field or argument, of every module called below."""
    flags, attributes = mode.flags, mode.attributes

    def intercept(
        call: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: Any,
    ) -> Any:
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        module = context.module
        fields = {
            name: getattr(module, name)
            for name in attributes
            if name in type(module).__dataclass_fields__ and is_flag_value(getattr(module, name))
        }
        args, kwargs = _overruled(context.orig_method, args, kwargs, flags, fields)
        # The bound module is flax's own clone of the user's; it is frozen, hence
        # object.__setattr__, and put back, because it may be shared.
        for name in fields:
            object.__setattr__(module, name, flags[name])
        try:
            return call(*args, **kwargs)
        finally:
            for name, value in fields.items():
                object.__setattr__(module, name, value)

    return intercept


def _overruled(
    method: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    flags: Mapping[str, bool],
    fields: Mapping[str, Any],
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call with its flags replaced, those that it passes and no others.

    A flag that is not passed stays away: nn.remat would trace a new bool.
    """
    signature = inspect.signature(method)
    parameters = signature.parameters
    if not any(name in parameters for name in flags):
        return args, kwargs
    bound = signature.bind(*args, **kwargs)
    for name, value in bound.arguments.items():
        if name in flags and is_flag_value(value):
            # Layers that have both refuse to be told twice.
            leave = name in fields and parameters[name].default is None
            bound.arguments[name] = None if leave else flags[name]
    return bound.args, bound.kwargs
