#!/usr/bin/env bash
# Lanczos quadrature with more steps than the operator has eigenvalues: another number, then nan.
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
from matfree import decomp, funm

jax.config.update("jax_enable_x64", True)
print("matfree", version("matfree"), "jax", jax.__version__)
vector = jnp.sign(jax.random.normal(jax.random.key(1), (12,)))


def off(entries, steps, reortho):
    """Relative error of v^T log(A) v, whose value for a diagonal A is a sum; float64."""
    quadrature = funm.monte_carlo_funm_sym_logdet(decomp.tridiag_sym(steps, reortho=reortho))
    found = float(quadrature(lambda v: entries * v, vector))
    expected = float(jnp.sum(jnp.log(entries) * vector**2))
    return abs(found / expected - 1)


seen = {}
print("expected: 0 to rounding wherever there are at least as many steps as distinct eigenvalues")
for name, entries in (("2 I", jnp.full(12, 2.0)), ("1, 2, 4, four times each", jnp.tile(jnp.array([1.0, 2.0, 4.0]), 4))):
    for steps in (1, 2, 3, 4, 5):
        seen[name, steps] = off(entries, steps, "full"), off(entries, steps, "none")
        print(f'{name}, {steps} steps: {seen[name, steps][0]:.2g} (reortho="none": {seen[name, steps][1]:.2g})')
wrong = [seen["2 I", 2][0] > 0.1, seen["1, 2, 4, four times each", 4][0] > 1e-4]
lost = [seen["2 I", 3][0], seen["1, 2, 4, four times each", 5][0]]
right = [seen["2 I", 1][0], seen["1, 2, 4, four times each", 3][0], seen["2 I", 5][1], seen["1, 2, 4, four times each", 5][1]]
sys.exit(0 if all(wrong) and all(x != x for x in lost) and max(right) < 1e-12 else 1)
PYTHON
