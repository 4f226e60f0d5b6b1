"""The norm of a convolution on an unbounded image, from its symbol at finitely many frequencies.

Such a convolution, of any stride s and input dilation d, repeats itself after s' pixels of its
image and d' of its result, s' and d' being s and d without their common divisor. With the pixels
of one period as channels it is a plain convolution: at a frequency t in [0, 2 pi)^n a matrix F(t),
the symbol, and the norm is the largest ||F(t)||_2. A convolution of a bounded image, with zeros
around it or periodic, is a part of it, and has at most that norm.

Between the frequencies: u* F(t) v is a trigonometric polynomial with one degree k - 1 an axis, k
being how many places of the period the kernel reaches. One of N equally spaced frequencies is
within pi / N of its largest modulus, and around that it stays above the largest times
cos((k - 1) (t - t*) / 2) (M. Riesz 1914; Ehlich and Zeller 1964 for equally spaced points). So
||F||_inf <= max over the grid of ||F||_2, divided by cos(pi (k - 1) / (2 N)) an axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import ceil, cos, gcd, pi, prod, sqrt
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ._gram_iteration import spectral_bound

if TYPE_CHECKING:
    from jaxtyping import Array, Float

EXCESS = 0.005  # relative, of what lies between the frequencies
_ENTRIES = 2**21  # of the matrices that are in memory at a time


@dataclass(frozen=True)
class Axis:
    """One spatial axis: `taps` places of the kernel, at `step` pixels of the spread image."""

    taps: int
    stride: int = 1
    spread: int = 1
    step: int = 1
    before: int = 0

    @property
    def phases(self) -> tuple[int, int]:
        """Places of the result and of the image in one period."""
        common = gcd(self.stride, self.spread)
        return self.spread // common, self.stride // common

    def offsets(self) -> tuple[np.ndarray, int]:
        """`[taps, out phases, in phases]`: how many periods on, -1 for none; and the degree."""
        outs, ins = self.phases
        period = self.stride * outs
        where = (
            np.arange(self.taps)[:, None, None] * self.step
            - self.before
            + np.arange(outs)[None, :, None] * self.stride
            - np.arange(ins)[None, None, :] * self.spread
        )
        hit = where % period == 0
        if not hit.any():
            return np.full(where.shape, -1), 0
        periods = np.where(hit, where // period, 0)
        periods = periods - periods[hit].min()
        common = int(np.gcd.reduce(periods[hit])) or 1
        periods = periods // common
        return np.where(hit, periods, -1), int(periods[hit].max())


def convolution_bound(
    kernel: Float[Array, "*taps into out"], axes: tuple[Axis, ...], groups: int
) -> Float[Array, ""]:
    """An upper bound of a convolution's norm on images of any size, within 1 % of the supremum.

    Args:
        kernel: in float64, `[*taps, C_in / groups, C_out]`.
        axes: one each spatial axis.
        groups: of channels.
    """
    if not kernel.size:
        return jnp.zeros((), kernel.dtype)
    tables, degrees = zip(*(axis.offsets() for axis in axes), strict=True)
    angles, margin = _grid(degrees)

    def bounds(kernel: Array, some: Float[Array, "F d"]) -> Float[Array, " F"]:
        symbol = _symbol(kernel, tables, some, groups)
        return jnp.max(spectral_bound(symbol), axis=1)

    best = jnp.asarray(angles[:1])
    if len(angles) > 1:
        # The largest is looked for without derivatives, then taken once more with them.
        *_, into, out = kernel.shape
        phases = prod(np.prod(axis.phases) for axis in axes)
        chunk = int(max(1, min(len(angles), _ENTRIES // (phases * into * out))))
        rows = np.concatenate([angles, np.tile(angles[:1], (-len(angles) % chunk, 1))])
        frozen = jax.lax.stop_gradient(kernel)
        sweep = jax.lax.map(
            lambda some: bounds(frozen, some), jnp.asarray(rows.reshape(-1, chunk, len(axes)))
        )
        sweep = sweep.reshape(-1)
        places = jax.lax.iota(jnp.int32, len(rows))
        first = jnp.min(jnp.where(sweep == jnp.max(sweep), places, len(rows) - 1))
        best = jax.lax.dynamic_slice_in_dim(jnp.asarray(rows), first, 1)
    return bounds(kernel, best)[0] * margin


def _grid(degrees: tuple[int, ...]) -> tuple[np.ndarray, float]:
    """Frequencies `[F, d]`, half of them since kernels are real; and what to multiply by."""
    varying = sum(degree > 0 for degree in degrees)
    width = sqrt(2 * EXCESS / max(varying, 1)) * 0.98  # cos(w)^-varying <= 1 + EXCESS
    margin, points, halved = 1 + 1e-9, [], False
    for degree in degrees:
        count = ceil(pi * degree / (2 * width)) if degree else 1
        count += count % 2 if degree else 0
        margin /= cos(pi * degree / (2 * count))
        kept = count if halved or not degree else count // 2 + 1
        halved = halved or degree > 0
        points.append(2 * pi * np.arange(kept) / count)
    return np.array(list(product(*points))), margin


def _symbol(
    kernel: Float[Array, "*taps into out"],
    tables: tuple[np.ndarray, ...],
    angles: Float[Array, "F d"],
    groups: int,
) -> Any:
    """F at some frequencies, `[F, groups, rows, columns]`."""
    *taps, into, out = kernel.shape
    waves = jnp.ones((angles.shape[0], 1, 1, 1), jnp.complex128)
    for axis, table in enumerate(tables):
        phase = angles[:, axis, None, None, None] * np.maximum(table, 0)[None].astype(angles.dtype)
        wave = jnp.where(table[None] < 0, 0, jax.lax.complex(jnp.cos(phase), jnp.sin(phase)))
        waves = jnp.einsum("ftab,fucd->ftuacbd", waves, wave)
        f, t, u, a, c, b, d = waves.shape
        waves = waves.reshape(f, t * u, a * c, b * d)
    kernel = kernel.reshape(prod(taps), into, groups, out // groups).astype(waves.dtype)
    found = jnp.einsum("ftab,tigo->fgaobi", waves, kernel, precision="highest")
    f, g, a, o, b, i = found.shape
    return found.reshape(f, g, a * o, b * i)
