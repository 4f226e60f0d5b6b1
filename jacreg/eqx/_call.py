"""Call an Equinox model, which is written for one example, on a batch."""

from __future__ import annotations

import inspect
from typing import Any

import equinox as eqx
import jax

from .._call import Call
from .._keys import check_key
from .._mode import Mode, flag_names
from .._sharding import explicit_sharding
from .._target import Target, find_target
from ._set_mode import modules, set_mode


def call_model(
    call: Call, model: Any, state: Any, mode: Mode, key: Any, inputs: tuple[Any, ...]
) -> tuple[Any, Any]:
    """Map the model over a batch; return the outputs and the new state.

    Every example has a key of its own, split from `key` or from the option of that
    name; the other options are shared. The state is shared by the batch; it changes with
    batch statistics only.
    """
    who = call.who
    model = set_mode(who, model, mode, key)
    target = find_target(call, model)
    signature = target.signature
    known = {*flag_names(signature), *call.options, "key"}
    if state is not None:
        known.add("state")
    batch = target.batch_parameter(known, len(inputs))
    stateful = any(isinstance(each, eqx.nn.StateIndex) for each in modules(model))
    unfilled = target.unfilled(known, batch, len(inputs))
    state_name = _state_name(target, state, batch, unfilled, stateful)
    if key is None and call.options.get("key") is not None:
        key = call.options["key"]
        check_key(who, "key", key)
    wants_key = "key" in signature.parameters and batch != "key"
    if wants_key and key is None and signature.parameters["key"].default is inspect.Parameter.empty:
        # The model insists on a key that its layers, all off, will not use.
        key = jax.random.key(0)
    keys = None
    if wants_key and key is not None:
        keys = _one_each(key, jax.tree.leaves(inputs[0])[0])
    fixed = {**mode.call_flags(signature), **call.options}

    def example(key: Any, state: Any, *inputs: Any) -> tuple[Any, Any]:
        named: dict[str, Any] = dict(fixed)
        if key is not None:
            named["key"] = key
        if state_name is not None:
            named[state_name] = state
        positional, keywords = target.arrange(inputs, named, {*known, *named}, batch)
        out = target.fn(*positional, **keywords)
        if state_name is None:
            return out, None
        if not (isinstance(out, tuple) and len(out) == 2 and isinstance(out[1], eqx.nn.State)):
            raise TypeError(
                f"{who}: the model takes a state, so it must return (y, state); "
                f"got {type(out).__name__}."
            )
        return out[0], out[1] if mode.batch_statistics else None

    axes = jax.tree.map(lambda x: 0 if jax.numpy.ndim(x) else None, inputs)
    mapped = jax.vmap(
        example,
        in_axes=(None if keys is None else 0, None, *axes),
        out_axes=(0, None),
        axis_name=_batch_axis(who, model),
    )
    try:
        ys, new_state = mapped(keys, clone_state(state), *inputs)
    except ValueError as error:
        if "out_axes" not in str(error):
            raise
        raise ValueError(
            f"{who}: the model's new state differs from example to example; it must be shared by "
            "the batch (lax.pmean over the layer's axis_name, as eqx.nn.BatchNorm does)."
        ) from error
    return ys, state if new_state is None else new_state


def _one_each(key: Any, xs: Any) -> Any:
    """A key for each example, on the device where the example is."""
    keys = jax.random.split(key, xs.shape[0])
    sharding = explicit_sharding(xs)
    if sharding is None:
        return keys
    batch = jax.sharding.PartitionSpec(sharding.spec[0])
    return jax.sharding.reshard(keys, jax.sharding.NamedSharding(sharding.mesh, batch))


def clone_state(state: Any) -> Any:
    """A copy that may be used up: Equinox voids a State once a successor is made from it."""
    return jax.tree.map(lambda leaf: leaf, state)


def _state_name(
    target: Target, state: Any, batch: str | None, unfilled: list[str], stateful: bool
) -> str | None:
    """The parameter that takes the state: `state`, or the one that would be left empty."""
    who, parameters = target.call.who, target.signature.parameters
    named = "state" in parameters and batch != "state" and "state" not in target.call.options
    if state is None:
        required = named and parameters["state"].default is inspect.Parameter.empty
        # eqx.nn.Sequential takes one where its layers do.
        if named and ((required and unfilled) or stateful):
            raise ValueError(
                f"{who}: the model is called as {target.name}{target.signature} and needs its "
                "state: model, state = eqx.nn.make_with_state(Model)(...), then pass state too."
            )
        return None
    if named:
        return "state"
    if not jax.tree.leaves(state):
        return None
    if unfilled:
        return unfilled[0]
    raise TypeError(
        f"{who}: got a state, but the model is called as {target.name}{target.signature}, which "
        "has no parameter to take it. Name one `state`, or leave the state out."
    )


def _batch_axis(who: str, model: Any) -> Any:
    """The name that the model's own layers give to the batch axis, None where they give none."""
    names: set[Any] = set()
    for module in modules(model):
        name = getattr(module, "axis_name", None)
        if name is not None:
            names.update(name if isinstance(name, tuple | list) else (name,))
    free = [name for name in names if not _is_bound(name)]
    if len(free) > 1:
        raise ValueError(
            f"{who}: the layers name the batch axis differently, {sorted(map(str, free))}; give "
            "them one axis_name (others must be bound by an outer vmap or shard_map)."
        )
    return free[0] if free else None


def _is_bound(name: Any) -> bool:
    try:
        jax.lax.axis_index(name)
    except NameError:
        return False
    return True
