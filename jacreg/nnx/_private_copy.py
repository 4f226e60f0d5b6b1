"""A private copy of an nnx module in a given mode, so that the user's own is never touched."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from .._call import Call
from .._mode import Mode, flag_names, is_flag_value
from .._target import find_target

_RATES = ("rate", "dropout_rate", "scale")


def _holds_key(path: Any, leaf: Any) -> bool:
    del path
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


# Records of a forward pass (sow) change their structure from call to call, and
# random streams are reseeded from the caller's key: neither is state to keep.
_HIDDEN = nnx.Any(nnx.RngState, nnx.Intermediate, _holds_key)


def take_apart(module: nnx.Module) -> tuple[Any, nnx.State, nnx.State, nnx.State]:
    """Split into graph definition, parameters, evolving state, and the hidden rest."""
    graphdef, params, hidden, state = nnx.split(module, nnx.Param, _HIDDEN, ...)
    return graphdef, params, state, hidden


def call_copy(
    call: Call,
    parts: tuple[Any, nnx.State, nnx.State, nnx.State],
    mode: Mode,
    key: Any,
    inputs: tuple[Any, ...],
) -> tuple[Any, nnx.State]:
    """Call a private copy on a batch; return its outputs and its new state.

    The copy is made inside the caller's trace: nnx refuses to change a variable
    under a jvp or vjp unless the variable was made there.
    """
    graphdef, params, state, hidden = parts
    module = nnx.merge(graphdef, params, state, hidden, copy=True)
    _set_mode(call.who, module, mode, key)
    target = find_target(call, module)
    signature = target.signature
    known = {*flag_names(signature), *call.options, "rngs"}
    batch = target.batch_parameter(known, len(inputs))
    options = {name: private(value) for name, value in call.options.items()}
    named: dict[str, Any] = {**mode.call_flags(signature), **options}
    if "rngs" in signature.parameters and named.get("rngs") is None:
        if key is not None:
            named["rngs"] = nnx.Rngs(jax.random.fold_in(key, 0))
        elif signature.parameters["rngs"].default is inspect.Parameter.empty:
            named["rngs"] = nnx.Rngs(0)
    positional, keywords = target.arrange(inputs, named, known, batch)
    ys = target.fn(*positional, **keywords)
    return ys, _evolved(module, state)


def private(value: Any) -> Any:
    """A copy of random streams and modules among the options; all else as it is."""
    return nnx.clone(value) if isinstance(value, nnx.Pytree | nnx.Variable) else value


def _evolved(module: nnx.Module, like: nnx.State) -> nnx.State:
    """The module's state with exactly the entries of `like`: a call may have added records."""
    kept = {path for path, _ in nnx.to_flat_state(like)}
    new = nnx.state(module, nnx.Not(nnx.Any(nnx.Param, _HIDDEN)))
    return nnx.from_flat_state(
        [(path, leaf) for path, leaf in nnx.to_flat_state(new) if path in kept]
    )


def _set_mode(who: str, module: nnx.Module, mode: Mode, key: Any) -> None:
    """Set every flag below `module`, and seed every random stream from `key`."""
    flags = mode.attributes
    streams = 1  # number 0 is for the `rngs` of the outermost call
    for path, node in nnx.iter_graph(module):
        if isinstance(node, nnx.RngStream) and key is not None:
            _reseed(node, jax.random.fold_in(key, streams))
            streams += 1
        if not isinstance(node, nnx.Module):
            continue
        attributes = vars(node)
        own = [name for name in flags if is_flag_value(attributes.get(name, 0))]
        if not own:
            continue
        for name in own:
            setattr(node, name, flags[name])
        _pin(node, tuple(own))
        if mode.dropout and "deterministic" in own and _draws_noise(attributes):
            if key is None:
                shown = ".".join(map(str, path)) or "the module itself"
                raise ValueError(
                    f"{who}: dropout is active in {type(node).__name__} ({shown}) and there is no "
                    "key; pass key=jax.random.fold_in(key, step), or set its rate to 0."
                )
            if attributes.get("rngs", 0) is None:
                stream = nnx.RngStream(jax.random.fold_in(key, streams), tag="dropout")
                node.rngs = nnx.data(stream)  # pyright: ignore[reportAttributeAccessIssue]
                streams += 1


def _draws_noise(attributes: dict[str, Any]) -> bool:
    rates = [attributes[name] for name in _RATES if name in attributes]
    if rates:
        return any(not (isinstance(rate, int | float) and rate == 0) for rate in rates)
    return any(isinstance(value, nnx.RngStream | nnx.Rngs) for value in attributes.values())


def _reseed(stream: nnx.RngStream, key: Any) -> None:
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    shape = stream.count.shape
    stream.key = nnx.RngKey(jax.random.split(key, shape) if shape else key, tag=stream.tag)
    stream.count = nnx.RngCount(jnp.zeros(shape, jnp.uint32), tag=stream.tag)


def _pin(node: nnx.Module, flags: tuple[str, ...]) -> None:
    """Make a module of the copy deaf to flags that its caller passes: its own decide."""
    signature = inspect.signature(type(node).__call__) if callable(node) else None
    if signature is not None and any(name in signature.parameters for name in flags):
        object.__setattr__(node, "__class__", _pinned(type(node), flags))


@functools.lru_cache(maxsize=256)
def _pinned(cls: type, flags: tuple[str, ...]) -> type:
    signature = inspect.signature(cls.__call__)
    deaf = [name for name in flags if name in signature.parameters]

    @functools.wraps(cls.__call__)
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(self, *args, **kwargs)
        for name in deaf:
            default = signature.parameters[name].default
            # None means "use your own attribute" in nnx's layers; a layer whose
            # parameter is a plain bool is told the value.
            bound.arguments[name] = None if default is None else getattr(self, name)
        return cls.__call__(*bound.args, **bound.kwargs)

    members = {"__call__": __call__, "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls)(cls.__name__, (cls,), members)
