"""The smallest singular value and its direction, against dense decompositions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jacreg
import jacreg.nnx

KEY = jax.random.key(4)


def _matrix(rows, columns, smallest):
    rng = np.random.default_rng(rows + columns)
    side = min(rows, columns)
    left, right = (np.linalg.qr(rng.normal(size=(n, side)))[0] for n in (rows, columns))
    return (left * np.linspace(smallest, 1, side)) @ right.T


@jax.jit
def _least(matrix):
    lin = jacreg.linearize(lambda xs: 3 * xs @ matrix.T, jnp.ones((2, matrix.shape[1])))
    return jacreg.least_stretch(lin, key=KEY)


@pytest.mark.parametrize("shape", [(5, 5), (5, 8), (8, 5), (90, 90), (100, 70), (70, 100)])
@pytest.mark.parametrize("smallest", [0.6, 0.05])
def test_of_a_matrix(x64, shape, smallest):
    matrix = _matrix(*shape, smallest)
    found = _least(matrix)
    truth = 3 * smallest
    assert (found.value >= truth * (1 - 1e-9)).all()
    assert (np.square(found.value) <= truth**2 + 2.1e-3 * 9).all()
    np.testing.assert_allclose(np.linalg.norm(found.direction, axis=1), 1, rtol=1e-6)
    stretched = np.linalg.norm(3 * found.direction @ matrix.T, axis=1)
    assert (stretched <= np.asarray(found.value) + 0.1).all()


def test_gradient_by_central_differences(x64):
    matrix = _matrix(6, 4, 0.2)
    direction = np.random.default_rng(4).normal(size=matrix.shape)

    @jax.jit
    @jax.value_and_grad
    def least(matrix):
        lin = jacreg.linearize(lambda xs: xs @ matrix.T, jnp.ones((1, 4)))
        return jacreg.least_stretch(lin, key=KEY).value[0]

    after, before = (least(matrix + step * direction)[0] for step in (1e-6, -1e-6))
    slope = np.sum(least(matrix)[1] * direction)
    np.testing.assert_allclose(slope, (after - before) / 2e-6, rtol=1e-6)


def test_of_layers_that_are_isometries_and_of_one_that_is_none():
    rngs = nnx.Rngs(0)
    dense = jacreg.nnx.OrthogonalDense(80, 80, rngs=rngs)
    layer = jacreg.nnx.SLLConv(3, 3, rngs=rngs)

    @jax.jit
    def run(xs):
        isometry, other = (
            jacreg.least_stretch(jacreg.linearize(fn, points), key=KEY)
            for fn, points in ((dense, jnp.ones((1, 80))), (layer, xs))
        )
        jacobians = jax.vmap(jax.jacfwd(lambda x: layer(x[None])[0].ravel()))(xs)
        return isometry, other, jacobians.reshape(2, 90, 90)

    xs = np.random.default_rng(4).normal(size=(2, 6, 5, 3)).astype(np.float32)
    isometry, found, jacobians = jax.device_get(run(xs))
    np.testing.assert_allclose(isometry.value, 1, atol=1e-4)
    truth = np.linalg.svd(np.asarray(jacobians, np.float64), compute_uv=False)[:, -1]
    assert (found.value >= truth - 1e-5).all()
    assert (found.value**2 <= truth**2 + 2.1e-3).all()
    assert found.direction.shape == xs.shape
    along = np.einsum("nij,nj->ni", jacobians, found.direction.reshape(2, 90))
    np.testing.assert_allclose(np.linalg.norm(along, axis=1), found.value, rtol=1e-4)


def test_what_is_zero_or_not_finite():
    for fn, expected in ((lambda xs: 0 * xs, 0.0), (lambda xs: jnp.nan * xs, jnp.nan)):
        run = jax.jit(lambda xs: jacreg.least_stretch(jacreg.linearize(fn, xs), key=KEY))  # noqa: B023
        found = run(jnp.ones((1, 3)))
        np.testing.assert_array_equal(found.value, [expected])
    with pytest.raises(ValueError, match="least_stretch: needs a key"):
        jacreg.least_stretch(jacreg.linearize(jnp.sin, jnp.ones((1, 3))), key=None)  # pyright: ignore[reportArgumentType]
