"""A colouring made with one table of integers or booleans, used with another of equal shape."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jacreg

pytestmark = pytest.mark.usefixtures("x64")

XS = np.arange(1.0, 13.0).reshape(2, 6) / 7


def scanned(xs, table):
    return lax.scan(lambda h, i: (h.at[:, i[0]].add(jnp.sin(h[:, i[1]])), None), xs, table)[0]


def sliced(xs, start):
    return jnp.sin(lax.dynamic_slice_in_dim(xs, start, 3, axis=1)) * xs[:, :3]


def segments(xs, ids):
    return jax.vmap(lambda row: jax.ops.segment_sum(jnp.sin(row), ids, 3))(xs)


def branched(xs, which):
    return lax.switch(which, [lambda x: x**2, lambda x: x * jnp.roll(x, 1, 1)], xs)


# name: function of xs and a table, two tables
CASES = {
    "gather": (lambda xs, t: jnp.sin(xs[:, t]), [1, 2, 3, 4, 5, 0], [5, 0, 1, 2, 3, 4]),
    "neighbours": (
        lambda xs, t: jnp.sin(xs) * xs[:, t].sum(-1),
        [[1, 2], [0, 2], [0, 1], [4, 5], [3, 5], [3, 4]],
        [[3, 4], [2, 5], [1, 5], [0, 4], [0, 3], [1, 2]],
    ),
    "mask": (
        lambda xs, t: jnp.where(t, jnp.roll(xs, 1, 1), xs) ** 2,
        [True, False, True, False, True, False],
        [False, True, True, True, False, False],
    ),
    "scatter": (
        lambda xs, t: jnp.zeros_like(xs).at[:, t].add(jnp.sin(xs)),
        [0, 1, 2, 3, 4, 5], [5, 3, 4, 0, 1, 2],
    ),
    "slice": (sliced, 0, 2),
    "segments": (segments, [0, 0, 1, 1, 2, 2], [0, 1, 0, 2, 1, 2]),
    "scan": (scanned, [[0, 1], [2, 3], [4, 5]], [[5, 0], [1, 2], [3, 4]]),
    "branch": (branched, 0, 1),
    "mask made of integers": (
        lambda xs, t: jnp.cumsum(xs, 1) * (t > 2), [0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0],
    ),
}  # fmt: skip


@partial(jax.jit, static_argnums=0)
def blocks(fn, table):
    return jax.vmap(jax.jacfwd(lambda x: fn(x[None], table)[0]))(XS)


def dense(fn, table):
    return np.asarray(blocks(fn, table))


def closed(fn, table):
    return lambda xs: fn(xs, table)


def quantities(lin, coloring, truth):
    """Each is that of the dense Jacobian, or the colouring is refused; whether it was taken."""
    try:
        found = jacreg.jacobian(lin, coloring)
        norm = jacreg.frobenius_squared(lin, coloring)
    except jacreg.ColoringError:
        return False
    np.testing.assert_allclose(found, truth, atol=1e-12)
    np.testing.assert_allclose(norm, (truth**2).sum((1, 2)), atol=1e-12)
    return True


def right_or_refused(run, truth):
    """A traced table: nothing can be compared with the one that was coloured."""
    try:
        found = run()
    except jacreg.ColoringError as error:
        message = str(error)
    else:
        np.testing.assert_allclose(found, truth, atol=1e-12)
        return
    assert "traced" in message


@pytest.mark.parametrize("name", CASES)
def test_tables_that_are_closed_over(name):
    fn, *tables = CASES[name]
    one, other = map(jnp.asarray, tables)
    coloring = jacreg.color(closed(fn, one), XS, quantity="jacobian")
    assert quantities(jacreg.linearize(closed(fn, one), XS), coloring, dense(fn, one))
    quantities(jacreg.linearize(closed(fn, other), XS), coloring, dense(fn, other))
    # And back: what was accepted once is not accepted for others.
    assert quantities(jacreg.linearize(closed(fn, one), XS), coloring, dense(fn, one))


@pytest.mark.parametrize("name", CASES)
def test_tables_that_are_traced(name):
    fn, *tables = CASES[name]
    one, other = map(jnp.asarray, tables)
    coloring = jacreg.color(closed(fn, one), XS, quantity="jacobian")

    @jax.jit
    def run(table):
        return jacreg.jacobian(jacreg.linearize(closed(fn, table), XS), coloring)

    for table in (one, other):
        right_or_refused(lambda table=table: run(table), dense(fn, table))


@pytest.mark.parametrize("name", ["gather", "mask", "scan", "slice"])
def test_other_constants_in_a_linearization(name):
    """A Linearization is a pytree: its constants may be replaced."""
    fn, *tables = CASES[name]
    one, other = map(jnp.asarray, tables)
    coloring = jacreg.color(closed(fn, one), XS, quantity="jacobian")
    first, second = (jacreg.linearize(closed(fn, table), XS) for table in (one, other))
    assert quantities(first, coloring, dense(fn, one))
    mixed = jax.tree.unflatten(jax.tree.structure(first), jax.tree.leaves(second))
    quantities(mixed, coloring, dense(fn, other))

    def as_argument(lin):
        return jacreg.jacobian(lin, coloring)

    for lin, table in ((first, one), (mixed, other)):
        right_or_refused(lambda lin=lin: jax.jit(as_argument)(lin), dense(fn, table))


def row_tables(table):
    return jnp.broadcast_to(table, (2, *table.shape))


@pytest.mark.parametrize("name", ["gather", "scatter", "mask"])
def test_tables_that_are_arguments(name):
    fn, *tables = CASES[name]
    one, other = map(jnp.asarray, tables)

    def each(xs, table):
        return jax.vmap(lambda x, t: fn(x[None], t)[0])(xs, table)

    coloring = jacreg.color(each, XS, row_tables(one), quantity="jacobian")
    assert quantities(jacreg.linearize(each, XS, row_tables(one)), coloring, dense(fn, one))
    quantities(jacreg.linearize(each, XS, row_tables(other)), coloring, dense(fn, other))

    @jax.jit
    def run(table):
        return jacreg.jacobian(jacreg.linearize(each, XS, table), coloring)

    right_or_refused(lambda: run(row_tables(other)), dense(fn, other))
    # Planned without its values it serves every table, traced or not.
    unknown = jax.ShapeDtypeStruct((2, *one.shape), one.dtype)
    coloring = jacreg.color(each, XS, unknown, quantity="jacobian")
    for table in (one, other):
        lin = jacreg.linearize(each, XS, row_tables(table))
        assert quantities(lin, coloring, dense(fn, table))
    np.testing.assert_allclose(run(row_tables(other)), dense(fn, other), atol=1e-12)


def test_the_diagonal_of_other_tables():
    fn, *tables = CASES["neighbours"]
    one, other = map(jnp.asarray, tables)
    coloring = jacreg.color(closed(fn, one), XS)
    assert not coloring.is_dense
    lin = jacreg.linearize(closed(fn, other), XS)
    try:
        found = jacreg.diagonal(lin, coloring)
    except jacreg.ColoringError:
        return
    np.testing.assert_allclose(found, jnp.diagonal(dense(fn, other), axis1=1, axis2=2), atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_placeholders_keep_what_the_function_closes_over(name):
    """Planned for shapes alone: as sparse as with values."""
    fn, table, _ = CASES[name]
    function = closed(fn, jnp.asarray(table))
    shape = jax.ShapeDtypeStruct(XS.shape, XS.dtype)
    abstract, concrete = (jacreg.color(function, xs, quantity="jacobian") for xs in (shape, XS))
    assert abstract == concrete
    assert quantities(jacreg.linearize(function, XS), abstract, dense(fn, jnp.asarray(table)))


def test_a_table_in_numpy_that_is_changed_in_place():
    table = np.array([1, 2, 3, 4, 5, 0])

    def fn(xs):
        return jnp.sin(xs[:, jnp.asarray(table)])

    coloring = jacreg.color(fn, XS, quantity="jacobian")
    assert quantities(jacreg.linearize(fn, XS), coloring, jax.vmap(
        jax.jacfwd(lambda x: fn(x[None])[0]))(XS))  # fmt: skip
    table[:] = [5, 0, 1, 2, 3, 4]
    truth = jax.vmap(jax.jacfwd(lambda x: fn(x[None])[0]))(XS)
    quantities(jacreg.linearize(fn, XS), coloring, truth)


def rule_alone(table):
    """The table stands in a derivative rule and nowhere else."""

    @jax.custom_jvp
    def fn(x):
        return jnp.sin(x)

    fn.defjvp(lambda primals, tangents: (jnp.sin(primals[0]), tangents[0][:, table]))
    return fn


# Where a table may hide in a program.
NESTED = {
    "jit": lambda t: lambda x: jax.jit(lambda y: jnp.sin(y[:, t]))(x),
    "jit, numpy": lambda t: lambda x: jax.jit(lambda y: jnp.sin(y[:, np.asarray(t)]))(x),
    "jit in jit": lambda t: lambda x: jax.jit(jax.jit(lambda y: jnp.sin(y[:, t])))(x),
    "checkpoint": lambda t: lambda x: jax.checkpoint(lambda y: jnp.sin(y[:, t]))(x),
    "scan": lambda t: lambda x: lax.scan(lambda c, _: (jnp.sin(c[:, t]), None), x, None, 2)[0],
    "cond": lambda t: lambda x: lax.cond(True, lambda y: jnp.sin(y[:, t]), lambda y: y, x),
    "vmap of jit": lambda t: jax.vmap(jax.jit(lambda row: jnp.sin(row[t]))),
    "grad": lambda t: jax.grad(lambda x: (jnp.sin(x[:, t]) * x).sum()),
    "rule": rule_alone,
}


@pytest.mark.parametrize("name", NESTED)
def test_tables_inside_of_programs(name):
    """Chosen by itself, by a colouring, and in a jitted function that takes the Linearization."""
    tables = map(jnp.asarray, CASES["gather"][1:])
    one, other = (NESTED[name](table) for table in tables)
    coloring = jacreg.color(one, XS, quantity="jacobian")
    as_argument = jax.jit(jacreg.jacobian)
    for fn in (one, other, one):
        truth = jax.vmap(jax.jacfwd(lambda x, fn=fn: fn(x[None])[0]))(XS)
        lin = jacreg.linearize(fn, XS)
        quantities(lin, coloring, truth)
        for found in (jacreg.jacobian(lin), as_argument(lin)):
            np.testing.assert_allclose(found, truth, atol=1e-12)


def test_weights_inside_of_programs():
    """A jitted function is not run with the weights of another Linearization."""
    run = jax.jit(jacreg.divergence)
    for scale in (1.0, 3.0, 1.0):
        weights = scale * jnp.eye(6)
        lin = jacreg.linearize(jax.jit(lambda x, w=weights: jnp.sin(x) @ w), XS)
        np.testing.assert_allclose(run(lin), scale * jnp.cos(XS).sum(1), rtol=1e-12)
