"""SpectralNormalized: the true operator norm is one, for every kind of layer, and stays it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jacreg
import jacreg.eqx
import jacreg.nnx
import models.eqx
import models.nnx

KEY = jax.random.key(0)
R = nnx.Rngs(0)

NNX = {
    "1-D": (lambda: nnx.Conv(3, 4, (5,), rngs=R), (24, 3), {}),
    "3-D": (lambda: nnx.Conv(2, 2, (2, 3, 2), padding="VALID", rngs=R), (4, 4, 4, 2), {}),
    "strided": (lambda: nnx.Conv(2, 4, (4, 4), strides=2, padding=((1, 2), (0, 1)), rngs=R),
                (9, 8, 2), {}),
    "dilated": (lambda: nnx.Conv(2, 3, (3, 3), kernel_dilation=2, padding="CIRCULAR", rngs=R),
                (7, 7, 2), {}),
    "grouped": (lambda: nnx.Conv(4, 6, (3, 3), feature_group_count=2, rngs=R), (6, 6, 4), {}),
    "transposed": (lambda: nnx.ConvTranspose(2, 3, (3, 3), strides=(2, 2), rngs=R), (6, 5, 2), {}),
    "any layout": (
        lambda: models.nnx.Conv(2, 3, 3, layout=("CHWN", "IOHW", "NHWC"), strides=2, rngs=R),
        (2, 8, 8),
        {"batch_axis": 3},
    ),
}  # fmt: skip
EQX = {
    "2-D": (lambda: eqx.nn.Conv2d(2, 3, 3, padding="SAME", key=KEY), (2, 8, 8)),
    "transposed": (lambda: eqx.nn.ConvTranspose2d(2, 3, 3, stride=2, key=KEY), (2, 6, 5)),
    "any layout": (lambda: models.eqx.Conv(2, 3, 3, layout=("HWCN", "IOHW", "NHWC"), key=KEY),
                   (6, 6, 2)),
}  # fmt: skip


def dense_norm(fn, shape):
    """Largest singular value of x -> fn(x) - fn(0), by dense SVD."""
    jacobian = jax.jit(jax.jacobian(fn))(jnp.zeros(shape))
    return np.linalg.svd(np.asarray(jacobian, np.float64).reshape(-1, int(np.prod(shape))))[1][0]


def one(layer, axis=0):
    return lambda x: layer(jnp.expand_dims(x, axis))


@pytest.mark.parametrize("name", NNX)
def test_nnx_layer_has_norm_one_after_a_call(name):
    make, shape, options = NNX[name]
    axis = options.get("batch_axis", 0)
    layer = make()
    if layer.bias is not None:
        layer.bias[...] = jnp.linspace(-1, 1, layer.bias[...].size)
    wrapped = jacreg.nnx.SpectralNormalized(layer, in_shape=shape, key=KEY, **options)
    x = jax.random.normal(KEY, shape)
    nnx.jit(lambda m, x: m(x))(wrapped, jnp.expand_dims(x, axis))
    wrapped.eval()
    assert abs(dense_norm(one(wrapped, axis), shape) - 1) < 0.01
    raw = one(layer, axis)
    expected = (raw(x) - raw(0 * x)) / dense_norm(raw, shape) + raw(0 * x)
    np.testing.assert_allclose(one(wrapped, axis)(x), expected, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("name", EQX)
def test_equinox_layer_has_norm_one_after_a_call(name):
    make, shape = EQX[name]
    raw = make()
    layer, state = eqx.nn.make_with_state(jacreg.eqx.SpectralNormalized)(
        raw, in_shape=shape, key=KEY
    )
    x = jax.random.normal(KEY, shape)
    _, state = eqx.filter_jit(layer)(x, state)
    evaluate = lambda x: eqx.nn.inference_mode(layer)(x, state)[0]  # noqa: E731
    assert abs(dense_norm(evaluate, shape) - 1) < 0.01
    expected = (raw(x) - raw(0 * x)) / dense_norm(raw, shape) + raw(0 * x)
    np.testing.assert_allclose(evaluate(x), expected, rtol=0.01, atol=0.01)


def test_the_frameworks_own_layers_miss_it():
    """Why this layer exists; and that the oracle can see a wrong norm."""
    layer = nnx.SpectralNorm(nnx.Conv(2, 3, (3, 3), rngs=R), n_steps=50, rngs=R)
    assert dense_norm(one(jacreg.nnx.function(layer)), (8, 8, 2)) > 1.2


def wrapped_conv(shape=(8, 8, 2)):
    return jacreg.nnx.SpectralNormalized(
        nnx.Conv(2, 3, (3, 3), rngs=nnx.Rngs(1)), in_shape=shape, key=KEY
    )


def test_training_follows_moving_parameters_and_evaluation_does_not_update():
    layer, xs = wrapped_conv(), jnp.ones((2, 8, 8, 2))
    call = nnx.jit(lambda m, x: m(x))
    drift = 0.002 * jax.random.normal(KEY, layer.layer.kernel[...].shape)
    for _ in range(30):
        layer.layer.kernel[...] = layer.layer.kernel[...] + drift
        call(layer, xs)
    followed = layer.vector[...]
    layer.eval()
    assert abs(dense_norm(one(layer), (8, 8, 2)) - 1) < 0.01
    layer.layer.kernel[...] = jax.random.normal(KEY, drift.shape)
    call(layer, xs)
    np.testing.assert_array_equal(layer.vector[...], followed)
    stale = dense_norm(one(layer), (8, 8, 2))
    assert stale > 1.01  # the kernel is another, the vector is not
    layer.train()
    for _ in range(10):
        call(layer, xs)
    layer.eval()
    assert abs(dense_norm(one(layer), (8, 8, 2)) - 1) < 0.01


def test_equinox_inference_does_not_update():
    layer, state = eqx.nn.make_with_state(jacreg.eqx.SpectralNormalized)(
        eqx.nn.Conv2d(2, 3, 3, key=KEY), in_shape=(2, 8, 8), key=KEY
    )
    layer = eqx.tree_at(lambda m: m.layer.weight, layer, replace_fn=lambda w: jnp.roll(w, 1, 2))
    xs = jnp.ones((4, 2, 8, 8))

    def new(statistics):
        fn = jacreg.eqx.function(layer, state, statistics=statistics, return_state=True)
        return jax.tree.leaves(jax.jit(fn)(xs)[1])[0]

    (old,) = jax.tree.leaves(state)
    np.testing.assert_array_equal(new("running"), old)
    assert jnp.abs(new("batch") - old).max() > 1e-3
    _, kept = layer(xs[0], state, inference=True)
    np.testing.assert_array_equal(jax.tree.leaves(kept)[0], old)


def test_gradient_goes_through_the_norm_and_not_through_the_vector(x64):
    """The derivative of y = A x / s(A) by central differences of the dense norm."""
    conv = nnx.Conv(2, 3, (3, 3), param_dtype=jnp.float64, use_bias=False, rngs=nnx.Rngs(2))
    shape = (5, 5, 2)
    layer = jacreg.nnx.SpectralNormalized(conv, in_shape=shape, key=KEY, num_steps=40)
    graphdef, params, rest = nnx.split(layer, nnx.Param, ...)
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(2, *shape)))

    def loss(params):
        return (nnx.merge(graphdef, params, rest, copy=True)(xs) ** 2).sum()

    gradient = jax.jit(jax.grad(loss))(params)["layer"]["kernel"][...]
    kernel = conv.kernel[...]
    direction = np.random.default_rng(1).normal(size=kernel.shape)

    def by_svd(kernel):
        run = lambda x: jax.lax.conv_general_dilated(  # noqa: E731
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return (run(xs) ** 2).sum() / dense_norm(one(run), shape) ** 2

    step = 1e-5
    slope = (by_svd(kernel + step * direction) - by_svd(kernel - step * direction)) / (2 * step)
    np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=1e-3)
    # Scaling the kernel changes nothing, so the gradient is orthogonal to it.
    assert abs((gradient * kernel).sum()) < 1e-6 * np.linalg.norm(gradient)


def test_inside_the_adapter_with_a_penalty():
    class Net(nnx.Module):
        def __init__(self):
            self.conv = wrapped_conv()
            self.dense = nnx.Linear(192, 3, rngs=nnx.Rngs(0))

        def __call__(self, xs):
            return self.dense(jnp.tanh(self.conv(xs)).reshape(len(xs), -1))

    net, xs = Net(), jax.random.normal(KEY, (3, 8, 8, 2))
    before = net.conv.vector[...]

    @nnx.jit
    @nnx.grad
    def grads(net):
        fn = jacreg.nnx.function(net, statistics="batch", return_state=True)
        lin = jacreg.linearize(fn, xs, has_aux=True)
        nnx.update(net, lin.aux)
        return jacreg.losses.jacobian_penalty(lin, key=KEY).mean()

    kernel = grads(net)["conv"]["layer"]["kernel"][...]
    assert jnp.abs(kernel).max() > 1e-4
    assert abs((kernel * net.conv.layer.kernel[...]).sum()) < 1e-3 * jnp.linalg.norm(kernel)
    assert jnp.abs(net.conv.vector[...] - before).max() > 0
    assert jacreg.rows_independent(jacreg.nnx.function(net, statistics="batch"), xs)


def test_bad_arguments():
    class Curved(nnx.Module):
        def __call__(self, xs):
            return jnp.tanh(xs)

    with pytest.raises(ValueError, match="not linear"):
        jacreg.nnx.SpectralNormalized(Curved(), in_shape=(3,), key=KEY)
    zero = nnx.Linear(2, 2, kernel_init=jax.nn.initializers.zeros, rngs=R)
    with pytest.raises(ValueError, match="not linear"):
        jacreg.nnx.SpectralNormalized(jnp.tanh, in_shape=(3,), key=KEY)
    for layer in (nnx.Linear(5, 3, rngs=R), lambda xs: xs @ jnp.ones((5, 3))):
        with pytest.raises(ValueError, match=r"does not take an input of shape \(4,\)"):
            jacreg.nnx.SpectralNormalized(layer, in_shape=(4,), key=KEY)
    with pytest.raises(ValueError, match=r"does not take an input of shape \(4,\)"):
        jacreg.eqx.SpectralNormalized(eqx.nn.Linear(5, 3, key=KEY), in_shape=4, key=KEY)
    with pytest.raises(ValueError, match="must be positive"):
        jacreg.nnx.SpectralNormalized(zero, in_shape=2, key=KEY)
    with pytest.raises(TypeError, match="must be callable"):
        jacreg.eqx.SpectralNormalized(3, in_shape=2, key=KEY)
    with pytest.raises(ValueError, match="at least 1"):
        jacreg.nnx.SpectralNormalized(nnx.Linear(2, 2, rngs=R), in_shape=2, key=KEY, num_steps=0)
    with pytest.raises(ValueError, match=r"made for examples of shape \(8, 8, 2\)"):
        wrapped_conv()(jnp.ones((1, 9, 8, 2)))


@pytest.mark.parametrize("name", ["strided", "any layout"])
def test_with_a_bound_the_norm_is_never_above_one(name):
    make, shape, options = NNX[name]
    layer = make()
    axis = options.get("batch_axis", 0)
    normalized = jacreg.nnx.SpectralNormalized(
        layer, in_shape=shape, key=KEY, bound=True, **options
    )
    assert float(normalized.lipschitz_bound()) == 1
    for scale in (1.0, 30.0):  # no step follows the change
        layer.kernel[...] = scale * layer.kernel[...]
        assert 0.99 <= dense_norm(one(normalized, axis), shape) <= 1 + 1e-6


def test_without_a_bound_it_says_how_far_above_one_it_may_be():
    make, shape, _ = NNX["strided"]
    layer = make()
    normalized = jacreg.nnx.SpectralNormalized(layer, in_shape=shape, key=KEY)
    assert 1 <= float(normalized.lipschitz_bound()) <= 1.01
    layer.kernel[...] = jax.random.normal(KEY, layer.kernel[...].shape)
    normalized.eval()
    found = dense_norm(one(normalized), shape)
    assert 1.02 < found <= float(normalized.lipschitz_bound()) <= 1.01 * found
    model, state = eqx.nn.make_with_state(jacreg.eqx.SpectralNormalized)(
        eqx.nn.Conv2d(2, 3, 3, key=KEY), in_shape=(2, 6, 6), key=KEY, bound=True
    )
    assert float(model.lipschitz_bound(state)) == 1
    assert 0.99 <= dense_norm(lambda x: model(x, state)[0], (2, 6, 6)) <= 1 + 1e-6
