#!/usr/bin/env bash
# reduce_window with an initial value of its own: jvp gives numbers, linearize and vjp raise.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check 'jax==0.10.2' 'jaxlib==0.10.2'
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import jax
import jax.numpy as jnp
from jax import lax

print("jax", jax.__version__)
xs = jax.random.normal(jax.random.key(0), (1, 4, 4, 1))


def pool(xs):
    return lax.reduce_window(xs, 0.0, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


_, tangent = jax.jvp(pool, (xs,), (jnp.ones_like(xs),))
print("jvp:", tangent.ravel())
raised = {}
for name, call in {
    "linearize": lambda: jax.linearize(pool, xs),
    "vjp": lambda: jax.vjp(pool, xs)[1](tangent),
}.items():
    try:
        call()
    except Exception as error:
        raised[name] = type(error).__name__
        print(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:100]}")
print("expected: the same derivative from all three")
sys.exit(0 if set(raised) == {"linearize", "vjp"} else 1)
PYTHON
