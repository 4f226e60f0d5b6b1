"""SpectralNormalized in linen, and around layers that write to their own variables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from flax.errors import TraceContextError

import jacreg
import jacreg.linen
import jacreg.nnx
import models.linen

KEY = jax.random.key(0)
LINEN = {
    "dense": (nn.Dense(4), (5,), 0),
    "strided": (nn.Conv(3, (3, 3), strides=2, padding="CIRCULAR"), (6, 6, 2), 0),
    "weight norm": (nn.WeightNorm(nn.Dense(4)), (5,), 0),
    "any layout": (models.linen.Conv(2, 3, layout=("CHWN", "IOHW", "NHWC")), (2, 5, 5), 3),
}


def dense_norm(fn, shape):
    """Largest singular value of x -> fn(x) - fn(0), by dense SVD."""
    jacobian = jax.jit(jax.jacobian(fn))(jnp.zeros(shape))
    return np.linalg.svd(np.asarray(jacobian, np.float64).reshape(-1, int(np.prod(shape))))[1][0]


@pytest.mark.parametrize("name", LINEN)
def test_a_linen_layer_has_norm_one_from_the_start(name):
    layer, shape, axis = LINEN[name]
    module = jacreg.linen.SpectralNormalized(layer, batch_axis=axis)
    xs = jnp.expand_dims(jax.random.normal(KEY, shape), axis)
    variables = module.init(KEY, xs, use_running_average=False)
    fn = jacreg.linen.function(module, variables)
    assert abs(dense_norm(lambda x: fn(jnp.expand_dims(x, axis))[0], shape) - 1) < 0.01
    inner = {"params": variables["params"]["layer"]}
    raw = lambda xs: layer.apply(inner, xs)  # noqa: E731
    scale = dense_norm(lambda x: raw(jnp.expand_dims(x, axis))[0], shape)
    expected = (raw(xs) - raw(0 * xs)) / scale + raw(0 * xs)
    np.testing.assert_allclose(fn(xs), expected, rtol=0.01, atol=0.01)


def test_linen_follows_moving_parameters_and_equals_nnx():
    kernel = jax.random.normal(KEY, (5, 4))
    module = jacreg.linen.SpectralNormalized(nn.Dense(4))
    xs = jax.random.normal(KEY, (3, 5))
    variables = module.init(KEY, xs, use_running_average=False)
    moved = {**variables, "params": {"layer": {"kernel": kernel, "bias": jnp.zeros(4)}}}
    still = jacreg.linen.function(module, moved, return_state=True)
    assert dense_norm(lambda x: still(x[None])[0][0], (5,)) > 1.05
    np.testing.assert_array_equal(
        still(xs)[1]["batch_stats"]["vector"], variables["batch_stats"]["vector"]
    )
    fn = jacreg.linen.function(module, moved, statistics="batch", return_state=True)
    lin = jacreg.linearize(fn, xs, has_aux=True)
    plain, state = module.apply(moved, xs, use_running_average=False, mutable=["batch_stats"])
    np.testing.assert_allclose(lin.value, plain, rtol=1e-5)
    np.testing.assert_allclose(
        lin.aux["batch_stats"]["vector"], state["batch_stats"]["vector"], rtol=1e-4, atol=1e-6
    )
    linear = nnx.Linear(5, 4, rngs=nnx.Rngs(0))
    linear.kernel[...] = kernel
    layer = jacreg.nnx.SpectralNormalized(linear, in_shape=5, key=KEY)
    np.testing.assert_allclose(lin.value, layer(xs), rtol=1e-3, atol=1e-4)

    def loss(params):
        fn = jacreg.linen.function(module, {**moved, "params": params}, statistics="batch")
        return jacreg.losses.jacobian_penalty(jacreg.linearize(fn, xs), jacreg.Exact()).mean()

    gradient = jax.grad(loss)(moved["params"])["layer"]["kernel"]
    assert jnp.abs(gradient).max() > 1e-2
    # Scaling the kernel changes nothing, so the gradient is orthogonal to it.
    assert abs((gradient * kernel).sum()) < 1e-3 * jnp.linalg.norm(gradient)


def test_linen_inside_a_network_with_other_shapes_refused():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, xs, train: bool):
            normalized = jacreg.linen.SpectralNormalized(nn.Conv(2, (3,)))
            return normalized(jnp.tanh(xs), use_running_average=not train)

    xs = jax.random.normal(KEY, (2, 6, 2))
    variables = Net().init(KEY, xs, True)
    lin = jacreg.linearize(jacreg.linen.function(Net(), variables), jnp.zeros_like(xs))
    dense = np.asarray(jacreg.jacobian(lin)).reshape(2, -1, 12)
    np.testing.assert_allclose(np.linalg.norm(dense, 2, axis=(1, 2)), 1, rtol=0.01)
    with pytest.raises(ValueError, match=r"made for examples of shape \(6, 2\), got \(7, 2\)"):
        jacreg.linen.function(Net(), variables)(jnp.ones((1, 7, 2)))
    with pytest.raises(ValueError, match="not linear"):
        jacreg.linen.SpectralNormalized(nn.Sequential([jnp.tanh])).init(KEY, xs, True)


NNX = {
    "linear": (lambda: nnx.Linear(6, 4, rngs=nnx.Rngs(0)), (6,)),
    "conv": (lambda: nnx.Conv(2, 3, (3,), strides=2, rngs=nnx.Rngs(0)), (5, 2)),
    # Fewer dimensions than Lanczos steps.
    "small": (lambda: nnx.Linear(3, 5, use_bias=False, rngs=nnx.Rngs(0)), (3,)),
}


@pytest.mark.parametrize("name", NNX)
def test_nnx_weight_norm_writes_its_kernel_and_is_normalised_all_the_same(name):
    make, shape = NNX[name]
    layer = nnx.WeightNorm(make(), rngs=nnx.Rngs(0))
    raw = jacreg.nnx.function(layer)
    one = lambda x: raw(x[None])[0]  # noqa: E731
    norm = dense_norm(one, shape)
    np.testing.assert_allclose(jacreg.operator_norm(one, shape, key=KEY), norm, rtol=2e-3)
    wrapped = jacreg.nnx.SpectralNormalized(layer, in_shape=shape, key=KEY)
    wrapped(jnp.ones((1, *shape)))
    fn = jacreg.nnx.function(wrapped)
    assert abs(dense_norm(lambda x: fn(x[None])[0], shape) - 1) < 0.01

    def loss(model):
        lin = jacreg.linearize(
            jacreg.nnx.function(model, statistics="batch"), jnp.ones((1, *shape))
        )
        return jacreg.losses.jacobian_penalty(lin, jacreg.Exact()).mean()

    gradient = nnx.grad(loss)(wrapped)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient)) > 1e-4


WRITERS = {
    "weight norm": lambda rngs: nnx.WeightNorm(nnx.Linear(6, 4, rngs=rngs), rngs=rngs),
    "spectral norm": lambda rngs: nnx.SpectralNorm(nnx.Linear(6, 4, rngs=rngs), rngs=rngs),
    "batch norm": lambda rngs: nnx.BatchNorm(6, rngs=rngs),
    "dropout": lambda rngs: nnx.Dropout(0.5, rngs=rngs),
    "in a sequence": lambda rngs: nnx.Sequential(
        nnx.Linear(6, 6, rngs=rngs), nnx.BatchNorm(6, rngs=rngs)
    ),
}
NORMS = {
    "operator_norm": lambda fn: jacreg.operator_norm(fn, 6, key=KEY),
    "operator_norm_bound": lambda fn: jacreg.operator_norm_bound(fn, 6),
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", WRITERS)
def test_a_layer_that_writes_is_pointed_to_the_adapter(name, norm):
    layer = WRITERS[name](nnx.Rngs(0))
    with pytest.raises(TraceContextError) as caught:
        NORMS[norm](lambda x: layer(x[None])[0])
    assert "jacreg.nnx.function(module) runs a private copy" in "".join(caught.value.__notes__)
