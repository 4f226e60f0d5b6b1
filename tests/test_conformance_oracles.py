"""Other people's answers: matfree on the dense matrix with equal probes, asdex's patterns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from functions import BY_NAME
from quantities import KEY, N, problem

import jacreg
from jacreg._coloring._reading import dependence_of
from jacreg._probes import draw

stochtrace, funm, decomp = (
    pytest.importorskip(f"matfree.{name}") for name in ("stochtrace", "funm", "decomp")
)
pytestmark = pytest.mark.usefixtures("x64")


def _flat_probe(lin, side, key=KEY):
    """The probe that one-probe Rademacher estimates of `lin` draw from this key, flattened."""
    like = lin.xs if side == "inputs" else lin.value
    return getattr(lin, side).flatten(draw(key, like, "rademacher"))


def _by_matfree(integrand, dense, probes):
    """matfree's estimate for each example's dense matrix from one given vector."""

    def one(matrix, probe):
        estimate = stochtrace.estimator_monte_carlo(integrand, lambda key: probe[None])
        return estimate(lambda v: matrix @ v, KEY)

    return jax.jit(jax.vmap(one))(dense, probes)


def _ours(quantity, p, method):
    """One quantity of the first batch, and its function linearised."""

    @jax.jit
    def run(xs):
        lin = jacreg.linearize(p.case.fn, xs)
        probes = {side: _flat_probe(lin, side) for side in ("inputs", "outputs")}
        return quantity(lin, method, key=KEY).reshape(N, -1), probes

    return run(p.batches[0])


@pytest.mark.parametrize("quantity", [jacreg.divergence, jacreg.diagonal])
def test_hutchinson_is_matfrees(quantity):
    p = problem("U-Net")
    found, probes = _ours(quantity, p, jacreg.Hutchinson())
    integrand = {
        jacreg.divergence: stochtrace.monte_carlo_trace,
        jacreg.diagonal: stochtrace.monte_carlo_diagonal,
    }[quantity]
    expected = _by_matfree(integrand(), p.denses[0], probes["inputs"])
    np.testing.assert_allclose(found, expected.reshape(N, -1), rtol=1e-10, atol=1e-12)


def test_forward_projection_is_matfrees():
    p = problem("strided convolution")
    method = jacreg.Projection(distribution="rademacher", mode="forward")
    found, probes = _ours(jacreg.frobenius_squared, p, method)
    integrand = stochtrace.monte_carlo_frobeniusnorm_squared()
    expected = _by_matfree(integrand, p.denses[0], probes["inputs"])
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-10)


@pytest.mark.parametrize("quantity", [jacreg.divergence, jacreg.diagonal])
def test_xtrace_and_xdiag_are_matfrees_on_the_dense_matrix(quantity):
    p = problem("attention")
    found, _ = _ours(quantity, p, jacreg.XTrace(6))
    integrand = {
        jacreg.divergence: stochtrace.leave_one_out_xtrace,
        jacreg.diagonal: stochtrace.leave_one_out_xdiag,
    }[quantity]
    sampler = stochtrace.sampler_normal(jnp.zeros(p.inputs.size), num=3)
    estimate = stochtrace.estimator_leave_one_out(integrand(), sampler)
    expected = jax.jit(jax.vmap(lambda m, k: estimate(lambda v: m @ v, k)))(
        p.denses[0], jax.random.split(KEY, N)
    )
    np.testing.assert_allclose(found, expected.reshape(N, -1), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("name", "side"), [("wide", "outputs"), ("tall", "inputs")])
def test_lanczos_quadrature_is_matfrees_on_the_dense_matrix(name, side):
    """Below full order, so that the quadrature itself is compared."""
    p = problem(name)
    found, probes = _ours(jacreg.log_pseudo_determinant, p, jacreg.Lanczos(order=2))
    integrand = funm.monte_carlo_funm_product_logdet(decomp.bidiag(2))
    dense = p.denses[0] if side == "inputs" else np.swapaxes(p.denses[0], 1, 2)
    expected = 0.5 * _by_matfree(integrand, dense, probes[side])
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-9)


LOCAL = [
    "strided convolution", "VALID convolution", "transposed convolution", "grouped, dilated",
    "depthwise", "1-D, NWC", "2-D, NCHW", "3-D, NDHWC", "BatchNorm, convolutional", "MLP",
]  # fmt: skip


def _pattern(name):
    asdex = pytest.importorskip("asdex", exc_type=ImportError)
    case = BY_NAME[name]
    x = case.inputs(1)[0]
    return x, asdex.jacobian_sparsity(lambda x: case.fn(x[None])[0], x)


@pytest.mark.parametrize("name", LOCAL)
def test_asdex_reads_the_same_pattern(name):
    case = BY_NAME[name]
    x, pattern = _pattern(name)
    ours = dependence_of(jacreg.linearize(case.fn, x[None]))[0].matrix().toarray()
    theirs = np.asarray(pattern.todense()) != 0
    np.testing.assert_array_equal(ours, theirs.reshape(ours.shape))


def test_asdex_computes_the_same_coloured_jacobian():
    asdex = pytest.importorskip("asdex", exc_type=ImportError)
    case = BY_NAME["1-D, NWC"]
    x, pattern = _pattern(case.name)
    coloring = asdex.jacobian_coloring_from_sparsity(pattern)
    jacobian = asdex.jacobian_from_coloring(
        lambda x: case.fn(x[None])[0], coloring, output_format="dense"
    )
    lin = jacreg.linearize(case.fn, x[None])
    method = jacreg.color(case.fn, x[None], quantity="jacobian")
    assert not method.is_dense
    np.testing.assert_allclose(
        jacreg.jacobian(lin, method)[0], jax.jit(jacobian)(x), rtol=1e-10, atol=1e-12
    )
