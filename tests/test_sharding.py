"""One batch over four devices: equal numbers, in its own sharding, nothing gathered."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from local_functions import kernel

import jacreg

N, SIZE = 8, 6
WEIGHTS = (kernel((3, 3, 2, 4)), kernel((SIZE * SIZE * 4, 5), 1), kernel((3, 3, 2, 2), 2))


def convolve(x, weights):
    return jnp.tanh(
        jax.lax.conv_general_dilated(
            x, weights, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    )


def classifier(weights, x):
    return convolve(x, weights[0]).reshape(x.shape[0], -1) @ weights[1]


def field(weights, x):
    return convolve(x, weights[2])


def images():
    return jnp.asarray(np.random.default_rng(0).normal(size=(N, SIZE, SIZE, 2)), jnp.float32)


COLORING = jacreg.color(lambda x: field(WEIGHTS, x), images())
NORMS = {
    "reverse": jacreg.Projection(),
    "forward": jacreg.Projection(mode="forward", distribution="rademacher"),
    "three probes": jacreg.Projection(3, distribution="gaussian"),
    "exact": jacreg.Exact(),
    "chunks": jacreg.Exact(chunk_size=2),
    "noise": jacreg.NoiseInjection(0.01),
    "coupled": jacreg.CoupledBatch(),
}
TRACES = {
    "exact trace": jacreg.Exact(),
    "hutchinson": jacreg.Hutchinson(2),
    "coloring": COLORING,
}


def compute(name, weights, x, key):
    if name in NORMS:
        lin = jacreg.linearize(lambda x: classifier(weights, x), x)
        return jacreg.frobenius_squared(lin, NORMS[name], key=key)
    if name in TRACES:
        lin = jacreg.linearize(lambda x: field(weights, x), x)
        return jacreg.divergence(lin, TRACES[name], key=key)
    lin = jacreg.linearize(lambda x: classifier(weights, x), x)
    return {"gram": jacreg.gram, "jacobian": jacreg.jacobian}[name](lin)


@pytest.mark.skipif(jax.device_count() < 4, reason="needs four (host) devices")
@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto], ids=["explicit", "auto"])
@pytest.mark.parametrize("name", [*NORMS, *TRACES, "gram", "jacobian"])
def test_equal_numbers_and_nothing_gathered(name, kind):
    key = jax.random.key(0)
    expected = jax.jit(compute, static_argnums=0)(name, WEIGHTS, images(), key)

    def loss(weights, x, key):
        return compute(name, weights, x, key).mean()

    with jax.set_mesh(jax.make_mesh((4,), ("batch",), axis_types=(kind,))) as mesh:
        mesh = mesh or jax.sharding.get_mesh()
        xs = jax.device_put(images(), NamedSharding(mesh, P("batch")))
        weights = jax.device_put(WEIGHTS, NamedSharding(mesh, P()))
        found = jax.jit(compute, static_argnums=0)(name, weights, xs, key)
        compiled = jax.jit(jax.grad(loss)).lower(weights, xs, key).compile().as_text()
        if kind is AxisType.Explicit:
            assert jax.typeof(found).sharding.spec[0] == "batch"
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-5)
    assert "all-gather" not in compiled
    assert "all-to-all" not in compiled


@pytest.mark.skipif(jax.device_count() < 4, reason="needs four (host) devices")
def test_the_search_for_gathers_can_find_one():
    with jax.set_mesh(jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))) as mesh:
        mesh = mesh or jax.sharding.get_mesh()
        xs = jax.device_put(images(), NamedSharding(mesh, P("batch")))
        whole = jax.jit(jax.jacrev(lambda x: field(WEIGHTS, x))).lower(xs).compile().as_text()
    assert "all-gather" in whole
