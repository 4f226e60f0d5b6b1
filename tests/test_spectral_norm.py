"""spectral_norm against the singular values of dense Jacobians."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg

KEY = jax.random.key(7)


def _draw(*shape, seed=7):
    return np.random.default_rng(seed).normal(size=shape)


def _norms(fn, xs, *args, **options):
    """As one program: alone, each of its hundred operations is compiled by itself."""
    return jax.jit(
        lambda xs: jacreg.spectral_norm(jacreg.linearize(fn, xs, *args), key=KEY, **options)
    )(xs)


def _dense_norms(fn, xs):
    jac = jax.jit(jax.vmap(jax.jacrev(lambda x: fn(x[None])[0].ravel())))(xs)
    jac = np.asarray(jac).reshape(xs.shape[0], -1, int(np.prod(xs.shape[1:])))
    return np.linalg.svd(jac, compute_uv=False)[:, 0]


def _mlp(sizes):
    kernels = [_draw(m, n, seed=k) / np.sqrt(m) for k, (m, n) in enumerate(pairwise(sizes))]

    def fn(xs):
        for kernel in kernels:
            xs = jnp.tanh(xs @ kernel)
        return xs

    return fn


def _conv(xs, kernel):
    return jax.lax.conv_general_dilated(
        xs, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize("sizes", [(5, 8, 3), (3, 5), (70, 90), (90, 70), (4, 1)])
def test_mlp(x64, sizes):
    fn = _mlp(sizes)
    xs = jnp.asarray(_draw(5, sizes[0]))
    found = _norms(fn, xs)
    truth = _dense_norms(fn, xs)
    tolerance = 1e-12 if min(sizes[0], sizes[-1]) <= 64 else 1e-3
    np.testing.assert_allclose(found, truth, rtol=tolerance)


def test_image_to_image_network(x64):
    kernels = 0.3 * _draw(2, 3, 3, 2, 2)

    def fn(xs):
        return _conv(jnp.tanh(_conv(xs, kernels[0])), kernels[1])

    xs = jnp.asarray(_draw(3, 6, 7, 2))
    truth = _dense_norms(fn, xs)
    np.testing.assert_allclose(_norms(fn, xs), truth, rtol=1e-3)
    np.testing.assert_allclose(_norms(fn, xs, tolerance=1e-6), truth, rtol=1e-6)


def test_tolerance_costs_and_buys(x64):
    xs = jnp.asarray(_draw(2, 300))
    singular_values = 1 - np.linspace(0, 1, 300) ** 2
    # As many steps as a tenth takes, which a hundredth does not end with.
    loose, tight = (
        np.asarray(_norms(lambda xs: xs * singular_values, xs, tolerance=each, max_steps=24))
        for each in (0.1, 0.01)
    )
    assert np.all(np.abs(loose - 1) < 0.1)
    assert np.all(np.isnan(tight))


@pytest.mark.parametrize("size", [12, 80])
def test_gradient_by_central_differences(x64, size):
    # One dominant direction: near a double singular value the norm has a kink.
    kernel = _draw(size, size) / size + 2 * np.eye(size)[0]
    direction = _draw(size, size, seed=1)
    xs = jnp.asarray(_draw(3, size, seed=2))

    @jax.jit
    def total(kernel):
        lin = jacreg.linearize(lambda xs: jnp.sin(xs @ kernel), xs)
        return jnp.sum(jacreg.spectral_norm(lin, key=KEY, tolerance=1e-10))

    step = 1e-5
    difference = (total(kernel + step * direction) - total(kernel - step * direction)) / (2 * step)
    product = np.sum(np.asarray(jax.grad(total)(jnp.asarray(kernel))) * direction)
    np.testing.assert_allclose(product, difference, rtol=1e-4)


@pytest.mark.parametrize("shape", [(2, 5), (5, 2)])
def test_singular_vectors_come_of_a_small_finite_matrix_and_take_no_gradient(shape, monkeypatch):
    """Some backends' `eigh` never returns from what is not finite."""
    shapes, matrices, plain = [], [], jnp.linalg.eigh

    @jax.custom_jvp
    def eigh(gram):
        shapes.append(gram.shape)
        jax.debug.callback(matrices.append, gram)
        return plain(gram)

    eigh.defjvp(lambda *_: pytest.fail("the vectors are differentiated"))
    monkeypatch.setattr(jnp.linalg, "eigh", eigh)
    scale = jnp.asarray([[1.0], [jnp.inf], [2.0]])
    kernel = jnp.asarray(_draw(*shape), jnp.float32)
    xs = jnp.ones((3, shape[0]))

    def norms(kernel):
        return jacreg.spectral_norm(jacreg.linearize(lambda xs: xs @ kernel * scale, xs), key=KEY)

    found, slope = jax.block_until_ready(jax.jit(lambda k: jax.jvp(norms, (k,), (k,)))(kernel))
    truth = np.linalg.norm(kernel, ord=2)
    np.testing.assert_allclose(found, [truth, np.nan, 2 * truth], rtol=1e-5)
    # The norm is homogeneous.
    np.testing.assert_allclose(slope[::2], found[::2], rtol=1e-5)
    assert shapes == [(3, 2, 2)]
    assert np.isfinite(matrices).all()


def test_gradient_with_respect_to_the_input(x64):
    # J = diag(2 x): the norm is the largest entry, its gradient a unit vector.
    xs = jnp.array([[0.1, -3.0, 1.0], [2.0, 0.5, 0.0]])
    gradient = jax.grad(
        lambda xs: jacreg.spectral_norm(jacreg.linearize(jnp.square, xs), key=KEY).sum()
    )(xs)
    np.testing.assert_allclose(gradient, [[0, -2, 0], [2, 0, 0]], atol=1e-12)


@jax.custom_vjp
def _reverse_only(xs):
    return jnp.tanh(xs)


_reverse_only.defvjp(lambda xs: (jnp.tanh(xs), xs), lambda xs, u: (u / jnp.cosh(xs) ** 2,))


def _forward_only(xs):
    return jax.lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, jnp.sin(s[1])), (0, xs))[1]


@pytest.mark.parametrize("fn", [_reverse_only, _forward_only])
@pytest.mark.parametrize("size", [3, 70])
def test_one_direction_by_the_dense_way(fn, size):
    xs = jnp.asarray(_draw(2, size), jnp.float32)
    found = _norms(fn, xs)
    product = jax.jacrev if fn is _reverse_only else jax.jacfwd
    dense = jax.jit(jax.vmap(product(lambda x: fn(x[None])[0])))(xs)
    truth = np.linalg.norm(dense, ord=2, axis=(1, 2))
    np.testing.assert_allclose(found, truth, rtol=1e-5)


def test_one_direction_and_too_large_says_why():
    lin = jacreg.linearize(_forward_only, jnp.ones((2, 10_000)))
    with pytest.raises(TypeError, match=r"too large to form.*no reverse-mode"):
        jacreg.spectral_norm(lin, key=KEY)


def test_zero_jacobian_and_its_gradient():
    def total(scale, size):
        lin = jacreg.linearize(lambda xs: scale * xs, jnp.ones((2, size)))
        return jacreg.spectral_norm(lin, key=KEY).sum()

    for size in (3, 80):
        value, gradient = jax.jit(jax.value_and_grad(total), static_argnums=1)(0.0, size)
        assert value == 0
        assert np.isfinite(gradient)


@pytest.mark.parametrize("size", [3, 80])
def test_nan_stays_in_its_example(size):
    scale = jnp.array([[1.0], [jnp.nan], [2.0]])
    found = _norms(lambda xs, s: xs * s, jnp.ones((3, size)), scale)
    np.testing.assert_allclose(found, [1, np.nan, 2], rtol=1e-3)


@pytest.mark.parametrize("size", [3, 80])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_dtype_is_kept(dtype, size):
    found = _norms(lambda xs: 3 * xs, jnp.ones((2, size), dtype))
    assert found.dtype == dtype
    np.testing.assert_allclose(np.asarray(found, np.float32), 3, rtol=3e-2)


def test_pytrees_vmap_and_jit(x64):
    def fn(xs):
        return {"a": 2 * xs["u"], "b": xs["v"].sum(axis=(1, 2))}

    xs = {"u": jnp.ones((4, 2)), "v": jnp.ones((4, 3, 3))}
    found = jax.jit(lambda xs: jacreg.spectral_norm(jacreg.linearize(fn, xs), key=KEY))(xs)
    np.testing.assert_allclose(found, 3)

    def norms(scale):
        lin = jacreg.linearize(lambda xs: scale * xs, jnp.ones((2, 70)))
        return jacreg.spectral_norm(lin, key=KEY)

    found = jax.jit(jax.vmap(norms))(jnp.array([1.0, 5.0]))
    np.testing.assert_allclose(found, [[1, 1], [5, 5]], rtol=1e-3)


@pytest.mark.parametrize(
    ("fn", "shape"),
    [
        (lambda xs: xs[:, :0], (3, 4)),
        (lambda xs: xs.sum(1)[:, None] * jnp.ones(3), (3, 0)),
        (jnp.sin, (0, 4)),
        (jnp.sin, (0, 100)),
    ],
)
def test_empty(fn, shape):
    found = jacreg.spectral_norm(jacreg.linearize(fn, jnp.ones(shape)), key=KEY)
    assert found.shape == shape[:1]
    np.testing.assert_array_equal(found, 0)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"tolerance": 0.0}, ValueError),
        ({"tolerance": "small"}, TypeError),
        ({"max_steps": 0}, ValueError),
        ({"key": None}, ValueError),
    ],
)
def test_bad_input(options, error):
    lin = jacreg.linearize(jnp.sin, jnp.ones((2, 3)))
    with pytest.raises(error):
        jacreg.spectral_norm(lin, **{"key": KEY, **options})
