"""Probes from a list in place of random ones, so that a mean over all of them is exact."""

import itertools
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jacreg import _frobenius, _lanczos_quadrature, _log_determinant, _trace
from jacreg._structure import BatchStructure

_MODULES = (_frobenius, _trace, _log_determinant, _lanczos_quadrature)
# Up to this size all 2^n sign vectors, above it the rows of an orthogonal matrix.
_SIGNED = 4


def probe_set(size):
    """Vectors `[K, size]` whose mean v v^T is the identity, closed under a change of sign."""
    if size <= _SIGNED:
        return np.array(list(itertools.product([-1.0, 1.0], repeat=size)))
    rotation, _ = np.linalg.qr(np.random.default_rng(size).normal(size=(size, size)))
    return np.concatenate([rotation, -rotation]) * size**0.5


class Planted:
    """Stands in for `draw`: the probe with the current index, another for each example."""

    def __init__(self):
        self.index = None

    def __call__(self, key, like, distribution):
        structure = BatchStructure.of(like)
        probes = jnp.asarray(probe_set(structure.size))
        count = jax.tree.leaves(like)[0].shape[0]
        return structure.unflatten(probes[(self.index + jnp.arange(count)) % len(probes)])


@contextmanager
def planted():
    """Every estimator takes its probes from `Planted` while this holds."""
    source = Planted()
    with pytest.MonkeyPatch.context() as patch:
        for module in _MODULES:
            patch.setattr(module, "draw", source)
        yield source


def mean_over_probes(estimate, size):
    """Mean of `estimate()` over all planted probes of vectors with `size` entries."""
    count = len(probe_set(size))
    with planted() as source:

        def one(index):
            source.index = index
            return estimate()

        values = jax.vmap(one)(jnp.arange(count))
    return jax.tree.map(lambda v: v.mean(0), values)


def average(quantity, method, side):
    """Mean over planted probes of one side of the Jacobian."""

    def estimate(p, lin):
        size = getattr(lin, side).size
        return mean_over_probes(lambda: quantity(lin, method, key=jax.random.key(0)), size)

    return estimate
