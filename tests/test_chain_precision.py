"""Closed forms of layers that ask for a precision."""

import jax
import jax.numpy as jnp
import pytest
from chains import chain_trace, kernels, numbers
from jax import lax
from jax.extend.core import jaxprs_in_params

import jacreg

pytestmark = pytest.mark.usefixtures("x64")


def products(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield equation.params["precision"]
        for inner in jaxprs_in_params(equation.params):
            yield from products(inner)


@pytest.mark.parametrize("precision", ["highest", "high", None])
@pytest.mark.parametrize("how", ["option", "argument"])
def test_a_precision_is_carried_through(how, precision):
    """Closed forms all the same, no product of which is coarser than those of the layers."""
    weights = kernels(2)

    def net(x, own):
        for each in weights:
            x = jnp.tanh(lax.conv_general_dilated(
                x, each, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
                precision=own,
            ))  # fmt: skip
        return jnp.matmul(x, jnp.ones((2, 2)), precision=own) + x

    own = precision if how == "argument" else None
    with jax.default_matmul_precision(precision if how == "option" else None):
        lin = jacreg.linearize(lambda x: net(x, own), numbers(2, 5, 5, 2))
        program = jax.make_jaxpr(lambda lin: chain_trace(lin))(lin)
        assert chain_trace(lin) is not None
    found = {str(each) for each in products(program.jaxpr)}
    if precision is not None:
        assert found
        assert all(precision.upper() in each for each in found)


def test_an_algorithm_of_its_own_is_not_read():
    def net(x):
        hidden = lax.dot(x, jnp.ones((4, 4)), precision=lax.DotAlgorithmPreset.F64_F64_F64)
        return jnp.tanh(hidden) @ jnp.ones((4, 4))

    assert chain_trace(jacreg.linearize(net, numbers(2, 4))) is None
