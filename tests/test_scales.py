"""Every quantity at every scale: homogeneous in the map, or nan, never another number.

A result that a dtype cannot hold is infinity or zero, as for every square of floating point.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_call import CALLS, Net, batch, prepare

import jacreg

HOMOGENEOUS = {name: call for name, call in CALLS.items() if call.degree is not None}
# Logarithms of sums of squares: infinite, with the sign of the logarithm, beyond what squares hold.
BY_SQUARES = ("layerwise_log_frobenius", "layerwise_penalty")
EXPONENTS = {
    jnp.float32: (-30, -20, -12, -8, 8, 12, 20, 30),
    jnp.bfloat16: (-30, -20, -8, 8, 20, 30),
    jnp.float16: (-3, -2, 2, 3),
}
KEY = jax.random.key(0)


def expected(base, scale, degree):
    """A result in float64, from the one at scale one."""
    if isinstance(degree, str):
        return base + int(degree.removeprefix("log of ")) * np.log(scale)
    return base * scale**degree


def check(name, dtype):
    prepare(dtype)
    call, xs = HOMOGENEOUS[name], batch(2, dtype)
    run = jax.jit(lambda scale, xs: call(Net(scale), xs, KEY))
    base = jax.tree.leaves(run(jnp.ones(1, dtype), xs))
    degrees = call.degree if isinstance(call.degree, tuple) else (call.degree,) * len(base)
    info = jnp.finfo(dtype)
    rough = 2e-3 if dtype == jnp.float32 else 12 * float(info.eps)
    some = False
    for exponent in EXPONENTS[dtype]:
        # A power of two: the network itself does not round.
        scale = 2.0 ** round(exponent * np.log2(10))
        found = jax.tree.leaves(run(jnp.full(1, scale, dtype), xs))
        for one, other, degree in zip(base, found, degrees, strict=True):
            truth = expected(np.asarray(one, np.float64), scale, degree)
            other = np.asarray(other, np.float64)
            largest = np.max(np.abs(truth), initial=0)
            close = np.abs(other - truth) <= rough * largest
            # Of sums of squares single terms leave the range before their sum does.
            too_large = (np.abs(truth) > float(info.max) / 32) & ~np.isfinite(other)
            too_small = (largest < 32 * float(info.tiny) / float(info.eps)) & (
                np.abs(other) <= largest * (1 + rough) + 32 * float(info.tiny)
            )
            ok = close | np.isnan(other) | too_large | too_small
            if name in BY_SQUARES:
                ok |= np.isinf(other) & (np.sign(other) == np.sign(np.log(scale)))
            assert ok.all(), (exponent, other, truth)
            some |= bool((close & (truth != 0)).any())
    assert some or not any(degrees), "no scale showed a number"


@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_float32(name):
    check(name, jnp.float32)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_half_precision(name, dtype):
    check(name, dtype)


MATRIX = np.array([[1.0, 2.0], [3.0, 4.0]])


def radius(matrix):
    lin = jacreg.linearize(lambda xs: xs @ matrix.T, jnp.ones((1, matrix.shape[0])))
    return float(jacreg.spectral_radius(lin, key=KEY)[0])


@pytest.mark.parametrize("scale", [1e-37, 1e-30, 1e-14, 9e-13, 2e12, 1e20, 1e30, 1e37])
def test_spectral_radius_by_all_eigenvalues(scale):
    truth = np.abs(np.linalg.eigvals(MATRIX)).max() * scale
    np.testing.assert_allclose(radius(jnp.asarray(MATRIX * scale, jnp.float32)), truth, rtol=1e-5)


def test_spectral_radius_of_a_contracting_recurrence():
    """Sixty steps of modulus one half."""
    step = 0.5 * np.array([[0.6, -0.8], [0.8, 0.6]])
    found = radius(jnp.asarray(np.linalg.matrix_power(step, 60), jnp.float32))
    np.testing.assert_allclose(found, 0.5**60, rtol=1e-5)


def test_xtrace_with_its_error_at_every_scale():
    matrix = jax.random.normal(KEY, (64, 64))
    quantity = jacreg.with_standard_error(jacreg.divergence)

    @jax.jit
    def run(scale):
        lin = jacreg.linearize(lambda xs: xs @ (scale * matrix), jnp.ones((1, 64)))
        return jnp.concatenate(quantity(lin, jacreg.XTrace(32), key=KEY)) / scale

    found = np.stack([run(scale) for scale in (1e-20, 1e-10, 1e-6, 1.0, 1e6, 1e15, 1e30)])
    np.testing.assert_allclose(found, np.broadcast_to(found[3], found.shape), rtol=1e-3)


def test_xtrace_of_a_low_rank_is_exact_at_every_scale():
    left, right = jax.random.normal(KEY, (2, 64, 3))

    @jax.jit
    def run(scale):
        lin = jacreg.linearize(lambda xs: scale * (xs @ left @ right.T), jnp.ones((1, 64)))
        return jacreg.divergence(lin, jacreg.XTrace(16), key=KEY)[0] / scale

    found = [run(scale) for scale in (1e-25, 1e-10, 1.0, 1e10, 1e25)]
    np.testing.assert_allclose(found, np.trace(left.T @ right) * np.ones(5), rtol=1e-4)
