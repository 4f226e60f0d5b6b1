"""models.build: every option, and one clear error for what it does not know."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import models

KEY = jax.random.key(0)
SMALL = {"input_shape": (12, 12, 1), "num_classes": 3}


def test_names():
    assert {"lenet", "mlp", "resnet_small", "resnet18"} <= set(models.names())


def test_lenet_is_the_papers():
    model = models.build("lenet", key=KEY)
    shapes = {name: layer.kernel.shape for name, layer in model.named_layers().items()}
    assert shapes == {
        "conv_1": (5, 5, 1, 6),
        "conv_2": (5, 5, 6, 16),
        "dense_1": (400, 120),
        "dense_2": (120, 84),
        "dense_3": (84, 10),
    }
    for name, shape in shapes.items():
        limit = np.sqrt(6 / (np.prod(shape[:-2]) * (shape[-2] + shape[-1])))
        largest = np.abs(model.named_layers()[name].kernel[...]).max()
        assert 0.9 * limit < largest <= limit * (1 + 1e-6)


def test_mlp_expresses_the_official_example():
    model = models.build("mlp", key=KEY)
    kernels = [layer.kernel[...] for layer in model.named_layers().values()]
    assert [kernel.shape for kernel in kernels] == [(784, 200), (200, 200), (200, 10)]
    xs = jnp.ones((2, 28, 28, 1))
    hidden = xs.reshape(2, 784)
    for kernel in kernels[:-1]:
        hidden = jnp.maximum(hidden @ kernel, 0)
    np.testing.assert_allclose(model(xs), hidden @ kernels[-1], rtol=1e-5)


def test_equal_keys_give_equal_networks_and_others_do_not():
    xs = jnp.ones((2, 12, 12, 1))
    first, same, other = (
        models.build("lenet", key=jax.random.key(seed), **SMALL)(xs) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, same)
    assert not np.allclose(first, other)
    module, variables = models.build("lenet", framework="linen", key=KEY, **SMALL)
    np.testing.assert_allclose(module.apply(variables, xs), first, rtol=1e-5)


def test_raw_keys_are_keys():
    assert models.build("mlp", key=jax.random.PRNGKey(0), input_shape=(3,))(jnp.ones((1, 3))).shape


def test_dropout_in_each_framework():
    xs = jnp.ones((2, 12, 12, 1))
    options = {**SMALL, "dropout": 0.5}
    for name in ("lenet", "mlp"):
        model = models.build(name, key=KEY, **options)
        assert not np.allclose(model(xs), model(xs))
        model.eval()
        clean = model(xs)
        np.testing.assert_array_equal(clean, model(xs))
        module, variables = models.build(name, framework="linen", key=KEY, **options)
        np.testing.assert_allclose(module.apply(variables, xs), clean, rtol=1e-5)
        noisy = module.apply(variables, xs, train=True, rngs={"dropout": KEY})
        assert not np.allclose(noisy, clean)
        model = models.build(name, framework="equinox", key=KEY, **options)
        assert not np.allclose(model(xs[0], key=KEY), clean[0])
        with pytest.raises(RuntimeError, match="key"):
            model(xs[0])
        np.testing.assert_allclose(eqx.nn.inference_mode(model)(xs[0]), clean[0], rtol=1e-5)


def test_an_empty_batch_and_bfloat16():
    @jax.jit
    def run(empty, half):
        model = models.build("lenet", key=KEY, **SMALL)
        found = model(empty)
        nnx.update(model, jax.tree.map(lambda x: x.astype(jnp.bfloat16), nnx.state(model)))
        return found, model(half)

    empty, half = run(jnp.zeros((0, 12, 12, 1)), jnp.zeros((1, 12, 12, 1), jnp.bfloat16))
    assert empty.shape == (0, 3)
    assert half.dtype == jnp.bfloat16


def test_resnet18_has_eighteen_layers():
    spec = {"widths": (2, 2, 3, 3), "input_shape": (8, 8, 3)}
    layers = nnx.eval_shape(lambda: models.build("resnet18", key=KEY, **spec)).named_layers()
    strides = [layer.strides for name, layer in layers.items() if name.endswith("_first")]
    assert strides == [1, 1, 2, 1, 2, 1, 2, 1]
    assert sum(name.endswith("_second") for name in layers) == 8
    full = jax.eval_shape(lambda: nnx.state(models.build("resnet18", key=KEY), nnx.Param))
    count = sum(leaf.size for leaf in jax.tree.leaves(full))
    assert count == 11_173_962  # the parameters of ResNet-18 with the CIFAR stem


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("lenett", {}, ValueError, "Unknown network 'lenett'. Did you mean 'lenet'"),
        ("lenet", {"framework": "equinx"}, ValueError, "Did you mean 'equinox'"),
        ("lenet", {"framework": "torch"}, ValueError, "Known: equinox, linen, nnx"),
        ("resnet18", {"framework": "linen"}, ValueError, "exists in nnx, equinox, not in linen"),
        (
            "lenet",
            {"dropuot": 0.5},
            ValueError,
            "of lenet 'dropuot'. Did you mean 'dropout'",
        ),
        ("lenet", {"dropout": 1.0}, ValueError, "below 1"),
        ("lenet", {"dropout": "half"}, TypeError, "dropout must be a number"),
        ("lenet", {"num_classes": 0}, ValueError, "num_classes must be at least 1"),
        ("lenet", {"num_classes": 2.0}, TypeError, "num_classes must be an integer"),
        ("lenet", {"input_shape": (28, 28)}, ValueError, "input_shape must have 3"),
        ("lenet", {"input_shape": (8, 28, 1)}, ValueError, "at least 12 x 12"),
        ("lenet", {"layout": ("NWC", "WIO", "NWC")}, ValueError, "letters H and W"),
        ("lenet", {"layout": ("NHWC", "HWIO")}, ValueError, "three parts"),
        ("lenet", {"key": 0}, TypeError, r"jax.random.key\(0\)"),
        ("mlp", {"activation": "rellu"}, ValueError, "Did you mean 'relu'"),
        ("mlp", {"initializer": "xavier"}, ValueError, "Known: glorot_normal"),
        ("mlp", {"hidden": 200}, TypeError, "hidden must be a list of integers"),
        ("mlp", {"hidden": (0,)}, ValueError, "at least 1"),
        ("resnet_small", {"blocks": (1, 1)}, ValueError, "blocks must have 3 entries"),
    ],
)
def test_bad_options(name, options, error, message):
    with pytest.raises(error, match=message):
        models.build(name, **{"key": KEY, **options})


def test_bad_inputs():
    nchw = ("NCHW", "OIHW", "NCHW")

    def call(framework, xs):
        model = models.build("lenet", framework=framework, layout=nchw, key=KEY, **SMALL)
        if framework == "equinox":
            return jax.vmap(model)(xs)
        return model[0].apply(model[1], xs) if framework == "linen" else model(xs)

    for framework in ("nnx", "linen", "equinox"):
        shape = partial(jax.eval_shape, partial(call, framework))
        assert shape(jnp.ones((2, 1, 12, 12))).shape == (2, 3)
        with pytest.raises(ValueError, match=r"1, 12, 12\].*'N?CHW', got shape.*12, 12, 1\)"):
            shape(jnp.ones((2, 12, 12, 1)))
        with pytest.raises(TypeError, match="uint8: cast"):
            shape(jnp.ones((2, 1, 12, 12), jnp.uint8))
    mlp = models.build("mlp", key=KEY)
    with pytest.raises(ValueError, match="784 features"):
        mlp(jnp.ones((2, 27, 28, 1)))
    with pytest.raises(TypeError, match="uint8: cast"):
        mlp(jnp.ones((2, 28, 28, 1), jnp.uint8))


def test_bad_transfers():
    model = models.build("mlp", key=KEY, input_shape=(4,))
    with pytest.raises(ValueError, match="Did you mean 'linen'"):
        models.transfer(model, "lines")
    with pytest.raises(ValueError, match="spatial letters 'HW', the new one 'W'"):
        models.transfer(model, "nnx", ("NWC", "WIO", "NWC"))
    with pytest.raises(TypeError, match="got Linear"):
        models.transfer(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), "linen")
    module, _ = models.transfer(model, "linen")
    with pytest.raises(TypeError, match="pair"):
        models.transfer(module, "nnx")
    resnet = models.build("resnet_small", key=KEY, widths=(2,), blocks=(1,))
    with pytest.raises(ValueError, match="ResNet exists in nnx and equinox, not in linen"):
        models.transfer(resnet, "linen")
    with pytest.raises(TypeError, match=r"the pair \(model, state\)"):
        models.transfer(models.transfer(resnet, "equinox")[0], "nnx")
    with pytest.raises(ValueError, match="DifferentialMLP exists in nnx alone"):
        models.transfer(models.build("differential_mlp", key=KEY), "equinox")
