"""JacobianTracked: each layer's norm, and the bound that their sum is."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jacreg
import jacreg.eqx
import jacreg.nnx

KEY = jax.random.key(0)
XS = jax.random.normal(KEY, (4, 3))


def chain_nnx(method=jacreg.Exact()):
    rngs = nnx.Rngs(0)
    layers = nnx.Linear(3, 5, rngs=rngs), nnx.BatchNorm(5, rngs=rngs), jnp.tanh
    return jacreg.nnx.JacobianTracked(
        *layers, nnx.Dropout(0.5, rngs=rngs), nnx.Linear(5, 2, rngs=rngs), method=method
    )


def check(ys, tracked, whole):
    """Against the dense Jacobians of the layers and of the whole."""
    np.testing.assert_allclose(ys, jax.vmap(whole)(XS), rtol=1e-5, atol=1e-6)
    norms = np.linalg.norm(jax.vmap(jax.jacrev(whole))(XS), axis=(1, 2))
    np.testing.assert_allclose(tracked.total, tracked.per_layer.sum(0), rtol=1e-5)
    assert (tracked.total >= np.log(norms) - 1e-5).all()
    assert tracked.per_layer.shape == (5, 4)


def test_nnx_chain():
    model = chain_nnx()
    ys, tracked = model(XS)
    first, last = model.layers[0], model.layers[4]

    def whole(x):
        return last(jnp.tanh(first(x) / jnp.sqrt(1 + 1e-5)))

    check(ys, tracked, whole)
    assert model.layers[1].mean[...].max() == 0  # nothing was updated
    for layer, number in ((first, 0), (last, 4)):
        np.testing.assert_allclose(
            tracked.per_layer[number], np.log(np.linalg.norm(layer.kernel[...])), rtol=1e-5
        )
    slope = 1 - jnp.tanh(first(XS) / jnp.sqrt(1 + 1e-5)) ** 2
    np.testing.assert_allclose(
        tracked.per_layer[2], 0.5 * np.log((slope**2).sum(1)), rtol=1e-4, atol=1e-5
    )
    grads = nnx.jit(nnx.grad(lambda m: m(XS)[1].total.mean()))(model)
    assert jnp.abs(grads["layers"][0]["kernel"][...]).max() > 1e-3


def test_equinox_chain():
    keys = jax.random.split(KEY, 2)

    class Net(eqx.Module):
        tracked: jacreg.eqx.JacobianTracked

        def __init__(self):
            self.tracked = jacreg.eqx.JacobianTracked(
                eqx.nn.Linear(3, 5, key=keys[0]),
                eqx.nn.BatchNorm(5, "batch", mode="batch"),
                jnp.tanh,
                eqx.nn.Dropout(0.5),
                eqx.nn.Linear(5, 2, key=keys[1]),
            )

    net, state = eqx.nn.make_with_state(Net)()
    first, last = net.tracked.layers[0], net.tracked.layers[4]

    @eqx.filter_jit
    def run(model):
        ys, tracked = jax.vmap(model, in_axes=(0, None))(XS, state)
        return ys, jacreg.LayerwiseLogFrobenius(tracked.per_layer.T, tracked.total)

    ys, tracked = run(net.tracked)
    check(ys, tracked, lambda x: last(jnp.tanh(first(x) / jnp.sqrt(1 + 1e-5))))
    np.testing.assert_allclose(
        tracked.per_layer[0], np.log(np.linalg.norm(first.weight)), rtol=1e-5
    )
    grads = eqx.filter_grad(lambda m: run(m)[1].total.mean())(net.tracked)
    assert jnp.abs(grads.layers[0].weight).max() > 1e-3


def test_equals_the_function_of_the_library_with_a_stochastic_method():
    model = chain_nnx(jacreg.Projection(num_probes=3))
    layers = [jacreg.nnx.function(m) if isinstance(m, nnx.Module) else m for m in model.layers]
    expected = jacreg.layerwise_log_frobenius(layers, XS, model.method, key=KEY)
    _, tracked = model(XS, key=KEY)
    np.testing.assert_allclose(tracked.per_layer, expected.per_layer, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="key"):
        model(XS)
    with pytest.raises(ValueError, match="empty"):
        jacreg.nnx.JacobianTracked()(XS)
    with pytest.raises(ValueError, match="empty"):
        jacreg.eqx.JacobianTracked()(XS[0])
