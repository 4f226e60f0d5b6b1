"""What an array depends on as a union of few products.

Half of what a U-Net concatenates has seen a window, half a wider one: together they are no product
of one relation an axis. The next convolution sums over both, and the wider one holds the other.
So the two are kept beside each other for a while, each a product of small matrices, where one
matrix over all axes would have millions of entries.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

from ._pattern import Pattern, product_union, union

# Products that are kept beside each other; of more, one joint relation is made.
_MOST_TERMS = 4

Terms = tuple[Pattern, ...]


def united(terms: Iterable[Pattern]) -> Terms:
    """The same union in as few products as are seen at once, without those that are empty."""
    kept: list[Pattern] = []
    for term in terms:
        if not term.is_empty:
            kept = _with(kept, term)
    return (whole(kept),) if len(kept) > _MOST_TERMS else tuple(kept)


def _with(kept: list[Pattern], term: Pattern) -> list[Pattern]:
    for place, other in enumerate(kept):
        both = product_union(other, term)
        if both is other:
            return kept
        if both is not None:
            return _with([*kept[:place], *kept[place + 1 :]], both)
    return [*kept, term]


def whole(terms: Iterable[Pattern]) -> Pattern:
    """One pattern for one term or more; wider where a joint relation were too large."""
    return reduce(union, terms)
