"""spectral_radius against eigenvalues of known and of dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg
from jacreg._arnoldi import dominant_modulus
from jacreg._structure import unit

KEY = jax.random.key(11)
ROTATION = np.array([[np.cos(1.0), -np.sin(1.0)], [np.sin(1.0), np.cos(1.0)]])


def _orthogonal(size):
    return np.linalg.qr(np.random.default_rng(size).normal(size=(size, size)))[0]


def _with_pair(size, radius=1.1):
    """Eigenvalues within 0.8 and one complex pair of the given modulus."""
    matrix = np.diag(np.linspace(-0.8, 0.8, size))
    matrix[:2, :2] = radius * ROTATION
    return matrix


def _nonnormal(size):
    noise = np.random.default_rng(1).normal(size=(size, size)) / np.sqrt(size)
    change = np.eye(size) + 0.3 * noise
    return change @ _with_pair(size) @ np.linalg.inv(change)


def _matrices(size):
    rng = np.random.default_rng(0)
    q = _orthogonal(size)
    return {
        "gaussian": rng.normal(size=(size, size)) / np.sqrt(size),
        "symmetric": q @ np.diag(np.linspace(-1, 0.9, size)) @ q.T,
        "plus and minus": q @ np.diag(np.r_[1, -1, np.linspace(-0.9, 0.9, size - 2)]) @ q.T,
        "complex pair": q @ _with_pair(size) @ q.T,
        "complex pair, not normal": _nonnormal(size),
        "two percent apart": q @ np.diag(np.r_[1, 0.98 * np.linspace(-1, 1, size - 1)]) @ q.T,
        "rank one": np.outer(rng.normal(size=size), rng.normal(size=size)),
        "identity": np.eye(size),
        "zero": np.zeros((size, size)),
    }


def _radius(matrices, **options):
    matrices = jnp.asarray(matrices)
    xs = jnp.zeros((matrices.shape[0], matrices.shape[-1]), matrices.dtype)
    lin = jacreg.linearize(lambda xs, a: jnp.einsum("nij,nj->ni", a, xs), xs, matrices)
    return jacreg.spectral_radius(lin, key=KEY, **options)


@pytest.mark.parametrize("size", [6, 150])
def test_known_matrices(x64, size):
    matrices = _matrices(size)
    found = jax.jit(_radius)(np.stack(list(matrices.values())))
    for name, value in zip(matrices, found, strict=True):
        truth = np.abs(np.linalg.eigvals(matrices[name])).max()
        np.testing.assert_allclose(value, truth, rtol=1e-3, atol=1e-12, err_msg=name)


def test_it_is_not_the_spectral_norm_nor_a_rayleigh_quotient(x64):
    # Bai et al.'s power method returns |v^T J v|, which a rotation keeps at cos(1).
    found = jax.jit(_radius)(np.stack([2 * ROTATION, [[0.5, 100.0], [0.0, 0.3]]]))
    np.testing.assert_allclose(found[0], 2, rtol=1e-12)
    np.testing.assert_allclose(found[1], 0.5, rtol=1e-9)


def test_triangular_and_defective_matrices(x64):
    causal = np.eye(40) * 0.9 + np.tril(np.ones((40, 40)), -1)
    nilpotent = np.eye(40, k=1)
    found = jax.jit(_radius)(np.stack([causal, nilpotent]))
    np.testing.assert_allclose(found, [0.9, 0], atol=1e-12)


@pytest.mark.parametrize("name", ["complex pair, not normal", "plus and minus", "symmetric"])
def test_arnoldi_alone_in_every_start(name):
    matrix = jnp.asarray(_matrices(200)[name], jnp.float32)
    truth = np.abs(np.linalg.eigvals(_matrices(200)[name])).max()
    start = unit(jax.random.normal(KEY, (16, 200)))
    radius, converged = jax.jit(
        lambda s: dominant_modulus(lambda v: v @ matrix.T, s, steps=30, cycles=60, tolerance=1e-3)
    )(start)
    assert bool(jnp.all(converged))
    np.testing.assert_allclose(radius, truth, rtol=1e-3)


def test_not_converged_is_nan_and_the_dense_way_helps_where_it_fits():
    shift = np.eye(1100, k=1) + np.eye(1100, k=-1099)

    @jax.jit
    def of(matrix):
        lin = jacreg.linearize(lambda xs: xs @ matrix, jnp.zeros((1, len(matrix))))
        return jacreg.spectral_radius(lin, key=KEY, max_products=100)

    assert jnp.isnan(of(shift.astype(np.float32)))[0]
    small = np.eye(140, k=1) + np.eye(140, k=-139)
    np.testing.assert_allclose(of(small.astype(np.float32)), 1, rtol=1e-3)


def test_gradient_by_central_differences(x64):
    matrix = _nonnormal(8)
    direction = np.random.default_rng(11).normal(size=matrix.shape)

    @jax.jit
    @jax.value_and_grad
    def value(matrix):
        return _radius(matrix[None])[0]

    step = 1e-6
    after, before = (value(matrix + each * direction)[0] for each in (step, -step))
    slope = np.sum(value(matrix)[1] * direction)
    np.testing.assert_allclose(slope, (after - before) / (2 * step), rtol=1e-6)
    assert np.isfinite(value(np.zeros((3, 3)))[1]).all()


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_where_all_eigenvalues_are_zero_the_gradient_is_too(scale):
    """Of a strictly causal network: eigenvectors are parallel, and nothing can be solved."""
    causal, other = scale * jnp.diag(jnp.ones(5), 1), jnp.diag(jnp.arange(6.0))

    @jax.jit
    @jax.value_and_grad
    def total(kernels):
        lin = jacreg.linearize(
            lambda xs, kernels: jnp.einsum("ni,nij->nj", xs, kernels), jnp.ones((2, 6)), kernels
        )
        return jacreg.spectral_radius(lin, key=jax.random.key(0)).sum()

    value, (of_causal, of_other) = total(jnp.stack([causal, other]))
    np.testing.assert_allclose(value, 5, rtol=1e-6)
    np.testing.assert_array_equal(of_causal, 0)
    np.testing.assert_allclose(of_other, np.diag([0, 0, 0, 0, 0, 1]), atol=1e-6)


def test_no_silent_gradient_above_the_dense_size():
    with pytest.raises(TypeError, match="has no gradient"):
        jax.grad(lambda a: _radius(a[None]).sum())(jnp.eye(150))

    # As a record beside a loss it is fine.
    def loss(scale):
        lin = jacreg.linearize(lambda xs: scale * xs, jnp.zeros((2, 150)))
        radius = jacreg.spectral_radius(jax.lax.stop_gradient(lin), key=KEY)
        return scale**2, radius

    (_, radius), slope = jax.jit(jax.value_and_grad(loss, has_aux=True))(3.0)
    np.testing.assert_allclose(radius, 3, rtol=1e-5)
    assert slope == 6


@jax.custom_vjp
def _reverse_only(xs):
    return jnp.tanh(xs)


_reverse_only.defvjp(lambda xs: (jnp.tanh(xs), xs), lambda xs, u: (u / jnp.cosh(xs) ** 2,))


def _forward_only(xs):
    return jax.lax.while_loop(lambda s: s[0] < 1, lambda s: (s[0] + 1, jnp.tanh(s[1])), (0, xs))[1]


@pytest.mark.parametrize("fn", [_reverse_only, _forward_only])
@pytest.mark.parametrize("size", [3, 150])
def test_one_direction_is_enough(fn, size):
    xs = np.random.default_rng(11).normal(size=(2, size)).astype(np.float32)
    found = jax.jit(lambda xs: jacreg.spectral_radius(jacreg.linearize(fn, xs), key=KEY))(xs)
    np.testing.assert_allclose(found, np.max(1 / np.cosh(xs) ** 2, axis=1), rtol=1e-3)


@pytest.mark.parametrize("size", [3, 150])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_dtype_nan_and_pytrees(dtype, size):
    def fn(xs, scale):
        scale = scale.astype(dtype)
        return {"a": scale * xs["b"], "b": -scale * xs["a"]}

    xs = {"a": jnp.ones((3, size), dtype), "b": jnp.ones((3, size), dtype)}
    scale = jnp.array([[2.0], [jnp.nan], [0.5]])
    found = jax.jit(
        lambda xs, scale: jacreg.spectral_radius(jacreg.linearize(fn, xs, scale), key=KEY)
    )(xs, scale)
    assert found.dtype == dtype
    np.testing.assert_allclose(np.asarray(found, np.float32), [2, np.nan, 0.5], rtol=1e-2)


@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (0, 150)])
def test_empty(shape):
    found = jacreg.spectral_radius(jacreg.linearize(jnp.sin, jnp.zeros(shape)), key=KEY)
    np.testing.assert_array_equal(found, np.zeros(shape[0]))


@pytest.mark.parametrize(
    ("fn", "options", "error", "words"),
    [
        (lambda xs: xs[:, :2], {}, ValueError, "square"),
        (jnp.sin, {"tolerance": -1.0}, ValueError, "tolerance"),
        (jnp.sin, {"max_products": 0}, ValueError, "max_products"),
        (jnp.sin, {"key": None}, ValueError, "key"),
    ],
)
def test_bad_input(fn, options, error, words):
    with pytest.raises(error, match=words):
        jacreg.spectral_radius(jacreg.linearize(fn, jnp.ones((2, 3))), **{"key": KEY, **options})
