"""Vector fields in the two orders in which people write them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from .._typing import PyTree

Field = Callable[..., Any]

_TIME = ("t", "time")
_TIMES = ("ts", "times")


@dataclass(frozen=True)
class TimeFirst:
    """A field written `(t, y, args)`; made by `time_first`, and still one that diffrax takes.

    Example:
        >>> import jax.numpy as jnp, jacreg.flow
        >>> field = jacreg.flow.time_first(lambda when, state, _: -when * state)
        >>> isinstance(field, jacreg.flow.TimeFirst), field(2.0, jnp.ones((1, 2)))
        (True, Array([[-2., -2.]], dtype=float32))
    """

    field: Field

    def __call__(
        self, t: Float[Array, ""] | float, y: Float[Array, "N *in"], args: PyTree = None
    ) -> Any:
        """Call the field as it was written."""
        return self.field(t, y, args)


def time_first(field: Field) -> TimeFirst:
    """Mark a field that is written as diffrax has them, `(t, y, args) -> [N, *in]`.

    It is called with the time as a scalar, the batch `[N, *in]`, and for `args` the conditions of
    the flow: None without one, the condition itself where there is one, a tuple of several. Not
    needed where the first parameter is called `t` or `time`, or the third `args` and the second
    not `t`, `time`, `ts` or `times`. A field of one example is
    `jax.vmap(field, in_axes=(None, 0, None))`, or 0 for conditions.

    Example:
        >>> import jax.numpy as jnp, jacreg.flow
        >>> def decay(when, state, _):
        ...     return -when * state
        >>> jacreg.flow.log_density(jacreg.flow.time_first(decay), jnp.zeros((2, 3))).log_density
        Array([-4.256816, -4.256816], dtype=float32)
    """
    return TimeFirst(field)


class Rate:
    """A field with its conditions, called as `(xs [N, *in], t []) -> [N, *in]`.

    Attributes:
        fn: `(xs, *arguments) -> [N, *in]`, to be linearised.
    """

    def __init__(self, field: Field, args: tuple[PyTree, ...]) -> None:
        """Read how the field is written.

        Raises:
            TypeError: it is no function, or its parameters do not fit what it is called with.
        """
        if not callable(field):
            raise TypeError(
                "A flow's field must be a function of a batch, got "
                f"{type(field).__name__}. For a linen module pass "
                "jacreg.linen.function(module, variables)."
            )
        self._args = args
        self._time_first = isinstance(field, TimeFirst) or _is_time_first(field)
        if isinstance(field, TimeFirst):
            field = field.field
        self.fn = _state_first(field) if self._time_first else field
        if not self._time_first:
            _check_call(field, args)

    def arguments(self, xs: Float[Array, "N *in"], t: Float[Array, ""]) -> tuple[PyTree, ...]:
        """Return what follows `xs` at time `t`: the time, `[N]` or `[]`, and conditions."""
        times = t if self._time_first else jnp.full(xs.shape[:1], t, xs.dtype)
        return (times, *self._args)

    def __call__(self, xs: Float[Array, "N *in"], t: Float[Array, ""]) -> PyTree:
        """Evaluate the field; whoever calls it checks what a user's function returned."""
        return self.fn(xs, *self.arguments(xs, t))


def _state_first(field: Field) -> Field:
    """Return a field `(t, y, args)` as `(xs, t, *args)`."""
    parameters = _parameters(field)
    short = parameters is not None and len(parameters) == 2

    def fn(xs: Any, t: Any, *args: Any) -> Any:
        if short and not args:
            return field(t, xs)
        return field(t, xs, None if not args else args[0] if len(args) == 1 else args)

    return fn


def check_field(field: Field, xs: Float[Array, "N *in"], args: tuple[PyTree, ...]) -> None:
    """Raise unless a field is one on this batch: it keeps its shape."""
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        raise TypeError(f"A flow needs floating-point xs, got {xs.dtype}: cast first.")
    if xs.ndim == 0:
        raise ValueError("A flow needs a batch [N, *in], got a scalar: use xs[None].")
    try:
        found = jax.eval_shape(Rate(field, args), xs, jax.ShapeDtypeStruct((), xs.dtype))
    except (TypeError, ValueError) as error:
        error.add_note(
            f"A flow calls its field with the whole batch: xs of shape {tuple(xs.shape)}, ts of "
            f"shape ({xs.shape[0]},), then the conditions. If it is written for one example, pass "
            "jax.vmap(field), or jacreg.eqx.function(model) for an Equinox model."
        )
        raise
    shape = getattr(found, "shape", None)
    if shape != xs.shape:
        raise ValueError(
            "The field of a flow must keep the shape of its input: got "
            f"{tuple(xs.shape)} -> {shape or jax.tree.map(lambda leaf: leaf.shape, found)}. It is "
            f"called as field(xs, ts, *args) with ts of shape ({xs.shape[0]},); one written "
            "(t, y, args) is jacreg.flow.time_first(field)."
        )


def _parameters(field: Field) -> list[inspect.Parameter] | None:
    """Return the positional parameters; None where they cannot be read."""
    try:
        found = inspect.signature(field).parameters.values()
    except (TypeError, ValueError):
        return None
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [each for each in found if each.kind in kinds]


def _is_time_first(field: Field) -> bool:
    names = [each.name for each in _parameters(field) or ()]
    if names[:1] and names[0] in _TIMES:
        raise TypeError(
            f"A flow's field takes the state first, field(xs, ts, *args); got one with the "
            f"parameters ({', '.join(names)}). Swap them, or mark one that takes the time as a "
            "scalar with jacreg.flow.time_first(field)."
        )
    # (x, t, args) has its time in the second place, as here; diffrax's (s, y, args) does not.
    time_second = names[1:2] != [] and names[1] in (*_TIME, *_TIMES)
    return names[:1] != [] and (names[0] in _TIME or (names[2:3] == ["args"] and not time_second))


def _check_call(field: Field, args: tuple[PyTree, ...]) -> None:
    try:
        signature = inspect.signature(field)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*range(2 + len(args)))
    except TypeError:
        conditions = f" and {len(args)} conditions" if args else ""
        raise TypeError(
            f"A flow calls its field as field(xs, ts, *args), here with xs, ts{conditions}; got "
            f"one with the parameters {signature}. Pass what it lacks as conditions, "
            "log_density(field, xs, condition); one written (t, y, args) is "
            "jacreg.flow.time_first(field)."
        ) from None
