#!/usr/bin/env bash
# Planned memory on a CPU: arrays inside a library's fusion are not counted.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check 'jax==0.10.2' 'jaxlib==0.10.2'
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import sys

import jax
import jax.numpy as jnp
import jaxlib

print("jax", jax.__version__, "jaxlib", jaxlib.__version__, jax.devices()[0].platform)
first, second = (jax.random.normal(jax.random.key(n), (64, 64)) for n in range(2))


def call(xs):
    return ((jnp.tanh((xs @ first) ** 2) @ second) ** 2).sum(1)


lowered = jax.jit(call).lower(jnp.ones((256, 64)))
options = {"as it comes": {}, "without": {"xla_cpu_experimental_ynn_fusion_type": ""}}
planned = {
    name: lowered.compile(compiler_options=each).memory_analysis().temp_size_in_bytes
    for name, each in options.items()
}
least = 4 * 256 * 64
print(f"one array between the two products takes {least} bytes; temp_size_in_bytes is {planned}")
print("expected: at least that in both; seen: less where a library takes the products")
sys.exit(0 if planned["as it comes"] < least <= planned["without"] else 1)
PYTHON
