"""Score networks and flow fields: shapes, layouts, locality, conditions, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg
import jacreg.eqx
import jacreg.nnx
import models
from models.conv import transpose_axes

KEY = jax.random.key(0)
NETWORKS = {
    "score_conv": {"widths": (3,), "input_shape": (4, 6, 2)},
    "score_unet": {"widths": (2, 3), "input_shape": (4, 6, 2)},
    "flow_conv": {"widths": (3,), "input_shape": (4, 6, 2)},
}


BOTH = ["nnx", "equinox"]
FIELDS = [
    *((name, "nnx") for name in list(NETWORKS)[:2]),
    *((name, "equinox") for name in NETWORKS),
]


def batch(name, shape, conditional=False):
    xs = jax.random.normal(jax.random.key(1), (2, *shape))
    takes_time = conditional or name.startswith("flow")
    return xs, (jnp.array([0.3, 1.7]),) if takes_time else ()


def function(name, framework, **options):
    model = models.build(name, framework=framework, key=KEY, **options)
    return (jacreg.nnx if framework == "nnx" else jacreg.eqx).function(model)


@pytest.mark.parametrize(("name", "framework"), FIELDS)
@pytest.mark.parametrize("parts", [("NCHW", "OIHW", "NCHW"), ("HWCN", "IWOH", "NWCH")])
def test_every_layout_is_one_field(name, framework, parts, x64):
    options = NETWORKS[name]
    conditional = {} if name.startswith("flow") else {"conditional": True}
    xs, args = batch(name, options["input_shape"], True)
    expected = function(name, "equinox", **conditional, **options)(xs, *args)
    field = function(name, framework, layout=parts, **conditional, **options)
    axes = parts[0] if framework == "nnx" else "N" + parts[0].replace("N", "")
    ys = field(transpose_axes(xs, "NHWC", axes), *args)
    np.testing.assert_allclose(transpose_axes(ys, axes, "NHWC"), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "framework"), FIELDS)
def test_colored_divergence_of_the_local_networks_is_exact(name, framework, x64):
    options = {**NETWORKS[name], "input_shape": (8, 8, 1)}
    xs, args = batch(name, (8, 8, 1))
    fn = function(name, framework, **options)
    coloring = jacreg.color(fn, xs, *args)
    assert coloring.num_colors == {"score_conv": 9, "score_unet": 36, "flow_conv": 9}[name]
    lin = jacreg.linearize(fn, xs, *args)
    exact = jacreg.divergence(lin)
    np.testing.assert_allclose(jacreg.divergence(lin, coloring), exact, rtol=1e-9)


@pytest.mark.parametrize("framework", BOTH)
@pytest.mark.parametrize("conditional", [False, True])
def test_score_mlp_as_field_and_as_gradient(framework, conditional, x64):
    options = {"input_shape": (3,), "hidden": (8, 8), "conditional": conditional}
    xs, args = batch("score_mlp", (3,), conditional)
    assert function("score_mlp", framework, **options)(xs, *args).shape == (2, 3)
    field = function("score_mlp", framework, potential=True, **options)
    jacobian = jacreg.jacobian(jacreg.linearize(field, xs, *args))
    # Only a gradient field has a symmetric Jacobian.
    np.testing.assert_allclose(jacobian, jnp.swapaxes(jacobian, 1, 2), atol=1e-12)
    assert not np.allclose(jacobian, 0)


@pytest.mark.parametrize("framework", BOTH)
@pytest.mark.parametrize("name", ["score_conv", "score_unet", "score_mlp"])
def test_condition_changes_the_score_and_is_asked_for(name, framework):
    options = {"framework": framework, "key": KEY}
    options |= NETWORKS.get(name, {"input_shape": (3,), "hidden": (8,)})
    xs, _ = batch(name, options["input_shape"])
    xs, one = (xs, jnp.ones(2)) if framework == "nnx" else (xs[0], jnp.array(1.0))
    model = models.build(name, conditional=True, **options)
    assert not np.allclose(model(xs, 0.1 * one), model(xs, 0.5 * one))
    with pytest.raises(ValueError, match=r"model\((xs, ts|x, t)\)"):
        model(xs)
    with pytest.raises(ValueError, match=r"(one number each|is a scalar), got shape"):
        model(xs, jnp.ones((2, 2)))
    with pytest.raises(ValueError, match=r"takes no condition: call it as model\(xs?\)"):
        models.build(name, **options)(xs, one)


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
        ("score_conv", {"framework": "linen"}, "exists in nnx, equinox, not in linen"),
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
    for framework, shape in (("nnx", (2, 4, 6, 3)), ("equinox", (4, 6, 3))):
        options = {"framework": framework, "key": KEY}
        model = models.build("score_conv", **options, **NETWORKS["score_conv"])
        with pytest.raises(ValueError, match="got shape"):
            model(jnp.ones(shape))
        model = models.build("score_mlp", **options, hidden=(2,))
        with pytest.raises(ValueError, match=r"shape \(2,\), got \(3,\)"):
            model(jnp.ones(3))
    model = models.build("flow", key=KEY, hidden=(2,))
    with pytest.raises(ValueError, match=r"shape \(2,\), got \(3,\)"):
        model(jnp.ones(3), jnp.array(0.0))
