"""A critic with one number a patch, and the gradient penalty of WGAN-GP on its mean."""

from functools import partial

import jax
import jax.numpy as jnp
import optax

import jacreg

KEYS = jax.random.split(jax.random.key(0), 4)
FAKE = jax.random.normal(KEYS[0], (32, 8, 8, 1))
REAL = jnp.cumsum(jax.random.normal(KEYS[1], FAKE.shape), axis=1)  # smooth from row to row
START = jax.random.normal(KEYS[2], (3, 3, 1, 8)) / 3, jax.random.normal(KEYS[3], (3, 3, 8, 1)) / 8
ADAM = optax.adam(1e-2)
HOW = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "window_strides": (2, 2), "padding": "SAME"}


def critic(kernels, images):
    """`[N, 8, 8, 1] -> [N, 2, 2, 1]`: how real each patch looks."""
    hs = jax.lax.conv_general_dilated(images, kernels[0], **HOW)
    return jax.lax.conv_general_dilated(jax.nn.leaky_relu(hs), kernels[1], **HOW)


def _step(weight, carry, key):
    def loss(kernels):
        share, fn = jax.random.uniform(key, (32, 1, 1, 1)), partial(critic, kernels)
        between = share * REAL + (1 - share) * FAKE
        penalty = jacreg.losses.gradient_penalty(fn, between, reduction="mean").mean()
        return weight * penalty - jnp.mean(fn(REAL) - fn(FAKE)), penalty

    gradient, penalty = jax.grad(loss, has_aux=True)(carry[0])
    updates, state = ADAM.update(gradient, carry[1])
    return (optax.apply_updates(carry[0], updates), state), penalty


penalties, start, keys = {}, (START, ADAM.init(START)), jax.random.split(KEYS[0], 100)
for weight in (0.0, 10.0):
    penalties[weight] = jax.lax.scan(partial(_step, weight), start, keys)[1]
    print(f"weight {weight:4}: (|gradient| - 1)^2 = {penalties[weight][-1]:.3f}")
