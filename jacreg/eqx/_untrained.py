"""A warning about running statistics that were never written."""

from __future__ import annotations

import warnings
from typing import Any

import equinox as eqx
import jax
import numpy as np

from .._mode import Mode
from ._set_mode import modules


def warn_untrained(who: str, model: Any, state: Any, mode: Mode) -> None:
    """Warn where a BatchNorm in mode "ema" would normalise by an empty average.

    Its variance starts at zero, so the layer multiplies by 1 / sqrt(eps), 316 at the
    default. Python shows a warning once a place, which is what a training loop needs.
    """
    if mode.batch_statistics or state is None:
        return
    for layer in modules(model):
        if not isinstance(layer, eqx.nn.BatchNorm) or layer.ema_first_time_index is None:
            continue
        try:
            # By NumPy: under jit an operation on what is known would give what is not.
            untrained = bool(np.asarray(state.get(layer.ema_first_time_index)).all())
        except jax.errors.TracerArrayConversionError:
            continue  # in a training step, where it is not known
        if not untrained:
            continue
        warnings.warn(
            f'{who}: a BatchNorm in mode "ema" has no running statistics yet: it multiplies its '
            f"input by {layer.eps**-0.5:.0f}, and so does each such layer the Jacobian. Train "
            'first (statistics="batch", return_state=True), or make it with mode="batch", which '
            "starts at mean 0 and variance 1.",
            stacklevel=3,
        )
        return
