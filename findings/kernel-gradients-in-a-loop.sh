#!/usr/bin/env bash
# A convolution's kernel gradient inside lax.map on a CPU: many times the time of the same unrolled.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check 'jax==0.10.2' 'jaxlib==0.10.2'
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

print("jax", jax.__version__, jax.devices()[0].platform)
kernels = jax.random.normal(jax.random.key(0), (8, 3, 3, 8, 16)) / 8
xs = jax.random.normal(jax.random.key(1), (64, 14, 14, 8))


def loss(kernel):
    dims = ("NHWC", "HWIO", "NHWC")
    ys = jax.lax.conv_general_dilated(xs, kernel, (2, 2), "SAME", dimension_numbers=dims)
    return (ys**2).sum()


@jax.jit
def unrolled(kernels):
    return jnp.stack([jax.grad(loss)(kernels[i]) for i in range(8)])


@jax.jit
def looped(kernels):
    return jax.lax.map(jax.grad(loss), kernels)


np.testing.assert_allclose(unrolled(kernels), looped(kernels), rtol=1e-3, atol=1e-2)
least = {}
for name, call in {"unrolled": unrolled, "looped": looped}.items():
    readings = []
    for _ in range(7):
        started = time.perf_counter()
        jax.block_until_ready(call(kernels))
        readings.append(time.perf_counter() - started)
    least[name] = min(readings)
ratio = least["looped"] / least["unrolled"]
print(f"8 gradients unrolled {1e3 * least['unrolled']:.1f} ms, in lax.map {1e3 * least['looped']:.1f} ms")
print(f"expected: about as long; seen: {ratio:.1f} times")
sys.exit(0 if ratio > 4 else 1)
PYTHON
