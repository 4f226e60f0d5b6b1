"""The convolution modules of the three frameworks are one function, in any layout."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import models.eqx
import models.linen
import models.nnx
from models.conv import ConvLayout, conv, glorot_uniform

OPTIONS = [
    ({}, ("NHWC", "HWIO", "NHWC"), (2, 7, 8, 4)),
    (
        {"strides": [2, 1], "padding": [[1, 0], [2, 2]], "groups": 2},
        ("NCHW", "OIHW", "NHWC"),
        (2, 4, 7, 8),
    ),
    ({"kernel_dilation": 2, "use_bias": False}, ("WCN", "OIW", "CNW"), (9, 4, 2)),
    ({"input_dilation": (1, 2, 1)}, ("NHWDC", "HWDIO", "NHWDC"), (1, 4, 4, 3, 4)),
]


@pytest.mark.parametrize(("options", "parts", "shape"), OPTIONS)
def test_three_frameworks_one_function(options, parts, shape):
    layout = ConvLayout(*parts)
    xs = jax.random.normal(jax.random.key(0), shape)
    shared = {**options, "layout": list(parts), "kernel_init": glorot_uniform(parts)}
    module = models.nnx.Conv(4, 6, 3, rngs=nnx.Rngs(0), **shared)
    kernel = module.kernel[...]
    bias = None
    if options.get("use_bias", True):
        bias = jnp.arange(6.0)
        module.bias[...] = bias
    arguments = {name: value for name, value in options.items() if name != "use_bias"}
    expected = conv(xs, kernel, layout, **arguments)
    if bias is not None:
        expected = jnp.moveaxis(expected, parts[2].index("C"), -1) + bias
        expected = jnp.moveaxis(expected, -1, parts[2].index("C"))
    np.testing.assert_allclose(module(xs), expected, rtol=1e-5, atol=1e-5)

    linen = models.linen.Conv(6, 3, **shared)
    variables = linen.init(jax.random.key(1), xs)
    assert variables["params"]["kernel"].shape == kernel.shape
    params = {"kernel": kernel} if bias is None else {"kernel": kernel, "bias": bias}
    np.testing.assert_allclose(linen.apply({"params": params}, xs), expected, rtol=1e-5, atol=1e-5)

    model = models.eqx.Conv(4, 6, 3, key=jax.random.key(1), **shared)
    model = eqx.tree_at(
        lambda m: (m.kernel, m.bias), model, (kernel, bias), is_leaf=lambda x: x is None
    )
    batched = jax.vmap(model, parts[0].index("N"), parts[2].index("N"))
    np.testing.assert_allclose(batched(xs), expected, rtol=1e-5, atol=1e-5)
    hash(jax.tree.structure(model))


def test_bad_modules():
    with pytest.raises(ValueError, match="groups = 3 does not divide in_features = 4"):
        models.nnx.Conv(4, 6, 3, groups=3, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="groups = 3 does not divide in_features = 4"):
        models.eqx.Conv(4, 6, 3, groups=3, key=jax.random.key(0))
    with pytest.raises(ValueError, match="kernel_size has 3 numbers"):
        models.nnx.Conv(4, 6, (3, 3, 3), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="does not divide the 4 channels"):
        models.linen.Conv(6, 3, groups=3).init(jax.random.key(0), jnp.ones((1, 5, 5, 4)))
    with pytest.raises(ValueError, match=r"One example has the 3 axes 'HWC'.*vmap"):
        models.eqx.Conv(4, 6, 3, key=jax.random.key(0))(jnp.ones((2, 5, 5, 4)))
    with pytest.raises(TypeError, match="uint8: cast"):
        models.nnx.Conv(4, 6, 3, rngs=nnx.Rngs(0))(jnp.ones((2, 5, 5, 4), jnp.uint8))
