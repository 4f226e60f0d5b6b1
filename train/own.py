"""A model of the user's own: imported by `model.target`, or given from Python."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from train.errors import ConfigError, reason, shown
from train.expect import nearest

if TYPE_CHECKING:
    from jaxtyping import Array

    from jacreg._functional import Functional
    from train.sections import Model


def is_target(text: str) -> bool:
    """Return whether a text has the form `package.module:Name`."""
    module, colon, name = text.partition(":")
    return bool(colon) and all(
        part.isidentifier() for part in (*module.split("."), *name.split("."))
    )


def keyed(name: str, verb: str = "") -> str:
    """Return how a message about a model begins: the key that names it, and the name."""
    return f'model.{"target" if is_target(name) else "name"}: {verb}"{name}"'


def own_functional(config: Model, key: Array) -> tuple[Functional, str]:
    """Return the model of `model.target`, or the one given, taken apart, and its framework.

    Raises:
        ConfigError: it cannot be imported or made, or is no nnx or Equinox module.
    """
    functional, framework = taken_apart(_made(config, key))
    if config.framework not in (None, framework):
        raise ConfigError(
            f'model.framework: got "{config.framework}", but {config.name} is a module of '
            f"{framework}; leave it out."
        )
    return functional, framework


def framework_of(config: Model) -> str | None:
    """Return the framework of a config's model, which one of the user's own says by its class."""
    if config.framework is not None or config.target is None:
        return config.framework
    return taken_apart(_made(config, jax.random.key(0)))[1]


def taken_apart(model: Any) -> tuple[Functional, str]:
    """Return a module as parameters, state and a function of batches, and its framework.

    Args:
        model: an nnx module, an Equinox module, or the pair of one with its State.

    Raises:
        ConfigError: it is none of these.
    """
    # A framework that is not imported has made no module.
    nnx, eqx = sys.modules.get("flax.nnx"), sys.modules.get("equinox")
    if nnx is not None and isinstance(model, nnx.Module):
        import jacreg.nnx

        return jacreg.nnx.functional(model), "nnx"
    if eqx is not None:
        pair = model if isinstance(model, tuple) and len(model) == 2 else (model, None)
        module: Any = pair[0]
        state: Any = pair[1]
        if isinstance(module, eqx.Module):
            import jacreg.eqx

            return jacreg.eqx.functional(module, state), "equinox"
    said = ""
    if isinstance(model, type):
        said = f" {model.__name__} is the class: give one of its modules, {model.__name__}(...)."
    elif any(each.__module__.startswith("flax.linen") for each in type(model).__mro__):
        said = " A linen module has its parameters elsewhere: write the loop (docs/tutorials)."
    elif callable(model):
        said = " A plain function has no parameters to train."
    raise ConfigError(
        f"model: got {shown(model)} ({type(model).__name__}), expected an nnx module, an Equinox "
        f"module, or the pair (model, state) of eqx.nn.make_with_state.{said}"
    )


def applied(functional: Functional) -> Callable[..., Any]:
    """Return `apply` with outputs `[N, K]`, also where a model has one number an example, `[N]`."""

    def apply(params: Any, state: Any, xs: Any, *args: Any, **options: Any) -> Any:
        ys, state = functional.apply(params, state, xs, *args, **options)
        return (jnp.expand_dims(ys, 1) if getattr(ys, "ndim", 0) == 1 else ys), state

    return apply


def described(config: Model) -> dict[str, Any]:
    """Return what `environment.json` records of a model: its class, the file and its hash."""
    model = config.given[0] if isinstance(config.given, tuple) else config.given
    cls = _imported(str(config.target)) if model is None else type(model)
    try:
        file = Path(inspect.getfile(cls))
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except (OSError, TypeError):  # made where there is no file: in a notebook, at a prompt
        return {"target": name_of(cls) if model is not None else config.target}
    return {"target": config.target, "file": str(file), "sha256": digest}


def name_of(cls: Any) -> str:
    """Return `module:Name` of a class."""
    return f"{cls.__module__}:{cls.__qualname__}"


def _made(config: Model, key: Array) -> Any:
    if config.given is not None:
        return config.given
    made = _imported(str(config.target))
    options, given = dict(config.options), {}
    parameters = _parameters(made)
    if "rngs" in parameters:
        from flax import nnx

        seeds = jax.random.split(key)
        given = {"rngs": nnx.Rngs(params=seeds[0], default=seeds[1])}
    elif "key" in parameters:
        given = {"key": key}
    try:
        if "rngs" not in given and isinstance(made, type) and _is_equinox(made):
            import equinox as eqx

            model, state = eqx.nn.make_with_state(made)(**options, **given)
            return (model, state) if jax.tree.leaves(state) else model
        return made(**options, **given)
    except (Exception, SystemExit) as error:  # whatever the user's own code raises
        call = f"{config.target}({', '.join(map(str, parameters.values())) or '...'})"
        raise ConfigError(
            f"model.options: {config.target} cannot be made from {shown(options)} "
            f"({type(error).__name__}: {reason(error)}). It is called as {call[:300]}."
        ) from None


def _parameters(made: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return what a class or function is called with, empty where that cannot be told.

    The signature of an nnx class is that of its metaclass, which takes anything.
    """
    try:
        if isinstance(made, type):
            return dict(list(inspect.signature(made.__init__).parameters.items())[1:])
        return inspect.signature(made).parameters
    except (TypeError, ValueError):
        return {}


def _is_equinox(made: type) -> bool:
    eqx = sys.modules.get("equinox")
    return eqx is not None and issubclass(made, eqx.Module)


def _imported(target: str) -> Any:
    module_name, _, name = target.partition(":")
    try:
        with _from_here():
            found = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigError(
                f'model.target: got "{target}", but there is no module {error.name} in '
                f'{Path.cwd()} or on Python\'s path; expected "package.module:Name" of a file in '
                "the folder where the command runs."
            ) from None
        raise ConfigError(
            f"model.target: {module_name} needs the package {error.name}, which this Python lacks."
        ) from None
    except (Exception, SystemExit) as error:  # whatever the user's own code raises
        hint = ""
        if isinstance(error, SystemExit):  # a script, whose arguments are not the command's
            hint = ' What a script does when it is run belongs under `if __name__ == "__main__":`.'
        raise ConfigError(
            f"model.target: {module_name} cannot be imported ({type(error).__name__}: "
            f"{reason(error)}).{hint}"
        ) from None
    for part in name.split("."):
        if not hasattr(found, part):
            public = [each for each in vars(found) if not each.startswith("_")]
            near = nearest(part, public)
            hint = f" The nearest name is {near}." if near else ""
            raise ConfigError(
                f'model.target: got "{target}", but {module_name} has no {part}.{hint}'
            )
        found = getattr(found, part)
    if not callable(found):
        raise ConfigError(
            f'model.target: got "{target}", which is {shown(found)}; expected a class of nnx or '
            "Equinox modules, or a function that makes one."
        )
    return found


@contextmanager
def _from_here() -> Iterator[None]:
    """Import from the folder where the command runs, as `python -m` does."""
    here = os.getcwd()
    if here in sys.path or "" in sys.path:
        yield
        return
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
