"""Rules that the networks of `local_functions` do not reach: each loses no edge, most gain none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from local_functions import conv, reverse_only

import jacreg
from jacreg._coloring._reading import dependence_of
from jacreg._dependence import _operand, _pattern, _reshape, _rules_index

SHAPE = (1, 4, 4, 2)


def busiest_row(x):
    """An integer that depends on the values: no plan may rely on it."""
    return jnp.argmax(jnp.abs(x).sum((0, 2, 3))) % 3


def forward_loop(x):
    def step(state):
        return state[0] + 1, jnp.tanh(conv(state[1], 2))

    return lax.while_loop(lambda state: state[0] < 2, step, (0, x))[1]


# Exact: not an edge more than some input shows.
EXACT = {
    "dynamic_slice, known start": lambda x: lax.dynamic_slice_in_dim(x**2, 1, 2, axis=1),
    "grouped": lambda x: conv(jnp.concatenate([x, x[:, ::-1]], axis=-1), 4, groups=2),
    "corner through a reshape": lambda x: (
        (x + jnp.roll(x, 1, axis=1) + jnp.roll(x, 1, axis=2)).reshape(1, 16, 2)[:, ::-1]
    ).reshape(SHAPE),
    "split": lambda x: jnp.concatenate(jnp.split(x**2, 2, axis=1)[::-1], axis=1) * x,
    "one index for all": lambda x: x[:, jnp.array([2, 2])] ** 2,
    "update in one place": lambda x: x.at[:, jnp.array([1, 1])].add(x[:, 2:] ** 2),
    "update in an unknown place": jax.vmap(
        lambda x: x.at[jnp.argmax(x[:, 0, 0])].add(jnp.sin(x[0]))
    ),
    "padded constant rows": lambda x: jnp.pad(
        jnp.broadcast_to((x**2).sum(1, keepdims=True), x.shape), ((0, 0), (1, 1), (0, 0), (0, 0))
    ),
    "fill where the index is outside": lambda x: x.at[:, jnp.array([0, 9, 2])].get(
        mode="fill", fill_value=0.0
    ),
    "diagonal by indices": lambda x: x[:, jnp.arange(4), jnp.arange(4)] ** 2,
    "pairs of a triangle": lambda x: x[:, *jnp.triu_indices(4, 1)] ** 2,
    "added on a diagonal": lambda x: x.at[:, jnp.arange(3), jnp.arange(3)].add(x[:, 1:, 0] ** 2),
    "added outside": lambda x: x.at[:, jnp.array([1, 8, 3])].add(x[:, 1:] ** 2),
    "barrier": lambda x: lax.optimization_barrier(jnp.sin(x)),
    "scalar times image": lambda x: x * jnp.float64(2.0) + 1,
}
# A superset: where it goes depends on the values, or is not kept.
LOOSE = {
    "dynamic_slice, unknown start": lambda x: lax.dynamic_slice_in_dim(x**2, busiest_row(x), 2, 1),
    "dynamic_update_slice, known": lambda x: lax.dynamic_update_slice(
        x, x[:, :2] ** 2, (0, 1, 0, 0)
    ),
    "dynamic_update_slice, unknown": lambda x: lax.dynamic_update_slice(
        x, x[:, :2] ** 2, (0, busiest_row(x), 0, 0)
    ),
    "window at an unknown place": jax.vmap(
        lambda x: lax.dynamic_slice_in_dim(x**2, busiest_row(x[None]), 2, 0)
    ),
    "window put in an unknown place": jax.vmap(
        lambda x: lax.dynamic_update_slice_in_dim(x, x[:2] ** 2, busiest_row(x[None]), 0)
    ),
    "while_loop": forward_loop,
    "kernel from the input": lambda x: lax.conv_general_dilated(
        x, x[0, :2, :2, :, None] * jnp.ones((1, 1, 1, 3)), (1, 1), "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    ),
}  # fmt: skip


def read(fn):
    relation, _, reader = dependence_of(jacreg.linearize(fn, jnp.ones(SHAPE)))
    return relation.matrix().toarray(), reader


def seen(fn):
    """Edges that random inputs show, by forward mode, which all of these have."""
    jac = jax.jit(jax.vmap(lambda x: jax.jacfwd(lambda y: fn(y[None])[0])(x)))
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(6, *SHAPE[1:])))
    return np.asarray(jac(xs)).reshape(6, -1, int(np.prod(SHAPE[1:]))).any(0)


@pytest.mark.parametrize("name", [*EXACT, *LOOSE])
def test_no_edge_is_missing(name, x64):
    fn = {**EXACT, **LOOSE}[name]
    found, reader = read(fn)
    true = seen(fn)
    assert not (true & ~found).any()
    if name in EXACT:
        assert not reader.dense_primitives
        np.testing.assert_array_equal(found, true)
    else:
        assert not reader.dense_primitives or name == "kernel from the input"
        assert (found & ~true).any(), "this would be exact: list it there"


@pytest.mark.parametrize(
    "name", ["one index for all", "fill where the index is outside", "added outside"]
)
def test_axes_that_are_taken_whole_are_not_worked_out(name, x64, monkeypatch):
    """Of an image whose rows are picked, four rows are: not every pixel of every channel."""
    monkeypatch.setattr(_rules_index, "_MOST_POSITIONS", 4)
    np.testing.assert_array_equal(read(EXACT[name])[0], seen(EXACT[name]))


@pytest.mark.parametrize("limits", [(1, 1 << 30), (1 << 30, 1), (1, 1)])
def test_coarse_unions_lose_no_edge(limits, x64, monkeypatch):
    """What is too large to hold exactly is widened."""
    joint, widest = limits
    for module in (_pattern, _reshape):
        monkeypatch.setattr(module, "_JOINT_ENTRIES", joint)
    monkeypatch.setattr(_pattern, "_WIDEST_ENTRIES", widest)

    def mixed(x):
        turned = x.transpose(0, 2, 1, 3) * x
        flat = conv(x, 2).reshape(1, 16, 2)[:, ::-1].reshape(SHAPE)
        return turned + flat + jnp.cumsum(x, 1).sum(2, keepdims=True)

    true = seen(mixed)
    widened = read(mixed)[0]
    assert not (true & ~widened).any()
    monkeypatch.undo()
    assert not (read(mixed)[0] & ~widened).any()


def test_a_dependence_that_keeps_growing_is_dense():
    """300 positions, one more reached a step: given up before, and said so."""

    def spreading(x):
        return lax.fori_loop(0, 300, lambda _, c: c + jnp.roll(c, 1, axis=1), x)

    def unbounded(x):
        return lax.while_loop(
            lambda s: s[0] < 300, lambda s: (s[0] + 1, s[1] + jnp.roll(s[1], 1, axis=1)), (0, x)
        )[1]

    for fn, name in ((spreading, "scan"), (unbounded, "while")):
        coloring = jacreg.color(fn, jax.ShapeDtypeStruct((1, 300), jnp.float32))
        assert coloring.is_dense
        assert name in repr(coloring)


def test_a_rule_for_another_version_of_jax_is_dense(monkeypatch):
    def renamed(equation):
        raise KeyError("a parameter of this name is gone")

    monkeypatch.setitem(_operand.RULES, "mul", renamed)
    coloring = jacreg.color(jnp.tanh, jnp.ones((2, 5)))
    assert coloring.is_dense
    assert "mul" in repr(coloring)


def test_no_direction_at_all_is_said():
    def neither(x):
        return lax.while_loop(lambda s: s[0] < 1, lambda s: (1, reverse_only(s[1])), (0, x))[1]

    xs = jnp.ones((1, 4, 4, 3))
    with pytest.raises(jacreg.DirectionError, match="neither"):
        jacreg.color(neither, xs)
    with pytest.raises(jacreg.DirectionError, match="And the other direction"):
        jacreg.jacobian(jacreg.linearize(neither, xs))


def test_planning_under_jit_and_of_nothing():
    """Traced values: the plan alone, without the numeric probes. No entries: no colours."""
    counts = []

    @jax.jit
    def run(xs):
        coloring = jacreg.color(lambda x: conv(x, 2), xs)
        counts.append(coloring.num_colors)
        return jacreg.divergence(jacreg.linearize(lambda x: conv(x, 2), xs), coloring)

    xs = jnp.ones((2, 8, 8, 2))
    exact = jacreg.divergence(jacreg.linearize(lambda x: conv(x, 2), xs))
    np.testing.assert_allclose(run(xs), exact, rtol=1e-5)
    assert counts == [8]
    assert jacreg.color(jnp.sin, jnp.ones((2, 0))).num_colors == 0
