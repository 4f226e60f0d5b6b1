"""Learn the score of a mixture of two Gaussians from its samples, by score matching."""

import jax
import jax.numpy as jnp

import jacreg

CENTRES = jnp.array([[-2.0, 0.0], [2.0, 0.0]])
*KEYS, PICK, NOISE = jax.random.split(jax.random.key(0), 4)
XS = CENTRES[jax.random.randint(PICK, (500,), 0, 2)] + jax.random.normal(NOISE, (500, 2))


def score(params, xs):
    """A small network, `[N, 2] -> [N, 2]`."""
    return jnp.tanh(xs @ params["hidden"] + params["bias"]) @ params["out"]


def loss(params):
    """Score matching never sees the density."""
    lin = jacreg.linearize(lambda xs: score(params, xs), XS)
    return jnp.mean(jacreg.losses.implicit_score_matching(lin))  # or sliced_score_matching


@jax.jit
def step(params, velocity):
    """Gradient descent with momentum."""
    velocity = jax.tree.map(lambda v, g: 0.9 * v - 0.02 * g, velocity, jax.grad(loss)(params))
    return jax.tree.map(jnp.add, params, velocity), velocity


shapes = {"hidden": (2, 64), "out": (64, 2)}
params = {n: jax.random.normal(k, shapes[n]) / 8 for n, k in zip(shapes, KEYS, strict=True)}
params["bias"] = jnp.zeros(64)
true_score = CENTRES[1] * jnp.tanh(2 * XS[:, :1]) - XS
velocity = jax.tree.map(jnp.zeros_like, params)
errors = []
for _ in range(600):
    errors.append(jnp.mean((score(params, XS) - true_score) ** 2))
    params, velocity = step(params, velocity)
print(f"mean squared error of the score: {errors[0]:.3f}, after training {errors[-1]:.3f}")
