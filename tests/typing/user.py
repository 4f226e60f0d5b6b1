# pyright: strict
"""A user's file, checked by pyright strict: nothing of jacreg may be unknown in it."""

from __future__ import annotations

from typing import assert_type

import equinox as eqx
import jax
import jax.numpy as jnp

import jacreg
import jacreg.eqx
from jacreg import Coloring, Linearization, losses

KEY = jax.random.key(0)
# Of JAX only what a strict checker knows: jnp.ones and the like are partly unknown to it.
WEIGHTS = jax.random.normal(KEY, (4, 3))
XS = jax.random.normal(KEY, (2, 4))


def net(xs: jax.Array) -> jax.Array:
    """A function of a batch."""
    return jnp.tanh(xs @ WEIGHTS)


def field(xs: jax.Array) -> jax.Array:
    """A square one."""
    return jnp.sin(xs)


def energy(xs: jax.Array) -> jax.Array:
    """A scalar an example."""
    return jnp.sum(jnp.sin(xs), axis=1)


def penalty(xs: jax.Array, key: jax.Array) -> jax.Array:
    """The common case."""
    lin = jacreg.linearize(net, xs)
    return jnp.mean(losses.jacobian_penalty(lin, key=key))


lin = jacreg.linearize(net, XS)
square = jacreg.linearize(field, XS)
assert_type(lin, Linearization)
assert_type(penalty(XS, KEY), jax.Array)
coloring = jacreg.color(field, XS)
assert_type(coloring, Coloring)
assert_type(coloring.num_colors, int)
assert_type(coloring.how, str)
assert_type(lin.num_examples, int)
assert_type(jacreg.__version__, str)
assert_type(jacreg.rows_independent(net, XS), bool)

quantities: list[jax.Array] = [
    jacreg.jacobian(lin),
    jacreg.diagonal(square, coloring),
    jacreg.divergence(square, jacreg.Hutchinson(4, distribution="gaussian"), key=KEY),
    jacreg.frobenius_squared(lin, jacreg.Projection(2, mode="forward"), key=KEY),
    jacreg.spectral_norm(lin, key=KEY),
    jacreg.spectral_radius(square, key=KEY),
    jacreg.gram(lin),
    jacreg.log_pseudo_determinant(lin),
    jacreg.laplacian(jacreg.linearize(energy, XS), weights=XS),
    jacreg.hessian_diagonal(jacreg.linearize(energy, XS)),
    jacreg.operator_norm(lambda x: 2 * x, (4,), key=KEY),
]
values: list[jax.Array] = [
    losses.jacobian_penalty(lin, jacreg.Exact()),
    losses.contractive_penalty(lin),
    losses.implicit_score_matching(square, coloring),
    losses.sliced_score_matching(square, key=KEY),
    losses.spectral_penalty(lin, key=KEY, num_iterations=2),
    losses.jacobian_matching(lin, jax.random.normal(KEY, (2, 3, 4))),
    losses.flow_regularizers(square, XS).divergence,
    losses.noise_injection_penalty(net, XS, scale=0.1, key=KEY),
    losses.gradient_penalty(energy, XS),
]
estimate, error = jacreg.with_standard_error(jacreg.frobenius_squared)(
    lin, jacreg.Projection(4), key=KEY
)
schedule = losses.every(2)
method = jacreg.choose(net, XS, quantity="frobenius", budget=1)
report: str = method.report

model = eqx.nn.Linear(4, 3, key=KEY)
function = jacreg.eqx.function(model)
taken = jacreg.eqx.functional(model)
outputs, state = taken.apply(taken.params, taken.state, XS, train=True, key=KEY)
per_model: jax.Array = losses.jacobian_penalty(jacreg.linearize(function, XS), key=KEY)
