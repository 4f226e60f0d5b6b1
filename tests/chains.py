"""Networks that are chains of layers, and their traces by the dense Jacobian."""

import jax
import jax.numpy as jnp
import numpy as np

import jacreg
from jacreg._chain import trace_by_closed_form
from jacreg._choice import Unfit

LAYOUTS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NHWDC", "HWDIO", "NHWDC")}


def numbers(*shape, seed=0):
    return np.random.default_rng(seed + sum(shape)).normal(size=shape)


def conv(xs, kernel, padding="SAME"):
    dims = xs.ndim - 2
    return jax.lax.conv_general_dilated(
        xs, kernel, (1,) * dims, padding, dimension_numbers=LAYOUTS[dims]
    )


def chain_trace(lin):
    """The trace by its closed form, None where there is none."""
    try:
        return trace_by_closed_form(lin, None, float("inf")).run(None)
    except Unfit:
        return None


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


def with_jacobian(read, fn, xs, *, coupled=False):
    """What is read of `linearize(fn, xs)`, and the traces of dense Jacobians, by one program.

    `coupled`: `fn` knows the size of its batch, so that the blocks come from the whole of it.
    """
    size = xs[0].size

    @jax.jit
    def both(xs):
        single = jax.vmap(jax.jacfwd(lambda x: fn(x[None])[0]))
        return read(jacreg.linearize(fn, xs)), jax.jacfwd(fn)(xs) if coupled else single(xs)

    found, jacobian = both(xs)
    jacobian = np.asarray(jacobian)
    if coupled:
        jacobian = np.einsum("nanb->nab", jacobian.reshape(len(xs), size, len(xs), size))
    return found, np.trace(jacobian.reshape(-1, size, size), axis1=1, axis2=2)


def held(fn, xs, *, coupled=False):
    """Whether the trace is read as chains and equals the dense one."""
    found, expected = with_jacobian(chain_trace, fn, xs, coupled=coupled)
    assert found is not None, "not read as chains"
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def left_to_products(fn, xs, *, coupled=False):
    """Whether no chain is read, and the divergence equals the dense trace."""

    def read(lin):
        assert chain_trace(lin) is None
        return jacreg.divergence(lin)

    found, expected = with_jacobian(read, fn, xs, coupled=coupled)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def loop_products(jaxpr, inside=False):
    """Matrix products in the bodies of loops."""
    total = 0
    for equation in jaxpr.eqns:
        total += inside and equation.primitive.name == "dot_general"
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            total += loop_products(inner, inside or equation.primitive.name == "scan")
    return total
