"""Which parameter of a model takes the batch, told by what its parameters are called."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

_TIME = re.compile(
    r"(t|ts|t_?\d+|time\w*|tau|sigmas?|noise_(level|label|scale)s?|log_?snrs?|(time)?steps?)$"
)
_STATE = re.compile(
    r"([xyzhuqv]|x_?\w+|[yzhuqv](s|t|_?\d+|_t|_in)|state\w*|carr(y|ies)|hiddens?|hidden_\w+|memory"
    r"|inputs?\w*|in_\w+|images?|imgs?|samples?|data|features?|points?|pos|positions?|latents?"
    r"|signals?|pixels?|pixel_values|obs|observations?|batch|values?|noisy\w*|seq|sequences?)$"
)
_INPUT = ("x", "xs", "inputs", "image", "images", "img", "imgs")


def is_time(name: str) -> bool:
    """Whether a parameter of this name is a time or a level of noise."""
    return _TIME.match(name) is not None


def likely_batch(free: Sequence[str], needed: Collection[str], num_inputs: int) -> str | None:
    """The parameter that takes the batch, None where the names leave it open.

    The first one, unless it is a time: then the state behind it, as in fields `(t, y)` and
    `(t, y, args)`. Open: a time before something that is not known for a state, or a name
    that says nothing (a label, a context, a y) before one that is called as inputs are.

    Args:
        free: parameters that no flag, key or option fills, in order.
        needed: those of them without a default.
        num_inputs: how many inputs come, the batch among them.
    """
    first, later = free[0], free[1:]
    if not later or (num_inputs == 1 and len(needed) <= 1 and first in needed):
        return first
    if is_time(first):
        return later[0] if _STATE.match(later[0]) else None
    open_to_others = not _STATE.match(first) or first.startswith("y")
    return None if open_to_others and any(name in _INPUT for name in later) else first


def other_candidate(free: Sequence[str]) -> str:
    """Where the batch could go if not to the first parameter."""
    return next((name for name in free[1:] if name in _INPUT), free[1])
