"""The exact divergence of a convolutional field: 27 products for 3072 pixels, in nnx."""

import jax
import jax.numpy as jnp
from flax import nnx

import jacreg.nnx

RNGS = nnx.Rngs(0)
FIELD = nnx.Sequential(
    nnx.Conv(3, 8, (3, 3), rngs=RNGS), nnx.silu, nnx.Conv(8, 3, (3, 3), rngs=RNGS)
)
IMAGES = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))

fn = jacreg.nnx.function(FIELD)
coloring = jacreg.color(fn, IMAGES)  # once, outside jit; serves other weights and batch sizes
print(coloring)


@jax.jit
def divergence(images, key):
    """Exact, and two estimates in as many products."""
    lin = jacreg.linearize(fn, images)
    exact = jacreg.divergence(lin, coloring)
    probes = jacreg.divergence(lin, jacreg.Hutchinson(coloring.num_colors), key=key)
    return exact, probes


exact, probes = divergence(IMAGES, jax.random.key(2))
print(f"exact {exact}, {coloring.num_colors} probes {probes}")
# The score matching loss of Hyvarinen 2005 is the same trace and half the squared norm.
lin = jacreg.linearize(fn, IMAGES)
loss = jacreg.losses.implicit_score_matching(lin, coloring)
print(
    f"implicit score matching {loss}, of which the norm is {jnp.sum(lin.value**2, (1, 2, 3)) / 2}"
)
