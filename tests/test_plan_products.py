"""A call takes as many products as its plan says, and what is read from few is right."""

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
import pytest
from planned import IMAGES, MIX, RNG, VECTORS, deep_dense, rolled, weights

import jacreg


def _contractions(jaxpr, wide):
    """Operations of all products with a matrix of that many rows or columns, loops counted."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            shapes = [v.aval.shape for v in equation.invars]
            (contracted, _), _ = equation.params["dimension_numbers"]
            if any(wide in shape for shape in shapes):
                total += equation.outvars[0].aval.size * np.prod(
                    [shapes[0][axis] for axis in contracted], dtype=int
                )
        inner = sum(_contractions(each, wide) for each in jex.jaxprs_in_params(equation.params))
        total += inner * equation.params.get("length", 1)
    return int(total)


WIDE = 97
INTO, OUT = weights(6, WIDE), weights(WIDE, 6)


def through_wide(xs):
    """No closed form is known behind a sort; every product passes both matrices."""
    return jnp.sort(jnp.sort(xs @ INTO, 1) @ OUT, 1)


def tall(xs):
    return jnp.sort(jnp.sort(xs @ INTO, 1) @ OUT, 1)[:, :4]


COLORED = jacreg.color(through_wide, VECTORS)
KEYS = jax.random.key(0)
METHODS = {
    jacreg.divergence: (jacreg.Auto(), jacreg.Exact(), jacreg.Exact(2), COLORED,
                        jacreg.Hutchinson(3), jacreg.HutchPlusPlus(5), jacreg.HutchPlusPlus(30)),
    jacreg.diagonal: (jacreg.Auto(), jacreg.Exact(4), jacreg.Hutchinson(3),
                      jacreg.HutchPlusPlus(5)),
    jacreg.frobenius_squared: (jacreg.Auto(), jacreg.Exact(), jacreg.Exact(4),
                               jacreg.Projection(3), jacreg.Projection(2, mode="forward"),
                               jacreg.NoiseInjection(0.1), jacreg.CoupledBatch(3)),
    jacreg.jacobian: (jacreg.Auto(), jacreg.Exact(), jacreg.Exact(4)),
    jacreg.gram: (jacreg.Auto(), jacreg.Exact(), jacreg.Exact(4)),
    jacreg.log_pseudo_determinant: (jacreg.Exact(), jacreg.Exact(4)),
}  # fmt: skip
CALLS = [(q, m, fn) for q, ms in METHODS.items() for m in ms for fn in (through_wide, tall)
         if fn is through_wide or q not in (jacreg.divergence, jacreg.diagonal)]  # fmt: skip


@pytest.mark.parametrize(("quantity", "method", "fn"), CALLS)
def test_the_call_takes_as_many_products_as_the_plan_says(quantity, method, fn):
    lin = jacreg.linearize(fn, VECTORS)
    plan = jacreg.plan(quantity, lin, method)
    options = {"method": method}
    if quantity not in (jacreg.jacobian, jacreg.gram):
        options["key"] = KEYS
    taken = _contractions(jax.make_jaxpr(lambda: quantity(lin, **options))().jaxpr, WIDE)
    one = _contractions(jax.make_jaxpr(lin.jvp)(VECTORS).jaxpr, WIDE)
    if isinstance(method, jacreg.NoiseInjection):
        assert plan == jacreg.Plan("finite differences", 0, plan.reason)
    else:
        assert plan.path == "products"
        assert taken == plan.num_products * one, plan


@pytest.mark.parametrize(("fn", "mode"), [(tall, "forward"), (through_wide, "both")])
def test_enough_vectors_for_the_norm_itself_take_the_direction_of_the_linearization(fn, mode):
    lin = jacreg.linearize(fn, VECTORS, mode=mode)
    method = jacreg.XRowNorm(12)
    plan = jacreg.plan(jacreg.frobenius_squared, lin, method)
    norm = jax.make_jaxpr(lambda: jacreg.frobenius_squared(lin, method, key=KEYS))()
    one = _contractions(jax.make_jaxpr(lin.jvp)(VECTORS).jaxpr, WIDE)
    assert _contractions(norm.jaxpr, WIDE) == plan.num_products * one == 6 * one


DENSE = {
    "one layer": lambda xs: jnp.tanh(xs @ MIX) * xs,
    "one hidden layer": lambda xs: jnp.sin(jnp.tanh(xs @ INTO) @ OUT),
    "three hidden layers": deep_dense,
    "residual": lambda xs: xs + jax.nn.relu(xs @ INTO) @ OUT,
    "weighted": lambda xs: 0.5 * xs - 3 * (jnp.tanh(xs @ INTO) @ OUT),
    "vmapped": jax.vmap(lambda x: OUT.T @ jax.nn.softplus(INTO.T @ x)),
}


@pytest.mark.parametrize("fn", DENSE.values(), ids=list(DENSE))
def test_the_diagonal_of_matrices_has_a_closed_form(fn):
    xs = jnp.asarray(RNG.normal(size=(3, 6)), jnp.float32)
    lin = jacreg.linearize(fn, xs)
    plan = jacreg.plan(jacreg.diagonal, lin)
    assert (plan.path, plan.num_products) == ("closed form", 0)
    exact = jacreg.diagonal(lin, jacreg.Exact())
    found = jax.jit(lambda xs: jacreg.diagonal(jacreg.linearize(fn, xs)))(xs)
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-5)
    assert found.dtype == jnp.float32


def test_sparse_jacobians_hold_what_the_colours_tell_apart():
    lin = jacreg.linearize(lambda xs: rolled(xs)[:, ::2], VECTORS)
    coloring = jacreg.color(lambda xs: rolled(xs)[:, ::2], VECTORS, quantity=jacreg.jacobian)
    dense = jacreg.jacobian(lin, jacreg.Exact())
    for method, entries in ((jacreg.Auto(), 6), (coloring, 6), (jacreg.Exact(), 18)):
        found = jacreg.jacobian(lin, method, sparse=True)
        assert (found.nse, found.shape) == (entries, (1, 3, 6))
        np.testing.assert_allclose(found.todense(), dense, rtol=1e-6)
    image = jacreg.linearize(lambda xs: jnp.sin(xs) * xs[:, ::-1], IMAGES)
    found = jacreg.jacobian(image, sparse=True)
    np.testing.assert_allclose(found.todense(), jacreg.jacobian(image), rtol=1e-6)
    with pytest.raises(ValueError, match="one array"):
        jacreg.jacobian(jacreg.linearize(lambda xs: (xs, xs), VECTORS), sparse=True)
