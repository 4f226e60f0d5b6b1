"""An Equinox model with every `inference` flag set, layer by layer, as a mode says."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import equinox as eqx
import jax

from .._mode import Mode, is_flag_value

_RATES = ("p", "scale")


def modules(tree: Any) -> Iterator[eqx.Module]:
    """Every Equinox module in a pytree, the outermost first."""
    if isinstance(tree, eqx.Module):
        yield tree
    for child in jax.tree.leaves(
        tree, is_leaf=lambda x: isinstance(x, eqx.Module) and x is not tree
    ):
        if isinstance(child, eqx.Module) and child is not tree:
            yield from modules(child)


def set_mode(who: str, model: Any, mode: Mode, key: Any) -> Any:
    """Return the model with its flags set: normalisation by the statistics, noise by the key.

    A module with an `inference` flag is a normalisation where it holds state of its own
    (BatchNorm), and a noise layer otherwise (Dropout).
    """
    if mode.dropout and key is None:
        for module in modules(model):
            if _draws_noise(module):
                raise ValueError(
                    f"{who}: dropout is active in {type(module).__name__} and there is no key; "
                    "pass key=jax.random.fold_in(key, step), or set its rate to 0."
                )
    return _rebuilt(model, mode)


def _rebuilt(tree: Any, mode: Mode) -> Any:
    def is_inner(node: Any) -> bool:
        return node is not tree and bool(_switches(node, mode))

    rebuilt = jax.tree.map(
        lambda node: _rebuilt(node, mode) if is_inner(node) else node, tree, is_leaf=is_inner
    )
    switches = _switches(tree, mode)
    if not switches:
        return rebuilt
    # By hand: `inference` may be a static field, out of reach of eqx.tree_at, and the
    # subclass has its parent's fields, so the copy flattens as the original does.
    copy = object.__new__(_pinned(type(tree), tuple(switches)))
    for field in fields(rebuilt):
        if hasattr(rebuilt, field.name):
            value = switches.get(field.name, getattr(rebuilt, field.name))
            object.__setattr__(copy, field.name, value)
    return copy


def _switches(node: Any, mode: Mode) -> dict[str, bool]:
    """The fields of a module that say its mode, with the values that this mode gives them."""
    if not isinstance(node, eqx.Module):
        return {}
    wanted = mode.attributes
    if _is_stateful(node):
        wanted["inference"] = not mode.batch_statistics
    elif mode.dropout is not None:
        wanted["inference"] = not mode.dropout
    return {
        field.name: wanted[field.name]
        for field in fields(node)
        if field.name in wanted and is_flag_value(getattr(node, field.name, 0))
    }


def _is_stateful(module: eqx.Module) -> bool:
    values = (getattr(module, field.name, None) for field in fields(module))
    return any(isinstance(value, eqx.nn.StateIndex) for value in values)


def _draws_noise(module: eqx.Module) -> bool:
    if not any(field.name == "inference" for field in fields(module)) or _is_stateful(module):
        return False
    rates = [getattr(module, name) for name in _RATES if hasattr(module, name)]
    return any(not (isinstance(rate, int | float) and rate == 0) for rate in rates)


@functools.lru_cache(maxsize=256)
def _pinned(cls: type, switches: tuple[str, ...]) -> type:
    """A subclass that is deaf to the flags that its caller passes: its own field decides."""
    call = getattr(cls, "__call__", None)  # noqa: B004 - its signature is wanted
    if call is None:
        return cls
    signature = inspect.signature(call)
    # A noise layer with an `inference` field may be told by either name.
    told = {"deterministic": "inference"} if "inference" in switches else {}
    told |= {name: name for name in switches}
    deaf = {name: told[name] for name in signature.parameters if name in told}
    if not deaf:
        return cls

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(self, *args, **kwargs)
        for name, own in deaf.items():
            default = signature.parameters[name].default
            bound.arguments[name] = None if default is None else getattr(self, own)
        return call(*bound.args, **bound.kwargs)

    __call__.__signature__ = signature  # pyright: ignore[reportFunctionMemberAccess]
    members = {"__call__": __call__, "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls)(cls.__name__, (cls,), members)
