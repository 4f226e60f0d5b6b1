"""Several probes: the numbers of one after the other, in groups of bounded memory."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jacreg
from jacreg import _probe_groups
from jacreg._probe_groups import read_plan
from jacreg._probes import draw, map_probes, sample_probes
from jacreg._structure import example_dot

N, SIZE = 4, 6
RNG = np.random.default_rng(0)
W = RNG.normal(size=(SIZE, SIZE))
STRIDED, GROUPED = RNG.normal(size=(2, 3, 1, 2)), RNG.normal(size=(3, 2, 1))


def mlp(xs, weights=W):
    return jnp.tanh(
        jnp.tanh(xs @ jnp.asarray(weights, xs.dtype)) @ jnp.asarray(weights.T, xs.dtype)
    )


def channels_first(xs, kernel=STRIDED):
    """Strides and a dilation, from [N, 6] as images [N, 1, 2, 3]."""
    images, kernel = jnp.sin(xs.reshape(-1, 1, 2, 3)), jnp.asarray(kernel, xs.dtype)
    return jax.lax.conv_general_dilated(
        images, kernel, (1, 2), "SAME", (1, 1), (2, 1), dimension_numbers=("NCHW", "HWIO", "NHWC")
    ).reshape(len(xs), -1)  # fmt: skip


def grouped(xs):
    """Two groups in one dimension, batch and channels in odd places."""
    numbers = jax.lax.ConvDimensionNumbers((2, 0, 1), (1, 2, 0), (1, 2, 0))
    kernel = jnp.concatenate([jnp.asarray(GROUPED, xs.dtype)] * 2, axis=1)
    found = jax.lax.conv_general_dilated(
        jnp.sin(xs).reshape(-1, 3, 2).transpose(2, 1, 0), kernel, (1,), "SAME",
        dimension_numbers=numbers, feature_group_count=2,
    )  # fmt: skip
    return found.transpose(1, 2, 0).reshape(len(xs), -1)


def attention(xs):
    return jnp.einsum("ni,nj,nj->ni", jnp.tanh(xs), xs, jnp.sin(xs))


def looped(xs):
    return jax.lax.scan(lambda h, w: (jnp.tanh(h * w), None), xs, jnp.asarray(W, xs.dtype))[0]


def batch(dtype=None, rows=N):
    return jnp.asarray(np.random.default_rng(1).normal(size=(rows, SIZE)), dtype)


def projection(fn, xs):
    lin = jacreg.linearize(fn, xs)
    return lambda key: jacreg.frobenius_squared(lin, jacreg.Projection(), key=key)


def plan_of(fn, count, rows=N):
    sample = projection(fn, batch(rows=rows))
    return read_plan(jax.make_jaxpr(sample)(jax.random.key(0)), count).at_once


@pytest.mark.parametrize(("fn", "count"), [(mlp, 5), (channels_first, 5), (grouped, 9)])
def test_values_and_gradients_are_those_of_one_after_the_other(fn, count, x64, monkeypatch):
    """Groups of at most four; convolutions in a loop."""
    monkeypatch.setattr(_probe_groups, "_ROWS", 4 * N)
    key = jax.random.key(0)

    def ours(xs):
        return sample_probes(projection(fn, xs), key, count)

    def plain(xs):
        """What JAX's own derivatives give."""
        value, pull = jax.vjp(fn, xs)

        def one(key):
            rows = pull(draw(key, value, "sphere"))[0]
            return jnp.sum(rows**2, axis=1)

        return jnp.stack([one(each) for each in jax.random.split(key, count)])

    @jax.jit
    def everything(xs):
        return [(f(xs), jax.grad(lambda xs, f=f: jnp.sum(f(xs) ** 2))(xs)) for f in (ours, plain)]

    found, truth = everything(batch())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), found, truth)


def test_draws_are_bit_for_bit_those_of_each_key():
    like = {"a": jnp.ones((N, 2, 3)), "b": jnp.ones((N, 5), jnp.bfloat16)}

    def sample(key):
        draws = [draw(key, like, distribution) for distribution in ("sphere", "rademacher")]
        # A matrix product makes them a group.
        return draws, draws[0]["b"] @ jnp.eye(5, dtype=jnp.bfloat16)

    key = jax.random.key(3)
    assert read_plan(jax.make_jaxpr(sample)(key), 3).at_once == 3
    keys = jax.random.split(key, 3)
    found, each = jax.jit(
        lambda: (sample_probes(sample, key, 3), [sample(keys[i]) for i in range(3)])
    )()
    for number, expected in enumerate(each):
        jax.tree.map(lambda a, b, i=number: np.testing.assert_array_equal(a[i], b), found, expected)


def test_the_mean_over_all_signs_is_the_trace(x64, monkeypatch):
    monkeypatch.setattr(_probe_groups, "_ROWS", 10 * N)
    lin = jacreg.linearize(mlp, batch())
    signs = jnp.asarray(list(product((-1.0, 1.0), repeat=SIZE)))

    def forms(sign):
        probe = jnp.broadcast_to(sign, (N, SIZE))
        return example_dot(probe, lin.jvp(probe))

    dense = jax.vmap(jax.jacobian(lambda x: mlp(x[None])[0]))(batch())
    found = jax.jit(lambda signs: map_probes(forms, signs))(signs).mean(0)
    np.testing.assert_allclose(found, np.trace(dense, axis1=1, axis2=2), rtol=1e-12)


def test_the_plan_is_read_from_the_program():
    assert plan_of(mlp, 24, rows=16) == 12
    assert plan_of(mlp, 24, rows=256) == 1
    assert plan_of(mlp, 7, rows=100) == 2
    assert plan_of(mlp, 5, rows=16) == 5
    for fn in (attention, looped, jnp.sin, channels_first, grouped):
        assert plan_of(fn, 8) == 1


def test_a_large_array_makes_groups_smaller():
    weights = jnp.ones((SIZE, 2**16))
    found = plan_of(lambda xs: jnp.tanh(xs @ weights)[:, :3], 24, rows=16)
    assert found == 4  # of 4 MiB each


@pytest.mark.parametrize(("fn", "counts"), [(mlp, (64, 256)), (channels_first, (16, 64))])
def test_temporary_memory_is_that_of_a_group(fn, counts):
    def temporary(count):
        xs = batch(rows=32)
        program = jax.jit(lambda xs: jacreg.frobenius_squared(
            jacreg.linearize(fn, xs), jacreg.Projection(count), key=jax.random.key(0)
        ))  # fmt: skip
        compiled = program.lower(xs).compile()
        # The result of each probe is kept.
        return compiled.memory_analysis().temp_size_in_bytes - 4 * len(xs) * count

    few, many = map(temporary, counts)
    assert many < 1.2 * few + 8192


@pytest.mark.parametrize(("fn", "counts"), [(mlp, (64, 256)), (channels_first, (16, 64))])
def test_nor_does_that_of_the_gradient_grow(fn, counts, monkeypatch):
    monkeypatch.setattr(_probe_groups, "_KEPT_BYTES", 1 << 14)

    def temporary(count):
        program = jax.jit(jax.grad(lambda xs: jacreg.frobenius_squared(
            jacreg.linearize(fn, xs), jacreg.Projection(count), key=jax.random.key(0)
        ).sum()))  # fmt: skip
        compiled = program.lower(batch(rows=32)).compile()
        # Keys, and the results with their cotangents.
        return compiled.memory_analysis().temp_size_in_bytes - 16 * 32 * count

    few, many = map(temporary, counts)
    assert many < 1.2 * few + 8192


def test_the_diagonal_of_a_pytree_takes_one_pass():
    weights, xs = jnp.asarray(W, jnp.float32), {"a": batch(), "b": 2 * batch()}
    method, key = jacreg.Hutchinson(3), jax.random.key(0)

    def fn(xs):
        return {"a": jnp.sin(xs["b"] @ weights), "b": xs["a"] @ weights.T}

    def products(quantity):
        program = jax.make_jaxpr(lambda xs: quantity(jacreg.linearize(fn, xs), method, key=key))
        return str(program(xs)).count("dot_general")

    assert products(jacreg.diagonal) == products(jacreg.divergence) > 0


def test_low_precision_stays():
    sample, keys = projection(mlp, batch(jnp.bfloat16)), jax.random.split(jax.random.key(0), 3)
    found = jax.jit(lambda: sample_probes(sample, jax.random.key(0), 3))()
    single = jax.jit(lambda keys: jax.lax.map(sample, keys))(keys)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(float), single.astype(float), rtol=0.03)


@pytest.mark.skipif(jax.device_count() < 4, reason="needs four (host) devices")
@pytest.mark.parametrize("told", [True, False])
def test_a_batch_over_devices_is_not_gathered(told):
    """Told of the mesh, one probe after the other; else groups, which gather nothing either."""
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
    xs = jax.device_put(batch(jnp.float32, rows=8), NamedSharding(mesh, P("batch")))

    def traces(xs):
        lin = jacreg.linearize(mlp, xs)
        return jacreg.divergence(lin, jacreg.Hutchinson(6), key=jax.random.key(0))

    expected = jax.jit(traces)(batch(jnp.float32, rows=8))

    def check():
        assert ("scan[" in str(jax.make_jaxpr(traces)(xs))) is told
        compiled = jax.jit(traces).lower(xs).compile()
        np.testing.assert_allclose(compiled(xs), expected, rtol=2e-5, atol=1e-5)
        assert "all-gather" not in compiled.as_text()
        assert "all-to-all" not in compiled.as_text()

    if not told:
        return check()
    with jax.set_mesh(mesh):
        return check()
