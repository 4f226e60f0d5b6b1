#!/usr/bin/env bash
# XTrace of an operator of small scale: another number, with a standard error of nothing.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check 'matfree==0.6.3' 'jax==0.10.2' 'jaxlib==0.10.2'
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import jax
import jax.numpy as jnp
from matfree import stochtrace

print("matfree", version("matfree"), "jax", jax.__version__)
matrix = jax.random.normal(jax.random.key(0), (64, 64))
sampler = stochtrace.sampler_normal(jnp.ones(64), num=16)
estimate = stochtrace.estimator_leave_one_out_mean_and_sem(stochtrace.leave_one_out_xtrace(), sampler)
seen = {}
for scale in (1.0, 1e-6, 1e-10, 1e-20):
    mean, error = estimate(lambda v, s=scale: s * (matrix @ v), jax.random.key(1))
    seen[scale] = float(mean) / scale
    print(f"scale {scale:g}: estimate / scale {seen[scale]:.4f}, error / scale {float(error) / scale:.4f}")
print("expected: the same on every line, to rounding")
off = [s for s, v in seen.items() if abs(v / seen[1.0] - 1) > 1e-2]
print("off at", off)
sys.exit(0 if off == [1e-10, 1e-20] else 1)
PYTHON
