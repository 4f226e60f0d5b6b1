"""layerwise_log_frobenius against dense Jacobians and the chain rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg


def _layers(key, widths=(5, 7, 6, 3)):
    keys = jax.random.split(key, len(widths) - 1)
    kernels = [
        jax.random.normal(k, (m, n)) for k, m, n in zip(keys, widths, widths[1:], strict=False)
    ]
    return [lambda xs, w=w: jnp.tanh(xs @ w) for w in kernels]


def _dense_norm(fn, xs):
    jac = jax.vmap(jax.jacrev(lambda x: fn(x[None])[0]))(xs)
    return jnp.sqrt(jnp.sum(jac**2, axis=tuple(range(1, jac.ndim))))


def _compose(layers):
    def run(xs):
        for layer in layers:
            xs = layer(xs)
        return xs

    return run


def test_each_layer_at_its_own_input(x64):
    layers = _layers(jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (4, 5))
    result = jacreg.layerwise_log_frobenius(layers, xs)
    hs = xs
    for index, layer in enumerate(layers):
        np.testing.assert_allclose(
            result.per_layer[index], jnp.log(_dense_norm(layer, hs)), rtol=0, atol=1e-12
        )
        hs = layer(hs)
    np.testing.assert_allclose(result.total, jnp.sum(result.per_layer, 0), atol=1e-12)
    assert bool(jnp.all(result.total >= jnp.log(_dense_norm(_compose(layers), xs))))


def test_one_layer_is_its_own_bound(x64):
    layers = _layers(jax.random.key(0))[:1]
    xs = jax.random.normal(jax.random.key(1), (4, 5))
    result = jacreg.layerwise_log_frobenius(layers, xs)
    np.testing.assert_allclose(result.total, jnp.log(_dense_norm(layers[0], xs)), atol=1e-12)


def test_images_and_changing_shapes(x64):
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 2, 4))
    layers = [
        lambda xs: jax.lax.conv_general_dilated(
            xs, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        ),
        lambda xs: xs.reshape(xs.shape[0], -1),
        lambda xs: jnp.sum(xs**2, axis=1),
    ]
    xs = jax.random.normal(jax.random.key(1), (3, 4, 4, 2))
    result = jacreg.layerwise_log_frobenius(layers, xs)
    assert result.per_layer.shape == (3, 3)
    np.testing.assert_allclose(result.per_layer[1], np.log(np.sqrt(16.0)), atol=1e-12)


def test_every_layer_draws_its_own_probes():
    # Two equal layers at equal inputs: equal probes would give equal estimates.
    layers = [lambda xs: xs @ jnp.array([[1.0, 2.0], [3.0, 4.0]])] * 2
    xs = jnp.ones((3, 2))
    key = jax.random.key(0)
    result = jacreg.layerwise_log_frobenius(layers, xs, jacreg.Projection(), key=key)
    assert not bool(jnp.any(jnp.isclose(result.per_layer[0], result.per_layer[1])))
    expected = jacreg.frobenius_squared(
        jacreg.linearize(layers[0], xs), jacreg.Projection(), key=jax.random.fold_in(key, 0)
    )
    np.testing.assert_allclose(result.per_layer[0], 0.5 * jnp.log(expected), rtol=1e-6)


def test_a_dead_layer_is_minus_infinity_without_nan_gradients():
    xs = jnp.ones((2, 3))

    def total(scale):
        layers = [lambda xs: jax.nn.relu(xs * scale), jnp.sin]
        return jacreg.layerwise_log_frobenius(layers, xs).per_layer[0].sum()

    value, slope = jax.value_and_grad(total)(-1.0)
    assert value == -jnp.inf
    assert slope == 0.0


def test_gradient_matches_the_closed_form(x64):
    xs = jax.random.normal(jax.random.key(1), (4, 5))

    def mean_total(scale):
        return jnp.mean(jacreg.layerwise_log_frobenius([lambda x: scale * x] * 3, xs).total)

    # 3 (log scale + log sqrt 5)
    np.testing.assert_allclose(jax.grad(mean_total)(0.7), 3 / 0.7, rtol=1e-12)
    np.testing.assert_allclose(jax.jit(jax.grad(mean_total))(0.7), 3 / 0.7, rtol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dtype_is_kept(dtype):
    result = jacreg.layerwise_log_frobenius([jnp.sin, jnp.cos], jnp.ones((2, 3), dtype))
    assert result.per_layer.dtype == result.total.dtype == dtype


@pytest.mark.parametrize(
    ("layers", "method", "error", "words"),
    [
        ([], jacreg.Exact(), ValueError, "empty"),
        (jnp.sin, jacreg.Exact(), TypeError, "list or tuple"),
        ([jnp.sin], jacreg.CoupledBatch(), TypeError, "negative"),
        ([jnp.sin], jacreg.Projection(), ValueError, "key"),
        ([jnp.sin], jacreg.Hutchinson(), TypeError, "Projection"),
        ([3.0], jacreg.Exact(), TypeError, "function"),
    ],
)
def test_bad_input(layers, method, error, words):
    with pytest.raises(error, match=words):
        jacreg.layerwise_log_frobenius(layers, jnp.ones((2, 3)), method)
