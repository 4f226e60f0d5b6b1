"""What a config key accepts, written as an annotation: `Annotated[int, integer(least=1)]`.

The keys of a table are the fields of a dataclass or the keyword-only parameters
of a function, so a penalty, a schedule or a task declares its options once.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import sys
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

T = TypeVar("T")
REQUIRED = inspect.Parameter.empty
NO_KEY = "no key"  # in a field's metadata: it is no key of a table


@dataclass(frozen=True)
class Expect:
    """A description for error messages and a check that returns the converted value."""

    what: str
    check: Callable[[Any], Any]  # raises ValueError


@dataclass(frozen=True)
class Key:
    """One key of a table: what it accepts and its default (`REQUIRED` has none)."""

    expect: Expect
    default: Any
    annotation: Any = None

    def mark(self, kind: type[T]) -> T | None:
        """Return what the annotation is marked with of a kind, None where it is not."""
        marks = getattr(self.annotation, "__metadata__", ())
        return next((each for each in marks if isinstance(each, kind)), None)


def _range(what: str, least: float | None, above: float | None, most: float | None) -> str:
    if least is not None:
        what += f" >= {least:g}"
    if above is not None:
        what += f" > {above:g}"
    if most is not None:
        what += f" and <= {most:g}" if least is not None or above is not None else f" <= {most:g}"
    return what


def _inside(value: float, least: float | None, above: float | None, most: float | None) -> bool:
    return (
        (least is None or value >= least)
        and (above is None or value > above)
        and (most is None or value <= most)
    )


def _unboxed(value: Any) -> Any:
    """Return a scalar of numpy or JAX, as a loop over an array gives them, as Python's number."""
    return value.item() if getattr(value, "shape", None) == () else value


def integer(least: int | None = None, most: int | None = None) -> Expect:
    """Accept an int in a range; a bool is no int."""

    def check(value: Any) -> int:
        value = _unboxed(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError
        if not _inside(value, least, None, most) or abs(value) >= 2**63:
            raise ValueError
        return value

    return Expect(_range("an integer", least, None, most), check)


def number(
    least: float | None = None, above: float | None = None, most: float | None = None
) -> Expect:
    """Accept a finite float or int in a range; nan and inf are no numbers here."""

    def check(value: Any) -> float:
        value = _unboxed(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError
        try:
            value = float(value)
        except OverflowError:
            raise ValueError from None
        if not math.isfinite(value) or not _inside(value, least, above, most):
            raise ValueError
        return value

    return Expect(_range("a finite number", least, above, most), check)


def boolean() -> Expect:
    """Accept true or false."""

    def check(value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value

    return Expect("true or false", check)


def string(choices: Iterable[str] | None = None) -> Expect:
    """Accept a string without control characters, not empty, or one of the choices."""
    allowed = None if choices is None else tuple(choices)

    def check(value: Any) -> str:
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise ValueError
        if allowed is not None and value not in allowed:
            raise ValueError
        return value

    what = "a string that is not empty"
    if allowed is not None:
        what = "one of " + ", ".join(f'"{choice}"' for choice in allowed)
    return Expect(what, check)


def sequence(item: Expect, length: int | None = None) -> Expect:
    """Accept a list whose items are all accepted, as a tuple."""

    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or (length is not None and len(value) != length):
            raise ValueError
        return tuple(item.check(each) for each in value)

    count = "" if length is None else f" of {length}"
    return Expect(f"a list{count}, each {item.what}", check)


def either(*options: Expect) -> Expect:
    """Accept what any of the options accepts, tried in order."""

    def check(value: Any) -> Any:
        for option in options:
            try:
                return option.check(value)
            except ValueError:
                continue
        raise ValueError

    return Expect(" or ".join(option.what for option in options), check)


def optional(expect: Expect) -> Expect:
    """Accept what `expect` accepts; the default of such a key is None (absent in TOML)."""
    return Expect(expect.what, lambda value: None if value is None else expect.check(value))


def keys_of(target: Callable[..., Any]) -> dict[str, Key]:
    """Return the keys that a dataclass's fields or a function's keyword-only parameters make."""
    parameters = inspect.signature(target).parameters.values()
    if dataclasses.is_dataclass(target):
        hidden = [each.name for each in dataclasses.fields(target) if NO_KEY in each.metadata]
        parameters = [each for each in parameters if each.name not in hidden]
    else:
        parameters = [each for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY]
    names = vars(sys.modules[target.__module__])
    keys = {}
    for parameter in parameters:
        annotation = _evaluated(parameter.annotation, names)
        keys[parameter.name] = Key(expected(annotation), parameter.default, annotation)
    return keys


def _evaluated(annotation: Any, names: dict[str, Any]) -> Any:
    """Return what a postponed annotation stands for; Any where it is for type checkers alone."""
    holder = types.SimpleNamespace(__annotations__={"key": annotation})
    try:
        return typing.get_type_hints(holder, names, include_extras=True)["key"]
    except NameError:
        return Any


def expected(annotation: Any) -> Expect:
    """Return what an annotation accepts; `Annotated` with an `Expect` or with names says it."""
    for extra in getattr(annotation, "__metadata__", ()):
        if isinstance(extra, Expect):
            return extra
        if isinstance(extra, tuple):
            return string(extra)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    for kind, expect in ((bool, boolean), (int, integer), (float, number), (str, string)):
        if annotation is kind:
            return expect()
    if origin is Literal:
        return string(arguments)
    if origin in (list, tuple) or getattr(origin, "__name__", "") == "Sequence":
        repeated = [argument for argument in arguments if argument is not Ellipsis]
        fixed = origin is tuple and Ellipsis not in arguments
        return sequence(expected(repeated[0]), len(repeated) if fixed else None)
    if origin in (typing.Union, types.UnionType):
        options = [expected(argument) for argument in arguments if argument is not types.NoneType]
        chosen = options[0] if len(options) == 1 else either(*options)
        return optional(chosen) if types.NoneType in arguments else chosen
    return Expect("a value", lambda value: value)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name most like `name`; empty where nothing is known."""
    candidates = sorted(known)
    close = difflib.get_close_matches(name[:80], candidates, n=1, cutoff=0.0)
    return close[0] if close else ""
