"""Score networks and flow fields: shapes, layouts, locality, conditions, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg
import jacreg.eqx
import models
from models.conv import transpose_axes

KEY = jax.random.key(0)
NETWORKS = {
    "score_conv": {"widths": (3,), "input_shape": (4, 6, 2)},
    "score_unet": {"widths": (2, 3), "input_shape": (4, 6, 2)},
    "flow_conv": {"widths": (3,), "input_shape": (4, 6, 2)},
}


def batch(name, shape, conditional=False):
    xs = jax.random.normal(jax.random.key(1), (2, *shape))
    takes_time = conditional or name.startswith("flow")
    return xs, (jnp.array([0.3, 1.7]),) if takes_time else ()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("parts", [("NCHW", "OIHW", "NCHW"), ("HWCN", "IWOH", "NWCH")])
def test_every_layout_is_one_field(name, parts, x64):
    options = NETWORKS[name]
    xs, args = batch(name, options["input_shape"])
    expected = jax.vmap(models.build(name, key=KEY, **options))(xs, *args)
    model = models.build(name, key=KEY, layout=parts, framework="equinox", **options)
    axes = "N" + parts[0].replace("N", "")
    ys = jax.vmap(model)(transpose_axes(xs, "NHWC", axes), *args)
    np.testing.assert_allclose(transpose_axes(ys, axes, "NHWC"), expected, rtol=1e-9, atol=1e-9)


def test_colored_divergence_of_the_local_networks_is_exact(x64):
    for name, options in NETWORKS.items():
        xs, args = batch(name, (8, 8, 1))
        options = {**options, "input_shape": (8, 8, 1)}
        fn = jacreg.eqx.function(models.build(name, key=KEY, **options))
        coloring = jacreg.color(fn, xs, *args)
        assert coloring.num_colors == {"score_conv": 9, "score_unet": 36, "flow_conv": 9}[name]
        lin = jacreg.linearize(fn, xs, *args)
        exact = jacreg.divergence(lin)
        np.testing.assert_allclose(jacreg.divergence(lin, coloring), exact, rtol=1e-9)


@pytest.mark.parametrize("conditional", [False, True])
def test_score_mlp_as_field_and_as_gradient(conditional, x64):
    options = {"input_shape": (3,), "hidden": (8, 8), "conditional": conditional}
    xs, args = batch("score_mlp", (3,), conditional)
    field = models.build("score_mlp", key=KEY, **options)
    assert jax.vmap(field)(xs, *args).shape == (2, 3)
    model = models.build("score_mlp", key=KEY, potential=True, **options)
    lin = jacreg.linearize(jacreg.eqx.function(model), xs, *args)
    jacobian = jacreg.jacobian(lin)
    # Only a gradient field has a symmetric Jacobian.
    np.testing.assert_allclose(jacobian, jnp.swapaxes(jacobian, 1, 2), atol=1e-12)
    assert not np.allclose(jacobian, 0)


@pytest.mark.parametrize("name", ["score_conv", "score_unet", "score_mlp"])
def test_condition_changes_the_score_and_is_asked_for(name):
    options = NETWORKS.get(name, {"input_shape": (3,), "hidden": (8,)})
    (x, _), _ = batch(name, options["input_shape"])
    model = models.build(name, key=KEY, conditional=True, **options)
    assert not np.allclose(model(x, jnp.array(0.1)), model(x, jnp.array(0.5)))
    with pytest.raises(ValueError, match=r"model\(x, t\)"):
        model(x)
    with pytest.raises(ValueError, match="scalar, got shape"):
        model(x, jnp.ones(2))
    with pytest.raises(ValueError, match="takes no condition"):
        models.build(name, key=KEY, **options)(x, jnp.array(0.1))


def test_concatsquash_is_ffjords():
    model = models.build("flow", key=KEY, input_shape=(3,), hidden=())
    (layer,) = model.layers
    x, t = jnp.array([1.0, -2.0, 0.5]), jnp.array(0.7)
    gate = jax.nn.sigmoid(layer.gate.weight[:, 0] * t + layer.gate.bias)
    expected = (layer.layer.weight @ x + layer.layer.bias) * gate + layer.shift * t
    np.testing.assert_allclose(model(x, t), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("score_conv", {"framework": "nnx"}, "exists in equinox, not in nnx"),
        ("score_conv", {"kernel_size": 4}, "kernel_size must be odd"),
        ("score_conv", {"input_shape": (28, 28)}, "input_shape must have 3"),
        ("score_unet", {"input_shape": (7, 8, 1)}, "divisible by 2"),
        ("score_unet", {"widths": ()}, "at least one resolution"),
        ("score_mlp", {"activation": "softpluss"}, "Did you mean 'softplus'"),
        ("flow", {"input_shape": (2, 2)}, "input_shape must have 1"),
        ("flow_conv", {"widths": (0,)}, "at least 1"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        models.build(name, key=KEY, **options)


def test_bad_inputs():
    model = models.build("score_conv", key=KEY, **NETWORKS["score_conv"])
    with pytest.raises(ValueError, match="got shape"):
        model(jnp.ones((4, 6, 3)))
    for name in ("score_mlp", "flow"):
        model = models.build(name, key=KEY, hidden=(2,))
        with pytest.raises(ValueError, match=r"shape \(2,\), got \(3,\)"):
            model(jnp.ones(3), jnp.array(0.0))
