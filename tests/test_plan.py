"""What `plan` says is what the call does: paths, numbers of products, reasons with their place."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from planned import CASES, IMAGES, VECTORS, conv, deep_dense, energy, rolled, unet, weights

import jacreg


@pytest.mark.parametrize("name", CASES)
def test_paths_and_numbers_of_products(name):
    fn, xs, trace, norm = CASES[name]
    lin = jacreg.linearize(fn, xs)
    for quantity, expected in ((jacreg.divergence, trace), (jacreg.frobenius_squared, norm)):
        plan = jacreg.plan(quantity, lin)
        assert (plan.path, plan.num_products) == expected, plan
        assert f"\nproducts  {plan.num_products}\n" in str(plan)
        if plan.path == "products":
            assert "colours save nothing" in plan.reason


@pytest.mark.parametrize(
    ("name", "operation"),
    [("recurrent", "scan"), ("ordered", "gather"), ("attention", "add_any")],
)
def test_the_reason_names_the_operation_and_the_line(name, operation):
    fn, xs, *_ = CASES[name]
    reason = jacreg.plan(jacreg.divergence, jacreg.linearize(fn, xs)).reason
    first = fn.__code__.co_firstlineno
    line = int(reason.split(f"{operation} at planned.py:")[1].split(")")[0])
    assert first < line <= first + 3


def test_a_convolution_in_groups_is_named_as_jax_does_and_where_it_stands():
    images, kernel = jnp.ones((1, 2, 8, 8)), jnp.ones((2, 1, 3, 3))

    def fn(xs):
        ys = jax.lax.conv_general_dilated(xs, kernel, (1, 1), "SAME", feature_group_count=2)
        return ys * jnp.sort(ys.reshape(1, -1), 1).reshape(ys.shape)

    reason = jacreg.plan(jacreg.divergence, jacreg.linearize(lambda xs: fn(xs), images)).reason
    place = f"conv_general_dilated at test_plan.py:{fn.__code__.co_firstlineno + 1})"
    assert f"no closed form (a convolution of another form, {place}" in reason


def test_a_plan_is_the_same_under_jit_and_of_a_mapped_linearization():
    seen = []

    def step(xs):
        lin = jacreg.linearize(unet, xs)
        seen.append(jacreg.plan(jacreg.divergence, lin))
        return jacreg.divergence(lin)

    eager = jacreg.plan(jacreg.divergence, jacreg.linearize(unet, IMAGES))
    jax.eval_shape(jax.jit(step), IMAGES)
    jax.eval_shape(jax.vmap(step), jnp.stack([IMAGES, IMAGES]))
    assert seen == [eager, eager]


def test_a_table_that_is_traced_counts_as_unknown():
    table = jnp.asarray([1, 2, 3, 4, 5, 0])

    def neighbours(table):
        def fn(xs):
            return jnp.sin(xs) * xs[:, table]

        return fn

    known = jacreg.plan(jacreg.divergence, jacreg.linearize(neighbours(table), VECTORS))
    assert (known.path, known.num_products) == ("colouring", 2)
    seen = []

    @jax.jit
    def step(table):
        lin = jacreg.linearize(neighbours(table), VECTORS)
        seen.append(jacreg.plan(jacreg.divergence, lin))
        return jacreg.divergence(lin)

    found = step(table)
    assert seen[0].path == "products"
    assert "gather" in seen[0].reason
    assert "test_plan.py" in seen[0].reason
    np.testing.assert_allclose(
        found, jacreg.divergence(jacreg.linearize(neighbours(table), VECTORS)), rtol=1e-5
    )
    # The other table has another pattern, and its own colours.
    crossed = jnp.asarray([1, 0, 3, 2, 5, 4])
    lin = jacreg.linearize(neighbours(crossed), VECTORS)
    truth = jacreg.divergence(lin, jacreg.Exact())
    np.testing.assert_allclose(jacreg.divergence(lin), truth, rtol=1e-5)


def test_empty_batches_take_nothing():
    lin = jacreg.linearize(jnp.sin, jnp.ones((0, 3)))
    assert jacreg.plan(jacreg.divergence, lin).path == "empty"
    assert jacreg.divergence(lin).shape == (0,)


@pytest.mark.parametrize("quantity", list(jacreg._plan._QUANTITIES), ids=lambda q: q.__name__)
def test_without_a_method_the_plan_is_that_of_the_call_without_one(quantity):
    fn = (lambda xs: jnp.sum(xs**2, axis=1)) if "lap" in quantity.__name__ else jnp.sin
    fn = (lambda xs: jnp.sum(xs**2, axis=1)) if "hessian" in quantity.__name__ else fn
    lin = jacreg.linearize(fn, VECTORS)
    default = inspect.signature(quantity).parameters["method"].default
    assert jacreg.plan(quantity, lin) == jacreg.plan(quantity, lin, default)


def test_what_is_no_quantity_is_refused():
    lin = jacreg.linearize(jnp.sin, VECTORS)
    with pytest.raises(TypeError, match="one of the functions divergence"):
        jacreg.plan("divergence", lin)
    with pytest.raises(TypeError, match="Linearization"):
        jacreg.plan(jacreg.divergence, jnp.sin)
    with pytest.raises(TypeError, match="method must be one of Auto, Exact"):
        jacreg.plan(jacreg.divergence, lin, jacreg.Projection())
    with pytest.raises(ValueError, match="square"):
        jacreg.plan(jacreg.divergence, jacreg.linearize(lambda xs: xs[:, :2], VECTORS))


@pytest.mark.parametrize("quantity", list(jacreg._plan._QUANTITIES), ids=lambda q: q.__name__)
def test_a_plan_compiles_and_computes_nothing(quantity, compilations):
    """It reads programs: of a Hessian, too, whose gradient has to be differentiated for it."""
    for fn, xs in ((rolled, VECTORS), (deep_dense, VECTORS)):
        fn = energy(fn) if quantity in (jacreg.laplacian, jacreg.hessian_diagonal) else fn
        lin = jacreg.linearize(fn, xs)
        compilations.clear()
        if quantity is not jacreg.log_pseudo_determinant:
            jacreg.plan(quantity, lin)
        jacreg.plan(quantity, lin, jacreg.Exact())
        assert not compilations


@pytest.mark.parametrize("side", [16, 32])
def test_four_convolutions_have_a_closed_form_of_images_of_any_size(side):
    """Which has a form for each platform from some size on: one of them is run."""
    kernels = [weights(3, 3, a, b) for a, b in ((3, 16), (16, 16), (16, 16), (16, 3))]

    def fn(xs):
        for kernel in kernels[:-1]:
            xs = jnp.tanh(conv(xs, kernel))
        return conv(xs, kernels[-1])

    lin = jacreg.linearize(fn, jnp.ones((4, side, side, 3)))
    assert jacreg.plan(jacreg.divergence, lin).path == "closed form"
