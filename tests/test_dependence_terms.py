"""Branches with windows of their own are read beside each other, and planned in few steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from local_functions import SQUARE, conv, scanned_rows, unet

import jacreg
from jacreg._coloring import _greedy
from jacreg._coloring._plan import plan_diagonal
from jacreg._coloring._reading import dependence_of
from jacreg._coloring._relation import Relation
from jacreg._dependence import Factor, _terms
from jacreg._dependence._boolean import Boolean


def beside(x):
    """Half of the channels see a window, half another one, and nothing sums over them."""
    return jnp.concatenate([conv(x[..., :1], 1), conv(x[..., 1:], 2, size=5)], -1)


def diamond(x, steps=3):
    """Sums of neighbours: the union of as many products as there are steps, and one more."""
    for _ in range(steps):
        x = x + jnp.roll(x, 1, 1) + jnp.roll(x, 1, 2)
    return x


def up_and_down(x, levels=2):
    """Strides down, transposed convolutions up, what went down beside them."""
    skips = []
    for _ in range(levels):
        x = jnp.tanh(conv(x, 4))
        skips.append(x)
        x = conv(x, 4, stride=2)
    for skip in reversed(skips):
        up = conv(jnp.tanh(x), 4, padding=[(1, 2), (1, 2)], up=(2, 2))
        x = jnp.tanh(conv(jnp.concatenate([up, skip], -1), 4))
    return conv(x, 3)


FUNCTIONS = {
    "beside": beside,
    "diamond": diamond,
    "up and down": up_and_down,
    "rows": scanned_rows,
    **{name: SQUARE[name] for name in ("unet", "coupling", "residual", "stencil")},
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_terms_are_the_joint_relation(name, x64, monkeypatch):
    """As many terms as there are, or one joint matrix from the second on: nothing else is seen."""
    lin = jacreg.linearize(FUNCTIONS[name], jnp.ones((1, 8, 8, 3)))
    found = dependence_of(lin)[0].matrix()
    monkeypatch.setattr(_terms, "_MOST_TERMS", 1)
    assert dependence_of(lin)[0].matrix() == found
    blocks = jax.jit(jax.vmap(jax.jacfwd(lambda x: FUNCTIONS[name](x[None])[0])))
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8, 8, 3)))
    true = np.asarray(blocks(xs)).reshape(4, 192, 192).any(0)
    assert not (true & ~found.toarray()).any()


@pytest.mark.parametrize("fn", [unet, up_and_down])
def test_no_matrix_of_several_axes_is_made_of_a_unet(fn, monkeypatch):
    """One relation an axis from the image to the colours: 64 positions, and no 4096."""
    lin = jacreg.linearize(lambda xs: 0.75 * fn(xs), jnp.ones((1, 64, 64, 3)))
    columns, init = [], Boolean.__init__
    monkeypatch.setattr(
        Boolean,
        "__init__",
        lambda self, *parts: (init(self, *parts), columns.append(self.shape[1]))[0],
    )
    traces, make_jaxpr = [], jax.make_jaxpr
    monkeypatch.setattr(jax, "make_jaxpr", lambda fn: traces.append(fn) or make_jaxpr(fn))
    fitted, fit = [], _greedy._first_fit
    monkeypatch.setattr(
        _greedy, "_first_fit", lambda edges, order: fitted.append(len(order)) or fit(edges, order)
    )
    for quantity in (jacreg.divergence, jacreg.frobenius_squared):
        traces.clear()
        plan = jacreg.plan(quantity, lin)
        assert plan.path in ("colouring", "local directions")
        assert plan.path == "local directions" or "lattice" in plan.reason
        assert len(traces) <= 1
    assert max(columns) <= 64
    assert max(fitted) <= 64


def _relation(matrices):
    sizes = tuple(matrix.shape[0] for matrix in matrices)
    return Relation(sizes, sizes, tuple(
        Factor((axis,), (axis,), Boolean.of_array(matrix)) for axis, matrix in enumerate(matrices)
    ))  # fmt: skip


def _band(size, below, above, stride=1):
    """Row i sees from `below` entries before the block that it is in to `above` behind it."""
    place = np.arange(size)
    ahead = place[None, :] - (place[:, None] // stride) * stride
    return (ahead >= -below) & (ahead <= above)


def _ring(size, reach):
    """Row i sees as many entries on either side, round the end."""
    apart = np.abs(np.arange(size)[:, None] - np.arange(size))
    return np.minimum(apart, size - apart) <= reach


# Relations of axes, the most colours, and the most positions that are coloured at once.
RELATIONS = {
    "causal": ([_band(24, 6, 0), _band(24, 6, 0), np.ones((2, 2))], 30, 13 * 13),
    "causal on one axis": ([_band(24, 6, 0), _band(24, 3, 3), np.ones((2, 2))], 56, 24),
    "strides": ([_band(24, 1, 4, 2), _band(24, 2, 2, 2)], 20, 24),
    "causal strides": ([_band(30, 3, 0, 3), _band(30, 3, 0, 3)], 8, 15 * 15),
    "too short to repeat": ([_band(7, 4, 0), _band(7, 4, 0)], 9, 49),
    "random": ([np.random.default_rng(0).random((9, 9)) < 0.2 for _ in range(2)], 4, 81),
    "periodic": ([_ring(128, 5), np.ones((2, 2))], 14, 128),
    "periodic image": ([_ring(32, 5), _ring(32, 5)], 49, 16 * 16),
    "periodic, of a length without parts": ([_ring(17, 1), _ring(17, 1)], 5, 17 * 17),
}


@pytest.mark.parametrize("name", RELATIONS)
def test_no_two_of_a_colour_see_each_other(name, monkeypatch):
    """Of all positions, though no more than a block of them is coloured jointly."""
    matrices, most, at_once = RELATIONS[name]
    fitted, fit = [], _greedy._first_fit
    monkeypatch.setattr(
        _greedy, "_first_fit", lambda edges, order: fitted.append(len(order)) or fit(edges, order)
    )
    relation = _relation(matrices)
    plan = plan_diagonal(relation)
    assert plan.num_colors == plan.colors.max() + 1 <= most
    assert max(fitted) <= at_once
    row, column = relation.matrix().entries
    assert not ((plan.colors[row] == plan.colors[column]) & (row != column)).any()
