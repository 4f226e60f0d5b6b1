"""What is put in the place of an argument, by its kind."""

from __future__ import annotations

import random
from typing import Any

import jax.numpy as jnp
import numpy as np

import jacreg
from benchmarks.robustness._arguments import W, field

FUNCTIONS: tuple[Any, ...] = (
    None, "f", 3, jnp.sin(1.0),
    lambda: 0,
    lambda xs: None,
    lambda xs: jnp.sum(xs),
    lambda xs: xs[:1],
    lambda xs: (xs, xs),
    lambda xs: {"a": xs, "b": jnp.sum(xs, -1)},
    lambda xs: "text",
    lambda xs: jnp.argmax(xs, -1),
    lambda xs: jnp.asarray(xs) + 1j,
    lambda xs: jnp.swapaxes(jnp.atleast_2d(xs), 0, -1),
    lambda xs: jnp.zeros((jnp.shape(xs)[0], 0)),
    lambda xs: xs * jnp.nan,
    lambda xs: 2.0,
    lambda xs: [],
    lambda xs: jnp.asarray(xs).astype(jnp.float16),
    lambda xs: jnp.ones((jnp.shape(xs)[0], 7)),
)  # fmt: skip
_NUMBERS: tuple[Any, ...] = (
    None, "3", "", 0, -1, 1, 2**31, 10**30, 1.5, -0.5, True, float("nan"), float("inf"),
    -float("inf"), 1e-300, 1e300, [1], (), {}, np.float32("nan"), np.int64(2), np.zeros(3),
    np.asarray(2), 1j, (1, 2), (1, 2, 3), (-1, 2), (0, 0),
)  # fmt: skip
_TEXTS: tuple[Any, ...] = (
    None, "", "no such", 3, ("N",), ["NHWC"], "NHWC" * 50, "\x00", b"SAME", "NCHW", "valid",
    ("NHWC", "HWIO"), ("NCHW", "OIHW", "NCHW"), ("XYZW", "HWIO", "NHWC"), ("NHHC", 3, None), {},
    np.zeros(2), ((1, 1), (1, 1)), ((1, -9), (0, 0)), [(1, 2)], 1.5, float("nan"),
)  # fmt: skip
_KEYS: tuple[Any, ...] = (
    None, 0, "key", np.zeros(2), np.zeros(3, np.uint32), np.zeros((2, 2), np.uint32), [0, 1],
    np.zeros((), np.uint32), {}, True,
)  # fmt: skip
_METHODS: tuple[Any, ...] = (
    None, "exact", jacreg.Exact, jacreg.Exact(), jacreg.Projection(), jacreg.Hutchinson(),
    jacreg.HutchPlusPlus(6), jacreg.XTrace(6), jacreg.Lanczos(1, 3), jacreg.NoiseInjection(0.1),
    jacreg.CoupledBatch(), jacreg.Projection(3, "gaussian", "forward"), 3, {}, (),
)  # fmt: skip


def _arrays(valid: Any) -> tuple[Any, ...]:
    array = np.asarray(valid)
    numbers = np.nan_to_num(array.astype(np.float32))
    return (
        None, "text", 3.0, [], {}, [[1.0, 2.0], [3.0]], object(), array.astype(object),
        np.asarray(["a", "b"]), numbers.astype(np.int32), numbers.astype(bool),
        numbers.astype(np.complex64), numbers.astype(np.float16), numbers.astype(np.float64),
        numbers.astype(np.uint8), np.full_like(numbers, np.nan), np.full_like(numbers, np.inf),
        numbers * np.float32(1e38), numbers[:0], numbers[..., :0], numbers[:1], numbers[None],
        numbers[0], numbers.sum(), numbers.T, np.concatenate([numbers, numbers]),
        np.concatenate([numbers, numbers], -1), [numbers, numbers], {"a": numbers},
        (numbers, None), numbers.tolist(), np.zeros((0, 0)), np.zeros((1,) * 12, np.float32),
    )  # fmt: skip


def wrong(name: str, valid: Any, rng: random.Random) -> Any:
    """Return something to put in the place of an argument."""
    if name == "key":
        pool: tuple[Any, ...] = _KEYS
    elif name == "method":
        pool = _METHODS
    elif name == "layers":
        pool = (None, [], field, [field, None], [field, lambda xs: xs[:1]], "layers", [3])
    elif name == "params":
        pool = (None, {}, {"w": None}, {"w": "x"}, {"w": np.zeros((4, 4), int)},
                {"w": W * np.nan}, {"w": W.astype(object)}, [1.0])  # fmt: skip
    elif callable(valid) and not isinstance(valid, type):
        pool = FUNCTIONS
    elif isinstance(valid, np.ndarray):
        pool = _arrays(valid)
    elif isinstance(valid, str) or name in ("layout", "padding"):
        pool = _TEXTS
    else:
        pool = _NUMBERS
    return pool[rng.randrange(len(pool))]
