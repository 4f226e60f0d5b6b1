"""A user's model as something to call: its method, its signature, where the batch goes."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ._batch_parameter import is_time, likely_batch, other_candidate
from ._call import Call
from ._mode import flag_names, is_flag

_EMPTY = inspect.Parameter.empty


@dataclass(frozen=True)
class Target:
    """A callable with its signature, and how to lay out a call of it."""

    call: Call
    fn: Callable[..., Any]
    name: str
    signature: inspect.Signature

    def batch_parameter(self, known: Collection[str], num_inputs: int) -> str | None:
        """The parameter that takes the batch, None where `*args` takes it.

        `wrt` if it was given. Else the first parameter that is not filled by name; where
        that one is a time and the next one a state, `(t, y)` or `(t, y, args)`, the next.

        Raises:
            TypeError: the signature leaves open which one it is, or has none.
        """
        call, parameters = self.call, self.signature.parameters
        if call.wrt is not None:
            if call.wrt in parameters or self._has(inspect.Parameter.VAR_KEYWORD):
                return call.wrt
            raise self.misfit(f'no parameter "{call.wrt}" (wrt)', "name one of these in wrt")
        free = [name for name in self._takers() if name not in known]
        if not free:
            if self._has(inspect.Parameter.VAR_POSITIONAL):
                return None
            free = [name for name in self._takers() if name not in call.options]
            if not free:
                raise self.misfit("no parameter for the batch", "leave the batch to linearize")
        needed = [name for name in free if parameters[name].default is _EMPTY]
        first, other = free[0], likely_batch(free, needed, num_inputs)
        if other is not None:
            return other
        other = other_candidate(free)
        line = call.line(f'wrt="{other}"')
        raise self.misfit(
            f"and the batch could go to {first} or to {other}",
            f'say which: {line} or wrt="{first}"; what follows the batch fills the other '
            "parameters in order",
        )

    def arrange(
        self,
        inputs: tuple[Any, ...],
        named: Mapping[str, Any],
        known: Collection[str],
        batch: str | None,
    ) -> tuple[list[Any], dict[str, Any]]:
        """Lay out a call: the batch where it belongs, the other inputs in order, `named` by name.

        Inputs keep off `known`, the names of flags, keys and options. Options must have a
        place; other names that the signature lacks are left out. A required `args` that
        nothing fills gets None, as from diffrax.

        Raises:
            TypeError: the inputs and options do not fit the signature.
        """
        call, parameters = self.call, self.signature.parameters
        kept = {name: named[name] for name in named if name in parameters and name != batch}
        self._check_options(batch)
        waiting = list(inputs)
        if batch is not None:
            kept[batch] = waiting.pop(0)
        for name in self._takers():
            if waiting and name not in kept and name not in known:
                kept[name] = waiting.pop(0)
        if waiting and not self._has(inspect.Parameter.VAR_POSITIONAL):
            raise self.misfit(
                f"which has no place for the last {len(waiting)} of {len(inputs)} inputs",
                self._options_instead(),
            )
        extra = {name: call.options[name] for name in call.options if name not in parameters}
        if batch is not None and batch not in parameters:
            extra[batch] = kept.pop(batch)
        positional: list[Any] = []
        keywords: dict[str, Any] = {}
        by_keyword = False
        for name, parameter in parameters.items():
            if parameter.kind is parameter.VAR_POSITIONAL:
                positional.extend(waiting)
                by_keyword = True
            elif parameter.kind is not parameter.VAR_KEYWORD:
                if name not in kept and parameter.default is _EMPTY:
                    if name != "args" or batch is None:
                        raise self._missing(name)
                    kept[name] = None
                by_keyword |= parameter.kind is parameter.KEYWORD_ONLY
                if name in kept and not by_keyword:
                    positional.append(kept[name])
                elif name in kept:
                    keywords[name] = kept[name]
                elif not by_keyword and (waiting or parameter.kind is parameter.POSITIONAL_ONLY):
                    positional.append(parameter.default)
                else:
                    by_keyword = True
        return positional, {**keywords, **extra}

    def unfilled(self, known: Collection[str], batch: str | None, num_inputs: int) -> list[str]:
        """Required positional parameters that neither the inputs nor `known` fill."""
        free = [name for name in self._takers() if name not in known and name != batch]
        return [
            name
            for name in free[max(num_inputs - 1, 0) :]
            if self.signature.parameters[name].default is _EMPTY and name != "args"
        ]

    def misfit(self, problem: str, advice: str) -> TypeError:
        """The error that shows the model's own signature and what to write."""
        text = f"{self.call.who}: the model is called as {self.name}{self.signature}, {problem}. "
        return TypeError(text + advice[0].upper() + advice[1:] + ".")

    def _options_instead(self) -> str:
        flags = [name for name in self.signature.parameters if name in flag_names(self.signature)]
        if not flags:
            return "pass those that it takes, in its order, the batch first"
        return f"a flag is no input but an option: {self.call.line(f'{flags[0]}=...')}"

    def _missing(self, name: str) -> TypeError:
        whole = self.call.line(f"{name}=...")
        if name in flag_names(self.signature):
            return self.misfit(f"and {name} has no value", f"say it: {whole}")
        advice = f"give it with the batch, linearize(fn, xs, {name}), where each example has one"
        if is_time(name):
            advice = f"give a time an example, linearize(fn, xs, {name})"
        return self.misfit(f"and {name} has no value", f"{advice}, or one for all: {whole}")

    def _check_options(self, batch: str | None) -> None:
        parameters = self.signature.parameters
        for name in self.call.options:
            if name == batch:
                line = self.call.line('wrt="..."')
                raise self.misfit(
                    f"where {name} takes the batch, so it cannot be an option too",
                    f"name another parameter for the batch: {line}",
                )
            if name not in parameters and not self._has(inspect.Parameter.VAR_KEYWORD):
                if name in ("rngs", "key"):
                    line = self.call.line("dropout_key=key")
                    raise self.misfit(
                        f"which takes no {name}", f"for dropout in its layers write {line}"
                    )
                close = difflib.get_close_matches(name, list(parameters), n=1)
                line = self.call.line(*(f"{each}=..." for each in close))
                if is_flag(name, self.call.options[name]):
                    line += ": statistics and dropout_key set the mode of its layers"
                elif not close:
                    line += f" without {name}"
                raise self.misfit(f"which takes no option {name}", f"write {line}")

    def _takers(self) -> list[str]:
        """Parameters that may take an input, in order; keyword-only ones where they must."""
        found = []
        for name, p in self.signature.parameters.items():
            by_name = p.kind is p.KEYWORD_ONLY and p.default is _EMPTY
            if by_name or p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
                found.append(name)
        return found

    def _has(self, kind: Any) -> bool:
        return any(p.kind is kind for p in self.signature.parameters.values())


def find_target(call: Call, model: Any) -> Target:
    """What is called: the model, one of its methods or submodules, or a function of it.

    Raises:
        TypeError: the model has no such method, or it cannot be called.
    """
    owner = type(model).__name__
    if call.method is None:
        if not callable(model):
            raise TypeError(f"{call.who}: {owner} has no __call__; {_instead(call, model)}")
        return Target(call, model, f"{owner}.__call__", _signature(model))
    if not isinstance(call.method, str):
        fn = functools.partial(call.method, model)
        return Target(call, fn, getattr(call.method, "__name__", "method"), _signature(fn))
    found, path = model, f"{owner}.{call.method}"
    for part in call.method.split("."):
        try:
            found = found[int(part)] if part.isdigit() else getattr(found, part)
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise TypeError(
                f"{call.who}: there is no {path}; {_nearest(part, _methods(found))}"
            ) from error
    if not callable(found):
        raise TypeError(
            f"{call.who}: {path} is {type(found).__name__}, which cannot be called. "
            f"Pass a function instead: {call.line('method=lambda model, xs: ...')}."
        )
    return Target(call, found, path, _signature(found))


def _instead(call: Call, model: Any) -> str:
    names = _methods(model)
    if not names:
        return "pass a function of it instead."
    named = call.line(f'method="{names[0]}"')
    return f"name the method to call: {named}. It has {', '.join(names)}."


def _signature(fn: Callable[..., Any]) -> inspect.Signature:
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # a builtin, such as a ufunc, may hide its own
        return inspect.signature(lambda *args, **kwargs: None)
    bare = [p.replace(annotation=_EMPTY) for p in signature.parameters.values()]
    return inspect.Signature(bare)


def _methods(model: Any) -> list[str]:
    """What a user may name: own public methods and callable attributes of a model."""
    inherited = {
        name
        for base in type(model).__mro__
        if base.__module__.split(".")[0] in ("flax", "equinox", "builtins")
        for name in vars(base)
    }
    names = []
    for name in dir(model):
        if name.startswith("_") or name in inherited:
            continue
        try:
            value = getattr(model, name)
        except Exception:  # a property of the user's may raise anything
            continue
        if callable(value):
            names.append(name)
    return names


def _nearest(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"it has {', '.join(names)}." if names else "it has no methods of its own."
