"""Derivatives that `jax.vmap` does not take: checks, callbacks, operations it has no rule for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from own_primitives import primitive

import jacreg
from jacreg._batched import first_unbatched

eqx = pytest.importorskip("equinox")
KEY = jax.random.key(0)
XS = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3)), jnp.float32)


def reverse_rule(backward):
    """The sine with a custom VJP."""
    sine = jax.custom_vjp(jnp.sin)
    sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (backward(x, g),))
    return sine


def forward_rule(push):
    """The sine with a custom JVP."""
    sine = jax.custom_jvp(jnp.sin)
    sine.defjvp(lambda primals, tangents: (jnp.sin(primals[0]), push(primals[0], tangents[0])))
    return sine


def on_host(x, g):
    like = jax.ShapeDtypeStruct(g.shape, g.dtype)
    return jax.pure_callback(lambda x, g: np.asarray(g) * np.cos(np.asarray(x)), like, x, g)


def checked(x, g):
    return eqx.error_if(g * jnp.cos(x), jnp.any(jnp.isnan(g)), "a cotangent is nan")


def checked_at_each(x, g):
    slope = jax.vmap(lambda x: eqx.error_if(jnp.cos(x), jnp.any(x > 1e6), "too large"))(x)
    return g * slope


def in_groups(xs):
    """The identity of each group of rows, for which JAX has no rule of `jax.vmap` by xs alone."""
    return jax.lax.ragged_dot(xs, jnp.stack([jnp.eye(3)] * 2), jnp.array([1, 1]))


FUNCTIONS = {
    "check in a custom VJP": reverse_rule(checked),
    "check in a loop of a custom VJP": reverse_rule(
        lambda x, g: jax.lax.fori_loop(0, 2, lambda i, c: jnp.where(i == 0, checked(x, g), c), g)
    ),
    "check of each row": reverse_rule(checked_at_each),
    "callback in a custom VJP": reverse_rule(on_host),
    "check in a custom JVP": forward_rule(
        lambda x, t: jnp.cos(x) * eqx.error_if(t, jnp.any(x > 1e6), "too large")
    ),
    "check of the function": lambda xs: jnp.sin(eqx.error_if(xs, jnp.any(xs > 1e6), "too large")),
    "callback of the function": lambda xs: jnp.sin(xs) + jax.lax.stop_gradient(
        jax.pure_callback(np.zeros_like, jax.ShapeDtypeStruct(xs.shape, xs.dtype),
                          jax.lax.stop_gradient(xs))
    ),
    "product of groups": lambda xs: jnp.sin(in_groups(xs)),
    "product of groups in a loop": lambda xs: jnp.sin(
        jax.lax.scan(lambda xs, _: (in_groups(xs), None), xs, length=2)[0]
    ),
    "product of groups in a custom VJP": reverse_rule(lambda x, g: in_groups(g * jnp.cos(x))),
}  # fmt: skip
SLOPES = np.cos(np.asarray(XS, np.float64))
ANSWERS = {
    "jacobian": (jacreg.jacobian, SLOPES[:, :, None] * np.eye(3)),
    "exact jacobian": (
        lambda lin: jacreg.jacobian(lin, jacreg.Exact(chunk_size=2)),
        SLOPES[:, :, None] * np.eye(3),
    ),
    "gram": (jacreg.gram, SLOPES[:, :, None] ** 2 * np.eye(3)),
    "diagonal": (jacreg.diagonal, SLOPES),
    "exact diagonal": (lambda lin: jacreg.diagonal(lin, jacreg.Exact(2)), SLOPES),
    "frobenius_squared": (
        lambda lin: jacreg.frobenius_squared(lin, jacreg.Exact()),
        (SLOPES**2).sum(1),
    ),
    "probes": (
        lambda lin: jacreg.divergence(lin, jacreg.Hutchinson(3), key=KEY),
        SLOPES.sum(1),
    ),
    "hutch++": (
        lambda lin: jacreg.divergence(lin, jacreg.HutchPlusPlus(9), key=KEY),
        SLOPES.sum(1),
    ),
    "spectral_norm": (lambda lin: jacreg.spectral_norm(lin, key=KEY), np.abs(SLOPES).max(1)),
    "log_pseudo_determinant": (
        jacreg.log_pseudo_determinant,
        np.log(np.abs(SLOPES)).sum(1),
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_quantity_is_that_of_the_function(name):
    @jax.jit
    def found(xs):
        lin = jacreg.linearize(FUNCTIONS[name], xs)
        return {quantity: call(lin) for quantity, (call, _) in ANSWERS.items()}

    for quantity, value in found(XS).items():
        np.testing.assert_allclose(
            value, ANSWERS[quantity][1], rtol=1e-4, atol=1e-5, err_msg=f"{name}, {quantity}"
        )


@pytest.mark.parametrize("name", ["check in a custom VJP", "check of the function"])
def test_the_gram_matrix_of_two_functions(name):
    mix = jnp.asarray(np.random.default_rng(1).normal(size=(3, 2)), jnp.float32)
    other = jacreg.linearize(lambda xs: xs @ mix, XS)
    found = jacreg.gram(jacreg.linearize(FUNCTIONS[name], XS), other)
    np.testing.assert_allclose(found, SLOPES[:, :, None] * mix, rtol=1e-4, atol=1e-5)


def test_a_laplacian_where_directions_cannot_share_an_operation():
    """It takes the gradient's products, one after the other, and says what stood in the way."""
    lin = jacreg.linearize(lambda xs: jnp.sin(in_groups(xs)).sum(1), XS)
    for method in (jacreg.Auto(), jacreg.Exact()):
        found = jacreg.laplacian(lin, method)
        np.testing.assert_allclose(found, -np.sin(XS).sum(1), rtol=1e-4, atol=1e-5)
    reason = jacreg.plan(jacreg.laplacian, lin).reason
    assert "ragged_dot_general at test_checks_in_derivatives.py" in reason


@pytest.mark.parametrize("quantity", [jacreg.laplacian, jacreg.hessian_diagonal])
def test_second_derivatives_through_a_check(quantity):
    """Its derivative rule holds another one, with a Boolean among what it is given."""

    def energy(xs):
        return (eqx.error_if(jnp.sin(xs), jnp.any(jnp.isnan(xs)), "an input is nan") ** 2).sum(1)

    found = jax.jit(lambda xs: quantity(jacreg.linearize(energy, xs)))(XS)
    terms = 2 * jnp.cos(2 * XS)
    wanted = terms.sum(1) if quantity is jacreg.laplacian else terms
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_a_primitive_without_a_batching_rule_is_found():
    for axes in ((), (0,), (1,)):
        double = primitive(f"double_{axes}", lambda x: 2 * x, batched=axes)
        program = jax.make_jaxpr(lambda x, y, f=double: jax.jit(f)(x) + f(y))(XS, XS).jaxpr
        assert first_unbatched(program).primitive.name == f"double_{axes}"
        assert first_unbatched(program, [False, False]) is None
    double = primitive("double", lambda x: 2 * x)
    assert first_unbatched(jax.make_jaxpr(double)(XS).jaxpr) is None


def test_a_check_that_fails_raises():
    never = reverse_rule(lambda x, g: eqx.error_if(g, jnp.any(x < 1e6), "as it should"))
    with pytest.raises(Exception, match="as it should"):
        jax.block_until_ready(jacreg.jacobian(jacreg.linearize(never, XS)))


@pytest.mark.slow
def test_a_flow_by_backsolve():
    diffrax = pytest.importorskip("diffrax")

    def flow(xs):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: -y * jnp.cos(y)),
            diffrax.Tsit5(), 0.0, 0.5, 0.1, xs,
            adjoint=diffrax.BacksolveAdjoint(),
        ).ys[0]  # fmt: skip

    expected = jnp.stack([jax.jacrev(lambda x: flow(x[None])[0])(x) for x in XS])
    lin = jacreg.linearize(flow, XS)
    np.testing.assert_allclose(jacreg.jacobian(lin), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        jacreg.spectral_norm(lin, key=KEY), np.linalg.norm(expected, 2, (1, 2)), rtol=1e-4
    )
