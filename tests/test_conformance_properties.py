"""Any shape, dtype and convolution layout; gradients of every pair against central differences."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pairs_automatic import PAIRS
from quantities import BOTH, KEY, problem

import jacreg
from jacreg._coloring._reading import dependence_of

SPATIAL = "DHW"


@st.composite
def convolutions(draw):
    """A convolution of 1 to 3 dimensions in any layout, and the shape of its input."""
    rank = draw(st.integers(1, 3))
    spatial = SPATIAL[3 - rank :]

    def sizes(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    def order(axes):
        return "".join(draw(st.permutations(axes)))

    groups, per_group, outputs = (draw(st.integers(1, 2)) for _ in range(3))
    inputs, kernel = sizes(2, 4), sizes(1, 3)
    # The batch axis stays in front: it is jacreg's, every other axis may lie anywhere.
    layout = ("N" + order(spatial + "C"), order(spatial + "IO"), "N" + order(spatial + "C"))
    # Enough that every window has an entry; the second side may also cut.
    padding = [(2 * (k - 1), draw(st.integers(-1, 2))) for k in kernel]
    options = {
        "window_strides": sizes(1, 2),
        "padding": padding,
        "lhs_dilation": sizes(1, 2),
        "rhs_dilation": sizes(1, 2),
        "feature_group_count": groups,
    }
    if options["lhs_dilation"] == (1,) * rank and draw(st.booleans()):
        options["padding"] = "SAME"
    named = dict(zip(spatial, inputs, strict=True)) | {"C": groups * per_group}
    weights = dict(zip(spatial, kernel, strict=True)) | {"I": per_group, "O": groups * outputs}
    return layout, named, weights, options


@settings(max_examples=4, deadline=None, derandomize=True)
@given(convolutions())
def test_some_convolutions(conv):
    check_convolution(conv)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(convolutions())
def test_many_convolutions(conv):
    check_convolution(conv)


def check_convolution(conv):
    """The pattern that is read is the exact one, and coloured equals dense at 1e-9."""
    layout, named, weights, options = conv
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        kernel = jnp.asarray(rng.uniform(0.5, 1, size=[weights[a] for a in layout[1]]))
        xs = jnp.asarray(rng.normal(size=[2, *(named[a] for a in layout[0][1:])]))

        def fn(xs):
            return jax.lax.conv_general_dilated(xs, kernel, dimension_numbers=layout, **options)

        lin = jacreg.linearize(fn, xs)
        method = jacreg.color(fn, xs, quantity="jacobian")
        exact, colored, norm, whole = jax.jit(
            lambda lin: (
                jacreg.jacobian(lin),
                jacreg.jacobian(lin, method),
                jacreg.frobenius_squared(lin, jacreg.Exact(chunk_size=3)),
                # JAX's own, of the whole batch, which no jacreg code has touched.
                jax.jacobian(fn)(lin.xs),
            )
        )(lin)
        rest = (slice(None),) * (xs.ndim - 1)
        truth = np.stack([np.asarray(whole)[(n, *rest, n)] for n in (0, 1)])
        np.testing.assert_allclose(exact, truth, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(colored, truth, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(norm, (truth.reshape(2, -1) ** 2).sum(1), rtol=1e-9, atol=1e-12)
        # No weight is zero and none cancels: an edge is there exactly where an entry is.
        pattern = dependence_of(lin)[0].matrix().toarray()
        np.testing.assert_array_equal(pattern, truth[0].reshape(pattern.shape) != 0)


@settings(max_examples=4, deadline=None, derandomize=True)
@given(
    num_examples=st.integers(0, 3),
    rows=st.integers(0, 4),
    columns=st.integers(1, 4),
    dtype=st.sampled_from(["float32", "bfloat16", "float16", "float64"]),
)
@example(num_examples=2, rows=3, columns=3, dtype="bfloat16")
@example(num_examples=2, rows=3, columns=3, dtype="float64")
def test_any_shape_and_dtype(num_examples, rows, columns, dtype):
    with jax.enable_x64(dtype == "float64"):
        matrix = np.arange(columns * rows).reshape(columns, rows) % 5 / 4
        xs = jnp.ones((num_examples, columns), dtype)
        lin = jacreg.linearize(lambda xs: xs @ jnp.asarray(matrix, dtype), xs)
        found, truth = (
            {},
            {
                "jacobian": matrix.T,
                "frobenius": np.sum(matrix**2),
                "gram": matrix.T @ matrix,
                "spectral norm": np.linalg.norm(matrix, ord=2) if matrix.size else 0.0,
            },
        )
        found["jacobian"] = jacreg.jacobian(lin)
        found["frobenius"] = jacreg.frobenius_squared(lin, jacreg.Exact())
        found["gram"] = jacreg.gram(lin)
        found["spectral norm"] = jacreg.spectral_norm(lin, key=KEY)
        if rows == columns:
            truth |= {"diagonal": np.diag(matrix), "divergence": np.trace(matrix)}
            found["diagonal"], found["divergence"] = jacreg.diagonal(lin), jacreg.divergence(lin)
    tolerance = {"float64": 1e-9, "float32": 1e-5}.get(dtype, 3e-2)
    for name, expected in truth.items():
        assert found[name].dtype == dtype, name
        expected = np.broadcast_to(expected, (num_examples, *np.shape(expected)))
        np.testing.assert_allclose(
            np.asarray(found[name], np.float64), expected, rtol=tolerance, atol=tolerance,
            err_msg=name,
        )  # fmt: skip


# Kept in the normal run: those whose gradient no other file holds against differences.
OFTEN = {"jacobian by Coloring", "gram by chunks of 3", "diagonal by Hutchinson"}
SLOW = pytest.mark.slow


def _differentiable():
    names = ("MLP", "convolutions")
    for (name, pair), case in itertools.product(PAIRS.items(), names):
        often = name in OFTEN and case == "MLP"
        # Finite differences of finite differences say nothing.
        if pair.method != "NoiseInjection":
            yield pytest.param(pair, case, id=f"{name}, {case}", marks=() if often else SLOW)


@pytest.mark.parametrize(("pair", "name"), list(_differentiable()))
def test_gradients_are_central_differences(pair, name, x64):
    p = problem(name)
    if not (pair.fits(p) and p.directions() >= BOTH):
        pytest.skip("the quantity has no meaning here")
    pair.prepare(p)

    def total(scale):
        lin = jacreg.linearize(p.case.fn, jax.tree.map(lambda x: scale * x, p.batches[0]))
        values = [v.reshape(-1) for v in jax.tree.leaves(pair.estimate(p, lin))]
        return sum(jnp.sum(jnp.cos(jnp.arange(v.size)) * v) for v in values)

    run = jax.jit(jax.value_and_grad(total))
    step = 1e-5
    central = (run(0.7 + step)[0] - run(0.7 - step)[0]) / (2 * step)
    np.testing.assert_allclose(run(0.7)[1], central, rtol=1e-6, atol=1e-7)
