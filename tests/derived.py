"""Quantities that `conform` asks of a function derived from the registry's, and their truths.

A contraction for the power series, a scalar field for the Laplacian, parameters for the kernel.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from functions import dense_jacobians
from planted import average, mean_over_probes
from quantities import KEY, N, problem

import jacreg


def contraction(p):
    """A factor that makes the map a contraction, for the power series."""
    return 0.3 / max(np.linalg.norm(d, 2, axis=(1, 2)).max() + 1e-12 for d in p.denses)


def series(p, lin):
    factor = contraction(p)
    small = jacreg.linearize(lambda xs: jax.tree.map(lambda y: factor * y, p.case.fn(xs)), lin.xs)

    def quantity(lin, method, key):
        return jacreg.log_determinant(lin, key=key, num_terms=30, continuation=0.0)

    return average(quantity, None, "inputs")(p, small)


def log_determinant(p, xs, dense):
    return np.linalg.slogdet(np.eye(dense.shape[1]) + contraction(p) * dense)[1]


def field(p):
    """A scalar field that sees every output of the function."""
    return lambda xs: sum(
        jnp.sin(y.reshape(y.shape[0], -1)).sum(1) for y in jax.tree.leaves(p.case.fn(xs))
    )


def energy(p, lin):
    return jacreg.linearize(field(p), lin.xs)


def second_derivatives(p, xs):
    gradient = jax.grad(lambda xs: field(p)(xs).sum())
    return np.einsum("nii->ni", dense_jacobians(gradient, xs, jax.jacfwd))


def laplacian_truth(p, xs, dense):
    return second_derivatives(p, xs).sum(1)


def hessian_diagonal_truth(p, xs, dense):
    return second_derivatives(p, xs)


def weights(xs):
    """One weight an entry and example, of both signs."""
    return jax.tree.map(lambda x: jnp.cos(jnp.arange(x.size).reshape(x.shape)), xs)


def weighted_laplacian(method):
    def quantity(p, lin):
        method_ = laplacian_coloring(p.case.name) if method == "Coloring" else method
        return jacreg.laplacian(energy(p, lin), method_, weights=weights(lin.xs))

    return quantity


def weighted_laplacian_truth(p, xs, dense):
    leaves = [np.asarray(w).reshape(N, -1) for w in jax.tree.leaves(weights(xs))]
    return (second_derivatives(p, xs) * np.concatenate(leaves, axis=1)).sum(1)


def hessian_diagonal(method):
    return lambda p, lin: jacreg.hessian_diagonal(energy(p, lin), method)


@functools.cache
def laplacian_coloring(name):
    p = problem(name)
    return jacreg.color(field(p), p.batches[0], quantity="laplacian")


def colored_laplacian(p, lin):
    return jacreg.laplacian(energy(p, lin), laplacian_coloring(p.case.name))


def sampled_laplacian(p, lin):
    def once():
        return jacreg.laplacian(energy(p, lin), jacreg.Hutchinson(), key=KEY)

    return mean_over_probes(once, p.inputs.size)


def has_laplacian(p):
    return p.case.reverse and not p.empty


def kernel(traced):
    def estimate(p, lin):
        params = {
            "scale": jax.tree.map(lambda x: jnp.ones(x.shape[1:], x.dtype), lin.xs),
            "shift": jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), lin.xs),
        }

        def apply(params, xs):
            return p.case.fn(
                jax.tree.map(lambda x, a, b: a * x + b, xs, params["scale"], params["shift"])
            )

        return jacreg.empirical_ntk(apply, params, lin.xs, trace_outputs=traced)

    return estimate


def kernel_truth(traced):
    def truth(p, xs, dense):
        flat = np.asarray(p.inputs.flatten(xs))
        weights = 1 + flat[:, None] * flat[None]
        out = "ij" if traced else "ijab"
        return np.einsum(f"iak,j{'a' if traced else 'b'}k,ijk->{out}", dense, dense, weights)

    return truth


def operator_norms(p, lin):
    def linear_map(n):
        return lambda v: lin.jvp(jnp.zeros_like(lin.xs).at[n].set(v))[n]

    shape = lin.xs.shape[1:]
    return jnp.stack([jacreg.operator_norm(linear_map(n), shape, key=KEY) for n in range(N)])


def log_frobenius(p, xs, dense):
    with np.errstate(divide="ignore"):
        return 0.5 * np.log((dense**2).sum((1, 2)))
