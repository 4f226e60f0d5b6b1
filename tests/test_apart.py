"""Networks whose distant entries meet in few values: norms, pooled contexts, codes."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import jacreg
import jacreg.eqx
import jacreg.nnx
from jacreg._coloring import _automatic
from jacreg._coloring._narrow import Cut

pytestmark = pytest.mark.usefixtures("x64")
SIDE = 10
IMAGES = np.random.default_rng(1).normal(size=(2, SIDE, SIDE, 2))
QUANTITIES = (
    jacreg.divergence, jacreg.diagonal, jacreg.frobenius_squared, jacreg.jacobian,
)  # fmt: skip


class Normed(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Conv(2, 4, (3, 3), rngs=rngs, param_dtype=jnp.float64)
        self.norm = nnx.GroupNorm(4, num_groups=2, rngs=rngs, param_dtype=jnp.float64)
        self.last = nnx.Conv(4, 2, (3, 3), rngs=rngs, param_dtype=jnp.float64)

    def __call__(self, xs):
        return xs + self.last(jax.nn.silu(self.norm(self.first(xs))))


class OfOne(eqx.Module):
    first: eqx.nn.Conv2d
    norm: eqx.nn.LayerNorm
    last: eqx.nn.Conv2d

    def __init__(self, key):
        one, other = jax.random.split(key)
        self.first = eqx.nn.Conv2d(2, 4, 3, padding=1, key=one, dtype=jnp.float64)
        self.norm = eqx.nn.LayerNorm((4, SIDE, SIDE), dtype=jnp.float64)
        self.last = eqx.nn.Conv2d(4, 2, 3, padding=1, key=other, dtype=jnp.float64)

    def __call__(self, x):
        return self.last(jax.nn.relu(self.norm(self.first(x))))


class Strided(linen.Module):
    @linen.compact
    def __call__(self, xs):
        high = linen.silu(linen.GroupNorm(2)(linen.Conv(4, (3, 3))(xs)))
        low = linen.silu(linen.GroupNorm(1)(linen.Conv(4, (3, 3), strides=(2, 2))(high)))
        up = linen.ConvTranspose(4, (2, 2), strides=(2, 2))(low)
        return linen.Conv(2, (3, 3))(jnp.concatenate([up, high], -1))


class Gated(linen.Module):
    """Squeeze and excitation."""

    @linen.compact
    def __call__(self, xs):
        hidden = linen.relu(linen.Conv(4, (3, 3))(xs))
        gate = linen.sigmoid(linen.Dense(4)(linen.relu(linen.Dense(2)(hidden.mean((1, 2))))))
        return linen.Conv(2, (3, 3))(hidden * gate[:, None, None])


class Autoencoder(linen.Module):
    @linen.compact
    def __call__(self, xs):
        flat = xs.reshape(len(xs), -1)
        code = linen.Dense(5)(linen.tanh(linen.Dense(16)(flat)))
        return linen.sigmoid(linen.Dense(flat.shape[1])(code)).reshape(xs.shape)


def of(module):
    held = module.init(jax.random.key(0), IMAGES)
    held = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), held)
    return lambda xs: module.apply(held, xs)


def channels_last(fn):
    return lambda xs: jnp.moveaxis(fn(jnp.moveaxis(xs, -1, 1)), 1, -1)


def softmax_weighted(xs):
    weights = jax.nn.softmax(xs[..., 0].reshape(len(xs), -1))
    mean = jnp.einsum("np,npc->nc", weights, xs.reshape(len(xs), -1, 2))
    return jnp.sin(xs) * mean[:, None, None]


def of_unit_length(xs):
    return xs / jnp.linalg.norm(xs.reshape(len(xs), -1), axis=1)[:, None, None, None]


# What makes the function, the products of its divergence, the first operation that is set apart.
CASES = {
    "group norm (nnx)": (lambda: jacreg.nnx.function(Normed(nnx.Rngs(0))), 26, "reduce_sum"),
    "layer norm of all (eqx)": (
        lambda: channels_last(jacreg.eqx.function(OfOne(jax.random.key(0)))),
        22,
        "reduce_sum",
    ),
    "U-Net with strides (linen)": (lambda: of(Strided()), 62, "reduce_sum"),
    "squeeze and excitation": (lambda: of(Gated()), 22, "dot_general"),
    "autoencoder": (lambda: of(Autoencoder()), 11, "dot_general"),
    "softmax pooling": (lambda: softmax_weighted, None, "reduce_sum"),
    "unit length": (lambda: of_unit_length, 3, "reduce_sum"),
    "checkpointed": (lambda: jax.checkpoint(of(Gated())), 22, "dot_general"),
    "jitted": (lambda: jax.jit(of(Strided())), 62, "reduce_sum"),
    "largest": (lambda: lambda xs: xs**2 * xs.max((1, 2), keepdims=True), 5, "reduce_sum"),
}


@functools.cache
def function(name):
    return CASES[name][0]()


def dense(fn, xs):
    size = xs[0].size
    own = jax.jacfwd(lambda x: fn(x[None])[0].reshape(-1))
    return jax.vmap(own)(xs).reshape(len(xs), size, size)


def expected(quantity, jacobian, shape):
    diagonal = jnp.einsum("nii->ni", jacobian)
    return {
        jacreg.divergence: lambda: diagonal.sum(1),
        jacreg.diagonal: lambda: diagonal.reshape(shape),
        jacreg.frobenius_squared: lambda: (jacobian**2).sum((1, 2)),
        jacreg.jacobian: lambda: jacobian,
    }[quantity]()


@pytest.mark.parametrize("name", CASES)
class TestNetworks:
    def test_every_quantity_is_that_of_the_dense_jacobian(self, name):
        fn = function(name)
        full = dense(fn, IMAGES)
        for quantity in QUANTITIES:
            found = jax.jit(lambda xs, q=quantity: q(jacreg.linearize(fn, xs)))(IMAGES)
            wanted = expected(quantity, full, IMAGES.shape)
            np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=1e-10, atol=1e-12)

    def test_the_plan_counts_few_products_and_names_the_operation(self, name):
        _, products, operation = CASES[name]
        plan = jacreg.plan(jacreg.divergence, jacreg.linearize(function(name), IMAGES))
        assert plan.path == "colouring"
        assert plan.num_products < IMAGES[0].size / 2
        assert products is None or plan.num_products == products
        assert f"the first by {operation}" in plan.reason


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_gradients_by_input_and_weights_are_those_of_the_dense_jacobian(quantity):
    def fn(xs, weight):
        for _ in range(8):  # so that products cost more than what a Jacobian is made of
            xs = jnp.sin(xs)
        centred = xs - weight * xs.mean((1, 2), keepdims=True)
        return jnp.tanh(weight * centred) * jnp.sqrt((centred**2).mean((1, 2, 3), keepdims=True))

    def loss(of):
        return lambda xs, weight: jnp.sum(jnp.sin(of(lambda ys: fn(ys, weight), xs)))

    def own(fn, xs):
        lin = jacreg.linearize(fn, xs)
        assert jacreg.plan(quantity, lin).num_products < IMAGES[0].size / 2
        return quantity(lin)

    def wanted(fn, xs):
        return expected(quantity, dense(fn, xs), xs.shape)

    found = jax.jit(jax.grad(loss(own), (0, 1)))(IMAGES, 1.3)
    want = jax.jit(jax.grad(loss(wanted), (0, 1)))(IMAGES, 1.3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11), found, want)


def test_values_pass_on_to_later_ones():
    """The second mean depends on the first, the third on both, within the network."""

    def fn(xs):
        for power in (1, 2, 3):
            xs = jnp.sin(xs + power * (xs**power).mean((1, 2, 3), keepdims=True))
        return xs

    lin = jacreg.linearize(fn, IMAGES)
    assert jacreg.plan(jacreg.divergence, lin).num_products == 1 + 2 * 3
    full = dense(fn, IMAGES)
    for quantity in QUANTITIES:
        wanted = expected(quantity, full, IMAGES.shape)
        np.testing.assert_allclose(quantity(lin).reshape(wanted.shape), wanted, rtol=1e-10)


def test_a_loop_before_and_behind_the_values():
    """Its equation gives values and tangents together, which are not all zero where these are."""

    def looped(xs, factor):
        return jax.lax.scan(lambda ys, _: (jnp.sin(factor * ys), None), xs, length=3)[0]

    def fn(xs):
        hidden = looped(xs, 1.1)
        return looped(hidden * hidden.mean((1, 2, 3), keepdims=True), 0.9)

    lin = jacreg.linearize(fn, IMAGES)
    full = dense(fn, IMAGES)
    for quantity in QUANTITIES:
        assert jacreg.plan(quantity, lin).num_products <= 5
        wanted = expected(quantity, full, IMAGES.shape)
        np.testing.assert_allclose(quantity(lin).reshape(wanted.shape), wanted, rtol=1e-10)


def test_a_value_whose_examples_are_turned_around_is_none():
    """Turned back it is one."""

    def fn(xs):
        total = xs[::-1].sum((1, 2, 3))
        return jnp.sin(xs) * jnp.cos(total)[::-1, None, None, None]

    plan = check_divergence(fn, IMAGES)
    assert plan.num_products == 3


def test_a_condition_that_leaves_out_a_pole_is_kept():
    def fn(xs):
        total = jnp.abs(xs).sum((1, 2, 3), keepdims=True)
        return jnp.where(total > 0, xs / jnp.where(total > 0, total, 1), 0) + jnp.where(
            xs > 0, jnp.sqrt(jnp.where(xs > 0, xs, 1)), 0
        )

    xs = IMAGES * [[[[0.0]]], [[[1.0]]]]
    lin = jacreg.linearize(fn, xs)
    assert jacreg.plan(jacreg.divergence, lin).num_products < xs[0].size / 2
    wanted = jnp.einsum("nii->n", dense(fn, xs))
    np.testing.assert_allclose(jacreg.divergence(lin), wanted, rtol=1e-10)


def test_trees_and_conditions():
    def fn(tree, time):
        mean = tree["a"].mean((1, 2, 3)) + tree["b"].sum(1)
        scale = jnp.tanh(mean * time)
        return {
            "a": tree["a"] * scale[:, None, None, None],
            "b": jnp.sin(tree["b"]) + scale[:, None],
        }

    tree = {"a": IMAGES, "b": IMAGES[:, 0, :, 0]}
    time = jnp.array([0.3, 0.7])
    lin = jacreg.linearize(fn, tree, time)
    plan = jacreg.plan(jacreg.divergence, lin)
    assert plan.num_products < 20
    exact = jacreg.divergence(lin, jacreg.Exact())
    np.testing.assert_allclose(jacreg.divergence(lin), exact, rtol=1e-12)
    found = jacreg.diagonal(lin)
    wanted = jacreg.diagonal(lin, jacreg.Exact())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), found, wanted)


def test_low_precision_and_one_example():
    fn = of_unit_length
    xs = jnp.asarray(IMAGES[:1], jnp.bfloat16)
    found = jacreg.divergence(jacreg.linearize(fn, xs))
    assert found.dtype == jnp.bfloat16
    wanted = jnp.einsum("nii->n", dense(fn, xs.astype(jnp.float64)))
    np.testing.assert_allclose(found.astype(jnp.float64), wanted, rtol=0.03)


def test_a_small_jacobian_is_not_put_together_of_two():
    """Of 32 entries and a layer of 8 that took twice the time of 32 products."""
    first, last = (np.random.default_rng(i).normal(size=(32, 8)) for i in range(2))
    xs = np.random.default_rng(2).normal(size=(3, 32))
    lin = jacreg.linearize(lambda xs: xs + jnp.tanh(xs @ first) @ last.T, xs)
    assert jacreg.plan(jacreg.jacobian, lin).path == "products"


def check_divergence(fn, xs):
    lin = jacreg.linearize(fn, xs)
    wanted = jnp.einsum("nii->n", dense(fn, xs))
    np.testing.assert_allclose(jax.jit(jacreg.divergence)(lin), wanted, rtol=1e-9)
    return jacreg.plan(jacreg.divergence, lin)


def test_numbers_that_a_loop_carries_beside_tangents_are_kept():
    """The loop's dependence does not settle, so that a dependence of all on all is taken."""

    def fn(xs):
        def step(carry, _):
            hidden, scale = carry
            moved = hidden + 0.1 * jnp.roll(hidden, 1, 1)
            return (jnp.sin(moved), 0.9 * scale + 0.1 * hidden[:, :1]), None

        start = xs, jnp.ones((len(xs), 1))
        (hidden, scale), _ = jax.lax.scan(step, start, length=50)
        return xs * jnp.sin(scale) * hidden.mean(1, keepdims=True)

    plan = check_divergence(fn, np.random.default_rng(5).normal(size=(1, 300)))
    assert "dependence keeps growing" in plan.reason


@pytest.mark.parametrize("looped", [False, True])
def test_numbers_that_a_shard_map_returns_beside_tangents_are_kept(looped):
    types = (jax.sharding.AxisType.Auto,)
    mesh, spec = jax.make_mesh((1,), ("i",), axis_types=types), jax.P("i")

    def inner(xs, scale):
        return jnp.sin(xs.mean(1, keepdims=True)), jnp.cos(scale + xs[:, :1])

    def step(carry, _):
        hidden, scale = carry
        outer = jax.shard_map(inner, mesh=mesh, in_specs=spec, out_specs=spec)
        mean, scale = outer(hidden, scale)
        return (hidden * mean, scale), None

    def fn(xs):
        carry = xs, jnp.ones((len(xs), 1))
        if looped:
            hidden, scale = jax.lax.scan(step, carry, length=2)[0]
        else:
            hidden, scale = step(carry, None)[0]
        return xs * jnp.sin(scale) * hidden.mean(1, keepdims=True)

    check_divergence(fn, IMAGES[:1].reshape(1, -1)[:, :60])


def test_complex_values_are_not_set_apart():
    def fn(xs):
        low = jnp.fft.rfft(xs, axis=1)[:, :3]
        return xs * jnp.abs(low[:, 1:2]) + jnp.fft.irfft(low, n=xs.shape[1], axis=1)

    check_divergence(fn, IMAGES.reshape(2, -1)[:, :60])


def test_it_is_traced_once_for_batches_of_one_program():
    traces = []

    @jax.jit
    def call(lin):
        traces.append(None)
        return jacreg.divergence(lin)

    fn = function("group norm (nnx)")
    for scale in (1.0, 2.0):
        call(jacreg.linearize(fn, scale * IMAGES))
    assert len(traces) == 1


def test_a_derivative_that_is_written_otherwise_takes_plain_products(monkeypatch):
    fn = function("squeeze and excitation")
    lin = jacreg.linearize(fn, IMAGES)
    find = _automatic._find

    def renumbered(*args):
        known = find(*args)
        assert known.apart is not None
        apart = known.apart._replace(outline=known.apart.outline + 1, cuts=(Cut(0, 0, 1, 0),))
        return known._replace(apart=apart)

    monkeypatch.setattr(_automatic, "_find", renumbered)
    monkeypatch.setattr(_automatic, "_FOUND", type(_automatic._FOUND)(4))
    full = dense(fn, IMAGES)
    for quantity in QUANTITIES:
        wanted = expected(quantity, full, IMAGES.shape)
        np.testing.assert_allclose(
            quantity(lin).reshape(wanted.shape), wanted, rtol=1e-10, atol=1e-12
        )


@pytest.mark.parametrize("examples", [2, 5])
def test_a_narrow_value_whose_examples_come_last(examples):
    """As `jax.vmap` of a matrix and a vector leaves them, as many as the value has entries too."""
    generator = np.random.default_rng(6)
    into, out = (generator.normal(size=shape) / 4 for shape in ((5, 40), (40, 5)))
    fn = jax.vmap(lambda x: jnp.sin(out @ jnp.tanh(into @ x)) + x**2)
    xs = generator.normal(size=(examples, 40))
    lin = jacreg.linearize(fn, xs)
    for quantity in (jacreg.diagonal, jacreg.frobenius_squared):
        assert jacreg.plan(quantity, lin).num_products <= 21
        wanted = expected(quantity, dense(fn, xs), xs.shape)
        np.testing.assert_allclose(quantity(lin).reshape(wanted.shape), wanted, rtol=1e-10)


def test_who_is_called_back_hears_of_one_evaluation():
    heard = []

    def fn(xs):
        jax.debug.callback(lambda: heard.append(None))
        return xs * xs.mean((1, 2, 3), keepdims=True)

    lin = jacreg.linearize(fn, IMAGES)
    before = len(heard)
    assert jacreg.plan(jacreg.divergence, lin).num_products == 3
    jacreg.divergence(lin)
    jax.effects_barrier()
    assert len(heard) == before
