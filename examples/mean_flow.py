"""A generator of one step: a mean flow from noise to the four corners of a square."""

import jax
import jax.numpy as jnp
import optax

import jacreg

CORNERS = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
keys = jax.random.split(jax.random.key(0), 5)
params = [jax.random.normal(keys[i], s) / 8 for i, s in enumerate([(4, 64), (64, 64), (64, 2)])]
optimizer = optax.adam(3e-3)


def u(params, zs, r, t):
    """Average velocity: from time t to time r is one step, z - (t - r) u."""
    hidden = jax.nn.silu(4 * jnp.column_stack([zs, r, t]) @ params[0])
    return jax.nn.silu(hidden @ params[1]) @ params[2]


def loss(params, key):
    """Half of the times equal, as in flow matching."""
    k1, k2, k3 = jax.random.split(key, 3)
    data, noise = jax.random.choice(k1, CORNERS, (256,)), jax.random.normal(k2, (256, 2))
    r, t = jnp.sort(jax.random.uniform(k3, (2, 256)), axis=0)
    zs, r = (1 - t)[:, None] * data + t[:, None] * noise, r.at[:128].set(t[:128])
    return jacreg.losses.mean_flow_loss(lambda *at: u(params, *at), zs, noise - data, r, t).mean()


def step(carry, key):
    """One step of training."""
    updates, state = optimizer.update(jax.grad(loss)(carry[0], key), carry[1])
    return (optax.apply_updates(carry[0], updates), state), None


carry, noise = (params, optimizer.init(params)), jax.random.normal(keys[4], (500, 2))
(params, _), _ = jax.lax.scan(step, carry, jax.random.split(keys[3], 1500))
made = noise - u(params, noise, jnp.zeros(500), jnp.ones(500))
away = [jnp.linalg.norm(xs[:, None] - CORNERS, axis=2).min(1).mean() for xs in (noise, made)]
print(f"mean distance to a corner: noise {away[0]:.2f}, one step {away[1]:.2f}")
