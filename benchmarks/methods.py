"""Cost and deviation of every method on five networks, and what `choose` picks.

`python -m benchmarks.methods [--batch 16] [--budget 64]`: a table for each network. Products
are whole-batch J v or J^T u; milliseconds are one jitted evaluation here and now; the deviation is
that of the batch mean over its size.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jacreg
import models


def _kernel(shape: tuple[int, ...], seed: int) -> Any:
    fan = np.prod(shape[:-1])
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape) / fan**0.5, jnp.float32)


def _convolutions(depth: int, width: int = 16, channels: int = 3) -> Callable[[Any], Any]:
    """A field on images: 3x3 SAME convolutions with tanh between them."""
    widths = [channels, *[width] * (depth - 1), channels]
    kernels = [
        _kernel((3, 3, a, b), i)
        for i, (a, b) in enumerate(zip(widths, widths[1:], strict=False))  # noqa: RUF007
    ]

    def field(xs: Any) -> Any:
        for number, kernel in enumerate(kernels):
            xs = jax.lax.conv_general_dilated(
                xs, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            xs = jnp.tanh(xs) if number < depth - 1 else xs
        return xs

    return field


def _mlp(sizes: tuple[int, ...]) -> Callable[[Any], Any]:
    weights = [_kernel(pair, i) for i, pair in enumerate(zip(sizes, sizes[1:], strict=False))]  # noqa: RUF007

    def net(xs: Any) -> Any:
        for number, weight in enumerate(weights):
            xs = xs @ weight
            xs = jnp.tanh(xs) if number < len(weights) - 1 else xs
        return xs

    return net


def networks(batch: int) -> list[tuple[str, str, Callable[[Any], Any], Any]]:
    """Name, quantity, function and a batch for it."""
    images = jax.random.normal(jax.random.key(0), (batch, 16, 16, 3))
    digits = jax.random.normal(jax.random.key(1), (batch, 28, 28, 1))
    vectors = jax.random.normal(jax.random.key(2), (batch, 32))
    lenet = jacreg.nnx.function(models.build("lenet", framework="nnx", key=jax.random.key(3)))
    local = _convolutions(2)
    return [
        ("LeNet' 28x28", "frobenius", lenet, digits),
        ("three convolutions 16x16x3", "divergence", _convolutions(3), images),
        ("three convolutions 16x16x3", "frobenius", _convolutions(3), images),
        ("MLP vector field in 32 dimensions", "divergence", _mlp((32, 128, 128, 32)), vectors),
        ("MLP classifier 32-128-10", "frobenius", _mlp((32, 128, 10)), vectors),
        (
            "convolutional energy 16x16x3",
            "laplacian",
            lambda xs: (local(xs) ** 2).sum((1, 2, 3)),
            images,
        ),
    ]


def main() -> int:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods", description=__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--budget", type=int, default=64)
    chosen = parser.parse_args()
    for name, quantity, fn, xs in networks(chosen.batch):
        for budget in (chosen.budget, 4):
            method = jacreg.choose(fn, xs, quantity=quantity, budget=budget)
            print(f"\n{name}\n{method.report}", flush=True)
    return 0


if __name__ == "__main__":
    import jacreg.nnx

    sys.exit(main())
