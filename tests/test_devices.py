"""Every public call on four devices: under `jax.shard_map`, and on an explicit mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_call import CALLS, Net, batch
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jacreg

pytestmark = pytest.mark.skipif(jax.device_count() < 4, reason="needs four (host) devices")
KEY = jax.random.key(0)
# One for each way that jacreg goes; the others are slow tests.
SAMPLE = (
    "jacobian images", "divergence exact", "divergence hutch++", "diagonal xtrace",
    "diagonal coloring", "frobenius_squared coupled", "frobenius_squared noise",
    "spectral_norm lanczos", "spectral_radius", "gram of two", "log_pseudo_determinant",
    "log_pseudo_determinant lanczos", "empirical_ntk", "gaussian_noise_regularizer",
    "gradient_penalty", "spectral_penalty",
)  # fmt: skip
ROWS = [name for name, call in CALLS.items() if call.rows]


def some(names):
    return [
        pytest.param(name, marks=() if name in SAMPLE else pytest.mark.slow, id=name)
        for name in names
    ]


def mesh_of(kind):
    return jax.make_mesh((4,), ("data",), axis_types=(kind,))


def call(name):
    return lambda xs, key: CALLS[name](Net(), xs, key)


def sharded(fn, **options):
    specs = {"in_specs": (P("data"), P()), "out_specs": P("data")}
    return jax.shard_map(fn, mesh=mesh_of(AxisType.Auto), **specs, **options)


def split(mesh):
    return jax.device_put(batch(), NamedSharding(mesh, P("data")))


def agree(found, expected):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("name", ROWS)
def test_traces_under_shard_map(name):
    jax.jit(sharded(call(name))).trace(batch(), KEY)


@pytest.mark.parametrize("name", CALLS)
def test_traces_on_an_explicit_mesh(name):
    with jax.set_mesh(mesh_of(AxisType.Explicit)) as mesh:
        jax.jit(call(name)).trace(split(mesh or jax.sharding.get_mesh()), KEY)


@pytest.mark.parametrize("name", some(ROWS))
def test_shard_map_gives_what_each_device_would_alone(name):
    one = jax.jit(call(name))
    parts = [one(xs, KEY) for xs in jnp.split(batch(), 4)]
    expected = jax.tree.map(lambda *rows: jnp.concatenate(rows), *parts)
    agree(jax.jit(sharded(call(name)))(batch(), KEY), expected)


@pytest.mark.parametrize("name", some(CALLS))
def test_an_explicit_mesh_gives_what_one_device_does(name):
    expected = jax.jit(call(name))(batch(), KEY)
    with jax.set_mesh(mesh_of(AxisType.Explicit)) as mesh:
        agree(jax.jit(call(name))(split(mesh or jax.sharding.get_mesh()), KEY), expected)


def test_what_has_no_rows_is_the_same_on_all_devices_under_shard_map():
    def run(xs, key):
        return [
            CALLS[name](Net(), jnp.ones((2, 4)), key) for name in ("operator_norm", "every", "ramp")
        ]

    mesh = mesh_of(AxisType.Auto)
    mapped = jax.shard_map(run, mesh=mesh, in_specs=(P("data"), P()), out_specs=P())
    agree(jax.jit(mapped)(batch(), KEY), run(batch(), KEY))


@pytest.mark.parametrize("method", [jacreg.Exact(), jacreg.Projection(2), jacreg.CoupledBatch()])
def test_gradients_of_shared_weights_under_shard_map(method):
    """The sum of what the devices give, which is JAX's own rule for what they share."""
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)

    def penalty(weights, xs):
        lin = jacreg.linearize(lambda xs: jnp.tanh(xs @ weights), xs)
        return jnp.sum(jacreg.frobenius_squared(lin, method, key=KEY))

    mesh = mesh_of(AxisType.Auto)
    mapped = jax.shard_map(jax.grad(penalty), mesh=mesh, in_specs=(P(), P("data")), out_specs=P())
    expected = sum(jax.jit(jax.grad(penalty))(weights, xs) for xs in jnp.split(batch(), 4))
    agree(jax.jit(mapped)(weights, batch()), expected)


@pytest.mark.parametrize(
    "quantity",
    [jacreg.divergence, jacreg.diagonal, jacreg.frobenius_squared, jacreg.jacobian],
)
def test_values_set_apart_on_each_kind_of_mesh(quantity):
    """Their zeros are the same on all devices, the values are not."""
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(4, 40)), jnp.float32)

    def fn(xs):
        mean = xs.mean(1, keepdims=True)
        for _ in range(8):  # so that products cost more than what a Jacobian is made of
            xs = jnp.sin(xs)
        return jnp.tanh(xs - mean) * jnp.sqrt(0.1 + (xs**2).mean(1, keepdims=True))

    def run(xs):
        lin = jacreg.linearize(fn, xs)
        assert "couple" in jacreg.plan(quantity, lin).reason
        return quantity(lin)

    expected = jax.jit(run)(xs)
    split = {"in_specs": P("data"), "out_specs": P("data")}
    mapped = jax.shard_map(run, mesh=mesh_of(AxisType.Auto), **split)
    agree(jax.jit(mapped)(xs), expected)
    with jax.set_mesh(mesh_of(AxisType.Explicit)) as mesh:
        placed = NamedSharding(mesh or jax.sharding.get_mesh(), P("data"))
        agree(jax.jit(run)(jax.device_put(xs, placed)), expected)


@pytest.mark.parametrize("quantity", [jacreg.laplacian, jacreg.hessian_diagonal])
def test_second_derivatives_through_shared_convolutions_under_shard_map(quantity):
    """Directions of x are the same on all devices, what a primitive takes beside them is not."""
    numbers = np.random.default_rng(0)
    images = jnp.asarray(numbers.normal(size=(4, 5, 2)), jnp.float32)
    kernel = jnp.asarray(numbers.normal(size=(3, 2, 2)), jnp.float32)

    def run(kernel, xs):
        def energy(xs):
            layout = ("NWC", "WIO", "NWC")
            hidden = jax.lax.conv_general_dilated(
                xs, kernel, (1,), "SAME", dimension_numbers=layout
            )
            return jnp.sum(jnp.tanh(hidden) * xs, axis=(1, 2))

        return quantity(jacreg.linearize(energy, xs))

    specs = {"in_specs": (P(), P("data")), "out_specs": P("data")}
    mapped = jax.shard_map(run, mesh=mesh_of(AxisType.Auto), **specs)
    agree(jax.jit(mapped)(kernel, images), jax.jit(run)(kernel, images))


def test_a_missing_direction_is_still_said_to_be_missing_under_shard_map():
    @jax.custom_vjp
    def sine(xs):
        return jnp.sin(xs)

    sine.defvjp(lambda xs: (jnp.sin(xs), xs), lambda xs, u: (u * jnp.cos(xs),))

    def forward(xs, key):
        return jacreg.frobenius_squared(
            jacreg.linearize(sine, xs), jacreg.Projection(mode="forward"), key=key
        )

    with pytest.raises(jacreg.DirectionError, match="custom VJP"):
        jax.jit(sharded(forward)).trace(batch(), KEY)


# Each example hears of every other, on all devices: its own block is (1 + 1/8) times the identity.
def coupled(xs, axis):
    return xs + jax.lax.psum(jnp.sum(xs, axis=0), axis)[None] / 8


def estimate(xs, key, axis="data"):
    lin = jacreg.linearize(lambda xs: coupled(xs, axis), xs)
    return jacreg.frobenius_squared(lin, jacreg.CoupledBatch(512), key=key)


def under_pmap(xs, keys):
    run = jax.pmap(lambda xs: jax.lax.map(lambda k: estimate(xs, k), keys), axis_name="data")
    return np.moveaxis(run(xs.reshape(4, 2, -1)), 1, 0).reshape(len(keys), 8)


def under_vmap(xs, keys):
    run = jax.vmap(estimate, (0, None), axis_name="data")
    return jax.lax.map(lambda k: run(xs.reshape(4, 2, -1), k).reshape(8), keys)


def under_shard_map(check):
    def run(xs, keys):
        mapped = sharded(lambda xs, k: estimate(xs, k), check_vma=check)
        return jax.lax.map(lambda k: mapped(xs, k), keys)

    return run


def over_two_axes(xs, keys):
    axes = ("hosts", "data")
    mesh = jax.make_mesh((2, 2), axes, axis_types=(AxisType.Auto,) * 2)
    mapped = jax.shard_map(
        lambda xs, k: estimate(xs, k, axes), mesh=mesh, in_specs=(P(axes), P()), out_specs=P(axes)
    )
    return jax.lax.map(lambda k: mapped(xs, k), keys)


WAYS = {
    "pmap": under_pmap,
    "vmap": under_vmap,
    "shard_map": under_shard_map(True),
    "shard_map unchecked": under_shard_map(False),
    "two axes": over_two_axes,
}


def errors_in_units(way):
    keys = jax.random.split(jax.random.key(1), 8)
    # A function of its own, which no earlier trace of the same one answers for.
    run = under_pmap if way == "pmap" else jax.jit(lambda *args: WAYS[way](*args))
    found = np.asarray(run(batch(), keys))
    truth = 4 * (1 + 1 / 8) ** 2
    return (found.mean() - truth) / (found.mean(axis=1).std(ddof=1) / len(keys) ** 0.5)


@pytest.mark.parametrize("way", WAYS)
def test_coupled_batch_with_one_key_on_all_devices_is_unbiased(way):
    assert abs(errors_in_units(way)) < 5


def test_equal_signs_on_all_devices_would_be_seen(monkeypatch):
    monkeypatch.setattr("jacreg._frobenius.fold_in_position", lambda key, xs, names: key)
    assert abs(errors_in_units("shard_map")) > 20


@pytest.mark.parametrize("check", [True, False])
def test_signs_agree_where_the_batch_is_not_split(check):
    """Devices that share the batch, as those of one tensor-parallel group, must go together."""

    def run(xs, key):
        parts = jacreg.linearize(lambda xs: jax.lax.psum(xs / 4, "data"), xs)
        found = jacreg.frobenius_squared(parts, jacreg.CoupledBatch(64), key=key)
        return jax.lax.pmean(found, "data") if not check else found

    mesh = mesh_of(AxisType.Auto)
    mapped = jax.shard_map(run, mesh=mesh, in_specs=(P(), P()), out_specs=P(), check_vma=check)
    np.testing.assert_allclose(jax.jit(mapped)(batch(), KEY), np.full(8, 4.0), rtol=1e-5)
