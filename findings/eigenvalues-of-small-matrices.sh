#!/usr/bin/env bash
# Eigenvalues of a general matrix of small entries, on a CPU: finite, and of another matrix.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check 'jax==0.10.2' 'jaxlib==0.10.2' 'scipy==1.17.1' 'numpy==2.4.6'
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import jax
import jax.numpy as jnp
import numpy as np
import scipy

print("jax", jax.__version__, "scipy", scipy.__version__)
matrix = np.array([[1.0, 2.0], [3.0, 4.0]])
true = np.abs(np.linalg.eigvals(matrix)).max()
print("expected: the largest modulus over the scale is", round(float(true), 4), "on every line")
ratios = {}
for scale in (1.0, 1e-10, 1e-20, 1e20):
    scaled = jnp.asarray(matrix * scale, jnp.float32)
    ratios[scale] = float(jnp.abs(jnp.linalg.eigvals(scaled)).max()) / scale
    print(f"scale {scale:g}: seen {ratios[scale]:.4g}")
wrong = [s for s, r in ratios.items() if not abs(r / true - 1) < 1e-3]
print("wrong at", wrong)
sys.exit(0 if set(wrong) == {1e-20, 1e20} else 1)
PYTHON
