"""Conformance rows of flows and equilibria: linear ones, whose answers have closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from conformance_rows import KEY, MATRIX, Row, points

# The share of exp(hA) that one step of a fixed method of this order has.
ORDERS = {"euler": 1, "midpoint": 2, "heun": 2, "rk4": 4}


def _normal(zs):
    return -0.5 * (np.square(zs) + np.log(2 * np.pi)).sum(1)


def _field(xs, ts):
    return xs @ jnp.asarray(MATRIX.T)


def _tight():
    from jacreg.flow import FlowSolver

    return FlowSolver("dopri5", rtol=1e-10, atol=1e-10)


def _log_density():
    """Of a linear flow by each kind of method; the Frobenius norm along it is constant."""
    import jacreg
    from jacreg import flow

    end = np.asarray(points()) @ scipy.linalg.expm(MATRIX).T
    truth = _normal(end) + np.trace(MATRIX)
    for method in (jacreg.Auto(), jacreg.Exact()):
        automatic = method == jacreg.Auto()
        found = flow.log_density(
            _field, points(), solver=_tight(), method=method, regularize=automatic
        )
        yield found.values, end
        yield found.log_density, truth
        if automatic:
            yield found.frobenius_squared, np.full(2, np.square(MATRIX).sum())


def _sample():
    from jacreg import flow

    drawn = flow.sample(_field, (2, 3), solver=_tight(), key=KEY)
    latents = np.asarray(drawn.values) @ scipy.linalg.expm(MATRIX).T
    back = flow.log_density(_field, drawn.values, solver=_tight())
    yield back.values, latents
    yield back.log_density, _normal(latents) + np.trace(MATRIX)


def _solvers():
    """Fixed steps are powers of a polynomial of the matrix, adaptive ones its exponential."""
    from jacreg import flow

    xs = np.asarray(points())
    solver = flow.FlowSolver("tsit5", rtol=1e-10, atol=1e-10)
    found = flow.log_density(_field, points(), solver=solver)
    yield found.values, xs @ scipy.linalg.expm(MATRIX).T
    for name, order in ORDERS.items():
        terms = [np.linalg.matrix_power(MATRIX / 2, k) for k in range(order + 1)]
        step = sum(term / np.prod(np.arange(1.0, k + 1)) for k, term in enumerate(terms))
        solver = flow.FlowSolver(name, step_size=0.5)
        yield flow.log_density(_field, points(), solver=solver).values, xs @ (step @ step).T


def _time_first():
    from jacreg import flow

    def later(when, state, shift):
        return when * state + shift

    marked = flow.time_first(later)
    yield marked(2.0, points(), 1.0), 2 * np.asarray(points()) + 1
    solver = flow.FlowSolver("euler", step_size=0.5)
    found = flow.log_density(marked, points(), points(), solver=solver)
    shift = np.asarray(points())
    yield found.values, 1.25 * (shift + 0.5 * shift) + 0.5 * shift  # at times 0 and 1/2
    yield found.log_density - _normal(np.asarray(found.values)), np.full(2, 0.75)


def _bits():
    from jacreg import flow

    logs = np.array([0.0, -12.0])
    yield flow.bits_per_dimension(jnp.asarray(logs), 3), 8 - logs / 3 / np.log(2)
    yield flow.bits_per_dimension(jnp.asarray(logs), 3, levels=1), -logs / 3 / np.log(2)


FLOW: dict[str, Row] = {
    "FlowSolver": _solvers,
    "TimeFirst": _time_first,
    "bits_per_dimension": _bits,
    "log_density": _log_density,
    "sample": _sample,
    "time_first": _time_first,
}


def _cell(zs, xs):
    return 0.5 * zs @ jnp.asarray(MATRIX.T) + xs


def _solve():
    """z = A z / 2 + x, and both directions of its derivative."""
    from jacreg import equilibrium

    inverse = np.linalg.inv(np.eye(3) - 0.5 * MATRIX)
    solver = equilibrium.EquilibriumSolver(tolerance=1e-12, backward_tolerance=1e-12)
    solve = functools.partial(equilibrium.solve, _cell, jnp.zeros((2, 3)), solver=solver)
    found = solve(points())
    yield found.state, np.asarray(points()) @ inverse.T
    yield found.converged, [True, True]
    yield jax.jvp(lambda xs: solve(xs).state, (points(),), (points(),))[1], found.state
    pulled = jax.vjp(lambda xs: solve(xs).state, points())[1](points())[0]
    yield pulled, np.asarray(points()) @ inverse


def _equilibrium_solvers():
    from jacreg import equilibrium

    truth = np.asarray(points()) @ np.linalg.inv(np.eye(3) - 0.5 * MATRIX).T
    for method in ("anderson", "iteration"):
        solver = equilibrium.EquilibriumSolver(method, tolerance=1e-12, max_steps=400)
        yield equilibrium.solve(_cell, jnp.zeros((2, 3)), points(), solver=solver).state, truth


EQUILIBRIUM: dict[str, Row] = {"EquilibriumSolver": _equilibrium_solvers, "solve": _solve}
