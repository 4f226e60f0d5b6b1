"""Laplacians and Hessian diagonals of a Linearization: arguments, weights, choices, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laplacian_programs import block, conv, layer_norm, total, weights

import jacreg
from jacreg import _second_order
from jacreg._forward_laplacian import most_entries

KEY = jax.random.key(0)


def points(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def energy(xs, times):
    return total(jnp.tanh(xs @ weights(3, 4) + times[:, None]) ** 2)


@jax.jit
def hessians(xs, times):
    return jax.vmap(jax.hessian(lambda x, t: energy(x[None], t[None])[0]))(xs, times)


def test_a_time_is_an_argument_and_weights_weigh(x64):
    xs, times = points(5, 3), points(5)
    weighings = points(3, seed=1), points(5, 3, seed=2), jnp.zeros(3)

    @jax.jit
    def run(xs, times, weighings):
        lin, methods = jacreg.linearize(energy, xs, times), (jacreg.Auto(), jacreg.Exact())
        weighed = [[jacreg.laplacian(lin, m, weights=own) for m in methods] for own in weighings]
        return jacreg.laplacian(lin), jacreg.hessian_diagonal(lin), weighed

    diagonal = np.einsum("nii->ni", hessians(xs, times))
    found, entries, weighed = run(xs, times, weighings)
    np.testing.assert_allclose(found, diagonal.sum(1), rtol=1e-12)
    np.testing.assert_allclose(entries, diagonal, rtol=1e-11)
    for own, by_methods in zip(weighings, weighed, strict=True):
        for found in by_methods:
            np.testing.assert_allclose(found, (diagonal * own).sum(1), atol=1e-12)


def test_gradients_in_weights_parameters_and_points(x64):
    xs, times, own = points(2, 3), points(2), points(3, seed=1)

    def objective(method, xs, times, own):
        return jacreg.laplacian(jacreg.linearize(energy, xs, times), method, weights=own).sum()

    found, truth = (
        jax.jit(jax.grad(lambda *of, m=method: objective(m, *of), (0, 1, 2)))(xs, times, own)
        for method in (jacreg.Auto(), jacreg.Exact())
    )
    for one, other in zip(found, truth, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-11)


def test_memory_is_bounded_by_parts(x64, monkeypatch):
    xs, times = points(5, 3), points(5)
    lin, diagonal = jacreg.linearize(energy, xs, times), np.einsum("nii->ni", hessians(xs, times))
    monkeypatch.setattr(_second_order, "_MOST_ENTRIES", 10)
    # All of x meets in an energy: nothing else takes less, so this is settled without a trace.
    assert _second_order.laplacian_forward(lin, jacreg.Auto(), float("inf")).cost == 0
    held = []
    for entries in (1, 40):
        monkeypatch.setattr(_second_order, "AUTOMATIC_ENTRIES", entries)
        ways = (_second_order.laplacian_in_parts, _second_order.diagonal_in_parts)
        sums, each = (way(lin, jacreg.Auto(), float("inf")) for way in ways)
        assert "bound the memory" in sums.why
        np.testing.assert_allclose(sums.run(None), diagonal.sum(1), rtol=1e-11)
        np.testing.assert_allclose(each.run(None), diagonal, rtol=1e-11)
        held.append(_second_order._largest(jax.make_jaxpr(lambda run=each.run: run(None))().jaxpr))
    # One entry of x after the other, and two of the three at once.
    assert held == [5 * 4 * 1, 5 * 4 * 2]


def test_what_all_directions_hold_is_told_without_them():
    """The largest array that depends on x, those within rules counted, for each direction."""

    def known(fn):
        return most_entries(jax.make_jaxpr(fn)(jnp.ones((2, 3)), jnp.ones(7)).jaxpr, [1, 0], 3)

    @jax.custom_jvp
    def ruled(xs):
        return xs * xs

    @ruled.defjvp
    def _(primals, tangents):
        (xs,), (vs,) = primals, tangents
        return xs * xs, 2 * xs * (vs[..., None] * jnp.ones(4)).mean(-1)

    assert known(lambda xs, w: jnp.sin((xs[..., None] * jnp.ones(5)).sum((1, 2)))) == 2 * 3 * 5 * 3
    assert known(lambda xs, w: xs.sum(1) * jnp.outer(w, w).sum()) == 2 * 3 * 3
    assert known(lambda xs, w: ruled(xs).sum(1)) == 2 * 3 * 4 * 3
    for fn in (
        lambda xs, w: jax.scipy.special.gammainc(xs, 1.0).sum(1),
        lambda xs, w: jax.lax.map(jnp.sum, xs),
        lambda xs, w: (xs + jax.pure_callback(np.zeros_like, xs, xs)).sum(1),
    ):
        assert known(fn) is None


def test_trees_and_auxiliary_outputs(x64):
    tree = {"a": points(4, 3), "b": points(4)}

    @jax.jit
    def run(tree):
        lin = jacreg.linearize(
            lambda d: (total(d["a"] ** 3) * jnp.sin(d["b"]), d["a"]), tree, has_aux=True
        )
        only = jax.tree.map(jnp.zeros_like, tree) | {"b": jnp.ones(4)}
        laplacians = jacreg.laplacian(lin), jacreg.laplacian(lin, weights=only)
        return jacreg.hessian_diagonal(lin), lin.value, *laplacians

    found, value, laplacian, of_b = jax.tree.map(np.asarray, run(tree))
    a, b = (np.asarray(tree[name]) for name in "ab")
    np.testing.assert_allclose(found["a"], 6 * a * np.sin(b)[:, None])
    np.testing.assert_allclose(found["b"], -value)
    np.testing.assert_allclose(laplacian, found["a"].sum(1) + found["b"], rtol=1e-12)
    np.testing.assert_allclose(of_b, found["b"], rtol=1e-12)


def test_under_vmap_and_as_an_argument_of_jit(x64):
    many, times, traces = points(3, 5, 3), points(5), []

    def of(lin):
        traces.append(1)
        return jacreg.laplacian(lin)

    truth = np.stack([np.einsum("nii->n", hessians(xs, times)) for xs in many])
    mapped = jax.jit(jax.vmap(lambda xs: jacreg.laplacian(jacreg.linearize(energy, xs, times))))(
        many
    )
    np.testing.assert_allclose(mapped, truth, rtol=1e-11)
    jitted = jax.jit(of)
    for xs, each in zip(many, truth, strict=True):
        np.testing.assert_allclose(jitted(jacreg.linearize(energy, xs, times)), each, rtol=1e-11)
    assert len(traces) == 1


def unread(xs):
    """Only reverse mode can follow it."""

    @jax.custom_vjp
    def clipped(x):
        return x

    clipped.defvjp(lambda x: (x, None), lambda _, g: (jnp.clip(g, -1, 1),))
    return total(clipped(jnp.sin(xs)) ** 2 * jnp.roll(xs, 1, 1))


NETWORKS = {
    "attention": (lambda xs: total(block(xs, 1.0) ** 2), (2, 3, 4)),
    "strides": (lambda xs: total(jnp.tanh(conv(xs, weights(3, 3, 1, 2), 2)) ** 2), (2, 7, 6, 1)),
    "tokens": (lambda xs: total(jnp.tanh(layer_norm(xs) @ weights(4, 5)) ** 2), (2, 3, 4)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_default_takes_no_products(name):
    field, shape = NETWORKS[name]
    plans = []

    def trace(xs):
        plans.append(jacreg.plan(jacreg.laplacian, jacreg.linearize(field, xs)))

    jax.eval_shape(trace, jnp.ones(shape))
    assert [(plan.path, plan.num_products) for plan in plans] == [("forward Laplacian", 0)]


def test_products_name_what_stood_in_the_way(x64):
    plans = []

    @jax.jit
    def run(xs):
        lin = jacreg.linearize(unread, xs)
        plans.append(jacreg.plan(jacreg.laplacian, lin))
        return jacreg.laplacian(lin), jacreg.laplacian(lin, jacreg.Exact())

    found, exact = run(points(2, 5))
    (plan,) = plans
    assert plan.path in ("products", "colouring")
    assert plan.num_products > 0
    np.testing.assert_allclose(found, exact, rtol=1e-12)
    if plan.path == "products":
        assert "custom_vjp_call at test_laplacian.py" in plan.reason


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda xs: jacreg.laplacian(energy), TypeError, "linearize"),
        (lambda xs: jacreg.laplacian(jacreg.linearize(jnp.sin, xs)), ValueError, "one number"),
        (
            lambda xs: jacreg.hessian_diagonal(jacreg.linearize(lambda x: x[:, :1], xs)),
            ValueError,
            "trailing axis",
        ),
        (
            lambda xs: jacreg.laplacian(jacreg.linearize(total, xs), weights=jnp.ones(2)),
            ValueError,
            "shape",
        ),
        (
            lambda xs: jacreg.laplacian(jacreg.linearize(total, xs), weights=[xs]),
            ValueError,
            "tree",
        ),
        (
            lambda xs: jacreg.laplacian(jacreg.linearize(total, xs), jacreg.Hutchinson()),
            ValueError,
            "laplacian: Hutchinson",
        ),
        (
            lambda xs: jacreg.laplacian(jacreg.linearize(total, xs), jacreg.Projection()),
            TypeError,
            "XTrace",
        ),
    ],
)
def test_wrong_calls(call, error, says):
    with pytest.raises(error, match=says):
        call(jnp.ones((2, 3)))


@jax.custom_jvp
def straight(xs):
    return jnp.round(xs)


straight.defjvp(lambda primals, tangents: (straight(*primals), tangents[0]))


def test_a_loop_keeps_the_rules_of_what_it_calls(x64):
    """The gradient of the loop forgets them before jax 0.12: unrolled, it is another."""

    def field(xs, steps):
        ys = xs
        if steps == "in a loop":
            ys = jax.lax.scan(lambda ys, _: (straight(ys) / 2 + xs, None), ys, None, length=3)[0]
        else:
            for _ in range(3):
                ys = straight(ys) / 2 + xs
        return jnp.sin(ys).sum(1)

    xs = jnp.array([[0.7, -1.3], [2.2, 0.4]])
    along = jnp.zeros_like(xs).at[:, 0].set(1)

    def slope(xs):
        return jax.jvp(lambda xs: field(xs, "unrolled"), (xs,), (along,))[1]

    @jax.jit
    def run(xs):
        lin, unrolled = (
            jacreg.linearize(lambda xs, steps=steps: field(xs, steps), xs)
            for steps in ("in a loop", "unrolled")
        )
        laplacians = jacreg.laplacian(lin), jacreg.laplacian(unrolled)
        hessian = jax.vmap(jax.hessian(lambda x: field(x[None], "in a loop")[0]))(xs)
        return jax.jvp(slope, (xs,), (along,))[1], jacreg.hessian_diagonal(lin), laplacians, hessian

    truth, diagonal, laplacians, hessian = jax.tree.map(np.asarray, run(xs))
    np.testing.assert_allclose(diagonal[:, 0], truth, rtol=1e-12)
    np.testing.assert_allclose(*laplacians, rtol=1e-12)
    if jax.__version_info__ < (0, 11):
        assert not np.allclose(hessian[:, 0, 0], truth), "the test would not see it"


def test_empty_batches():
    lin = jacreg.linearize(lambda xs: (xs**2).sum(1), jnp.ones((0, 3)))
    assert jacreg.laplacian(lin).shape == (0,)
    assert jacreg.hessian_diagonal(lin).shape == (0, 3)


def test_a_field_without_reverse_mode_has_second_derivatives_forwards(x64):
    """What differentiates its gradient says that there is none, and stands in nobody's way."""

    def field(xs):
        def step(carry):
            count, ys = carry
            return count + 1, jnp.sin(ys) + 0.1 * jnp.roll(ys, 1, axis=1)

        return jax.lax.while_loop(lambda carry: carry[0] < 3, step, (0, xs))[1].sum(1)

    xs = points(2, 3)
    lin = jacreg.linearize(field, xs)

    @jax.jit
    def run(xs, own):
        lin = jacreg.linearize(field, xs)
        truth = jax.vmap(jax.jacfwd(jax.jacfwd(lambda x: field(x[None])[0])))(xs)
        return truth, jacreg.hessian_diagonal(lin), jacreg.laplacian(lin, weights=own)

    truth, found, weighed = run(xs, points(3))
    diagonal = np.einsum("nii->ni", truth)
    np.testing.assert_allclose(found, diagonal, rtol=1e-12)
    np.testing.assert_allclose(weighed, diagonal @ points(3))
    for call in (
        lambda: jacreg.hessian_diagonal(lin, jacreg.Exact()),
        lambda: jacreg.color(field, xs, quantity=jacreg.laplacian),
    ):
        with pytest.raises(jacreg.DirectionError, match=r"reverse mode.*lax\.scan"):
            call()


def test_a_colouring_is_of_the_gradient_that_is_taken(x64):
    """JAX writes the derivative of what is known while tracing in another way: exponents here."""

    def field(xs):
        return jnp.sum(jnp.power(xs, jnp.arange(4)), axis=1)

    xs = points(2, 4)
    lin = jacreg.linearize(field, xs)
    coloring = jacreg.color(field, xs, quantity=jacreg.laplacian)
    assert coloring.num_colors == 1
    np.testing.assert_allclose(jacreg.laplacian(lin, coloring), jacreg.laplacian(lin))


def test_a_rule_with_symbolic_zeros_that_calls_its_function(x64):
    """Each trace has it of new functions, so that it never looks like one that was read."""

    @jax.custom_jvp
    def times(xs, ys):
        return xs * ys

    def rule(primals, tangents):
        (xs, ys), none = primals, jax.custom_derivatives.SymbolicZero
        terms = [
            other * tangent
            for tangent, other in zip(tangents, (ys, xs), strict=True)
            if not isinstance(tangent, none)
        ]
        return times(xs, ys), sum(terms)

    times.defjvp(rule, symbolic_zeros=True)
    xs = points(2, 3)

    @jax.jit
    def run(xs):
        lin = jacreg.linearize(lambda xs: (times(xs, jnp.arange(3.0)) ** 2).sum(1), xs)
        return jacreg.laplacian(lin)

    np.testing.assert_allclose(run(xs), [10.0, 10.0])


def test_a_rule_that_calls_its_function_on_the_tangent(x64):
    """As lineax casts arrays: the rule of the rule is the rule, without end."""

    @jax.custom_jvp
    def same(xs):
        return jnp.asarray(xs, float)

    same.defjvp(lambda primals, tangents: (same(*primals), same(*tangents)))
    xs = points(3, 4)

    def field(xs):
        return jnp.tanh(same(jnp.sin(same(xs))) + jnp.roll(xs, 1, axis=1) ** 2)

    @jax.jit
    def run(xs):
        lin = jacreg.linearize(field, xs)
        energy = jacreg.linearize(lambda xs: field(xs).sum(1), xs)
        return jacreg.jacobian(lin), jacreg.divergence(lin), jacreg.laplacian(energy)

    matrices, traces, laplacians = run(xs)
    dense = jax.vmap(jax.jacfwd(lambda x: field(x[None])[0]))(xs)
    hessians = jax.vmap(jax.hessian(lambda x: field(x[None])[0].sum()))(xs)
    np.testing.assert_allclose(matrices, dense, rtol=1e-12)
    np.testing.assert_allclose(traces, jnp.trace(dense, axis1=1, axis2=2), rtol=1e-12)
    np.testing.assert_allclose(laplacians, jnp.trace(hessians, axis1=1, axis2=2), rtol=1e-12)
    lin = jacreg.linearize(field, xs)
    assert jacreg.plan(jacreg.divergence, lin).num_products == 2
