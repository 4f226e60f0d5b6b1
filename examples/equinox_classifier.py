"""An Equinox classifier, written for one example, with a Jacobian penalty on a batch."""

import equinox as eqx
import jax
import jax.numpy as jnp

import jacreg.eqx

XS = jax.random.normal(jax.random.key(0), (200, 2))
LABELS = (jnp.sin(2 * XS[:, 0]) > XS[:, 1]).astype(int)


def loss(model, weight, key):
    """Cross-entropy and penalty from one forward pass."""
    lin = jacreg.linearize(jacreg.eqx.function(model), XS)
    task = -jnp.mean(jax.nn.log_softmax(lin.value)[jnp.arange(200), LABELS])
    return task + weight * jacreg.losses.jacobian_penalty(lin, key=key).mean()


@eqx.filter_jit
def step(model, weight, key):
    """Gradient descent."""
    gradient = eqx.filter_grad(loss)(model, weight, key)
    return eqx.apply_updates(model, jax.tree.map(lambda g: -0.3 * g, gradient))


norms = {}
for weight in (0.0, 0.02):
    model = eqx.nn.MLP(2, 2, 64, 1, activation=jnp.tanh, key=jax.random.key(1))
    for number in range(300):
        model = step(model, weight, jax.random.key(number))
    lin = jacreg.linearize(jacreg.eqx.function(model), XS)
    norms[weight] = float(jnp.sqrt(jacreg.frobenius_squared(lin)).mean())
    print(f"weight {weight}: accuracy {(lin.value.argmax(1) == LABELS).mean():.3f}, ", end="")
    print(f"norm of the Jacobian {norms[weight]:.2f}")
