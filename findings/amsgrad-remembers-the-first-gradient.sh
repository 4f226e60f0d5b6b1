#!/usr/bin/env bash
# optax.amsgrad: one steep gradient at the first step, and every later step is small for good.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check 'optax==0.2.8' 'jax==0.10.2' 'jaxlib==0.10.2'
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import jax.numpy as jnp
import optax

print("optax", optax.__version__)
gradients = [100.0] + 1999 * [1.0]


def last_step(optimizer):
    w = jnp.zeros(())
    state = optimizer.init(w)
    for g in gradients:
        update, state = optimizer.update(jnp.float32(g), state, w)
    return -float(update)


# The published algorithm: the largest of the moments as they are, in plain Python.
m = v = largest = 0.0
for g in gradients:
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    largest = max(largest, v)
published = m / (largest**0.5 + 1e-8)
seen, adam = last_step(optax.amsgrad(1.0)), last_step(optax.adam(1.0))
print(f"step {len(gradients)}, rate 1: Adam {adam:.3f}, AMSGrad as published {published:.3f}")
print(f"expected of optax.amsgrad: about {published:.3f}; seen: {seen:.4f}")
print("optax corrects each moment for its start before it takes the largest, so that the first")
print("gradient counts in full (100) and not by a thousandth of its square (3.2)")
sys.exit(0 if 0.25 < published < 0.4 and 0.009 < seen < 0.011 and adam > 0.4 else 1)
PYTHON
