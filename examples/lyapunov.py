"""A recurrent network that forgets, and the penalty on its leading Lyapunov exponents."""

import jax
import jax.numpy as jnp
import optax

import jacreg

KEYS = jax.random.split(jax.random.key(0), 3)
WEIGHTS = jax.random.normal(KEYS[0], (16, 16)) / 8  # what is different now is soon forgotten
STATES = jax.random.normal(KEYS[1], (8, 16))
OPTIONS = {"num_exponents": 2, "num_steps": 6, "key": KEYS[2]}
ADAM = optax.adam(2e-2)


def cell(weights):
    """A step of the network without inputs."""
    return lambda hs: jnp.tanh(hs @ weights)


def loss(weights):
    """Exponents of zero: neither do gradients vanish along these directions, nor explode."""
    return jacreg.losses.lyapunov_penalty(cell(weights), STATES, **OPTIONS).mean()


def step(carry, _):
    """Adam."""
    updates, state = ADAM.update(jax.grad(loss)(carry[0]), carry[1])
    return (optax.apply_updates(carry[0], updates), state), None


(flossed, _), _ = jax.lax.scan(step, (WEIGHTS, ADAM.init(WEIGHTS)), length=60)
exponents = {}
for name, weights in {"before": WEIGHTS, "after": flossed}.items():
    found = jacreg.losses.lyapunov_exponents(cell(weights), STATES, **OPTIONS)
    exponents[name] = found.mean(axis=0)
    print(f"exponents {name}, nats a step: {exponents[name].round(2)}")
