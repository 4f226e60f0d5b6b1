"""The empirical tangent kernel of a network, and the gradient step that it predicts."""

import jax
import jax.numpy as jnp

import jacreg

XS = jax.random.normal(jax.random.key(0), (20, 3))
TARGETS = jnp.sin(XS[:, 0])
KEYS = jax.random.split(jax.random.key(1), 2)
PARAMS = {"in": jax.random.normal(KEYS[0], (3, 512)), "out": jax.random.normal(KEYS[1], (512, 1))}


def apply(params, xs):
    """A wide network in the scaling of neural tangent kernels, `[N, 3] -> [N, 1]`."""
    return jnp.tanh(xs @ params["in"] / 3**0.5) @ params["out"] / 512**0.5


def loss(params):
    """Half the sum of squared errors."""
    return jnp.sum((apply(params, XS)[:, 0] - TARGETS) ** 2) / 2


# [N, N]: the products of the parameter gradients of two examples, summed over outputs.
kernel = jacreg.empirical_ntk(apply, PARAMS, XS)
values = jnp.linalg.eigvalsh(kernel)
print(f"eigenvalues from {values[0]:.4f} to {values[-1]:.2f}")

rate = 1e-3
moved = jax.tree.map(lambda p, g: p - rate * g, PARAMS, jax.grad(loss)(PARAMS))
before, after = apply(PARAMS, XS)[:, 0], apply(moved, XS)[:, 0]
predicted = before - rate * kernel @ (before - TARGETS)
error = jnp.linalg.norm(after - predicted) / jnp.linalg.norm(after - before)
print(f"a gradient step moves the outputs as the kernel says, to {error:.1e} of the move")
