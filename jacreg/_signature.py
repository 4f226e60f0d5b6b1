"""What two programs are compared by: operations, wiring, types and literals, not trace objects.

Two traces of one function give two jaxprs that differ as Python objects alone. Where a program
holds a function (the rule of a custom derivative) that is compared by its code and by what it
closes over, so that a rule which closes over another number is another rule.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from ._traced import is_traced

# JAX's own wrappers around a user's rule: looked through, since each trace makes new ones.
_PLUMBING = ("jax._src.linear_util", "jax._src.interpreters", "jax._src.custom_derivatives")
_PLUMBING += ("jax._src.api_util", "jax._src.core", "jax._src.util")
# Parameters that say again what others do.
_DERIVED = frozenset({"out_trees"})
# Where JAX keeps the rules of a custom derivative.
_RULES = ("fun", "jvp", "fwd", "bwd")
# What is compared by value; everything else that a rule closes over is by identity.
_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.dtype, np.generic)


class Signature:
    """A nested tuple that stands for a program, hashed once."""

    def __init__(self, *parts: Any) -> None:
        self._parts = parts
        self._hash = hash(parts)

    @classmethod
    def of(cls, *jaxprs: Any) -> Signature:
        """Return that of one or several jaxprs without constants."""
        reader = _Reader()
        return cls(*(reader.jaxpr(each) for each in jaxprs))

    @classmethod
    def of_parameters(cls, equation: Any) -> Signature:
        """Return that of what an equation holds beside its operands: its programs and rules."""
        return cls(_Reader().parameters(equation))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Signature)
            and self._hash == other._hash
            and self._parts == other._parts
        )


class _Same:
    """An object compared by identity, kept alive so that its place is not used again."""

    def __init__(self, item: Any) -> None:
        self.item = item

    def __hash__(self) -> int:
        return id(self.item)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.item is other.item


class _Reader:
    """Tokens of jaxprs; a program that occurs often is read once."""

    def __init__(self) -> None:
        self._known: dict[int, Signature] = {}

    def jaxpr(self, jaxpr: Any) -> Signature:
        found = self._known.get(id(jaxpr))
        if found is None:
            found = self._known[id(jaxpr)] = Signature(*self._tokens(jaxpr))
        return found

    def _tokens(self, jaxpr: Any) -> list[Any]:
        numbers: dict[Any, int] = {}

        def atom(value: Any) -> Any:
            if isinstance(value, jex.Literal):
                return ("literal", value.aval, self.value(value.val))
            return numbers[value]

        for variable in (*jaxpr.constvars, *jaxpr.invars):
            numbers[variable] = len(numbers)
        tokens: list[Any] = [tuple(v.aval for v in (*jaxpr.constvars, *jaxpr.invars))]
        for equation in jaxpr.eqns:
            operands = tuple(atom(v) for v in equation.invars)
            for variable in equation.outvars:
                numbers[variable] = len(numbers)
            avals = tuple(v.aval for v in equation.outvars)
            params = self.parameters(equation)
            tokens.append((equation.primitive.name, operands, params, avals))
        tokens.append(tuple(atom(v) for v in jaxpr.outvars))
        return tokens

    def parameters(self, equation: Any) -> tuple[Any, ...]:
        params = sorted(equation.params.items())
        return tuple((key, self.value(each)) for key, each in params if key not in _DERIVED)

    def value(self, value: Any) -> Any:
        """Anything that a program holds."""
        # A closed jaxpr has equations, too: its constants are told first.
        if hasattr(value, "jaxpr") and hasattr(value, "consts"):
            return (self.jaxpr(value.jaxpr), tuple(self.value(each) for each in value.consts))
        if hasattr(value, "eqns"):
            return self.jaxpr(value)
        if isinstance(value, tuple | list) and type(value) in (tuple, list):
            return (type(value), tuple(self.value(each) for each in value))
        if isinstance(value, dict):
            return ("dict", tuple((key, self.value(each)) for key, each in value.items()))
        if isinstance(value, np.ndarray) or (isinstance(value, jax.Array) and not is_traced(value)):
            return _array(value)
        if _is_wrapped(value) or (callable(value) and not isinstance(value, type)):
            return _rule(value)
        try:
            hash(value)
        except TypeError:
            return _Same(value)
        return (type(value), value)


def _array(value: Any) -> Any:
    if jnp.issubdtype(value.dtype, jax.dtypes.extended):
        return _Same(value)
    array = np.asarray(value)
    return ("array", array.shape, str(array.dtype), array.tobytes())


def _rule(function: Any) -> Any:
    """The functions that a user wrote in what JAX made of them."""
    found: list[Any] = []
    _collect(function, found, {})
    return ("rule", tuple(found)) if found else _Same(function)


def _collect(item: Any, found: list[Any], seen: dict[int, int]) -> None:
    if isinstance(item, tuple | list):
        for each in item:
            _collect(each, found, seen)
        return
    if id(item) in seen:
        return
    seen[id(item)] = len(seen)
    if isinstance(item, FunctionType):
        if item.__module__.startswith(_PLUMBING):
            for cell in item.__closure__ or ():
                _collect(_content(cell), found, seen)
        else:
            found.append(_function(item, seen))
    elif _is_wrapped(item):
        _collect((item.f, item.transforms), found, seen)
    elif _is_of_jax(item):
        _collect(_written(item), found, seen)


def _is_wrapped(item: Any) -> bool:
    """A function as JAX hands it on inside a program."""
    return hasattr(item, "transforms") and hasattr(item, "f")


def _is_of_jax(item: Any) -> bool:
    """A jitted function, or one with a custom derivative."""
    return hasattr(item, "__wrapped__") and type(item).__module__.startswith("jax")


def _written(item: Any) -> tuple[Any, ...]:
    """What a user wrote of such a function."""
    return tuple(getattr(item, name, None) for name in ("__wrapped__", *_RULES))


def _function(function: FunctionType, seen: dict[int, int]) -> Any:
    closed = tuple(_closed(_content(cell), seen) for cell in function.__closure__ or ())
    return (function.__code__, _closed(function.__defaults__, seen), closed)


def _closed(value: Any, seen: dict[int, int]) -> Any:
    if isinstance(value, _PLAIN):
        return (type(value), value)
    if type(value) is tuple:
        return tuple(_closed(each, seen) for each in value)
    if isinstance(value, FunctionType) or _is_of_jax(value):
        if id(value) in seen:
            # It closes over itself, or is told already.
            return ("again", seen[id(value)])
        seen[id(value)] = len(seen)
        if isinstance(value, FunctionType):
            return _function(value, seen)
        return tuple(_closed(each, seen) for each in _written(value))
    return _Same(value)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet bound
        return None
