"""A Flax nnx classifier with dropout and a Jacobian penalty that share one forward pass."""

import jax
import jax.numpy as jnp
from flax import nnx

import jacreg.nnx

XS = jax.random.normal(jax.random.key(0), (200, 2))
LABELS = (jnp.sin(2 * XS[:, 0]) > XS[:, 1]).astype(int)


def loss(model, weight, key):
    """Cross-entropy and penalty; the mask of the dropout is the same in both."""
    mask, probe = jax.random.split(key)
    lin = jacreg.linearize(jacreg.nnx.function(model, dropout_key=mask), XS)
    task = -jnp.mean(jax.nn.log_softmax(lin.value)[jnp.arange(200), LABELS])
    return task + weight * jacreg.losses.jacobian_penalty(lin, key=probe).mean()


@nnx.jit
def step(model, weight, key):
    """Gradient descent; the module is changed in place, as nnx does."""
    gradient = nnx.grad(loss)(model, weight, key)
    params = jax.tree.map(lambda p, g: p - 0.3 * g, nnx.state(model, nnx.Param), gradient)
    nnx.update(model, params)


norms = {}
for weight in (0.0, 0.02):
    layers = [nnx.Linear(2, 64, rngs=nnx.Rngs(0)), nnx.tanh, nnx.Dropout(0.1, rngs=nnx.Rngs(1))]
    model = nnx.Sequential(*layers, nnx.Linear(64, 2, rngs=nnx.Rngs(2)))
    for number in range(300):
        step(model, weight, jax.random.key(number))
    lin = jacreg.linearize(jacreg.nnx.function(model), XS)
    norms[weight] = float(jnp.sqrt(jacreg.frobenius_squared(lin)).mean())
    print(f"weight {weight}: accuracy {(lin.value.argmax(1) == LABELS).mean():.3f}, ", end="")
    print(f"norm of the Jacobian {norms[weight]:.2f}")
