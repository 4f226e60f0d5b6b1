"""One list of layers in two frameworks: outputs, Jacobian products and running statistics agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jacreg
import jacreg.eqx
import jacreg.nnx
import models
import models.eqx
import models.nnx
from models.conv import transpose_axes

KEY = jax.random.key(0)
IMAGES = {"input_shape": (4, 6, 2)}
CASES = {
    "resnet_small": {**IMAGES, "widths": (2, 3), "blocks": (2, 1), "num_classes": 3},
    "autoencoder": {**IMAGES, "hidden": (5, 4)},
    "score_conv": {**IMAGES, "widths": (3,), "conditional": True},
    "score_unet": {**IMAGES, "widths": (2, 3), "conditional": True},
    "score_mlp": {"input_shape": (3,), "hidden": (4,), "conditional": True, "potential": True},
}
ODD = ("HWCN", "IWOH", "NWCH")


def functional(model):
    if isinstance(model, tuple):
        return jacreg.eqx.functional(*model)
    adapter = jacreg.nnx if type(model).__module__.startswith("models.nnx") else jacreg.eqx
    return adapter.functional(model)


def scattered(model):
    """The network with every array moved by some noise, so that no bias is 0 and no scale 1."""
    params, state, apply = functional(model)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(7), len(leaves))
    moved = [x + jax.random.normal(k, x.shape) / 5 for k, x in zip(keys, leaves, strict=True)]
    return apply.merge(jax.tree.unflatten(tree, moved), state)


def batch_of(name):
    xs = jax.random.normal(jax.random.key(1), (4, *CASES[name]["input_shape"]))
    return xs, (jnp.linspace(-1, 1, 4),) if name.startswith("score") else ()


def test_every_network_of_two_frameworks_is_here():
    both = {name for name, network in models.NETWORKS.items() if len(network.frameworks) > 1}
    # The first three are in test_models_layouts.py and test_certified_run.py.
    assert both == {"lenet", "mlp", "lipschitz_cnn", "resnet18", *CASES}


@pytest.mark.parametrize("name", CASES)
def test_equal_weights_give_equal_outputs_and_jacobian_products(name, x64):
    source = scattered(models.build(name, framework="nnx", key=KEY, **CASES[name]))
    layout = ODD if "HW" in source.spec.layout.inputs else None
    xs, args = batch_of(name)
    found = []
    for framework, parts in (("nnx", None), ("equinox", None), ("equinox", layout)):
        model = models.transfer(source, framework, parts)
        params, state, apply = functional(model)
        axes = "N" + (parts or ("NHWC",))[0].replace("N", "")

        def call(xs, args, params=params, state=state, apply=apply, axes=axes):
            ys = apply(
                params, state, transpose_axes(xs, "NHWC", axes) if xs.ndim == 4 else xs, *args
            )[0]
            return transpose_axes(ys, axes, "NHWC") if ys.ndim == 4 else ys

        @jax.jit
        def products(xs, args, call=call):
            lin = jacreg.linearize(call, xs, args)
            tangents = jnp.cos(jnp.arange(xs.size, dtype=xs.dtype)).reshape(xs.shape)
            ys = lin.value
            cotangents = jnp.sin(jnp.arange(ys.size, dtype=ys.dtype)).reshape(ys.shape)
            return ys, lin.jvp(tangents), lin.vjp(cotangents)

        found.append(products(xs, args))
    assert found[0][0].dtype == jnp.float64
    for other in found[1:]:
        for got, expected in zip(other, found[0], strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)
    assert all(float(jnp.abs(part).max()) > 1e-3 for part in found[0])


@pytest.mark.parametrize("name", CASES)
def test_what_is_read_of_the_program_is_the_same(name):
    quantity = jacreg.divergence if name.startswith("score") else jacreg.frobenius_squared
    xs, args = batch_of(name)
    plans = []
    for framework in ("nnx", "equinox"):
        params, state, apply = functional(
            models.build(name, framework=framework, key=KEY, **CASES[name])
        )
        plans.append(
            jacreg.plan(
                quantity,
                jacreg.linearize(
                    lambda xs, *args, parts=(params, state), apply=apply: apply(*parts, xs, *args)[
                        0
                    ],
                    xs,
                    *args,
                ),
            )
        )
    assert (plans[0].path, plans[0].num_products) == (plans[1].path, plans[1].num_products)


@pytest.mark.parametrize("name", CASES)
def test_weights_come_back_from_the_other_framework(name):
    source = scattered(models.build(name, framework="nnx", key=KEY, **CASES[name]))
    layout = ODD if "HW" in source.spec.layout.inputs else None
    back = models.transfer(models.transfer(source, "equinox", layout), "nnx", source.spec.layout)
    for got, expected in zip(
        jax.tree.leaves(functional(back)[:2]), jax.tree.leaves(functional(source)[:2]), strict=True
    ):
        np.testing.assert_array_equal(got, expected)


def test_running_statistics_are_the_same_after_training_passes(x64):
    name = "resnet_small"
    source = scattered(models.build(name, key=KEY, **CASES[name]))
    xs, _ = batch_of(name)
    axes = "N" + ODD[0].replace("N", "")
    first = functional(source)
    other = functional(models.transfer(source, "equinox", ODD))
    states, outputs = [first.state, other.state], []
    for scale in (1.0, 3.0, 0.2):
        outputs = []
        for which, (made, images) in enumerate(
            [(first, xs), (other, transpose_axes(xs, "NHWC", axes))]
        ):
            apply = jax.jit(made.apply, static_argnames="train")
            ys, states[which] = apply(made.params, states[which], scale * images + 1, train=True)
            outputs += [ys, apply(made.params, states[which], images)[0]]
        np.testing.assert_allclose(outputs[2], outputs[0], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(outputs[3], outputs[1], rtol=1e-9, atol=1e-9)
        assert not np.allclose(outputs[0], outputs[1])
    # Through the weights of the pair, which have the statistics by name.
    trained = models.transfer(other.merge(other.params, states[1]), "nnx", source.spec.layout)
    for got, expected in zip(
        jax.tree.leaves(functional(trained).state), jax.tree.leaves(states[0]), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)
    assert float(jnp.abs(jax.tree.leaves(states[0])[0]).max()) > 1e-3


@pytest.mark.parametrize("name", ["resnet_small", "autoencoder", "score_unet", "score_mlp"])
def test_a_module_draws_kernels_of_the_same_spread_by_itself(name):
    """Without `models.build`, which gives both frameworks one draw."""
    wide = {"widths": (32, 48), "hidden": (64, 80), "blocks": (1, 1), "input_shape": (8, 8, 3)}
    network = models.NETWORKS[name]
    wide["input_shape"] = (9,) if name == "score_mlp" else wide["input_shape"]
    options = {key: value for key, value in wide.items() if key in network.options}
    spec = network.spec(**options)
    first = getattr(models.nnx, network.class_name)(spec, rngs=nnx.Rngs(0))
    other = getattr(models.eqx, network.class_name)(spec, key=KEY)
    for layer, described in spec.layers().items():
        if described.kernel_axes is None:
            continue
        kernels = [first.named_layers()[layer].kernel[...]]
        made = other.named_layers()[layer]
        kernels.append(made.weight.T if hasattr(made, "weight") else made.kernel)
        drawn = described.draw(KEY)["kernel"]
        spreads = [float(jnp.std(kernel)) / float(jnp.std(drawn)) for kernel in kernels]
        # Six standard errors of the ratio of two standard deviations.
        np.testing.assert_allclose(spreads, 1, atol=6 / np.sqrt(drawn.size))
