"""The operator norm of convolutions, to 1e-4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jacreg
from benchmarks._clock import in_turns
from benchmarks._comparison import Comparison, counted, timed
from jacreg._spectral_norm import leading_pair

_TOLERANCE = 1e-4
_WORK = "operator norm to 1e-4"
_SEEDS = 3


class _Convolution(NamedTuple):
    """One convolution as a linear map of one image."""

    setting: str
    kernel: Any
    in_shape: tuple[int, int, int]
    stride: int
    dilation: int

    def map(self, x: Any) -> Any:
        """Apply it to one image."""
        return jax.lax.conv_general_dilated(
            x[None], self.kernel, (self.stride,) * 2, "SAME", rhs_dilation=(self.dilation,) * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )[0]  # fmt: skip

    def dense(self) -> Any:
        """Return its matrix."""
        zero = jnp.zeros(self.in_shape)
        found = jax.jit(jax.jacfwd(lambda x: self.map(x).ravel()))(zero)
        return found.reshape(found.shape[0], -1)


def _convolutions() -> list[_Convolution]:
    def make(
        name: str, side: int, shape: tuple[int, ...], stride: int = 1, dilation: int = 1
    ) -> _Convolution:
        kernel = np.random.default_rng(0).normal(size=shape) / np.prod(shape[:3]) ** 0.5
        in_shape = (side, side, shape[2])
        setting = f"{name}, {side}x{side}x{shape[2]} to {shape[3]}"
        return _Convolution(setting, jnp.asarray(kernel, jnp.float32), in_shape, stride, dilation)

    return [
        make("3x3 SAME", 8, (3, 3, 8, 8)),
        make("5x5 stride 2", 12, (5, 5, 4, 8), stride=2),
        make("3x3 dilated by 2", 8, (3, 3, 8, 8), dilation=2),
    ]


def compare() -> list[Comparison]:
    """Passes, time and error against power iteration and the bound of a circular convolution."""
    rows = []
    for each in _convolutions():
        matrix = each.dense()
        values = np.linalg.svd(np.asarray(matrix, np.float64), compute_uv=False)
        truth = float(values[0])
        keys = list(jax.random.split(jax.random.key(0), _SEEDS))
        found = [_passes(each, key, _TOLERANCE) for key in keys]
        errors = [abs(value / truth - 1) for _, value in found]
        assert max(errors) <= _TOLERANCE, f"{each.setting}: error {max(errors):.2g}"
        by_itself = float(np.median([passes for passes, _ in found]))
        theirs = float(np.median([_power_passes(matrix, truth, key) for key in keys]))
        gap = float(1 - values[1] / truth)
        same: dict[str, Any] = {"setting": each.setting, "agreement": max(errors)}
        rows.append(
            counted(
                _least_passes(each, truth, keys[0]), theirs, "passes", work=_WORK,
                peer="power iteration", most=1.0,
                floor="a pass is a product with J and one with its transpose",
                note=f"both stopped by the truth, ours at multiples of 8; gap {gap:.1g}", **same,
            )
        )  # fmt: skip
        rows.append(
            counted(
                by_itself, _guaranteed(matrix.shape[1]), "passes", work=f"{_WORK}, known to be",
                peer="power iteration by its guarantee", most=1.0,
                note="probability 0.9999, Kuczynski and Wozniakowski 1992", **same,
            )
        )  # fmt: skip
        rows += _timed(each, int(theirs), keys[0], same)
        if each.stride == 1:
            bound = abs(_circular(each) / truth - 1)
            rows.append(
                counted(
                    max(errors), bound, "relative error", work=_WORK, peer="FFT, circular padding",
                    note="no bound of zero padding is exact, and none of a stride", **same,
                )
            )  # fmt: skip
    return rows


def growth() -> list[dict[str, Any]]:
    """Passes against the tolerance."""
    each = _convolutions()[0]
    matrix = each.dense()
    truth = float(np.linalg.svd(np.asarray(matrix, np.float64), compute_uv=False)[0])
    key = jax.random.key(0)
    tolerances = (1e-2, 1e-3, 1e-4, 1e-5)
    return [
        {
            "title": each.setting, "x": "relative error", "y": "passes",
            "lines": {
                "ours": [[t, _passes(each, key, t)[0]] for t in tolerances],
                "power iteration": [[t, _power_passes(matrix, truth, key, t)] for t in tolerances],
            },
        }
    ]  # fmt: skip


def _timed(each: _Convolution, steps: int, key: Any, same: dict[str, Any]) -> list[Comparison]:
    matrix = each.dense()

    def ours(key: Any) -> Any:
        return jacreg.operator_norm(each.map, each.in_shape, key=key, tolerance=_TOLERANCE)

    def power(matrix: Any, key: Any) -> Any:
        return _power(matrix, jax.random.normal(key, matrix.shape[1:]), steps)

    compiled, powered = jax.jit(ours), jax.jit(power)
    peers = {
        "power iteration on the dense matrix": lambda: powered(each.dense(), key),
        "SVD of the dense matrix": lambda: np.linalg.svd(matrix, compute_uv=False),
    }
    times = in_turns({"ours": lambda: compiled(key), **peers}, rounds=5)
    return [timed(times, "ours", name, work=_WORK, peer=name, most=1.0, **same) for name in peers]


def _power(matrix: Any, start: Any, steps: int) -> Any:
    def step(_: Any, vector: Any) -> Any:
        vector = matrix.T @ (matrix @ vector)
        return vector / jnp.linalg.norm(vector)

    vector = jax.lax.fori_loop(0, steps, step, start / jnp.linalg.norm(start))
    return jnp.linalg.norm(matrix @ vector)


def _power_passes(matrix: Any, truth: float, key: Any, tolerance: float = _TOLERANCE) -> int:
    """How many passes of power iteration bring the norm's estimate within the tolerance."""
    gram = np.asarray(matrix, np.float64).T @ np.asarray(matrix, np.float64)
    vector = np.asarray(jax.random.normal(key, (len(gram),)), np.float64)
    for passes in range(1, 100_000):
        vector = gram @ (vector / np.linalg.norm(vector))
        # The last product with J of the vector is the next pass's first.
        if abs(np.sqrt(vector @ gram @ vector / (vector @ vector)) / truth - 1) <= tolerance:
            return passes
    raise AssertionError("power iteration did not reach the tolerance")


def _passes(
    each: _Convolution, key: Any, tolerance: float, steps: int | None = None
) -> tuple[float, float]:
    """All products of one call over two, counted as they run, and its result.

    With `steps` the result is what so many steps give, near enough or not.
    """
    counts = [0]
    transpose = jax.linear_transpose(each.map, jnp.zeros(each.in_shape))

    def counting(fn: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
        def called(_: Any, x: Any) -> Any:
            jax.debug.callback(lambda: counts.__setitem__(0, counts[0] + 1))
            return fn(x)

        return called

    forward, backward = counting(each.map), counting(lambda u: transpose(u)[0])

    def batched(xs: Any) -> Any:
        return jax.custom_derivatives.linear_call(forward, backward, (), xs[0])[None]

    def norm(key: Any) -> Any:
        lin = jacreg.linearize(batched, jnp.zeros((1, *each.in_shape)))
        return leading_pair("benchmark", lin, key, tolerance, steps).value[0]

    value = float(jax.jit(norm)(key))
    jax.effects_barrier()
    return counts[0] / 2, value


def _least_passes(each: _Convolution, truth: float, key: Any) -> float:
    """Passes of ours when it is ended as soon as the norm is near enough."""
    for steps in range(8, 200, 8):
        passes, value = _passes(each, key, _TOLERANCE, steps)
        if abs(value / truth - 1) <= _TOLERANCE:
            return passes
    raise AssertionError("Lanczos did not reach the tolerance")


def _guaranteed(size: int) -> float:
    """Passes after which a random start has failed with probability 1e-4 at most."""
    return float(np.log(0.824 * size**0.5 / 1e-4) / -np.log1p(-2 * _TOLERANCE) + 0.5)


def _circular(each: _Convolution) -> float:
    """The norm of the same kernel under circular padding (Sedghi, Gupta, Long 2019)."""
    kernel = np.asarray(each.kernel, np.float64)
    height, width, *channels = kernel.shape
    spread = np.zeros(
        (1 + (height - 1) * each.dilation, 1 + (width - 1) * each.dilation, *channels)
    )
    spread[:: each.dilation, :: each.dilation] = kernel
    transform = np.fft.fft2(spread, each.in_shape[:2], axes=(0, 1))
    return float(np.linalg.svd(transform, compute_uv=False).max())
