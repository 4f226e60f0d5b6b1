"""What was found out of a program, kept for the next call."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from ._traced import is_traced

if TYPE_CHECKING:
    from ._linearize import Linearization

_T = TypeVar("_T")


class Recent(Generic[_T]):
    """The results of the last few keys; what is older is found out again."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._found: OrderedDict[Hashable, _T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """Return what `make` gave for this key."""
        if key not in self._found:
            self._found[key] = make()
            while len(self._found) > self._size:
                self._found.popitem(last=False)
        self._found.move_to_end(key)
        return self._found[key]


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
