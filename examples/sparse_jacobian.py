"""The Jacobian of a local function as a sparse matrix, by colours that are kept in a file."""

import tempfile

import jax
import jax.numpy as jnp

import jacreg

XS = jax.random.normal(jax.random.key(0), (4, 200))


def step(us):
    """`[N, 200] -> [N, 200]`: a step of Burgers' equation on a circle."""
    left, right = jnp.roll(us, 1, axis=1), jnp.roll(us, -1, axis=1)
    return us + 0.1 * (right - 2 * us + left) - 0.05 * us * (right - left)


coloring = jacreg.color(step, XS, quantity="jacobian")
with tempfile.TemporaryDirectory() as folder:
    coloring.save(f"{folder}/burgers.coloring")
    loaded = jacreg.Coloring.load(f"{folder}/burgers.coloring")

lin = jacreg.linearize(step, XS)
matrices = jacreg.jacobian(lin, loaded, sparse=True)  # a BCOO [4, 200, 200]
print(f"{loaded.num_colors} products, {matrices.nse} entries of {200 * 200} an example")


@jax.jit
def largest(matrices):
    """Modulus of the largest entry of each row, from the entries alone."""
    rows = matrices.indices[..., 0]
    return jax.vmap(lambda data, row: jnp.zeros(200).at[row].max(abs(data)))(matrices.data, rows)


error = abs(matrices.todense() - jacreg.jacobian(lin, jacreg.Exact())).max()
print(f"largest entry {largest(matrices).max():.3f}, off the dense Jacobians by {error:.1e}")
