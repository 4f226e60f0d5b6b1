"""Every quantity by every exact method, on every function, against dense float64 Jacobians."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from functions import CASES
from hypothesis import given, settings
from hypothesis import strategies as st

import jacreg

# Minutes of compilation for every pair; the files of the single quantities run always.
pytestmark = pytest.mark.slow

KEY = jax.random.key(0)
TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}
parametrize_cases = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)


def _setup(case, num_examples=3):
    xs = case.inputs(num_examples)
    return xs, jacreg.linearize(case.fn, xs), case.dense(xs)


def _is_square(lin):
    return (lin.inputs.treedef, lin.inputs.shapes) == (lin.outputs.treedef, lin.outputs.shapes)


def _flat(tree, like):
    return np.asarray(like.flatten(tree))


def _colorings(case, xs, quantity):
    """A Coloring where one can be made; planning refuses what has no plan."""
    if not isinstance(xs, jax.Array) or xs.size == 0:
        return []
    try:
        return [jacreg.color(case.fn, xs, quantity=quantity)]
    except (jacreg.ColoringError, TypeError, ValueError):
        return []


@parametrize_cases
def test_products(x64, case):
    xs, lin, dense = _setup(case)
    tangent = jax.tree.map(lambda x: jnp.cos(jnp.arange(x.size)).reshape(x.shape), xs)
    cotangent = jax.tree.map(lambda y: jnp.sin(jnp.arange(y.size)).reshape(y.shape), lin.value)
    if case.forward:
        expected = np.einsum("nmi,ni->nm", dense, _flat(tangent, lin.inputs))
        np.testing.assert_allclose(_flat(lin.jvp(tangent), lin.outputs), expected, **TOLERANCE)
    else:
        with pytest.raises(jacreg.DirectionError, match="reverse"):
            lin.jvp(tangent)
    if case.reverse:
        expected = np.einsum("nmi,nm->ni", dense, _flat(cotangent, lin.outputs))
        np.testing.assert_allclose(_flat(lin.vjp(cotangent), lin.inputs), expected, **TOLERANCE)
    else:
        with pytest.raises(jacreg.DirectionError, match="forward"):
            lin.vjp(cotangent)


@parametrize_cases
@pytest.mark.parametrize("chunk", [None, 2])
def test_frobenius_squared(x64, case, chunk):
    xs, lin, dense = _setup(case)
    truth = np.sum(dense**2, axis=(1, 2))
    for method in [jacreg.Exact(chunk), *_colorings(case, xs, "frobenius")]:
        np.testing.assert_allclose(jacreg.frobenius_squared(lin, method), truth, **TOLERANCE)


@parametrize_cases
def test_trace_and_diagonal(x64, case):
    xs, lin, dense = _setup(case)
    if not _is_square(lin):
        for quantity in (jacreg.divergence, jacreg.diagonal):
            with pytest.raises(ValueError, match="square"):
                quantity(lin)
        return
    diagonal = np.einsum("nii->ni", dense)
    for method in [jacreg.Exact(), jacreg.Exact(2), *_colorings(case, xs, "divergence")]:
        found = jacreg.diagonal(lin, method)
        assert jax.tree.structure(found) == jax.tree.structure(xs)
        np.testing.assert_allclose(_flat(found, lin.inputs), diagonal, **TOLERANCE)
        np.testing.assert_allclose(jacreg.divergence(lin, method), diagonal.sum(1), **TOLERANCE)


@parametrize_cases
def test_gram_and_pseudo_determinant(x64, case):
    _, lin, dense = _setup(case)
    if case.reverse:
        np.testing.assert_allclose(
            jacreg.gram(lin), np.einsum("nai,nbi->nab", dense, dense), **TOLERANCE
        )
    else:  # jvp after vjp, or rows: both begin with J^T u.
        with pytest.raises(jacreg.DirectionError, match="forward"):
            jacreg.gram(lin)
    found = jacreg.log_pseudo_determinant(lin)
    if min(dense.shape[1:]) == 0:
        np.testing.assert_array_equal(found, 0)
        return
    values = np.linalg.svd(dense, compute_uv=False)
    full_rank = values[:, -1] > 1e-9 * values[:, 0]
    truth = np.log(np.where(values > 0, values, 1)).sum(1)
    np.testing.assert_allclose(found[full_rank], truth[full_rank], rtol=1e-9, atol=1e-7)
    assert not np.any(np.isnan(found))


@parametrize_cases
def test_spectra(x64, case):
    _, lin, dense = _setup(case)
    empty = min(dense.shape[1:]) == 0
    norms = np.zeros(3) if empty else np.linalg.svd(dense, compute_uv=False)[:, 0]
    np.testing.assert_allclose(jacreg.spectral_norm(lin, key=KEY), norms, **TOLERANCE)
    if _is_square(lin):
        radii = np.zeros(3) if empty else np.abs(np.linalg.eigvals(dense)).max(1)
        np.testing.assert_allclose(
            jacreg.spectral_radius(lin, key=KEY), radii, rtol=1e-6, atol=1e-9
        )


@parametrize_cases
def test_projection_over_an_orthogonal_frame(x64, case):
    """Projections onto all signed basis vectors add up to the norm: unbiased by symmetry."""
    _, lin, dense = _setup(case)
    size, product = (lin.outputs.size, lin.vjp) if case.reverse else (lin.inputs.size, lin.jvp)
    side, other = (lin.outputs, lin.inputs) if case.reverse else (lin.inputs, lin.outputs)
    total = np.zeros(3)
    for index in range(size):
        probe = side.unflatten(jnp.broadcast_to(jnp.eye(size)[index], (3, size)))
        total = total + np.sum(_flat(product(probe), other) ** 2, axis=1)
    np.testing.assert_allclose(total, np.sum(dense**2, axis=(1, 2)), **TOLERANCE)


def test_hutchinson_over_all_signs(x64):
    case = next(c for c in CASES if c.name == "mlp")
    _, lin, dense = _setup(case)
    draws = [
        np.einsum("i,nij,j->n", np.array(s), dense, np.array(s))
        for s in itertools.product([-1.0, 1.0], repeat=4)
    ]
    np.testing.assert_allclose(np.mean(draws, 0), jacreg.divergence(lin), **TOLERANCE)


@pytest.mark.parametrize("name", ["mlp", "convolutions", "pytrees"])
def test_one_compilation_a_shape(name):
    case = next(c for c in CASES if c.name == name)
    traces = []

    @jax.jit
    def run(xs, key):
        traces.append(1)
        lin = jacreg.linearize(case.fn, xs)
        return jacreg.frobenius_squared(lin, key=key), jacreg.divergence(lin)

    for seed in range(3):
        run(case.inputs(3), jax.random.key(seed))
    assert len(traces) == 1
    run(case.inputs(2), KEY)
    assert len(traces) == 2


@settings(max_examples=12, deadline=None)
@given(
    num_examples=st.integers(0, 4),
    rows=st.integers(0, 5),
    columns=st.integers(1, 5),
    dtype=st.sampled_from([jnp.float32, jnp.bfloat16, jnp.float16]),
)
def test_any_shape_and_dtype(num_examples, rows, columns, dtype):
    matrix = np.arange(columns * rows, dtype=np.float32).reshape(columns, rows) / 4
    xs = jnp.ones((num_examples, columns), dtype)
    lin = jacreg.linearize(lambda xs: xs @ jnp.asarray(matrix, dtype), xs)
    for found, truth in (
        (jacreg.frobenius_squared(lin, jacreg.Exact()), np.sum(matrix**2)),
        (
            jacreg.spectral_norm(lin, key=KEY),
            np.linalg.norm(matrix, ord=2) if matrix.size else 0.0,
        ),
    ):
        assert found.dtype == dtype
        assert found.shape == (num_examples,)
        np.testing.assert_allclose(found.astype(jnp.float32), truth, rtol=3e-2, atol=1e-3)
    assert jacreg.gram(lin).shape == (num_examples, rows, rows)
    assert jacreg.jacobian(lin).dtype == dtype
