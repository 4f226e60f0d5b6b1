"""An equilibrium layer in plain JAX: the penalty on its cell's Jacobian makes it easy to solve."""

from functools import partial

import jax
import jax.numpy as jnp

import jacreg

XS = jax.random.uniform(jax.random.key(0), (64, 1), minval=-1, maxval=1)
TARGETS = jnp.sin(3 * XS)


def cell(params, zs):
    """The map whose fixed point is the layer's output, `[N, 1] -> [N, 1]`."""
    return jnp.tanh(zs @ params["w"] + XS @ params["u"]) @ params["v"]


def loss(params, weight, key):
    """Squared error at the fixed point; the last step carries the gradient."""
    fixed = jax.lax.fori_loop(0, 60, lambda _, zs: cell(params, zs), 0 * XS)
    zs = cell(params, jax.lax.stop_gradient(fixed))
    penalty = jacreg.losses.equilibrium_jacobian_penalty(partial(cell, params), zs, key=key)
    return jnp.mean((zs - TARGETS) ** 2) + weight * penalty.mean(), zs


gradient = jax.jit(jax.grad(loss, has_aux=True))


radii = {}
for weight in (0.0, 0.3):
    w, u, v = jax.random.normal(jax.random.key(1), (3, 1, 32))
    params = {"w": w, "u": u, "v": v.T / 12}
    for number in range(400):
        direction, zs = gradient(params, weight, jax.random.key(number))
        params = jax.tree.map(lambda p, g: p - 0.05 * g, params, direction)
    lin, error = jacreg.linearize(partial(cell, params), zs), jnp.mean((zs - TARGETS) ** 2)
    radii[weight] = float(jacreg.spectral_radius(lin, key=jax.random.key(2)).mean())
    print(f"weight {weight}: error {error:.4f}, spectral radius of the cell {radii[weight]:.3f}")
