#!/usr/bin/env bash
# jax.hessian through lax.scan: the second derivative forgets the rule of a jax.custom_jvp.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check 'jax==0.10.2' 'jaxlib==0.10.2'
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import jax
import jax.numpy as jnp

print("jax", jax.__version__)


@jax.custom_jvp
def straight_through(x):
    return jnp.round(x)


# The rule calls the function for its value, as the manual asks for derivatives of higher order.
@straight_through.defjvp
def _(primals, tangents):
    return straight_through(*primals), tangents[0]


def in_a_loop(x):
    def step(y, _):
        return 0.5 * straight_through(y) + x, None

    return jnp.sin(jax.lax.scan(step, x, None, length=3)[0])


def unrolled(x):
    y = x
    for _ in range(3):
        y = 0.5 * straight_through(y) + x
    return jnp.sin(y)


seen = {}
for function in (unrolled, in_a_loop):
    for outer in (jax.jacfwd, jax.jacrev):
        for inner in (jax.jacfwd, jax.jacrev):
            value = float(outer(inner(function))(0.7))
            seen[function.__name__, inner.__name__] = value
            print(f"{outer.__name__} of {inner.__name__}, {function.__name__}: {value:.4f}")
same = [seen["unrolled", "jacfwd"], seen["unrolled", "jacrev"], seen["in_a_loop", "jacfwd"]]
print(f"expected of jax.hessian through the loop: {same[0]:.4f}; seen: {seen['in_a_loop', 'jacrev']:.4f}")
print("the gradient's first derivative has the rule; the derivative of what it evaluated does not")
sys.exit(0 if max(same) - min(same) < 1e-4 and abs(seen["in_a_loop", "jacrev"] - same[0]) > 1 else 1)
PYTHON
