"""The log density of a continuous flow by diffrax, with the exact divergence along the path."""

import diffrax
import jax
import jax.numpy as jnp

import jacreg

MATRIX = jnp.array([[0.5, -1.0], [1.0, -0.3]])


def field(xs, ts):
    """A linear field, so that the density is known; any network of [N, 2] would do."""
    return jnp.cos(ts)[:, None] * (xs @ MATRIX.T)


def log_density(xs):
    """log p(x) = log N(z(1); 0, I) + integral of the trace of df/dz."""

    def rates(t, state, args):
        lin = jacreg.linearize(field, state[0], jnp.full(len(xs), t))
        return lin.value, jacreg.divergence(lin)

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(rates), diffrax.Tsit5(), 0.0, 1.0, 0.1, (xs, jnp.zeros(len(xs))),
        stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-6),
    )  # fmt: skip
    zs, trace = jax.tree.map(lambda leaf: leaf[-1], solution.ys)
    return jax.scipy.stats.norm.logpdf(zs).sum(axis=1) + trace


xs = jax.random.normal(jax.random.key(0), (5, 2))
found = jax.jit(log_density)(xs)
flow = jax.scipy.linalg.expm(jnp.sin(1.0) * MATRIX)
true = jax.scipy.stats.norm.logpdf(xs @ flow.T).sum(axis=1) + jnp.sin(1.0) * jnp.trace(MATRIX)
print(f"log density {found}, in closed form {true}")
