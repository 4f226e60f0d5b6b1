"""The pairs of `Auto()` and of Gram products, beside those of the other methods."""

import pairs
from quantities import Pair

import jacreg

_TRUTH = {
    jacreg.jacobian: pairs._blocks,
    jacreg.diagonal: pairs._diagonal,
    jacreg.divergence: pairs._trace,
    jacreg.frobenius_squared: pairs._frobenius,
}
_SQUARE = (jacreg.diagonal, jacreg.divergence)


def _automatic_pairs():
    for quantity, truth in _TRUTH.items():
        needs = (pairs._is_square,) if quantity in _SQUARE else ()
        yield Pair(quantity.__name__, "Auto", lambda p, lin, q=quantity: q(lin), truth, *needs)
    for name, method in {
        "Auto": jacreg.Auto(),
        "Exact": jacreg.Exact(),
        "Exact in chunks": jacreg.Exact(2),
    }.items():
        yield Pair(
            "gram",
            name,
            lambda p, lin, m=method: jacreg.gram(lin, method=m),
            pairs._gram,
        )


_OTHERS = {name: pair for name, pair in pairs.PAIRS.items() if pair.quantity != "gram"}
PAIRS = {**_OTHERS, **{pair.name: pair for pair in _automatic_pairs()}}
