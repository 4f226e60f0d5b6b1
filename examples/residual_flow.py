"""A residual flow on a banana, trained through the power series of log det(I + J)."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import jacreg.nnx

KEY, BLOCKS = jax.random.key(0), 4
XS = jax.random.normal(KEY, (300, 2)) * jnp.array([1.0, 0.3])
XS = XS.at[:, 1].add(XS[:, 0] ** 2 - 1)


@nnx.vmap
def blocks(key):
    """Networks g of Lipschitz constant 0.9, so that x + g(x) can be inverted."""
    rngs = nnx.Rngs(key)
    linears = [nnx.Linear(*size, rngs=rngs) for size in ((2, 32), (32, 32), (32, 2))]
    a, b, c = (jacreg.nnx.SpectralNormalized(f, in_shape=f.in_features, key=key) for f in linears)
    return nnx.Sequential(a, jnp.tanh, b, jnp.tanh, c, lambda ys: 0.9 * ys)


def loss(params, states, key):
    """Mean negative log density of the data under a chain of blocks to a standard normal."""

    def block(carry, each):
        (xs, total), (params, state, key) = carry, each
        lin = jacreg.linearize(lambda xs: g.apply(params, state, xs, train=True), xs, has_aux=True)
        return (xs + lin.value, total + jacreg.log_determinant(lin, key=key)), lin.aux

    each = (params, states, jax.random.split(key, BLOCKS))
    (zs, total), states = jax.lax.scan(block, (XS, jnp.zeros(len(XS))), each)
    return -jnp.mean(total + jax.scipy.stats.norm.logpdf(zs).sum(axis=1)), states


@jax.jit
def step(carry, key):
    """Adam; the states follow the singular vectors of the layers."""
    params, states, opt_state = carry
    (value, states), gradient = jax.value_and_grad(loss, has_aux=True)(params, states, key)
    updates, opt_state = adam.update(gradient, opt_state)
    return (optax.apply_updates(params, updates), states, opt_state), value


g, adam = jacreg.nnx.functional(blocks(jax.random.split(KEY, BLOCKS))), optax.adam(3e-3)
carry = (g.params, g.state, adam.init(g.params))
carry, losses = jax.lax.scan(step, carry, jax.random.split(KEY, 200))
print(f"negative log density: {losses[0]:.3f}, after training {losses[-20:].mean():.3f}")
