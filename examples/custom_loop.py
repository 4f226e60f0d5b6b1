"""A training loop of one's own, in plain JAX: a classifier with a Jacobian penalty."""

import jax
import jax.numpy as jnp

import jacreg

KEYS = jax.random.split(jax.random.key(0), 3)
XS = jax.random.normal(KEYS[0], (200, 2))
LABELS = (jnp.sin(2 * XS[:, 0]) > XS[:, 1]).astype(int)
SPARSE = jacreg.losses.every(2)  # the penalty at every second step, twice as heavy


def loss(params, step, weight):
    """Cross-entropy and penalty from one forward pass."""
    lin = jacreg.linearize(lambda xs: jnp.tanh(xs @ params["in"]) @ params["out"], XS)
    log_probabilities = jax.nn.log_softmax(lin.value)
    task = -jnp.mean(jnp.take_along_axis(log_probabilities, LABELS[:, None], axis=1))
    key = jax.random.fold_in(KEYS[2], step)
    penalty = jax.lax.cond(  # a skipped step computes nothing
        SPARSE(step) > 0,
        lambda lin: jnp.mean(jacreg.losses.jacobian_penalty(lin, key=key)),
        lambda lin: jnp.zeros(()),
        lin,
    )
    norm = jnp.mean(jnp.sqrt(jacreg.frobenius_squared(lin)))
    return task + weight * SPARSE(step) * penalty, (jnp.argmax(lin.value, axis=1), norm)


norms = {}
gradient = jax.jit(jax.grad(loss, has_aux=True))
for weight in (0.0, 0.05):
    params = {"in": jax.random.normal(KEYS[1], (2, 64)), "out": jnp.zeros((64, 2))}
    for step in range(400):
        direction, (predicted, norm) = gradient(params, step, weight)
        params = jax.tree.map(lambda p, g: p - 0.2 * g, params, direction)
    norms[weight] = norm
    print(f"weight {weight}: accuracy {jnp.mean(predicted == LABELS):.3f}, ||J||_F {norm:.2f}")
