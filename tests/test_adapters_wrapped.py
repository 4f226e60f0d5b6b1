"""Models that are jitted, rematerialised or without a call of their own."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from adapter_calls import KEY, XS, told
from flax import linen as nn
from flax import nnx

import jacreg
import jacreg.eqx
import jacreg.linen
import jacreg.nnx


def test_a_model_without_a_call_of_its_own():
    class Methods(eqx.Module):
        def encode(self, x):
            return 2 * x

        def decode(self, z):
            return z

    class NnxMethods(nnx.Module):
        def encode(self, xs):
            return 2 * xs

    class LinenMethods(nn.Module):
        def encode(self, xs):
            return 2 * xs

    for adapter, parts in (
        (jacreg.eqx, (Methods(),)),
        (jacreg.nnx, (NnxMethods(),)),
        (jacreg.linen, (LinenMethods(), {})),
    ):
        text = told(lambda adapter=adapter, parts=parts: adapter.function(*parts)(XS))
        assert "has no __call__; name the method to call" in text
        assert "encode" in text
        np.testing.assert_allclose(adapter.function(*parts, method="encode")(XS), 2 * XS)
    assert 'method="encode"' in told(lambda: jacreg.nnx.function(NnxMethods().encode))
    assert "got the class Methods itself" in told(lambda: jacreg.eqx.function(Methods))


def test_an_nnx_module_itself_is_pointed_to_the_adapter():
    """nnx forbids what a module does to itself; the error says what to pass instead."""
    norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
    with pytest.raises(Exception, match="different trace level") as caught:
        jacreg.linearize(norm, XS)
    assert "jacreg.nnx.function(module) runs a private copy" in "".join(caught.value.__notes__)


def test_jitted_models():
    class Dropped(eqx.Module):
        linear: eqx.nn.Linear
        drop: eqx.nn.Dropout

        def __call__(self, x, *, key=None):
            return self.drop(self.linear(x), key=key)

    model = Dropped(eqx.nn.Linear(3, 3, key=KEY), eqx.nn.Dropout(0.5))
    jitted = eqx.filter_jit(model)
    np.testing.assert_allclose(
        jacreg.eqx.function(jitted)(XS), jax.vmap(model.linear)(XS), rtol=1e-6
    )

    @eqx.filter_grad
    def gradient(jitted):
        lin = jacreg.linearize(jacreg.eqx.function(jitted), XS)
        return jacreg.losses.jacobian_penalty(lin, jacreg.Exact()).mean()

    leaves = [leaf for leaf in jax.tree.leaves(gradient(jitted)) if leaf.shape == (3, 3)]
    np.testing.assert_allclose(leaves[0], model.linear.weight, rtol=1e-5)
    linear = nnx.Linear(3, 3, rngs=nnx.Rngs(0))
    assert "Pass the module itself" in told(lambda: jacreg.nnx.function(nnx.jit(linear)))


class Transformed(nnx.Module):
    """nnx.remat and nnx.jit inside a differentiated call, which Flax alone does not survive."""

    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.linear = nnx.Linear(3, 3, rngs=rngs)

    @nnx.remat
    def rematerialised(self, xs):
        return self.norm(self.linear(xs))

    @nnx.jit
    def jitted(self, xs):
        return jnp.tanh(self.linear(xs))

    def __call__(self, xs):
        return self.rematerialised(xs) * self.jitted(xs)


def test_transformed_methods_leave_the_nnx_module_whole():
    model = Transformed(nnx.Rngs(0))
    before = jax.tree.leaves(nnx.state(model))

    def loss(model):
        lin = jacreg.linearize(jacreg.nnx.function(model), XS)
        return jacreg.losses.jacobian_penalty(lin, jacreg.Exact()).mean()

    def plain(kernel):
        hidden = lambda xs: xs @ kernel + model.linear.bias[...]  # noqa: E731
        dense = jax.vmap(jax.jacrev(lambda x: hidden(x) / jnp.sqrt(1 + 1e-5) * jnp.tanh(hidden(x))))
        return (dense(XS) ** 2).sum((1, 2)).mean() / 2

    expected = jax.grad(plain)(model.linear.kernel[...])
    for gradient in (nnx.grad(loss)(model), nnx.jit(nnx.grad(loss))(model)):
        np.testing.assert_allclose(gradient["linear"]["kernel"][...], expected, rtol=1e-4)
    # A module passed to jax.jit is a copy; what the call learned comes back as aux.
    fn = jacreg.nnx.function(model, statistics="batch", return_state=True)
    state = jacreg.linearize(fn, XS, has_aux=True).aux
    through_jit = jax.jit(
        lambda model, xs: jacreg.nnx.function(model, statistics="batch", return_state=True)(xs)[1]
    )(model, XS)
    for a, b in zip(jax.tree.leaves(through_jit), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(nnx.state(model)), before, strict=True):
        np.testing.assert_array_equal(a, b)
    nnx.update(model, state)
    assert jnp.abs(model.norm.mean[...]).max() > 0
    assert isinstance(model.linear, nnx.Linear)
