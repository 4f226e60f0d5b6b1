#!/usr/bin/env bash
# A sum over the leading axis on a CPU: many times the time of the same sum over a middle axis.
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
first = jax.random.normal(jax.random.key(0), (64, 8, 16384))
middle = jnp.moveaxis(first, 0, 1) + 0.0
sums = {
    "first": (jax.jit(lambda x: (x * x).sum(0)), first),
    "middle": (jax.jit(lambda x: (x * x).sum(1)), middle),
}
np.testing.assert_allclose(*(call(x) for call, x in sums.values()), rtol=1e-5)
least = {}
for name, (call, x) in sums.items():
    readings = []
    for _ in range(9):
        started = time.perf_counter()
        jax.block_until_ready(call(x))
        readings.append(time.perf_counter() - started)
    least[name] = 1e3 * min(readings)
ratio = least["first"] / least["middle"]
print(f"sum over the first axis {least['first']:.2f} ms, over a middle one {least['middle']:.2f} ms")
print(f"expected: about as long; seen: {ratio:.1f} times")
sys.exit(0 if ratio > 4 else 1)
PYTHON
