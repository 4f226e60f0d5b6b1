"""jacreg's method objects by the names that a config uses: `projection`, `exact`, ..."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated, Any

import jax

import jacreg
from train.errors import ConfigError
from train.expect import integer
from train.named import Choice, Named

# Rows of a batch: a colouring reads the program, `choose` measures it.
_FEW, _TYPICAL = 2, 32


@dataclass(frozen=True)
class Deferred:
    """A method that is made from the task's function, by `resolved`.

    Attributes:
        name: "coloring" or "choose".
        budget: of `choose`.
        chosen: what it chose before, as the resolved config of a workdir has it.
        path: the key in the config.
    """

    name: str
    budget: int = 1
    chosen: Named | None = None
    path: str = ""


def coloring() -> Deferred:
    """Exact, in as few products as the function's locality allows; dense where it has none."""
    return Deferred("coloring")


_FIXED: Mapping[str, Callable[..., Any]] = {
    "auto": jacreg.Auto,
    "exact": jacreg.Exact,
    "projection": jacreg.Projection,
    "hutchinson": jacreg.Hutchinson,
    "hutch_plus_plus": jacreg.HutchPlusPlus,
    "xtrace": jacreg.XTrace,
    "xrownorm": jacreg.XRowNorm,
    "probing": jacreg.Probing,
    "noise_injection": jacreg.NoiseInjection,
    "coupled_batch": jacreg.CoupledBatch,
    "coloring": coloring,
}


def make_method(named: Named, path: str = "") -> Any:
    """Return the method object; its constructor checks the options.

    Args:
        named: from the config.
        path: its key there.

    Raises:
        ValueError, TypeError: an option is out of range.
    """
    method = METHODS[named.name](**named.options)
    return dataclasses.replace(method, path=path) if isinstance(method, Deferred) else method


def choose(
    *,
    budget: Annotated[int, integer(least=1)],
    chosen: Annotated[Named | None, Choice(_FIXED, make_method)] = None,
) -> Deferred:
    """The best for `budget` products here (`jacreg.choose`); written to the config as `chosen`."""
    return Deferred("choose", budget, chosen)


METHODS: Mapping[str, Callable[..., Any]] = {**_FIXED, "choose": choose}


@dataclass(frozen=True)
class Chosen:
    """What `choose` chose.

    Attributes:
        method: as a config names it.
        report: its reasons.
    """

    method: Named
    report: str


_CHOSEN: ContextVar[dict[str, Chosen] | None] = ContextVar("chosen", default=None)


@contextmanager
def noting_choices() -> Iterator[dict[str, Chosen]]:
    """Give what is chosen while a task is made, by the key in the config."""
    found: dict[str, Chosen] = {}
    token = _CHOSEN.set(found)
    try:
        yield found
    finally:
        _CHOSEN.reset(token)


def resolved(
    method: Any, fn: Callable[..., Any], rows: Callable[[int], tuple[Any, ...]], *, quantity: str
) -> Any:
    """Return the method; one that was deferred is made for `fn` and this quantity.

    Args:
        method: from `make_method`.
        fn: the batched function that will be linearised, of the shapes of training.
        rows: `fn`'s arguments for at most so many examples.
        quantity: as for `jacreg.color`.

    Raises:
        ConfigError: several hosts, which might choose differently.
    """
    if not isinstance(method, Deferred):
        return method
    if method.name == "coloring":
        return jacreg.color(fn, *rows(_FEW), quantity=quantity)
    if method.chosen is not None:
        return resolved(make_method(method.chosen), fn, rows, quantity=quantity)
    if jax.process_count() > 1:
        raise ConfigError(
            f'{method.path}: got "choose", which measures times and might choose differently on '
            "each host; expected a method by its name (one host alone says which it would be)."
        )
    found = jacreg.choose(fn, *rows(_TYPICAL), quantity=quantity, budget=method.budget)
    notes = _CHOSEN.get()
    if notes is not None:
        notes[method.path] = Chosen(_named(found), found.report)
    return found


def _named(method: Any) -> Named:
    """A method as a config names it."""
    if isinstance(method, jacreg.Coloring):
        return Named("coloring")
    (name,) = (name for name, row in _FIXED.items() if row is type(method))
    values = {each.name: getattr(method, each.name) for each in dataclasses.fields(method)}
    return Named(name, {key: value for key, value in values.items() if value is not None})
