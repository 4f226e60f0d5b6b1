"""A free-form flow: any encoder and decoder, the log-determinant's gradient by two products."""

from functools import partial

import jax
import jax.numpy as jnp
import optax

import jacreg

KEYS = jax.random.split(jax.random.key(0), 6)
XS = jax.random.normal(KEYS[0], (256, 2)) * jnp.array([2.0, 0.5])
SIZES = [(2, 32), (32, 2), (2, 32), (32, 2)]
PARAMS = [jax.random.normal(k, s) / s[0] ** 0.5 for k, s in zip(KEYS[2:], SIZES, strict=True)]
ADAM = optax.adam(5e-3)


def network(first, second, xs):
    """A residual layer, which may be inverted or not: nothing asks for it."""
    return xs + jnp.tanh(xs @ first) @ second


def loss(params, key):
    """Negative log-likelihood but for constants, and ten times the reconstruction error."""
    encoder, decoder = partial(network, *params[:2]), partial(network, *params[2:])
    zs = encoder(XS)
    surrogate = jacreg.losses.free_form_flow_surrogate(encoder, decoder, XS, key=key)
    prior, back = 0.5 * jnp.sum(zs**2, axis=1), jnp.sum((decoder(zs) - XS) ** 2, axis=1)
    return jnp.mean(prior - surrogate + 10 * back)


def step(carry, key):
    """Adam."""
    updates, state = ADAM.update(jax.grad(loss)(carry[0], key), carry[1])
    return (optax.apply_updates(carry[0], updates), state), None


(params, _), _ = jax.lax.scan(step, (PARAMS, ADAM.init(PARAMS)), jax.random.split(KEYS[1], 400))
spread = [network(*p[:2], XS).std(axis=0) for p in (PARAMS, params)]
print(f"spread of the latents: {spread[0]}, after training {spread[1]}")
