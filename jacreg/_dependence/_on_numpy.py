"""Operations on values that follow from the program alone, by NumPy.

JAX compiles each operation on concrete values, which takes longer than all the rest of reading a
program. What has no row here is left to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda params, *values: function(*values)


def _broadcast(params: Any, value: np.ndarray) -> np.ndarray:
    shape, places = params["shape"], params["broadcast_dimensions"]
    spread = [1] * len(shape)
    for axis, place in enumerate(places):
        spread[place] = value.shape[axis]
    return np.broadcast_to(value.reshape(spread), shape)


def _iota(params: Any) -> np.ndarray:
    shape, axis = params["shape"], params["dimension"]
    line = np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return np.broadcast_to(line, shape)


def _reshape(params: Any, value: np.ndarray) -> np.ndarray:
    if params.get("dimensions") is not None:
        value = value.transpose(params["dimensions"])
    return value.reshape(params["new_sizes"])


def _select(params: Any, which: np.ndarray, *cases: np.ndarray) -> np.ndarray:
    del params
    index = np.broadcast_to(np.asarray(which, dtype=np.int64), cases[0].shape)
    return np.choose(index, cases) if len(cases) < 32 else np.stack(cases)[index]


def _slice(params: Any, value: np.ndarray) -> np.ndarray:
    starts, stops = params["start_indices"], params["limit_indices"]
    strides = params["strides"] or (1,) * len(starts)
    return value[tuple(map(slice, starts, stops, strides))]


# Row: parameters and values of the operands to the value, before it has the result's type.
ON_NUMPY: dict[str, Callable[..., Any]] = {
    "add": _plain(np.add),
    "sub": _plain(np.subtract),
    "mul": _plain(np.multiply),
    "neg": _plain(np.negative),
    "abs": _plain(np.abs),
    "min": _plain(np.minimum),
    "max": _plain(np.maximum),
    "eq": _plain(np.equal),
    "ne": _plain(np.not_equal),
    "lt": _plain(np.less),
    "le": _plain(np.less_equal),
    "gt": _plain(np.greater),
    "ge": _plain(np.greater_equal),
    "copy": _plain(np.asarray),
    "convert_element_type": _plain(np.asarray),
    "iota": _iota,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": lambda params, value: np.squeeze(value, tuple(params["dimensions"])),
    "transpose": lambda params, value: value.transpose(params["permutation"]),
    "concatenate": lambda params, *values: np.concatenate(values, params["dimension"]),
    "select_n": _select,
    "slice": _slice,
    "rev": lambda params, value: np.flip(value, tuple(params["dimensions"])),
}
