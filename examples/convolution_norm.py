"""The operator norm of a convolution, any stride and padding, and a layer that divides by it."""

import jax
import jax.numpy as jnp
from flax import nnx

import jacreg.nnx

KERNEL = jax.random.normal(jax.random.key(0), (3, 3, 8, 16))
SHAPE, KEY = (16, 16, 8), jax.random.key(1)


def strided(images):
    """A 3x3 convolution with stride 2, on one image or a batch of them."""
    batch = images.reshape(-1, *SHAPE)
    axes = ("NHWC", "HWIO", "NHWC")
    out = jax.lax.conv_general_dilated(batch, KERNEL, (2, 2), "SAME", dimension_numbers=axes)
    return out.reshape(*images.shape[:-3], *out.shape[1:])


norm = jacreg.operator_norm(strided, SHAPE, key=KEY)
reshaped = jnp.linalg.norm(KERNEL.reshape(-1, 16), ord=2)
print(f"operator norm {norm:.3f}; that of the reshaped kernel is {reshaped:.3f}")

# A layer of norm one, inside any network.
conv = nnx.Conv(8, 8, (3, 3), rngs=nnx.Rngs(0))
layer = jacreg.nnx.SpectralNormalized(conv, in_shape=SHAPE, key=KEY)
layer.eval()
zero = layer(jnp.zeros((1, *SHAPE)))
after = jacreg.operator_norm(lambda x: (layer(x[None]) - zero)[0], SHAPE, key=KEY)
print(f"operator norm of the normalised layer {after:.4f}")
