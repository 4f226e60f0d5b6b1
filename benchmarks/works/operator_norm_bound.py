"""An upper bound of a convolution's norm on images of any size."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jacreg
from benchmarks._clock import in_turns
from benchmarks._comparison import Comparison, PeerMissing, counted, timed

_WORK = "bound of a convolution's norm, any image"
_SIDE = 80  # beyond what is bounded by its own matrix
# Channels, taps and their Gram steps; 4 is their default.
_SETTINGS = ((16, 3, 4), (16, 3, 5), (32, 3, 4))


def compare() -> list[Comparison]:
    """Time, and excess over the norm on an unbounded image, beside lip4conv's bound."""
    torch, theirs_of = _lip4conv()
    rows = []
    for channels, taps, steps in _SETTINGS:
        shape = (channels, channels, taps, taps)
        kernel = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        norm = _unbounded(kernel)
        weights, copied = jnp.asarray(kernel), torch.from_numpy(kernel.copy())

        @jax.jit
        def ours(weights: Any) -> Any:
            def convolution(x: Any) -> Any:
                return jax.lax.conv(x[None], weights, (1, 1), "SAME")[0]

            return jacreg.operator_norm_bound(convolution, (len(weights), _SIDE, _SIDE))

        def call(weights: Any = weights, ours: Any = ours) -> Any:
            return ours(weights)

        def theirs(copied: Any = copied, steps: int = steps) -> Any:
            return theirs_of(copied, n_iter=steps, return_time=False)

        excess = [float(each()) / norm - 1 for each in (call, theirs)]
        assert min(excess) > -1e-6, f"a bound is below the norm: {excess}"
        times = in_turns({"ours": call, "theirs": theirs}, rounds=5)
        same: dict[str, Any] = {
            "setting": f"{taps}x{taps}, {channels} to {channels} channels",
            "peer": f"lip4conv, {steps} Gram steps, torch {torch.__version__}",
        }
        rows.append(timed(times, "ours", "theirs", work=_WORK, most=2.0, **same))
        rows.append(
            counted(
                excess[0], excess[1], "relative excess", work=f"{_WORK}: excess over it",
                most=1.0, note="over the largest of 96 x 96 frequencies", **same,
            )
        )  # fmt: skip
    return rows


def _unbounded(kernel: np.ndarray) -> float:
    symbols = np.fft.fft2(kernel.astype(np.float64), (96, 96)).reshape(*kernel.shape[:2], -1)
    return float(np.linalg.svd(np.moveaxis(symbols, -1, 0), compute_uv=False).max())


def _lip4conv() -> tuple[Any, Any]:
    """PyTorch and the bound of Delattre et al. 2024, from a checkout that LIP4CONV names."""
    folder = Path(os.environ.get("LIP4CONV", ""))
    if not (folder / "spectral_rescaling.py").is_file():
        raise PeerMissing(
            "lip4conv is no package: clone blaisedelattre/lip4conv and set LIP4CONV to its folder"
        )
    sys.path.append(str(folder))
    torch, bounds = (importlib.import_module(name) for name in ("torch", "bounds"))
    return torch, bounds.compute_delattre2024
