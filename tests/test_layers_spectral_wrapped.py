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


def draw(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def largest(jacobian, shape):
    """Largest singular value of a map on `shape`, by dense SVD."""
    return np.linalg.norm(np.asarray(jacobian, np.float64).reshape(-1, int(np.prod(shape))), 2)


@pytest.mark.parametrize("name", LINEN)
def test_a_linen_layer_has_norm_one_from_the_start(name):
    layer, shape, axis = LINEN[name]
    module = jacreg.linen.SpectralNormalized(layer, batch_axis=axis)

    @jax.jit
    def run(x):
        found = []
        variables = module.init(KEY, jnp.expand_dims(x, axis), use_running_average=False)
        inner = {"params": variables["params"]["layer"]}
        for fn in (
            jacreg.linen.function(module, variables),
            lambda xs: layer.apply(inner, xs),
        ):
            one = lambda x, fn=fn: fn(jnp.expand_dims(x, axis))[0]  # noqa: E731
            found.append((one(x), one(0 * x), jax.jacobian(one)(x)))
        return found

    (value, _, jacobian), (raw, origin, raw_jacobian) = run(draw(shape))
    assert abs(largest(jacobian, shape) - 1) < 0.01
    expected = (raw - origin) / largest(raw_jacobian, shape) + origin
    np.testing.assert_allclose(value, expected, rtol=0.01, atol=0.01)


def test_linen_follows_moving_parameters_and_equals_nnx():
    kernel, xs = draw((5, 4)), draw((3, 5), 1)
    module = jacreg.linen.SpectralNormalized(nn.Dense(4))
    init = jax.jit(lambda: module.init(KEY, xs, use_running_average=False))
    variables = init()
    params = {"layer": {"kernel": jnp.asarray(kernel), "bias": jnp.zeros(4)}}
    linear = nnx.Linear(5, 4, rngs=nnx.Rngs(0))
    linear.kernel[...] = params["layer"]["kernel"]

    @jax.jit
    def run(params):
        moved = {**variables, "params": params}
        still = jacreg.linen.function(module, moved, return_state=True)
        jacobian = jax.jacobian(lambda x: still(x[None])[0][0])(xs[0])
        fn = jacreg.linen.function(module, moved, statistics="batch", return_state=True)
        lin = jacreg.linearize(fn, xs, has_aux=True)
        plain = module.apply(moved, xs, use_running_average=False, mutable=["batch_stats"])
        of_nnx = jacreg.nnx.SpectralNormalized(nnx.clone(linear), in_shape=5, key=KEY)(xs)
        return jacobian, still(xs)[1], (lin.value, lin.aux), plain, of_nnx

    jacobian, still, (value, aux), (plain, state), of_nnx = run(params)
    assert largest(jacobian, (5,)) > 1.05
    np.testing.assert_array_equal(
        still["batch_stats"]["vector"], variables["batch_stats"]["vector"]
    )
    np.testing.assert_allclose(value, plain, rtol=1e-5)
    np.testing.assert_allclose(
        aux["batch_stats"]["vector"], state["batch_stats"]["vector"], rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(value, of_nnx, rtol=1e-3, atol=1e-4)

    @jax.jit
    @jax.grad
    def gradients(params):
        fn = jacreg.linen.function(module, {**variables, "params": params}, statistics="batch")
        return jacreg.losses.jacobian_penalty(jacreg.linearize(fn, xs), jacreg.Exact()).mean()

    gradient = np.asarray(gradients(params)["layer"]["kernel"])
    assert np.abs(gradient).max() > 1e-2
    # Scaling the kernel changes nothing, so the gradient is orthogonal to it.
    assert abs((gradient * kernel).sum()) < 1e-3 * np.linalg.norm(gradient)


def test_linen_inside_a_network_with_other_shapes_refused():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, xs, train: bool):
            normalized = jacreg.linen.SpectralNormalized(nn.Conv(2, (3,)))
            return normalized(jnp.tanh(xs), use_running_average=not train)

    xs = draw((2, 6, 2))

    @jax.jit
    def run(xs):
        variables = Net().init(KEY, xs, True)
        lin = jacreg.linearize(jacreg.linen.function(Net(), variables), jnp.zeros_like(xs))
        return variables, jacreg.jacobian(lin)

    variables, jacobian = run(xs)
    dense = np.asarray(jacobian).reshape(2, -1, 12)
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

    @nnx.jit
    def run(xs):
        layer = nnx.WeightNorm(make(), rngs=nnx.Rngs(0))
        raw = jacreg.nnx.function(layer)
        one = lambda x: raw(x[None])[0]  # noqa: E731
        norm = jacreg.operator_norm(one, shape, key=KEY)
        wrapped = jacreg.nnx.SpectralNormalized(layer, in_shape=shape, key=KEY)
        wrapped(xs)
        fn = jacreg.nnx.function(wrapped)
        jacobians = jax.jacobian(one)(xs[0]), jax.jacobian(lambda x: fn(x[None])[0])(xs[0])
        return wrapped, norm, jacobians

    wrapped, found, (raw_jacobian, jacobian) = run(np.ones((1, *shape), np.float32))
    np.testing.assert_allclose(found, largest(raw_jacobian, shape), rtol=2e-3)
    assert abs(largest(jacobian, shape) - 1) < 0.01

    @nnx.jit
    @nnx.grad
    def gradients(model):
        lin = jacreg.linearize(
            jacreg.nnx.function(model, statistics="batch"), jnp.ones((1, *shape))
        )
        return jacreg.losses.jacobian_penalty(lin, jacreg.Exact()).mean()

    leaves = jax.tree.leaves(gradients(wrapped))
    assert max(np.abs(leaf).max() for leaf in leaves) > 1e-4


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
