"""Second derivatives of scalar fields with conditions over parts that are not finite.

Every case has its root as an argument: with `jnp.sqrt` forward over reverse of JAX is not finite,
with `safe` it is, and its Hessian in float64 is the truth.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg

RNG = np.random.default_rng(0)
XS = (np.abs(RNG.normal(size=(3, 3))) + 0.2) * np.asarray([1, -1, 1])[:, None]
MIX, BACK = RNG.normal(size=(3, 3)), RNG.normal(size=(3, 3))


def safe(xs):
    """A root that is zero, with its derivatives, where there is none."""
    return jnp.where(xs > 0, jnp.sqrt(jnp.where(xs > 0, xs, 1)), 0)


def good(xs):
    """Which rows have a root."""
    return xs.sum(-1, keepdims=True) > 0


FIELDS = {
    "entries": lambda root: lambda xs: jnp.where(xs > 0, root(xs) ** 3 * xs, 0).sum(-1),
    "entries at zero": lambda root: (
        lambda xs: jnp.where(xs > 0, root(jnp.abs(xs)) * xs, 0).sum(-1) ** 2
    ),
    "one condition in another": lambda root: (
        lambda xs: jnp.where(good(xs), root(jnp.where(xs > 0.5, xs, 0)), root(-xs)).sum(-1)
    ),
    "two conditions added": lambda root: (
        lambda xs: jnp.sin(jnp.where(xs > 0.5, root(xs), 0) + jnp.where(xs < 0, xs, 0)).sum(-1)
    ),
    "two layers": lambda root: (
        lambda xs: jnp.tanh(jnp.where(xs > 0, root(xs), xs**2) @ MIX).sum(-1)
    ),
    "before": lambda root: lambda xs: (root(jnp.where(xs > 0, xs, 0)) * xs**2).sum(-1),
    "energies": lambda root: (
        lambda xs: jnp.where(good(xs)[:, 0], root(xs) @ MIX[0] ** 2, (xs**2).sum(-1))
    ),
    "rows": lambda root: lambda xs: jnp.where(good(xs), jnp.sin(root(xs) @ MIX), xs**2).sum(-1),
    "rows, then a layer": lambda root: (
        lambda xs: jnp.tanh(jnp.where(good(xs), jnp.sin(root(xs) @ MIX), xs**2) @ BACK).sum(-1)
    ),
    "normalised as by Flax": lambda root: (
        lambda xs: jnp.where(
            good(xs),
            root(xs * (jax.lax.rsqrt((xs**2).mean(-1, keepdims=True)) * MIX[0] ** 2)) @ BACK,
            xs**2,
        ).sum(-1)
    ),
    "length": lambda root: (
        lambda xs: jnp.sin(root((jnp.where(good(xs), xs, 0) ** 2).sum(-1)) + (xs**3).sum(-1))
    ),
    "layers": lambda root: (
        lambda xs: jax.lax.scan(
            lambda c, w: (jnp.where(c > 0, root(c), c * c) @ w, None), xs, jnp.stack([MIX, BACK])
        )[0].sum(-1)
    ),
    "checkpoint": lambda root: jax.checkpoint(
        lambda xs: jnp.where(good(xs)[:, 0], root(xs) @ MIX[0] ** 2, (xs**2).sum(-1))
    ),
}


@pytest.mark.parametrize("name", FIELDS)
def test_second_derivatives_are_those_of_the_safe_field(name, x64):
    xs = jnp.asarray(XS * [1, 1, 0] if name == "entries at zero" else XS)
    fn = FIELDS[name](jnp.sqrt)
    hessian = jax.vmap(jax.hessian(lambda x: FIELDS[name](safe)(x[None])[0]))(xs)
    diagonal = np.diagonal(hessian, axis1=1, axis2=2)
    assert np.isfinite(hessian).all()

    @jax.jit
    def found(xs):
        lin = jacreg.linearize(fn, xs)
        methods = (jacreg.Auto(), jacreg.Exact())
        return (
            [jacreg.laplacian(lin, method) for method in methods],
            [jacreg.hessian_diagonal(lin, method) for method in methods],
        )

    for traces, each in zip(*found(xs), strict=True):
        np.testing.assert_allclose(each, diagonal, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(traces, diagonal.sum(-1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", FIELDS)
def test_in_jax_forward_over_reverse_is_not_finite(name, x64):
    """Else a case shows nothing."""
    xs = jnp.asarray(XS * [1, 1, 0] if name == "entries at zero" else XS)
    fn = FIELDS[name](jnp.sqrt)
    assert not np.isfinite(jax.jit(jax.vmap(jax.hessian(lambda x: fn(x[None])[0])))(xs)).all()


@pytest.mark.parametrize("method", [jacreg.Auto(), jacreg.Exact()], ids=repr)
def test_what_is_selected_and_is_none_stays_none(method, x64):
    """A row that the condition takes and that has no root."""
    xs = jnp.asarray(XS).at[0, 0].set(-0.1)
    assert good(xs)[0]
    found = jacreg.laplacian(jacreg.linearize(FIELDS["rows, then a layer"](jnp.sqrt), xs), method)
    assert np.isnan(found[0])
    assert np.isfinite(found[1:]).all()


def test_a_field_without_a_pole_is_carried_as_before(x64):
    """There nothing that a condition leaves out is infinite."""

    def field(act):
        return lambda xs: jnp.tanh(act(xs @ MIX) @ BACK).sum(-1) ** 2

    tame = (jax.nn.relu, lambda xs: jnp.where(xs > 0, xs, 0))
    xs = jnp.asarray(XS)
    assert not any(jacreg.linearize(field(act), xs).program.left_out for act in tame)
    assert jacreg.linearize(
        field(lambda xs: jnp.where(xs > 0, jnp.sqrt(xs), 0)), xs
    ).program.left_out


def test_a_slope_that_happens_to_be_zero_keeps_its_derivative(x64):
    """It is no condition: by the bias it is something else the next moment."""

    def total(bias, laplacians):
        def field(xs):
            inner = (xs @ MIX) ** 2 @ BACK + bias
            return jnp.where(inner > -1, jnp.sqrt(1 + inner**2), 0).sum(-1)

        return laplacians(field).sum()

    xs, bias = jnp.zeros((2, 3)), jnp.zeros(3)
    found = jax.grad(total)(bias, lambda f: jacreg.laplacian(jacreg.linearize(f, xs)))
    truth = jax.grad(total)(
        bias, lambda f: jnp.trace(jax.hessian(lambda x: f(x[None])[0])(xs[0]))[None] * len(xs)
    )
    assert np.abs(truth).min() > 0.1
    np.testing.assert_allclose(found, truth, rtol=1e-9)
