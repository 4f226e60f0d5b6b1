"""Rows of the conformance suite beside the products of pairs and functions.

A row makes `(found, truth)` or `(found, truth, rtol)`, in double precision: what one public name
gives, and what dense matrices, closed forms or counting say.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jacreg
from jacreg import losses

KEY = jax.random.key(0)
MATRIX = np.array([[0.5, -1.0, 0.2], [1.0, -0.3, 0.4], [0.1, 0.7, -0.6]])
Row = Callable[[], Iterator[tuple[Any, ...]]]


def points(rows=2, size=3):
    """A batch in double precision."""
    return jnp.asarray(np.random.default_rng(rows + size).normal(size=(rows, size)))


def field(xs):
    """`[N, 3] -> [N, 3]`, whose Jacobian is that of a dense layer."""
    return jnp.tanh(xs @ jnp.asarray(MATRIX.T))


def local(xs):
    """`[N, 3] -> [N, 3]`, each entry from itself and the one before."""
    return jnp.sin(xs) * jnp.concatenate([jnp.ones_like(xs[:, :1]), xs[:, :-1]], axis=1)


def dense(fn, xs):
    """`[N, M, n]`, by JAX's derivative of single examples."""
    found = jax.jit(jax.vmap(jax.jacrev(lambda x: fn(x[None])[0])))(xs)
    return np.asarray(found).reshape(len(xs), -1, xs[0].size)


def _linearize():
    xs, lin = points(), jacreg.linearize(field, points())
    yield lin.value, field(xs)
    yield lin.jvp(xs), np.einsum("nij,nj->ni", dense(field, xs), xs)
    yield lin.vjp(xs), np.einsum("nij,ni->nj", dense(field, xs), xs)


def _colored():
    coloring = jacreg.color(local, points())
    yield coloring.num_colors, 2  # an entry and the one before it are both seen by one output
    lin = jacreg.linearize(local, points())
    yield jacreg.divergence(lin, coloring), dense(local, points()).trace(0, 1, 2)


def _chosen():
    lin = jacreg.linearize(local, points())
    method = jacreg.choose(local, points(), quantity=jacreg.divergence, budget=3)
    yield jacreg.divergence(lin, method, key=KEY), dense(local, points()).trace(0, 1, 2)


def _planned():
    lin = jacreg.linearize(field, points())
    for method, count in ((jacreg.Auto(), 0), (jacreg.Exact(), 3), (jacreg.Hutchinson(2), 2)):
        yield jacreg.plan(jacreg.divergence, lin, method).num_products, count


def _directions():
    def loop(xs):
        return jax.lax.while_loop(lambda x: jnp.max(x) > 2, jnp.sqrt, xs)

    for fn, reverse in ((field, True), (loop, False)):
        directions = jacreg.linearize(fn, points()).directions
        yield (directions.forward, directions.reverse), (True, reverse)


def _rows_independent():
    yield jacreg.rows_independent(field, points()), True
    yield jacreg.rows_independent(lambda xs: xs - jnp.mean(xs, 0, keepdims=True), points()), False


def _held():
    """A mean over the batch is a constant: the Jacobian is the identity."""
    held = jacreg.hold_statistics(lambda xs: xs - jnp.mean(xs, 0), points())
    yield held(points()), points() - jnp.mean(points(), 0)
    yield jacreg.jacobian(jacreg.linearize(held, points()))[0], np.eye(points().shape[1])


def _standard_error():
    """Probes of a diagonal Jacobian are all alike; of ones the mean and its error are NumPy's."""
    measured = jacreg.with_standard_error(jacreg.divergence)
    lin = jacreg.linearize(jnp.sin, points())
    found, error = measured(lin, jacreg.Hutchinson(5), key=KEY)
    yield found, np.cos(points()).sum(1)
    yield 1 + error, np.ones(2)


def _map_bound(x):
    return x @ jnp.asarray(MATRIX.T)


def _bound():
    truth = np.linalg.norm(MATRIX, 2)
    found = float(jacreg.operator_norm_bound(_map_bound, (3,)))
    yield min(found, truth), truth
    yield found, truth, 1e-2


def _lipschitz():
    bound = jacreg.lipschitz_bound([_map_bound, jnp.tanh, _map_bound], points())
    yield bound, np.linalg.norm(MATRIX, 2) ** 2, 2e-2


def _schedule(make):
    def run():
        steps = np.array([float(make()(step)) for step in range(8)])
        yield steps.reshape(2, 4).sum(1), [4.0, 4.0]

    return run


def _bernoulli():
    """Weights 0 and 4, one in the mean to five standard errors."""
    weights = jax.vmap(losses.bernoulli(0.25, key=KEY))(jnp.arange(20000))
    yield np.unique(weights), [0.0, 4.0]
    yield weights.mean(), 1.0, 5 * (3 / 20000) ** 0.5


def _ramp():
    yield [float(losses.ramp(1.0, 3.0, 4)(step)) for step in (0, 2, 4, 9)], [1.0, 2.0, 3.0, 3.0]


def _subsample():
    picked = losses.subsample({"x": points(8), "row": jnp.arange(8)}, 0.5, key=KEY)
    yield picked["x"], np.asarray(points(8))[picked["row"]]
    yield len(set(picked["row"].tolist())), 4


def _singular_vector():
    lin = jacreg.linearize(field, points())
    found = losses.right_singular_vector(lin, key=KEY, num_iterations=200)
    truth = np.linalg.svd(dense(field, points()))[2][:, 0]
    yield abs(np.einsum("ni,ni->n", found, truth)), np.ones(2)


LIBRARY: dict[str, Row] = {
    "Directions": _directions,
    "Linearization": _linearize,
    "Plan": _planned,
    "choose": _chosen,
    "color": _colored,
    "hold_statistics": _held,
    "linearize": _linearize,
    "lipschitz_bound": _lipschitz,
    "operator_norm_bound": _bound,
    "plan": _planned,
    "rows_independent": _rows_independent,
    "with_standard_error": _standard_error,
}
LOSSES: dict[str, Row] = {
    "bernoulli": _bernoulli,
    "every": _schedule(functools.partial(losses.every, 4)),
    "ramp": _ramp,
    "right_singular_vector": _singular_vector,
    "subsample": _subsample,
}
# Names without a row of their own, and where they are held.
NO_ROW: dict[str, dict[str, str]] = {
    "jacreg": {
        "ColoringError": "an error; tests/test_coloring_refused.py",
        "DirectionError": "an error; every pair raises it where a direction is missing",
        "LayerwiseLogFrobenius": "the result of layerwise_log_frobenius",
        "LeastStretch": "the result of least_stretch",
    },
    "jacreg.losses": {"FlowRegularizers": "the result of flow_regularizers"},
    "jacreg.flow": {"FlowResult": "the result of log_density and sample"},
    "jacreg.equilibrium": {"EquilibriumResult": "the result of solve"},
}
