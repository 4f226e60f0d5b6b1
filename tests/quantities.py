"""One quantity by one method, held against the dense float64 Jacobians of one function."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pytest
from functions import BY_NAME

import jacreg

KEY = jax.random.key(0)
N = 2
FORWARD, REVERSE = frozenset({"forward"}), frozenset({"reverse"})
BOTH = FORWARD | REVERSE


class Problem:
    """A function of the registry with two batches and their dense Jacobians `[N, M, n]`."""

    def __init__(self, name):
        self.case = BY_NAME[name]
        self.batches = [self.case.inputs(N, seed=seed) for seed in (0, 1)]
        lin = jax.eval_shape(lambda xs: jacreg.linearize(self.case.fn, xs), self.batches[0])
        self.inputs, self.outputs = lin.inputs, lin.outputs
        self.square = (self.inputs.treedef, self.inputs.shapes) == (
            self.outputs.treedef,
            self.outputs.shapes,
        )
        self.empty = min(self.inputs.size, self.outputs.size) == 0
        self.is_array = isinstance(self.batches[0], jax.Array)

    @functools.cached_property
    def denses(self):
        return [self.case.dense(xs) for xs in self.batches]

    def directions(self):
        return {d for d in ("forward", "reverse") if getattr(self.case, d)}


@functools.cache
def problem(name):
    """Made once for all pairs, in double precision."""
    return Problem(name)


@dataclass(frozen=True)
class Pair:
    """One quantity by one method.

    Attributes:
        estimate: `(problem, lin) -> array or tree`, for `lin` of one batch, under jit.
        truth: `(problem, xs, dense) -> numpy array`.
        fits: whether the quantity has a meaning for the problem.
        needs: directions without which a DirectionError is right.
        prepare: what is made once outside jit, and kept.
    """

    quantity: str
    method: str
    estimate: Callable[[Problem, Any], Any]
    truth: Callable[[Problem, Any, np.ndarray], np.ndarray]
    fits: Callable[[Problem], bool] = lambda p: True
    needs: frozenset = frozenset()
    rtol: float = 1e-9
    atol: float = 1e-9
    prepare: Callable[[Problem], Any] = lambda p: None

    @property
    def name(self):
        return f"{self.quantity} by {self.method}"


def conform(pair, name):
    """Hold a pair against one function, at two batches, with one compilation for both."""
    p = problem(name)
    pair.prepare(p)
    traces = []

    @jax.jit
    def run(xs):
        traces.append(1)
        return pair.estimate(p, jacreg.linearize(p.case.fn, xs))

    if not pair.needs <= p.directions() and not p.empty:
        with pytest.raises(jacreg.DirectionError, match=r"no (forward|reverse)-mode"):
            run(p.batches[0])
        return
    for xs, dense in zip(p.batches, p.denses, strict=True):
        found = run(xs)
        truth = pair.truth(p, xs, dense)
        flat = [np.asarray(leaf).reshape(N, -1) for leaf in jax.tree.leaves(found)]
        found = np.concatenate(flat, axis=1) if flat else np.zeros((N, 0))
        np.testing.assert_allclose(
            found, truth.reshape(found.shape), rtol=pair.rtol, atol=pair.atol
        )
    assert len(traces) == 1, "a second batch of the same shape traced the function again"
