"""`train.fit`: a model and data of one's own, a penalty by name and one by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp

import jacreg
import train

XS = jax.random.normal(jax.random.key(0), (400, 2))
LABELS = (jnp.sin(2 * XS[:, 0]) > XS[:, 1]).astype(int)


def steepest(lin, key):
    """The largest singular value of each example's Jacobian."""
    return jacreg.losses.spectral_penalty(lin, key=key, num_iterations=4)


norms = {}
for name, penalties in {
    "none": [],
    "by name": [{"name": "jacobian", "weight": 0.02}],
    "by hand": [(0.02, steepest)],
}.items():
    net = eqx.nn.MLP(2, 2, 64, 2, key=jax.random.key(1))
    fit = train.fit(net, (XS, LABELS), penalties=penalties, steps=200)
    norms[name] = fit.metrics["test/jacobian_norm"]
    print(f"{name}: accuracy {fit.metrics['test/accuracy']:.3f}, norm {norms[name]:.2f}")
