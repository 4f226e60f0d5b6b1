"""What each entry sees through a primitive, against the nonzero entries of its Jacobian."""

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from own_primitives import primitive

from jacreg._forms import FORMS, Form
from jacreg._forward_laplacian._seen import seen_by
from jacreg._transposable import is_transposable

RNG = np.random.default_rng(4)


def conv(kernel, numbers=("NHWC", "HWIO", "NHWC"), strides=(1, 1), padding="SAME", **options):
    kernel = jnp.asarray(RNG.uniform(1, 2, kernel), jnp.float32)
    return lambda xs: lax.conv_general_dilated(
        xs, kernel, strides, padding, dimension_numbers=numbers, **options
    )


def windows(xs):
    return lax.reduce_window(xs, 0.0, lax.add, (1, 2, 3, 1), (1, 2, 1, 1), "SAME")


FIRST = ("NCHW", "OIHW", "NCHW")
# A primitive: functions of one array that have it, and the array's shape.
EXACT = {
    "conv_general_dilated": [
        (conv((3, 2, 2, 3)), (1, 4, 5, 2)),
        (conv((3, 3, 1, 2), feature_group_count=2), (1, 4, 4, 2)),
        (conv((2, 2, 1, 6), feature_group_count=2), (1, 3, 3, 2)),
        (conv((6, 2, 2, 2), FIRST, (2, 1), "VALID", feature_group_count=2), (1, 4, 5, 4)),
        (conv((3, 2, 1, 2), rhs_dilation=(2, 3)), (1, 6, 5, 1)),
        (conv((3, 3, 1, 2), lhs_dilation=(2, 3), padding=((1, 2), (0, 2))), (1, 3, 3, 1)),
    ],
    "reduce_window_sum": [(windows, (1, 5, 4, 2))],
    "max": [(lambda xs: jnp.maximum(xs, 0.5), (3, 2))],
    "min": [(lambda xs: jnp.minimum(xs, 5), (3, 2))],
    "abs": [(jnp.abs, (3, 2)), (jnp.abs, ())],
    "rem": [(lambda xs: lax.rem(xs, jnp.full_like(xs, 7)), (3, 2))],
    "mul": [(lambda xs: xs * 3, (2, 3))],
    "tanh": [(jnp.tanh, (2, 3))],
    "rev": [(lambda xs: lax.rev(xs, (1,)), (2, 3))],
    "transpose": [(lambda xs: xs.transpose(2, 0, 1), (2, 3, 2))],
    "reduce_sum": [(lambda xs: xs.sum(1), (2, 3, 2))],
    "reduce_prod": [(lambda xs: xs.prod(1), (2, 3, 2))],
    "cumsum": [(lambda xs: lax.cumsum(xs, 1, reverse=True), (2, 3, 2))],
    "cumlogsumexp": [(lambda xs: lax.cumlogsumexp(xs, 1), (2, 3, 2))],
    "gather": [
        (lambda xs: xs[:, jnp.array([2, 0, 0])], (2, 3, 2)),
        (lambda xs: xs[jnp.array([0, 1, 1]), jnp.array([2, 0, 1])], (2, 3, 2)),
        (lambda xs: xs[jnp.array([[0, 1]]), :, jnp.array([[1], [0]])], (2, 3, 2)),
        (lambda xs: xs.at[jnp.array([1, 5]), jnp.array([0, 1])].get(mode="fill"), (2, 3, 2)),
        (lambda xs: xs.at[jnp.array([7, 1])].get(mode="fill"), (3,)),
    ],
    "scatter-add": [
        (lambda xs: jnp.zeros((4, 3, 2)).at[jnp.array([1, 1])].add(xs), (2, 3, 2)),
        (lambda xs: jnp.zeros((4, 3)).at[jnp.array([1, 0]), jnp.array([0, 2])].add(xs), (2,)),
        (lambda xs: jnp.zeros((4, 3)).at[jnp.array([1, 9]), jnp.array([0, 2])].add(xs), (2,)),
    ],
    "dynamic_slice": [(lambda xs: lax.dynamic_slice(xs, (0, 1), (2, 2)), (2, 4))],
    "select_n": [(lambda xs: jnp.where(jnp.array([True, False, True]), xs, 1.0), (2, 3))],
}
CASES = [(name, *case) for name, cases in EXACT.items() for case in cases]


@pytest.mark.parametrize(("name", "fn", "shape"), CASES)
def test_every_entry_sees_what_its_derivatives_see(name, fn, shape):
    xs = jnp.asarray(RNG.uniform(1, 2, shape), jnp.float32)
    size = max(xs.size, 1)
    program = jax.make_jaxpr(fn)(xs)
    assert name in [each.primitive.name for each in _equations(program.jaxpr)]
    identity = np.eye(size, dtype=bool).reshape(*shape, size)
    ((seen,),) = seen_by(program, [(identity,)])
    truth = np.asarray(jax.jacrev(fn)(xs)).reshape(*jax.eval_shape(fn, xs).shape, size) != 0
    # An axis of length 1 stands for one along which all entries see the same.
    np.testing.assert_array_equal(np.broadcast_to(seen, truth.shape), truth)


def test_every_output_of_an_elementwise_primitive_sees_its_own_entries(monkeypatch):
    pair = primitive("product_and_sum", lambda x, y: (x * y, x + y))
    monkeypatch.setitem(FORMS, "product_and_sum", Form("elementwise", "smooth"))
    xs = jnp.ones((2, 3))
    identity = np.eye(6, dtype=bool).reshape(2, 3, 6)
    for seen in seen_by(jax.make_jaxpr(pair)(xs, xs), [(identity,), None]):
        np.testing.assert_array_equal(seen[0], identity)


def test_an_elementwise_row_of_another_shape_forgets_no_entry(monkeypatch):
    own = primitive("cube_and_total", lambda x: (x**3, jnp.sum(x, axis=0)))
    monkeypatch.setitem(FORMS, "cube_and_total", Form("elementwise", "smooth"))
    xs = jnp.ones((2, 3))
    identity = np.eye(6, dtype=bool).reshape(2, 3, 6)
    cubes, totals = seen_by(jax.make_jaxpr(own)(xs), [(identity,)])
    np.testing.assert_array_equal(cubes[0], identity)
    assert totals[0].all()


@pytest.mark.parametrize(("name", "fn", "shape"), CASES)
def test_what_is_told_to_be_transposable_is(name, fn, shape):
    """Linear programs of plain operations are not transposed to see whether they can be."""
    xs = jnp.asarray(RNG.uniform(1, 2, shape), jnp.float32)
    ys, tangent_map = jax.linearize(fn, xs)
    if is_transposable(jax.make_jaxpr(tangent_map)(xs).jaxpr):
        jax.eval_shape(jax.linear_transpose(tangent_map, xs), ys)
    else:
        assert name not in ("dot_general", "conv_general_dilated", "gather", "pad", "reshape")


def test_what_jax_may_not_transpose_is_tried():
    loop = jax.make_jaxpr(lambda x: jax.lax.while_loop(lambda y: False, lambda y: 2 * y, x))
    assert not is_transposable(loop(1.0).jaxpr)
    assert not is_transposable(jax.make_jaxpr(lambda x: 1 / x)(1.0).jaxpr)
    product = jax.make_jaxpr(jax.jit(lambda x, y: x * y))(1.0, 1.0).jaxpr
    assert is_transposable(product, [False, True])
    assert not is_transposable(product)


def _equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from _equations(inner)
