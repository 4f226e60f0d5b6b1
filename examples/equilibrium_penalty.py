"""An equilibrium layer: the penalty on its cell's Jacobian makes it easy to solve."""

import jax
import jax.numpy as jnp

import jacreg
from jacreg.equilibrium import EquilibriumSolver, solve

XS = jax.random.uniform(jax.random.key(0), (64, 1), minval=-1, maxval=1)
TARGETS = jnp.sin(3 * XS)
SOLVER = EquilibriumSolver(tolerance=1e-5, max_steps=200)


def make_cell(params):
    """The map whose fixed point is the layer's output, `[N, 1] -> [N, 1]`."""
    return lambda zs, xs: jnp.tanh(zs @ params["w"] + xs @ params["u"]) @ params["v"]


def loss(params, weight, key):
    """Squared error at the fixed point, through the implicit function theorem."""
    cell = make_cell(params)
    rest = solve(cell, 0 * XS, XS, solver=SOLVER)
    errors = jnp.where(rest.converged[:, None], (rest.state - TARGETS) ** 2, 0)
    penalty = jacreg.losses.equilibrium_jacobian_penalty(cell, rest.state, XS, key=key)
    return errors.mean() + weight * penalty.mean(), (errors.mean(), rest)


gradient = jax.jit(jax.grad(loss, has_aux=True))

radii = {}
for weight in (0.0, 0.3):
    w, u, v = jax.random.normal(jax.random.key(1), (3, 1, 32))
    params = {"w": w, "u": u, "v": v.T / 12}
    for number in range(400):
        direction, (error, rest) = gradient(params, weight, jax.random.key(number))
        params = jax.tree.map(lambda p, g: p - 0.05 * g, params, direction)
    lin = jacreg.linearize(make_cell(params), rest.state, XS)
    radii[weight] = float(jacreg.spectral_radius(lin, key=jax.random.key(2)).mean())
    found = f"spectral radius {radii[weight]:.3f}, {rest.num_evaluations.mean():.1f} calls"
    print(f"weight {weight}: error {error:.4f}, {found}")
