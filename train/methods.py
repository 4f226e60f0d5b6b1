"""jacreg's method objects by the names that a config uses: `projection`, `exact`, ..."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
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
    """A method that is made from the task's function, by a `Resolver`.

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
        path: of the key in the config.
        method: as a config names it.
        report: its reasons.
    """

    path: str
    method: Named
    report: str


class Resolver:
    """Makes the methods that wait for the function of a task.

    Attributes:
        chosen: what `choose` chose so far.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        rows: Callable[[int], tuple[Any, ...]],
        evaluation: Callable[..., Any] | None = None,
    ) -> None:
        """Prepare for one function.

        Args:
            fn: the batched function that will be linearised, of the shapes of training.
            rows: its arguments for at most so many examples.
            evaluation: the function through running statistics where `fn` mixes its rows; `fn` is
                then linearised with the statistics of its batch held.
        """
        self.fn = fn
        self.rows = rows
        self.evaluation = evaluation
        self.chosen: list[Chosen] = []

    def __call__(self, method: Any, quantity: str = "frobenius", statistics: str = "held") -> Any:
        """Return the method; one that was deferred is made for the function and this quantity.

        Args:
            quantity: as for `jacreg.color`.
            statistics: those of the penalty.

        Raises:
            ConfigError: several hosts, which might choose differently.
        """
        if not isinstance(method, Deferred):
            return method
        if method.name == "coloring":
            rows = self.rows(_FEW)
            return jacreg.color(self._linearised(rows, statistics), *rows, quantity=quantity)
        if method.chosen is not None:
            return self(make_method(method.chosen), quantity, statistics)
        if jax.process_count() > 1:
            raise ConfigError(
                f'{method.path}: got "choose", which measures times and might choose differently '
                "on each host; expected a method by its name (one host alone says which it would "
                "be)."
            )
        rows = self.rows(_TYPICAL)
        fn = self._linearised(rows, statistics)
        found = jacreg.choose(fn, *rows, quantity=quantity, budget=method.budget)
        self.chosen.append(Chosen(method.path, _named(found), found.report))
        return found

    def _linearised(self, rows: tuple[Any, ...], statistics: str) -> Callable[..., Any]:
        if self.evaluation is None:
            return self.fn
        return (
            self.evaluation if statistics == "running" else jacreg.hold_statistics(self.fn, *rows)
        )


def _named(method: Any) -> Named:
    """A method as a config names it."""
    if isinstance(method, jacreg.Coloring):
        return Named("coloring")
    (name,) = (name for name, row in _FIXED.items() if row is type(method))
    values = {each.name: getattr(method, each.name) for each in dataclasses.fields(method)}
    return Named(name, {key: value for key, value in values.items() if value is not None})
