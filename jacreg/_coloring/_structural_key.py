"""What the places of zeros in a Jacobian may depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._linearize import Linearization
from .._traced import is_traced


def structural_key(lin: Linearization) -> Hashable:
    """What the places of zeros in a Jacobian may depend on: the program and index tables.

    The program stands there by its signature, which keeps no trace alive.

    Shapes are part of the program. Integers and booleans that the function closes over or takes as
    arguments may choose entries; where they are traced they are not known, and the key says so.
    """
    return lin.program.signature, tuple(map(_table, jax.tree.leaves((lin.constants, lin.args))))


def _table(leaf: Any) -> bytes | None:
    if is_traced(leaf) or not isinstance(leaf, np.ndarray | jax.Array):
        return None
    if jnp.issubdtype(leaf.dtype, jax.dtypes.extended) or leaf.dtype.kind not in "iub":
        return None
    return hashlib.sha256(np.asarray(leaf).tobytes()).digest()
