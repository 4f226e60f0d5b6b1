"""What a call is going to do, decided before it does it.

Each quantity has a `Quantity`: a table from the type of a method to a way, and the ways among which
`Auto()` chooses. A way looks at a Linearization, computes nothing, and returns a `Choice`: its name
in `path`, how many products of the whole network it takes, why, what it costs in operations, and
`run`, which does it. The quantity runs what `decide` returned, and `jacreg.plan` shows it: so they
cannot disagree.

To give `Auto()` another way is to write one function and to name it in the quantity's `auto`:

    def by_symmetry(lin, method, limit):
        if not is_symmetric(lin.program):
            raise Unfit("no symmetry")        # a few words, read after "products, for there is"
        return Choice("symmetry", 1, "the program is symmetric", cost, lambda key: ...)

`limit` is the least cost found so far: a way that needs long to look may leave where it cannot be
less (`check_worth`). Of equal costs the first in the list wins, so the list begins with what takes
least memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ._errors import DirectionError
from ._flops import count_program
from ._linearize import Linearization, check_linearization
from ._methods import Auto, select

PRODUCTS = "products"


@dataclass(frozen=True)
class Choice:
    """One way to compute a quantity of one Linearization, not yet taken.

    Attributes:
        path: its short name.
        num_products: J v and J^T u of the whole network that it takes.
        reason: why, in words that may follow "because"; or what finds these words, for `plan`.
        cost: operations, for `Auto` to compare; 0 where nothing can take less.
        run: of the key (None for exact ways), gives the value.
    """

    path: str
    num_products: int
    reason: str | Callable[[], str]
    cost: float
    run: Callable[[Any], Any]

    @property
    def why(self) -> str:
        """The reason in words."""
        return self.reason if isinstance(self.reason, str) else self.reason()


class Unfit(Exception):
    """A way that does not exist here; its message says in a few words what is missing."""


Way = Callable[[Linearization, Any, float], Choice]


@dataclass(frozen=True)
class Quantity:
    """The ways of one quantity.

    Attributes:
        name: of the public function.
        methods: a way for each type of method; `limit` is infinite there.
        auto: those among which `Auto()` chooses.
        check: raises where the quantity is not defined.
        empty: the value where there is no example or no entry: a sum of nothing.
    """

    name: str
    methods: Mapping[type, Way]
    auto: Sequence[Way] = ()
    check: Callable[[str, Linearization], None] = lambda name, lin: None
    empty: Callable[[Linearization], Any] | None = None

    def decide(self, lin: Linearization, method: Any) -> Choice:
        """What the quantity does with a method.

        Raises:
            TypeError: no Linearization, or the method does not give it.
        """
        check_linearization(self.name, lin)
        self.check(self.name, lin)
        table = {Auto: self._cheapest, **self.methods} if self.auto else self.methods
        way = select(self.name, method, table)
        if self.empty is not None and 0 in (lin.num_examples, lin.inputs.size):
            nothing = self.empty
            return Choice("empty", 0, "there is nothing to sum", 0.0, lambda key: nothing(lin))
        return way(lin, method, float("inf"))

    def _cheapest(self, lin: Linearization, method: Any, limit: float) -> Choice:
        best: Choice | None = None
        missing: list[Exception] = []
        for way in self.auto:
            try:
                found = way(lin, method, limit)
            except (Unfit, DirectionError) as error:
                missing.append(error)
                continue
            if found.cost < limit:
                best, limit = found, found.cost
            if limit <= 0:
                break
        if best is None:
            raise next((e for e in missing if isinstance(e, DirectionError)), missing[-1])
        why = "; ".join(str(error) for error in missing if isinstance(error, Unfit))
        if best.path == PRODUCTS and why:
            return replace(best, reason=f"{best.why}: {why}")
        return best


def from_products(
    count: Callable[[Linearization, Any], int],
    run: Callable[[Linearization, Any, Any], Any],
    reason: str,
    path: str = PRODUCTS,
) -> Way:
    """Way of a method that says itself how many products it takes.

    Args:
        count: of the Linearization and the method.
        run: of the Linearization, the method and the key.
        reason: what the products are taken with.
        path: its short name.
    """

    def way(lin: Linearization, method: Any, limit: float) -> Choice:
        products = count(lin, method)
        return Choice(
            path,
            products,
            reason,
            products * product_cost(lin),
            lambda key: run(lin, method, key),
        )

    return way


def product_cost(lin: Linearization) -> float:
    """Cost of one product with the Jacobian, without that of the forward pass."""
    return many_small(lin.program.operations)


def program_cost(jaxpr: Any) -> float:
    """Operations of a program, in those of one matrix product."""
    return many_small(count_program(jaxpr))


def many_small(operations: float) -> float:
    """Cost of many operations, in those of one matrix product.

    They keep a processor less busy than one large matrix product of as many multiplications. Four
    is a round number between what was seen on CPU and GPU (2 to 10).
    """
    return 4.0 * operations


def check_worth(cost: float, limit: float, what: str) -> None:
    """Leave where a way is known to cost no less than what was found already.

    Raises:
        Unfit: it does.
    """
    if cost >= limit:
        raise Unfit(f"{what} would save nothing")
