"""What may be given as a key."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def check_key(who: str, name: str, key: Any) -> None:
    """Raise a TypeError unless `key` is one PRNG key, typed or of raw uint32 data."""
    if isinstance(key, jax.Array | np.ndarray):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0:
            return
        if key.dtype == jnp.uint32 and key.ndim == 1:
            return
        got = f"an array {key.dtype}{list(key.shape)}"
    else:
        got = f"{type(key).__name__} {key!r}"
    raise TypeError(f"{who}: {name} must be one PRNG key, jax.random.key(0) say; got {got}.")
