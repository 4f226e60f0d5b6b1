"""A Flax linen classifier with a Jacobian penalty, and how sure the penalty's estimate is."""

import jax
import jax.numpy as jnp
from flax import linen

import jacreg.linen

XS = jax.random.normal(jax.random.key(0), (200, 2))
LABELS = (jnp.sin(2 * XS[:, 0]) > XS[:, 1]).astype(int)
MODULE = linen.Sequential([linen.Dense(64), linen.tanh, linen.Dense(2)])


def loss(params, weight, key):
    """Cross-entropy and penalty."""
    lin = jacreg.linearize(jacreg.linen.function(MODULE, {"params": params}), XS)
    task = -jnp.mean(jax.nn.log_softmax(lin.value)[jnp.arange(200), LABELS])
    return task + weight * jacreg.losses.jacobian_penalty(lin, key=key).mean()


@jax.jit
def step(params, weight, key):
    """Gradient descent."""
    return jax.tree.map(lambda p, g: p - 0.3 * g, params, jax.grad(loss)(params, weight, key))


norms, measure = {}, jacreg.with_standard_error(jacreg.frobenius_squared)
for weight in (0.0, 0.02):
    params = MODULE.init(jax.random.key(1), XS)["params"]
    for number in range(300):
        params = step(params, weight, jax.random.key(number))
    lin = jacreg.linearize(jacreg.linen.function(MODULE, {"params": params}), XS)
    norms[weight] = float(jacreg.frobenius_squared(lin)[0])
    estimate, error = measure(lin, jacreg.Projection(50), key=jax.random.key(2))
    print(f"weight {weight}: norm(J)_F^2 of the first example {norms[weight]:.2f}, ", end="")
    print(f"by 50 projections {estimate[0]:.2f} +- {error[0]:.2f}")
