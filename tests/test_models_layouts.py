"""One function in three frameworks and a dozen layouts: logits, penalties and their gradients."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jacreg
import models
from models import ConvLayout
from models.conv import transpose_axes

CASES = [
    ("nnx", ("NHWC", "HWIO", "NHWC")),
    ("linen", ("NHWC", "HWIO", "NHWC")),
    ("equinox", ("NHWC", "HWIO", "NHWC")),
    ("nnx", ("NCHW", "OIHW", "NCHW")),
    ("linen", ("NCHW", "HWIO", "NCHW")),
    ("equinox", ("NCHW", "OIHW", "NCHW")),
    ("nnx", ("HWCN", "IOHW", "CNHW")),
    ("linen", ("CHWN", "IHWO", "CHWN")),
    ("equinox", ("HNCW", "HWOI", "NHWC")),
    ("nnx", ("NHWC", "OHWI", "NCHW")),
    ("linen", ("NWHC", "WHIO", "NWHC")),
    ("equinox", ("NCWH", "OIWH", "NHWC")),
    ("nnx", ("WNCH", "OWIH", "CWNH")),
]


def as_function(framework, model, batch_axis):
    """Parameters, `apply(params, xs)` with the batch first, and a model made of parameters."""
    if framework == "nnx":
        graphdef, params = nnx.split(model)
        rebuild = lambda params: nnx.merge(graphdef, params)  # noqa: E731
        return params, lambda params, xs: rebuild(params)(jnp.moveaxis(xs, 0, batch_axis)), rebuild
    if framework == "linen":
        module, params = model
        apply = lambda params, xs: module.apply(params, jnp.moveaxis(xs, 0, batch_axis))  # noqa: E731
        return params, apply, lambda params: (module, params)
    params, static = eqx.partition(model, eqx.is_array)
    return (
        params,
        lambda params, xs: jax.vmap(eqx.combine(params, static))(xs),
        lambda params: eqx.combine(params, static),
    )


def results(framework, model, layout, images):
    """Logits, penalty and the penalty's gradient in the canonical order."""
    axes = "N" + layout.example_axes()
    xs = transpose_axes(images, "NHWC", axes)
    params, apply, rebuild = as_function(framework, model, layout.batch_axis)

    @jax.jit
    def penalty(params):
        lin = jacreg.linearize(lambda xs: apply(params, xs), xs)
        penalties = jacreg.losses.jacobian_penalty(lin, key=jax.random.key(3))
        return penalties.sum(), lin.value

    (value, logits), gradient = jax.value_and_grad(penalty, has_aux=True)(params)
    gradient = models.transfer(rebuild(gradient), "linen", ("NHWC", "HWIO", "NHWC"))[1]
    return {"logits": logits, "penalty": value, "gradient": gradient}


@pytest.mark.parametrize(("framework", "parts"), CASES)
def test_lenet_is_one_function(framework, parts, x64, lenet):
    layout = ConvLayout(*parts)
    source, images, expected = lenet
    model = models.transfer(source, framework, parts)
    got = results(framework, model, layout, images)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), got, expected)
    back = models.transfer(model, "nnx", ConvLayout())
    for a, b in zip(
        jax.tree.leaves(nnx.state(back)), jax.tree.leaves(nnx.state(source)), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def lenet():
    with jax.enable_x64(True):
        model = models.build("lenet", key=jax.random.key(0), input_shape=(12, 15, 2), num_classes=3)
        layer = model.conv_1
        layer.bias[...] = jnp.linspace(-1, 1, 6)
        images = jax.random.normal(jax.random.key(1), (4, 12, 15, 2))
        expected = results("nnx", model, ConvLayout(), images)
        assert expected["logits"].dtype == jnp.float64
        yield model, images, expected


@pytest.mark.parametrize("parts", [CASES[0][1], ("WNCH", "OWIH", "CWNH")])
@pytest.mark.parametrize("framework", ["nnx", "linen", "equinox"])
def test_mlp_is_one_function(framework, parts, x64):
    layout = ConvLayout(*parts)
    options = {"input_shape": (3, 5, 2), "hidden": (7, 6), "activation": "softplus"}
    key = jax.random.key(0)
    images = jax.random.normal(jax.random.key(1), (4, 3, 5, 2))
    source = models.build("mlp", framework="equinox", key=key, **options)
    expected = jax.vmap(source)(images)
    built = models.build("mlp", framework=framework, layout=layout, key=key, **options)
    moved = models.transfer(source, framework, layout)
    xs = transpose_axes(images, "NHWC", "N" + layout.example_axes())
    vectors = images.reshape(4, -1)
    for model in (built, moved):
        params, apply, _ = as_function(framework, model, layout.batch_axis)
        np.testing.assert_allclose(apply(params, xs), expected, rtol=1e-9)
        if framework == "equinox":
            got = jax.vmap(model)(vectors)
        else:
            got = model(vectors) if framework == "nnx" else model[0].apply(model[1], vectors)
        np.testing.assert_allclose(got, expected, rtol=1e-9)


@pytest.mark.parametrize("parts", [("NCHW", "OIHW", "NCHW"), ("HWCN", "IOHW", "CNHW")])
def test_resnet_is_one_function(parts, x64):
    def outputs(parts):
        options = {"input_shape": (8, 6, 2), "widths": (2, 3), "blocks": (1, 1), "dropout": 0.3}
        model = models.build("resnet_small", layout=parts, key=jax.random.key(0), **options)
        xs = transpose_axes(images, "NHWC", parts[0])
        train = call(model, xs)
        model.eval()
        return train, call(model, xs)

    call = nnx.jit(lambda model, xs: model(xs))
    images = jax.random.normal(jax.random.key(1), (4, 8, 6, 2))
    expected = outputs(("NHWC", "HWIO", "NHWC"))
    assert not np.allclose(*expected)
    for got, want in zip(outputs(parts), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)
