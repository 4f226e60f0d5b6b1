"""Call an Equinox model, which is written for one example, on a batch."""

from __future__ import annotations

import inspect
from typing import Any

import equinox as eqx
import jax

from .._mode import Mode, arrange_call
from .._sharding import explicit_sharding
from ._set_mode import modules, set_mode


def call_model(
    who: str, model: Any, state: Any, mode: Mode, key: Any, inputs: tuple[Any, ...]
) -> tuple[Any, Any]:
    """Map the model over a batch; return the outputs and the new state.

    Every example has a key of its own, split from `key`. The state is shared by
    the batch; it changes with batch statistics only.
    """
    model = set_mode(who, model, mode, key)
    signature = inspect.signature(model)
    stateful = any(isinstance(each, eqx.nn.StateIndex) for each in modules(model))
    state_name = _state_name(who, signature, state, len(inputs), stateful)
    flags = mode.call_flags(signature)
    wants_key = "key" in list(signature.parameters)[1:]
    if wants_key and key is None and signature.parameters["key"].default is inspect.Parameter.empty:
        # The model insists on a key that its layers, all off, will not use.
        key = jax.random.key(0)
    keys = None
    if wants_key and key is not None:
        keys = _one_each(key, jax.tree.leaves(inputs[0])[0])

    def example(key: Any, state: Any, *inputs: Any) -> tuple[Any, Any]:
        named: dict[str, Any] = dict(flags)
        if key is not None:
            named["key"] = key
        if state_name is not None:
            named[state_name] = state
        positional, keywords = arrange_call(who, signature, inputs, named)
        out = model(*positional, **keywords)
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
    who: str, signature: inspect.Signature, state: Any, num_inputs: int, stateful: bool
) -> str | None:
    """The parameter that takes the state: `state`, or the one that would be left empty."""
    parameters = list(signature.parameters.values())[1:]
    required = [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    unfilled = required[num_inputs - 1 :]
    if state is None:
        needs = "state" in required and unfilled
        # eqx.nn.Sequential takes one where its layers do.
        if (
            "state" in unfilled
            or needs
            or (any(p.name == "state" for p in parameters) and stateful)
        ):
            raise ValueError(
                f"{who}: the model is called as __call__{signature} and needs its state: "
                "model, state = eqx.nn.make_with_state(Model)(...), then pass state too."
            )
        return None
    if any(p.name == "state" for p in parameters):
        return "state"
    if not jax.tree.leaves(state):
        return None
    if unfilled:
        return unfilled[0]
    raise TypeError(
        f"{who}: got a state, but the model is called as __call__{signature}, which has no "
        "parameter to take it. Name one `state`, or leave the state out."
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
