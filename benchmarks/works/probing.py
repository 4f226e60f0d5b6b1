"""The trace of a deep local network at fewer products than it has colours.

Twelve residual 3x3 convolutions on images: the exact trace takes 507 products, random signs on the
classes of a partial colouring (`Probing`) and Hutchinson's probes 108 each. The error is that to
the exact trace, root mean square over keys and examples.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

import jacreg
from benchmarks._clock import in_turns
from benchmarks._comparison import Comparison, counted, timed
from benchmarks.works._estimates import deviation_of_ratio, root_mean_square, unbiased
from benchmarks.works._fields import residual_convolutions

_SHAPE, _BATCH = (32, 32, 3), 4
_PRODUCTS, _KEYS = 108, 32
_WORK = f"trace by {_PRODUCTS} products"


def compare() -> list[Comparison]:
    """The error at equal products, and the time of one estimate."""
    field = residual_convolutions(_SHAPE, width=8, dilations=(1,) * 12)
    xs = jax.random.normal(jax.random.key(0), (_BATCH, *_SHAPE))

    def compiled(method: Any) -> Any:
        return jax.jit(
            lambda xs, key: jacreg.divergence(jacreg.linearize(field, xs), method, key=key)
        )

    truth = np.asarray(compiled(jacreg.Auto())(xs, None), np.float64)
    ours = compiled(jacreg.Probing(_PRODUCTS))
    theirs = compiled(jacreg.Hutchinson(_PRODUCTS))
    keys = jax.random.split(jax.random.key(1), _KEYS)
    errors = {}
    for name, estimate in (("Probing", ours), ("Hutchinson", theirs)):
        errors[name] = np.stack([np.asarray(estimate(xs, key)) for key in keys]) - truth
        unbiased(errors[name], name)
    squares = {name: each**2 for name, each in errors.items()}
    deviation = deviation_of_ratio(squares["Probing"], squares["Hutchinson"])
    times = in_turns(
        {"ours": lambda: ours(xs, keys[0]), "theirs": lambda: theirs(xs, keys[0])}, rounds=5
    )
    same: dict[str, Any] = {
        "setting": f"12 residual convolutions 3x3 (linen), 32x32x3, batch {_BATCH}",
        "peer": f"jacreg's Hutchinson({_PRODUCTS})",
    }
    return [
        counted(
            root_mean_square(squares["Probing"]), root_mean_square(squares["Hutchinson"]), "error",
            work=f"{_WORK}, root mean square error", most=0.25,
            note=f"ratio +- {deviation:.2f}, one standard error of {_KEYS} keys; exact by "
            f"{_products(field, xs)} products", **same,
        ),
        timed(times, "ours", "theirs", work=_WORK, **same),
    ]  # fmt: skip


def _products(field: Any, xs: Any) -> int:
    return jacreg.plan(jacreg.divergence, jacreg.linearize(field, xs)).num_products
