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
from jacreg._spectral_normalization import converged_vector, track

KEY = jax.random.key(0)
R = nnx.Rngs(0)


def draw(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


NNX = {
    "1-D": (lambda r: nnx.Conv(3, 4, (5,), rngs=r), (24, 3), {}),
    "3-D": (lambda r: nnx.Conv(2, 2, (2, 3, 2), padding="VALID", rngs=r), (4, 4, 4, 2), {}),
    "strided": (lambda r: nnx.Conv(2, 4, (4, 4), strides=2, padding=((1, 2), (0, 1)), rngs=r),
                (9, 8, 2), {}),
    "dilated": (lambda r: nnx.Conv(2, 3, (3, 3), kernel_dilation=2, padding="CIRCULAR", rngs=r),
                (7, 7, 2), {}),
    "grouped": (lambda r: nnx.Conv(4, 6, (3, 3), feature_group_count=2, rngs=r), (6, 6, 4), {}),
    "transposed": (lambda r: nnx.ConvTranspose(2, 3, (3, 3), strides=(2, 2), rngs=r),
                   (6, 5, 2), {}),
    "any layout": (
        lambda r: models.nnx.Conv(2, 3, 3, layout=("CHWN", "IOHW", "NHWC"), strides=2, rngs=r),
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
    return largest(jax.jit(jax.jacobian(fn))(jnp.zeros(shape)), shape)


def largest(jacobian, shape):
    return np.linalg.norm(np.asarray(jacobian, np.float64).reshape(-1, int(np.prod(shape))), 2)


def value_and_jacobian(fn, x):
    """fn(x), fn(0) and the Jacobian of an affine map, to be called under jit."""
    return fn(x), fn(0 * x), jax.jacobian(fn)(x)


def check_norm_one(normalized, raw, shape):
    """Values and Jacobians of A x / s + b, and of A x + b."""
    (value, origin, jacobian), (raw_value, raw_origin, raw_jacobian) = jax.device_get(
        (normalized, raw)
    )
    assert abs(largest(jacobian, shape) - 1) < 0.01
    expected = (raw_value - raw_origin) / largest(raw_jacobian, shape) + raw_origin
    np.testing.assert_allclose(value, expected, rtol=0.01, atol=0.01)
    np.testing.assert_allclose(origin, raw_origin, rtol=0.01, atol=0.01)


def one(layer, axis=0):
    return lambda x: layer(jnp.expand_dims(x, axis))


@pytest.mark.parametrize("name", NNX)
def test_nnx_layer_has_norm_one_after_a_call(name):
    make, shape, options = NNX[name]
    axis = options.get("batch_axis", 0)

    @jax.jit
    def run(x):
        layer = make(nnx.Rngs(0))
        if layer.bias is not None:
            layer.bias[...] = jnp.linspace(-1, 1, layer.bias[...].size)
        wrapped = jacreg.nnx.SpectralNormalized(layer, in_shape=shape, key=KEY, **options)
        wrapped(jnp.expand_dims(x, axis))
        wrapped.eval()
        return [value_and_jacobian(one(each, axis), x) for each in (wrapped, layer)]

    check_norm_one(*run(draw(shape)), shape)


@pytest.mark.parametrize("name", EQX)
def test_equinox_layer_has_norm_one_after_a_call(name):
    make, shape = EQX[name]

    @jax.jit
    def run(x):
        raw = make()
        layer, state = eqx.nn.make_with_state(jacreg.eqx.SpectralNormalized)(
            raw, in_shape=shape, key=KEY
        )
        _, state = layer(x, state)
        evaluate = lambda x: eqx.nn.inference_mode(layer)(x, state)[0]  # noqa: E731
        return [value_and_jacobian(fn, x) for fn in (evaluate, raw)]

    check_norm_one(*run(draw(shape)), shape)


def test_the_frameworks_own_layers_miss_it():
    """Why this layer exists; and that the oracle can see a wrong norm."""
    layer = nnx.SpectralNorm(nnx.Conv(2, 3, (3, 3), rngs=R), n_steps=50, rngs=R)
    assert dense_norm(one(jacreg.nnx.function(layer)), (8, 8, 2)) > 1.2


@nnx.jit
def wrapped_conv():
    return jacreg.nnx.SpectralNormalized(
        nnx.Conv(2, 3, (3, 3), rngs=nnx.Rngs(1)), in_shape=(8, 8, 2), key=KEY
    )


def test_training_follows_moving_parameters_and_evaluation_does_not_update():
    layer, xs = wrapped_conv(), jnp.ones((2, 8, 8, 2))
    call = nnx.jit(lambda m, x: m(x))
    drift = 0.002 * draw(layer.layer.kernel[...].shape)
    for _ in range(30):
        layer.layer.kernel[...] = layer.layer.kernel[...] + drift
        call(layer, xs)
    followed = layer.vector[...]
    layer.eval()
    graph = nnx.graphdef(layer)
    jacobian = jax.jit(
        lambda state: jax.jacobian(one(nnx.merge(graph, state)))(jnp.zeros((8, 8, 2)))
    )
    norm = lambda: largest(jacobian(nnx.state(layer)), (8, 8, 2))  # noqa: E731
    assert abs(norm() - 1) < 0.01
    layer.layer.kernel[...] = jnp.asarray(draw(drift.shape, 1))
    call(layer, xs)
    np.testing.assert_array_equal(layer.vector[...], followed)
    assert norm() > 1.01  # the kernel is another, the vector is not
    layer.train()
    for _ in range(10):
        call(layer, xs)
    layer.eval()
    assert abs(norm() - 1) < 0.01


def test_equinox_inference_does_not_update():
    layer, state = eqx.filter_jit(eqx.nn.make_with_state(jacreg.eqx.SpectralNormalized))(
        eqx.nn.Conv2d(2, 3, 3, key=KEY), in_shape=(2, 8, 8), key=KEY
    )
    layer = eqx.tree_at(lambda m: m.layer.weight, layer, replace_fn=lambda w: jnp.roll(w, 1, 2))
    xs = np.ones((4, 2, 8, 8), np.float32)

    def new(statistics):
        fn = jacreg.eqx.function(layer, state, statistics=statistics, return_state=True)
        return jax.tree.leaves(jax.jit(fn)(xs)[1])[0]

    (old,) = jax.tree.leaves(state)
    np.testing.assert_array_equal(new("running"), old)
    assert np.abs(new("batch") - np.asarray(old)).max() > 1e-3
    _, kept = eqx.filter_jit(layer)(xs[0], state, inference=True)
    np.testing.assert_array_equal(jax.tree.leaves(kept)[0], old)


def test_gradient_goes_through_the_norm_and_not_through_the_vector(x64):
    """The derivative of y = A x / s(A) by central differences of the dense norm."""
    shape = (5, 5, 2)

    @nnx.jit
    def made():
        conv = nnx.Conv(2, 3, (3, 3), param_dtype=jnp.float64, use_bias=False, rngs=nnx.Rngs(2))
        return jacreg.nnx.SpectralNormalized(conv, in_shape=shape, key=KEY, num_steps=40)

    layer = made()
    graphdef, params, rest = nnx.split(layer, nnx.Param, ...)
    xs = np.random.default_rng(0).normal(size=(2, *shape))

    def loss(params):
        return (nnx.merge(graphdef, params, rest, copy=True)(xs) ** 2).sum()

    gradient = np.asarray(jax.jit(jax.grad(loss))(params)["layer"]["kernel"][...])
    kernel = np.asarray(layer.layer.kernel[...])
    direction = np.random.default_rng(1).normal(size=kernel.shape)

    @jax.jit
    def dense(kernel):
        run = lambda x: jax.lax.conv_general_dilated(  # noqa: E731
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return (run(xs) ** 2).sum(), jax.jacobian(one(run))(jnp.zeros(shape))

    def by_svd(kernel):
        squares, jacobian = dense(kernel)
        return squares / largest(jacobian, shape) ** 2

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

    net, xs = Net(), draw((3, 8, 8, 2))
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
    axis = options.get("batch_axis", 0)

    @jax.jit
    def run(scale):
        layer = make(nnx.Rngs(0))
        normalized = jacreg.nnx.SpectralNormalized(
            layer, in_shape=shape, key=KEY, bound=True, **options
        )
        layer.kernel[...] = scale * layer.kernel[...]
        bound = normalized.lipschitz_bound()
        return bound, jax.jacobian(one(normalized, axis))(jnp.zeros(shape))

    for scale in (1.0, 30.0):  # no step follows the change
        bound, jacobian = run(scale)
        assert bound == 1
        assert 0.99 <= largest(jacobian, shape) <= 1 + 1e-6


def test_without_a_bound_it_says_how_far_above_one_it_may_be():
    make, shape, _ = NNX["strided"]

    @jax.jit
    def run():
        layer = make(nnx.Rngs(0))
        normalized = jacreg.nnx.SpectralNormalized(layer, in_shape=shape, key=KEY)
        before = normalized.lipschitz_bound()
        layer.kernel[...] = jnp.asarray(draw(layer.kernel[...].shape))
        normalized.eval()
        jacobian = jax.jacobian(one(normalized))(jnp.zeros(shape))
        return before, normalized.lipschitz_bound(), jacobian

    before, bound, jacobian = run()
    assert 1 <= float(before) <= 1.01
    found = largest(jacobian, shape)
    assert 1.02 < found <= float(bound) <= 1.01 * found

    @jax.jit
    def run_equinox(x):
        model, state = eqx.nn.make_with_state(jacreg.eqx.SpectralNormalized)(
            eqx.nn.Conv2d(2, 3, 3, key=KEY), in_shape=(2, 6, 6), key=KEY, bound=True
        )
        return model.lipschitz_bound(state), jax.jacobian(lambda x: model(x, state)[0])(x)

    bound, jacobian = run_equinox(draw((2, 6, 6)))
    assert bound == 1
    assert 0.99 <= largest(jacobian, (2, 6, 6)) <= 1 + 1e-6


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 4), (1,)])
def test_a_layer_that_does_the_same_everywhere_is_followed(shape, seed):
    """A dense layer on a sequence, a 1x1 convolution: few steps use up its few singular values."""
    weights = np.random.default_rng(seed).normal(size=(shape[-1], 3)).astype(np.float32)

    def layer(x):
        return x @ weights

    vector = converged_vector(layer, shape, [weights], key=jax.random.key(5))
    for _ in range(2):
        tracked = track(layer, vector, 4)
        np.testing.assert_allclose(tracked.norm, np.linalg.norm(weights, 2), rtol=1e-3)
        vector = tracked.vector
