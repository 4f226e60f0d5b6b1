"""What `plan` says of Laplacians and Hessians' diagonals: read from forms where these settle it."""

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
import pytest
from planned import (
    IMAGES,
    MIX,
    RNG,
    VECTORS,
    attention,
    conv,
    energy,
    pooled,
    recurrent,
    weights,
)

import jacreg
from jacreg import _second_order
from jacreg._choice import Unfit
from jacreg._forward_laplacian import most_entries, room


def running_product(xs):
    return jnp.cumprod(1 + xs, axis=1)


def in_a_loop(xs):
    def step(ys, _):
        return jnp.cumprod(ys, axis=1), None

    return jax.lax.scan(step, xs, length=2)[0]


@jax.custom_jvp
def scaled(xs):
    return xs / jnp.linalg.norm(xs, axis=1, keepdims=True)


scaled.defjvp(lambda primals, tangents: (scaled(*primals), scaled(tangents[0])))


@pytest.mark.parametrize("quantity", [jacreg.laplacian, jacreg.hessian_diagonal])
@pytest.mark.parametrize(
    ("fn", "operation"),
    [(running_product, "cumprod"), (in_a_loop, "cumprod"), (scaled, "custom_jvp_call")],
)
def test_the_plan_of_a_laplacian_names_what_is_followed_for_each_direction(quantity, fn, operation):
    lin = jacreg.linearize(lambda xs: jnp.sum(fn(jnp.sin(xs)), axis=1), VECTORS)
    reason = jacreg._plan._QUANTITIES[quantity].auto[0](lin, jacreg.Auto(), float("inf")).why
    assert f"derivative rule of {operation} at test_plan_laplacian.py:" in reason
    # Where it does not depend on x, it costs nothing.
    lin = jacreg.linearize(lambda xs, ys: jnp.sum(xs**2 * fn(ys), axis=1), VECTORS, VECTORS)
    assert "derivative rule" not in jacreg.plan(quantity, lin).reason
    lin = jacreg.linearize(lambda xs: jax.nn.softplus(xs @ MIX).sum(1), VECTORS)
    assert "derivative rule" not in jacreg.plan(quantity, lin).reason


def test_a_hessian_that_is_no_chain_is_not_differentiated_to_see_that(monkeypatch):
    monkeypatch.setattr(jacreg._of_gradient, "gradient_field", None)
    lin = jacreg.linearize(energy(lambda xs: jax.nn.softmax(jnp.cumsum(xs, axis=1))), VECTORS)
    plan = jacreg.plan(jacreg.laplacian, lin)
    assert (plan.path, plan.num_products) == ("forward Laplacian", 0)


@pytest.mark.parametrize("quantity", [jacreg.laplacian, jacreg.hessian_diagonal])
def test_a_hessian_that_nothing_else_can_save_is_not_traced(quantity, monkeypatch):
    """The forms of its program say what the forward Laplacian goes through and may hold."""
    fields = {
        "dense": (energy(lambda xs: jnp.tanh(xs @ MIX) @ MIX), VECTORS),
        "attention": (energy(attention), jnp.ones((2, 3, 4))),
        "pooled": (energy(pooled), IMAGES),
    }
    if quantity is jacreg.hessian_diagonal:
        del fields["dense"]  # products may take less
    lins = {name: jacreg.linearize(fn, xs) for name, (fn, xs) in fields.items()}
    # What nothing of x enters may be anything.
    lins["argument"] = jacreg.linearize(
        lambda xs, ys: energy(pooled)(xs) * energy(recurrent)(ys), IMAGES, VECTORS
    )
    weighed = jacreg.linearize(energy(recurrent), VECTORS)
    ruled = jacreg.linearize(energy(lambda xs: jax.nn.softplus(xs @ MIX)), VECTORS)
    monkeypatch.setattr(jacreg._of_gradient, "gradient_field", None)
    if quantity is jacreg.laplacian:
        assert jacreg._plan._QUANTITIES[quantity].decide(ruled, jacreg.Auto()).cost == 0
    monkeypatch.setattr(jax, "make_jaxpr", None)
    for lin in lins.values():
        assert jacreg.plan(quantity, lin).path == "forward Laplacian"
    with pytest.raises(TypeError):
        jacreg.plan(quantity, weighed)


def _convolutions(depth, mode, *, bent):
    """Convolutions of an image with tanh between them, padded with zeros or as `jnp.pad` does."""
    kernels = np.random.default_rng(0).normal(size=(depth, 3, 3, 2, 2)).astype(np.float32)

    def energy(xs):
        for number, kernel in enumerate(kernels):
            xs = xs if mode == "zeros" else jnp.pad(xs, ((0, 0), (1, 1), (1, 1), (0, 0)), mode)
            xs = conv(xs, kernel, padding="SAME" if mode == "zeros" else "VALID")
            xs = jnp.tanh(xs) if bent or number < depth - 1 else xs
        return jnp.sum(xs, axis=(1, 2, 3))

    return energy


@pytest.mark.parametrize("mode", ["wrap", "reflect", "edge"])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("quantity", [jacreg.laplacian, jacreg.hessian_diagonal])
def test_padding_by_other_entries_leaves_nothing_to_weigh(quantity, depth, mode, monkeypatch):
    """A closed trace has no such layer on its way back, and colours take as many directions."""
    lin = jacreg.linearize(_convolutions(depth, mode, bent=True), IMAGES)
    monkeypatch.setattr(jacreg._of_gradient, "gradient_field", None)
    monkeypatch.setattr(jax, "make_jaxpr", None)
    plan = jacreg.plan(quantity, lin)
    assert (plan.path, plan.num_products) == ("forward Laplacian", 0)


@pytest.mark.parametrize("mode", ["zeros", "wrap", "reflect"])
def test_the_laplacian_of_three_convolutions_is_read_from_forms(mode, monkeypatch):
    """A second derivative behind the third leads through six: more than a closed trace has."""
    lin = jacreg.linearize(_convolutions(3, mode, bent=True), IMAGES)
    monkeypatch.setattr(jacreg._of_gradient, "gradient_field", None)
    monkeypatch.setattr(jax, "make_jaxpr", None)
    plan = jacreg.plan(jacreg.laplacian, lin)
    assert (plan.path, plan.num_products) == ("forward Laplacian", 0)


def _wide(stride):
    """Sixteen channels inside, two at the end."""
    inside, outside = weights(3, 3, 2, 16), weights(3, 3, 16, 2)
    return energy(lambda xs: jnp.tanh(conv(jnp.tanh(conv(xs, inside, stride)), outside)))


@pytest.mark.parametrize("stride", [1, 2])
def test_what_lies_in_shared_slots_is_told_without_tracing(stride, monkeypatch):
    """No more is held than forms say, and less than all directions would take."""
    lin = jacreg.linearize(_wide(stride), IMAGES)
    field = jex.ClosedJaxpr(lin.program.jaxpr, list(lin.constants))
    traced = jax.make_jaxpr(
        lambda: _second_order.second_order(field, [IMAGES], 0, _second_order.Order(False))
    )()
    held = _second_order._largest(traced.jaxpr)
    whole = most_entries(field.jaxpr, [True], IMAGES.size)
    rooms = {most: room(field.jaxpr, [IMAGES.shape], most) for most in range(0, whole + 1, 64)}
    told = next(most for most, found in rooms.items() if found.fits)
    sure = next(most for most, found in rooms.items() if not found.exceeds)
    assert sure <= held <= told < whole
    monkeypatch.setattr(jax, "make_jaxpr", None)
    for most, settled in ((told, False), (told - 64, None)):
        monkeypatch.setattr(_second_order, "_MOST_ENTRIES", most)
        assert _second_order._settled(lin, field.jaxpr, _second_order._LAPLACIAN) is settled
    monkeypatch.setattr(_second_order, "_MOST_ENTRIES", sure - 64)
    with pytest.raises(Unfit, match="memory"):
        _second_order.laplacian_forward(lin, jacreg.Auto(), float("inf"))


def _attended(xs):
    return energy(lambda xs: attention(xs) / (1 + jnp.abs(xs).mean((1, 2), keepdims=True)))(xs)


@pytest.mark.parametrize("quantity", [jacreg.laplacian, jacreg.hessian_diagonal])
def test_directions_that_mix_and_do_not_fit_are_carried_in_parts(quantity, monkeypatch):
    """Products with the gradient are as many, and colours save none: that needs no trace."""
    lin = jacreg.linearize(_attended, jnp.asarray(RNG.normal(size=(2, 3, 4)), jnp.float32))
    exact = quantity(lin, jacreg.Exact())
    monkeypatch.setattr(_second_order, "_MOST_ENTRIES", 100)
    with monkeypatch.context() as untraced:
        untraced.setattr(jax, "make_jaxpr", None)
        plan = jacreg.plan(quantity, lin)
    assert (plan.path, plan.num_products) == ("forward Laplacian", 0)
    assert "bound the memory" in plan.reason
    np.testing.assert_allclose(quantity(lin), exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("fn", "mixes"),
    [
        (lambda xs: jnp.sin(xs.sum((1, 2))), True),
        (lambda xs: jnp.exp(jnp.sin(xs).sum((1, 2), keepdims=True)).sum((1, 2)), True),
        # Rows and columns: no entry sees all, and directions that share neither share a product.
        (lambda xs: jnp.sin(xs.sum(1)).sum(1) + jnp.sin(xs.sum(2)).sum(1), False),
        # All is seen together behind the last second derivative alone.
        (lambda xs: jnp.sin(xs).sum((1, 2)), False),
        (lambda xs: jnp.abs(jnp.sin(xs).sum((1, 2))), False),
    ],
)  # fmt: skip
def test_which_fields_mix_all_directions(fn, mixes):
    xs = jnp.ones((2, 3, 4))
    assert room(jax.make_jaxpr(fn)(xs).jaxpr, [xs.shape], 0).mixes == mixes


def test_rows_and_columns_that_do_not_fit_share_products(monkeypatch):
    """Parts would be as many as directions, colours are as many as a row and a column have."""

    def crossed(xs):
        return jnp.sin(xs.sum(1)).sum(1) + jnp.sin(xs.sum(2)).sum(1)

    xs = jnp.asarray(RNG.normal(size=(2, 4, 5)), jnp.float32)
    monkeypatch.setattr(_second_order, "_MOST_ENTRIES", 1)
    plan = jacreg.plan(jacreg.laplacian, jacreg.linearize(crossed, xs))
    assert (plan.path, plan.num_products) == ("colouring", 5)


def test_behind_a_way_that_costs_nothing_no_other_is_looked_for(monkeypatch):
    lin = jacreg.linearize(energy(pooled), IMAGES)
    monkeypatch.setattr(jacreg._laplacian, "check_worth", None)
    assert jacreg.plan(jacreg.hessian_diagonal, lin).path == "forward Laplacian"


def test_a_call_needs_no_reason(monkeypatch):
    """What is followed for each direction is read for a plan alone."""
    lin = jacreg.linearize(energy(attention), jnp.ones((2, 3, 4)))
    monkeypatch.setattr(_second_order, "first_followed", None)
    jacreg.laplacian(lin)
    with pytest.raises(TypeError):
        jacreg.plan(jacreg.laplacian, lin)


@pytest.mark.parametrize(("depth", "bent"), [(1, True), (2, True), (3, False)])
def test_a_closed_trace_of_convolutions_is_taken_unweighed(depth, bent, monkeypatch):
    """Nothing takes less time: no forward Laplacian is traced beside it."""
    lin = jacreg.linearize(_convolutions(depth, "zeros", bent=bent), IMAGES)
    monkeypatch.setattr(jacreg._second_order, "second_order", None)
    found = jacreg._laplacian.LAPLACIAN.decide(lin, jacreg.Auto())
    assert (found.path, found.num_products) == ("closed form", 0)
    np.testing.assert_allclose(found.run(None), jacreg.laplacian(lin, jacreg.Exact()), rtol=1e-4)


def test_a_weighted_laplacian_of_layers_is_weighed():
    """A direction has second derivatives of its own there: other ways may take less."""
    fn = energy(lambda xs: jnp.tanh(jnp.tanh(xs @ MIX) @ MIX))
    way = jacreg._laplacian._laplacian(jnp.ones(VECTORS.shape[1:]))
    assert way.decide(jacreg.linearize(fn, VECTORS), jacreg.Auto()).cost > 0
