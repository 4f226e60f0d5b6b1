"""Any estimate together with its standard error."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp

from ._keys import check_key
from ._methods import Method, XRowNorm, XTrace
from ._plan import quantity_of
from ._probes import sample_probes
from ._structure import error_of_mean
from ._xrownorm import xrownorm_with_standard_error
from ._xtrace import xtrace_with_standard_error

# Methods without independent probes that know their own error.
_OWN: dict[tuple[str, type], Callable[..., tuple[Any, Any]]] = {
    ("divergence", XTrace): xtrace_with_standard_error,
    ("frobenius_squared", XRowNorm): xrownorm_with_standard_error,
}


def with_standard_error(quantity: Callable[..., Any]) -> Callable[..., tuple[Any, Any]]:
    """Return the same quantity, giving (estimate, standard error) from its own probes.

    The estimate is the quantity's own for the same key; the standard error is the sample
    deviation of its single-probe estimates over the square root of their number, an example
    (or entry) at a time.

    Args:
        quantity: a function of jacreg or jacreg.losses that takes a `method` with `num_probes`,
            or `num_probes` itself, and a `key`; `divergence` also with `XTrace`, whose
            leave-one-out estimates give the error.

    Returns:
        A function with the quantity's signature. It raises ValueError for fewer than two probes
        or a missing key, TypeError for a method without independent probes.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(jnp.sin, jnp.ones((2, 5)))
        >>> norm = jacreg.with_standard_error(jacreg.frobenius_squared)
        >>> estimate, error = norm(lin, jacreg.Projection(8), key=jax.random.key(0))
        >>> estimate.shape, error.shape
        ((2,), (2,))
    """
    name = getattr(quantity, "__name__", "quantity")
    signature = inspect.signature(quantity)
    if "key" not in signature.parameters:
        raise TypeError(f"with_standard_error: {name} takes no key, so it has no sampling error.")

    @wraps(quantity)
    def estimate(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        key, method = bound.arguments["key"], bound.arguments.get("method")
        of_itself = _OWN.get((name, type(method)))
        count = 0 if of_itself else _probes(name, quantity, bound.arguments)
        if key is None:
            raise ValueError(
                f"with_standard_error({name}): needs a key; pass key=jax.random.key(seed)."
            )
        check_key(f"with_standard_error({name})", "key", key)
        if of_itself is not None:
            return of_itself(bound.arguments["lin"], method, key)

        def single(probe_key: Any) -> Any:
            arguments = dict(bound.arguments, key=probe_key)
            if method is None:
                arguments["num_probes"] = 1
            else:
                arguments["method"] = method.single()
            again = inspect.BoundArguments(signature, arguments)  # type: ignore[arg-type]
            return quantity(*again.args, **again.kwargs)

        samples = sample_probes(single, key, count)
        mean = jax.tree.map(lambda x: jnp.mean(x, axis=0), samples)
        return mean, jax.tree.map(error_of_mean, samples)

    return estimate


def _probes(name: str, quantity: Any, arguments: dict[str, Any]) -> int:
    """Number of independent probes, at least two."""
    method = arguments.get("method")
    holder = arguments if method is None else getattr(method, "__dict__", {})
    if "num_probes" not in holder:
        shown = repr(method) if isinstance(method, Method) else name
        raise TypeError(
            f"with_standard_error({name}): {shown} has no independent probes to take a standard "
            f"error from. An exact method has none; {_those_with_probes(name, quantity)}."
        )
    count = holder["num_probes"]
    if count < 2:
        raise ValueError(
            f"with_standard_error({name}): a standard error needs at least two probes, got "
            f"num_probes={count}."
        )
    return count


def _those_with_probes(name: str, quantity: Any) -> str:
    found = quantity_of(quantity)
    default = inspect.signature(quantity).parameters.get("method")
    methods = found.methods if found is not None else [type(default.default)] if default else []
    names = [f"{each.__name__}(num_probes=...)" for each in methods if hasattr(each, "num_probes")]
    names += [f"{own.__name__}(num_products=...)" for of, own in _OWN if of == name]
    return f"pass one {'of ' + ', '.join(names) if names else 'with num_probes'}, and a key"
