"""`function` of the three adapters, against the same network in plain JAX."""

from functools import partial

import adapter_nets as nets
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg

pytestmark = pytest.mark.usefixtures("x64")
each_framework = pytest.mark.parametrize("framework", nets.FRAMEWORKS)
each_statistics = pytest.mark.parametrize("statistics", ["running", "batch"])


def exact_norm_squared(fn, xs):
    """Mean squared Frobenius norm of the whole batch's Jacobian, over the rows."""
    return (jax.jacrev(fn)(xs) ** 2).sum() / len(xs)


def snapshot(framework, net):
    """Every array of the user's own objects, random counters included."""
    leaves = jax.tree.leaves(net.parts if framework != "nnx" else _nnx_state(net.parts[0]))
    return [
        np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        for x in leaves
        if hasattr(x, "dtype")
    ]


def _nnx_state(module):
    from flax import nnx

    return nnx.state(module)


@each_framework
@each_statistics
def test_equals_plain_jax_in_value_and_both_products(framework, statistics):
    net, xs = nets.build(framework), nets.images()
    w, stats = nets.weights(), nets.running()
    batch = statistics == "batch"
    tangent, cotangent = xs[::-1], jnp.sin(jnp.arange(6 * 5.0)).reshape(6, 5)

    def ours(xs):
        lin = jacreg.linearize(net.function(statistics=statistics), xs)
        return lin.value, lin.jvp(tangent), lin.vjp(cotangent)

    def plain(xs):
        def fn(x):
            return nets.reference(w, stats, x, batch=batch)[0]

        value, vjp = jax.vjp(fn, xs)
        return value, jax.jvp(fn, (xs,), (tangent,))[1], vjp(cotangent)[0]

    for got, expected in zip(jax.jit(ours)(xs), jax.jit(plain)(xs), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


@each_framework
def test_running_keeps_rows_apart_and_batch_does_not(framework):
    net, xs = nets.build(framework), nets.images()
    moved = xs.at[2].add(1.0)
    others = np.array([0, 1, 3, 4, 5])
    running, batch = (jax.jit(net.function(statistics=name)) for name in ("running", "batch"))
    np.testing.assert_array_equal(running(moved)[others], running(xs)[others])
    assert (jnp.abs(batch(moved) - batch(xs))[others] > 1e-6).any(axis=1).all()


@each_framework
def test_new_statistics_come_back(framework):
    net, xs = nets.build(framework), nets.images()

    @partial(jax.jit, static_argnames="statistics")
    def run(xs, statistics):
        fn = net.function(statistics=statistics, return_state=True)
        return jacreg.linearize(fn, xs, has_aux=True)

    lin = run(xs, "batch")
    expected = nets.reference(nets.weights(), nets.running(), xs, batch=True)[1]
    for got, want in zip(nets.as_statistics(framework, lin.aux), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10)
    lin = run(xs, "running")
    for got, want in zip(nets.as_statistics(framework, lin.aux), nets.running(), strict=True):
        np.testing.assert_array_equal(got, want)


@each_framework
@each_statistics
@pytest.mark.parametrize("make_key", [jax.random.key, jax.random.PRNGKey])
def test_one_mask_at_every_call(framework, statistics, make_key):
    net, xs = nets.build(framework), nets.images()
    fn = net.function(statistics=statistics, dropout_key=make_key(3))

    @jax.jit
    def run(xs):
        other = net.function(statistics=statistics, dropout_key=make_key(4))
        off = net.function(statistics=statistics)
        return fn(xs), jacreg.linearize(fn, xs).value, other(xs), off(xs)

    first, value, other, off = run(xs)
    np.testing.assert_allclose(value, first, rtol=1e-12)
    np.testing.assert_allclose(jax.jit(fn)(xs), first, rtol=1e-10)
    assert (jnp.abs(other - first).max(axis=1) > 1e-6).all()
    assert (jnp.abs(off - first).max(axis=1) > 1e-6).all()


@each_framework
def test_a_mask_drops_its_rate_and_each_example_its_own(framework):
    """With an identity-like readout the mask is visible in d y / d (last kernel)."""
    net, xs = nets.build(framework, rate=0.25), nets.images(200)
    functional = net.functional(dropout_key=jax.random.key(0))

    def logit(params, xs):
        return functional.apply(params, functional.state, xs)[0][:, 0].sum()

    @jax.jit
    def gradient_of_readout(xs):
        return jax.grad(logit)(functional.params, xs)

    def features(xs):
        return nets.as_weights(framework, gradient_of_readout(xs))["dense"][:, 0]

    # The gradient of the readout is the sum of the masked features; a batch whose rows
    # are equal shows how many of its masks kept each feature.
    same = jnp.broadcast_to(xs[:1], xs.shape)
    clean = jnp.tanh(features_before_dropout(same[:1]))[0]
    kept = features(same) / np.asarray(clean) * 0.75
    assert np.allclose(kept, np.round(kept), atol=1e-6)
    assert kept.min() > 0  # not one mask for all examples
    assert kept.max() < 200
    rate = 1 - kept.mean() / 200
    assert abs(rate - 0.25) < 5 * np.sqrt(0.25 * 0.75 / (200 * len(kept)))


def features_before_dropout(xs):
    w, (mean, var) = nets.weights(), nets.running()
    h = jax.lax.conv_general_dilated(
        xs, w["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    h = (h + w["kernel_bias"] - mean) / np.sqrt(var + nets.EPSILON) * w["scale"] + w["shift"]
    return h.reshape(len(xs), -1)


@each_framework
@pytest.mark.parametrize(("statistics", "dropout"), [("running", False), ("batch", True)])
def test_the_users_objects_are_left_alone(framework, statistics, dropout):
    net, xs = nets.build(framework), nets.images()
    before = snapshot(framework, net)
    key = jax.random.key(0) if dropout else None
    options = {"statistics": statistics, "dropout_key": key}
    fn = net.function(return_state=True, **options)
    jax.eval_shape(lambda x: jacreg.linearize(fn, x, has_aux=True), xs)
    jax.eval_shape(jax.jit(fn), xs)
    fn(xs)
    functional = net.functional(**options)
    functional.apply(*functional[:2], xs, train=True, key=jax.random.key(1))
    after = snapshot(framework, net)
    assert len(after) == len(before) > 6
    for a, b in zip(after, before, strict=True):
        np.testing.assert_array_equal(a, b)


@each_framework
@each_statistics
def test_gradient_of_task_and_penalty_equals_plain_jax(framework, statistics):
    net, xs = nets.build(framework), nets.images()
    functional = net.functional(statistics=statistics)
    key = jax.random.key(5)

    def loss_of(fn):
        lin = jacreg.linearize(fn, xs)
        penalty = jacreg.losses.jacobian_penalty(lin, key=key)
        return (lin.value**2).mean() + 0.3 * penalty.mean()

    def ours(params):
        return loss_of(lambda x: functional.apply(params, functional.state, x)[0])

    def plain(w):
        batch = statistics == "batch"
        return loss_of(lambda x: nets.reference(w, nets.running(), x, batch=batch)[0])

    value, gradient = jax.jit(jax.value_and_grad(ours))(functional.params)
    expected, expected_gradient = jax.jit(jax.value_and_grad(plain))(nets.weights())
    np.testing.assert_allclose(value, expected, rtol=1e-10)
    for name, got in nets.as_weights(framework, gradient).items():
        np.testing.assert_allclose(got, expected_gradient[name], rtol=1e-8, atol=1e-10)


@each_framework
@pytest.mark.parametrize(("statistics", "dropout"), [("running", True), ("batch", False)])
def test_second_derivative_against_central_differences(framework, statistics, dropout):
    net, xs = nets.build(framework), nets.images(3)
    functional = net.functional(
        statistics=statistics, dropout_key=jax.random.key(0) if dropout else None
    )

    @jax.jit
    def penalty(params):
        return exact_norm_squared(lambda x: functional.apply(params, functional.state, x)[0], xs)

    direction = jax.tree.map(
        lambda p: jnp.cos(jnp.arange(p.size)).reshape(p.shape), functional.params
    )
    gradient = jax.jit(jax.grad(penalty))(functional.params)
    slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: (g * d).sum(), gradient, direction)))
    step = 1e-5
    ahead, behind = (
        penalty(jax.tree.map(lambda p, d, s=s: p + s * d, functional.params, direction))
        for s in (step, -step)
    )
    assert abs(slope) > 1e-2
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-6)


@each_framework
def test_rows_are_reported_dependent_by_the_library_too(framework):
    if not hasattr(jacreg, "rows_independent"):
        pytest.skip("rows_independent is not there")
    net, xs = nets.build(framework), nets.images()
    assert jacreg.rows_independent(net.function(), xs)
    assert not jacreg.rows_independent(net.function(statistics="batch"), xs)


@each_framework
def test_dtypes_are_kept(framework):
    for dtype in (jnp.float32, jnp.bfloat16):
        net = nets.build(framework, dtype)

        def shapes(xs, net=net):
            lin = jacreg.linearize(net.function(), xs)
            return lin.value, lin.jvp(xs), lin.vjp(lin.value)

        value, jvp, vjp = jax.eval_shape(shapes, nets.images(dtype=dtype))
        assert jvp.dtype == value.dtype == dtype
        assert vjp.dtype == dtype


@each_framework
def test_bad_arguments(framework):
    net, xs = nets.build(framework), nets.images()
    for call in (net.function, net.functional):
        with pytest.raises(ValueError, match="statistics must be"):
            call(statistics="train")
        with pytest.raises(TypeError, match="must be one PRNG key"):
            call(dropout_key=0)
        with pytest.raises(TypeError, match="must be one PRNG key"):
            call(dropout_key=jax.random.split(jax.random.key(0), 2))
    for call in (net.adapter.function, net.adapter.functional):
        with pytest.raises(TypeError, match=r"pass it to jacreg\.linearize directly"):
            call(jnp.tanh, *net.parts[1:])
        with pytest.raises(TypeError, match="got int"):
            call(3, *net.parts[1:])
        other = nets.build("linen" if framework == "nnx" else "nnx")
        with pytest.raises(TypeError, match=r"Use jacreg\.(nnx|linen)\.function"):
            call(other.parts[0], *net.parts[1:])
    with pytest.raises(TypeError, match="no place for the last"):
        net.function()(xs, xs, xs, xs)


@pytest.mark.parametrize("framework", ["nnx", "equinox"])
def test_under_explicit_sharding_the_numbers_are_those_of_one_device(framework):
    """linen's own dropout does not know explicit meshes yet."""
    if jax.device_count() < 4:
        pytest.skip("needs four devices")
    net, xs = nets.build(framework), nets.images(8)
    fn = net.function(dropout_key=jax.random.key(0))

    @jax.jit
    def run(xs):
        lin = jacreg.linearize(fn, xs)
        return lin.value, lin.vjp(lin.value)

    expected = run(xs)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
        for got, want in zip(run(jax.device_put(xs, spread)), expected, strict=True):
            assert got.sharding.spec[0] == "data"
            np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)
