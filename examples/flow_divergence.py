"""The log density of a continuous flow, with the exact divergence along the path."""

import jax
import jax.numpy as jnp

from jacreg.flow import FlowSolver, log_density, sample

MATRIX = jnp.array([[0.5, -1.0], [1.0, -0.3]])
SOLVER = FlowSolver("dopri5", rtol=1e-6, atol=1e-6)


def field(xs, ts, shifts):
    """A linear field, so that the density is known; any network of [N, 2] would do."""
    return jnp.cos(ts)[:, None] * ((xs - shifts) @ MATRIX.T)


def base(zs):
    """The density of the latents; a standard normal where it is left out."""
    return jax.scipy.stats.logistic.logpdf(zs).sum(axis=1)


shifts = jnp.linspace(-1, 1, 5)[:, None]
xs = sample(field, (5, 2), shifts, base=jax.random.logistic, key=jax.random.key(0)).values
found = jax.jit(lambda xs: log_density(field, xs, shifts, solver=SOLVER, base=base))(xs)
flow = jax.scipy.linalg.expm(jnp.sin(1.0) * MATRIX)
true = base(shifts + (xs - shifts) @ flow.T) + jnp.sin(1.0) * jnp.trace(MATRIX)
print(f"log density {found.log_density}, in closed form {true}")
print(f"{found.num_steps} steps, {found.num_evaluations} evaluations, divergence by:")
print(found.plan)
