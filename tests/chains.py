"""Networks that are chains of layers, and their traces by the dense Jacobian."""

import jax
import jax.numpy as jnp
import numpy as np

import jacreg
from jacreg._chain import chain_trace

LAYOUTS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NHWDC", "HWDIO", "NHWDC")}


def numbers(*shape, seed=0):
    return np.random.default_rng(seed + sum(shape)).normal(size=shape)


def conv(xs, kernel, padding="SAME"):
    dims = xs.ndim - 2
    return jax.lax.conv_general_dilated(
        xs, kernel, (1,) * dims, padding, dimension_numbers=LAYOUTS[dims]
    )


def net(kernels, activation=jnp.tanh, layer=conv):
    def apply(xs):
        for number, kernel in enumerate(kernels):
            xs = layer(xs, kernel)
            xs = activation(xs) if number < len(kernels) - 1 else xs
        return xs

    return apply


def kernels(count, taps=(3, 3), channels=2, hidden=3):
    widths = [channels, *[hidden] * (count - 1), channels]
    return [numbers(*taps, a, b, seed=i) for i, (a, b) in enumerate(zip(widths, widths[1:], strict=False))]  # fmt: skip  # noqa: E501, RUF007


def dense(fn, xs):
    size = xs[0].size
    blocks = jax.jit(jax.vmap(jax.jacfwd(lambda x: fn(x[None])[0])))(xs)
    return np.trace(np.asarray(blocks).reshape(-1, size, size), axis1=1, axis2=2)


def held(fn, xs):
    """Whether the trace is read as chains and equals the dense one."""
    found = jax.jit(lambda xs: chain_trace(jacreg.linearize(fn, xs)))(xs)
    assert found is not None, "not read as chains"
    np.testing.assert_allclose(found, dense(fn, xs), rtol=1e-10, atol=1e-10)


def loop_products(jaxpr, inside=False):
    """Matrix products in the bodies of loops."""
    total = 0
    for equation in jaxpr.eqns:
        total += inside and equation.primitive.name == "dot_general"
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            total += loop_products(inner, inside or equation.primitive.name == "scan")
    return total
