"""lipschitz_bound along networks: activations, branches, pooling, and what has no bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jacreg

XS = jnp.zeros((2, 6, 6, 4))
MATRIX = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
NORM = float(np.linalg.norm(MATRIX.astype(float), 2))
ELEMENTWISE = {
    "relu": (jax.nn.relu, 1),
    "tanh": (jnp.tanh, 1),
    "sigmoid": (jax.nn.sigmoid, 0.25),
    "softplus": (jax.nn.softplus, 1),
    "gelu": (jax.nn.gelu, 1.12899),
    "exact gelu": (lambda x: jax.nn.gelu(x, approximate=False), 1.128904),
    "silu": (jax.nn.silu, 1.099839),
    "mish": (jax.nn.mish, 1.0885),
    "selu": (jax.nn.selu, 1.758099),
    "elu": (jax.nn.elu, 1),
    "elu of another number": (lambda x: jax.nn.elu(x, 2.5), 2.5),
    "celu": (lambda x: jax.nn.celu(x, 0.3), 1),
    "swish": (lambda x: jax.nn.sigmoid(x * 1.702) * x, 1.099839),
    "leaky_relu": (jax.nn.leaky_relu, 1),
    "leaky_relu, 0.2": (lambda x: jax.nn.leaky_relu(x, 0.2), 1),
    "leaky_relu, steep": (lambda x: jax.nn.leaky_relu(x, -3.0), 3),
    "relu by hand": (lambda x: jnp.where(x <= 0, 0, x), 1),
    "two slopes": (lambda x: jnp.where(x > 0, x * 0.5, -(0.25 * x)), 0.5),
    "hard_swish": (jax.nn.hard_swish, 1.5),
    "clip": (lambda x: jnp.clip(x, -1, 1), 1),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_activations_by_their_steepest_slope(name):
    fn, slope = ELEMENTWISE[name]
    with jax.enable_x64(True):
        slopes = jax.jit(jax.vmap(jax.grad(fn)))(np.linspace(-20, 20, 400001))
        steepest = np.abs(slopes).max()
    bound = float(jacreg.lipschitz_bound(fn, XS))
    assert steepest <= bound <= slope * (1 + 1e-4)
    assert float(jax.jit(lambda: jacreg.lipschitz_bound(fn, XS))()) == bound


def test_learned_slopes():
    """One for each channel, traced, and the bound's derivative in them."""
    slopes = jnp.array([0.1, -2.0, 0.5, 1.0])

    def bound(slopes):
        return jacreg.lipschitz_bound(lambda x: jnp.where(x >= 0, x, slopes * x), XS)

    np.testing.assert_allclose(jax.jit(bound)(slopes), 2.0, rtol=1e-5)
    np.testing.assert_allclose(jax.grad(bound)(slopes), [0, -1, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(jacreg.lipschitz_bound(nnx.PReLU(1.5), XS), 1.5, rtol=1e-5)
    elu = jax.jit(lambda alpha: jacreg.lipschitz_bound(lambda x: jax.nn.elu(x, alpha), XS))
    np.testing.assert_allclose(elu(-3.0), 3.0, rtol=1e-5)
    assert jacreg.lipschitz_bound(lambda x: jax.nn.celu(x, -1.0), XS) == np.inf


SHAPED = {
    "softmax": (jax.nn.softmax, 0.5),
    "log_softmax": (jax.nn.log_softmax, 2),
    "logsumexp": (lambda x: jax.nn.logsumexp(x, axis=-1), 1),
    "residual": (lambda x: x + jnp.tanh(x @ MATRIX) / 2, 1 + NORM / 2),
    "concatenation": (lambda x: jnp.concatenate([x, jax.nn.relu(x)], -1), 2**0.5),
    "max-pooling": (lambda x: nnx.max_pool(x, (2, 2), (2, 2)), 1),
    "overlapping windows": (lambda x: nnx.max_pool(x, (3, 3), (2, 2)), 2),
    "average pooling": (lambda x: nnx.avg_pool(x, (2, 2), (2, 2)), 0.5),
    "global mean": (lambda x: x.mean((1, 2)), 1 / 6),
    "sort": (lambda x: jnp.sort(x, axis=-1), 1),
    "max": (lambda x: x.max(-1), 1),
    "gelu of a matrix": (lambda x: jax.nn.gelu(x @ MATRIX), 1.129 * NORM),
    "larger of two": (lambda x: jnp.maximum(x, -x), 2**0.5),
}


@pytest.mark.parametrize("name", SHAPED)
def test_functions(name):
    fn, constant = SHAPED[name]

    @jax.jit
    def run(points, steps):
        moved = jax.vmap(lambda p, s: jnp.linalg.norm(fn(p + s) - fn(p)))(points, steps)
        return jacreg.lipschitz_bound([fn], XS), moved

    points, steps = np.random.default_rng(0).normal(size=(2, 2, *XS.shape)).astype(np.float32)
    steps = 1e-2 * steps
    found, moved = run(points, steps)
    assert constant * (1 - 1e-6) <= float(found) <= 1.01 * constant
    lengths = np.linalg.norm(steps.reshape(2, -1), axis=1)
    assert (moved <= found * lengths * 1.001).all()


def test_a_network_of_modules_is_above_every_jacobian_and_differentiable():
    rngs = nnx.Rngs(0)
    norm = nnx.BatchNorm(5, use_running_average=True, rngs=rngs)
    layers = [
        nnx.Conv(4, 5, (3, 3), rngs=rngs), norm, jax.nn.gelu,
        lambda x: nnx.max_pool(x, (2, 2), (2, 2)),
        lambda x: x.reshape(len(x), -1), nnx.Linear(45, 3, rngs=rngs),
    ]  # fmt: skip

    def network(xs):
        for layer in layers:
            xs = layer(xs)
        return xs

    @jax.jit
    def run(xs):
        norms = jacreg.spectral_norm(jacreg.linearize(network, xs), key=jax.random.key(0))
        return jacreg.lipschitz_bound(layers, XS), jacreg.lipschitz_bound(network, XS), norms

    bound, whole, norms = run(np.random.default_rng(1).normal(size=XS.shape).astype(np.float32))
    assert float(bound) <= 1.01 * float(whole)
    assert (norms <= bound).all()

    def of(scale):
        return jacreg.lipschitz_bound([lambda x: scale * (x @ MATRIX), jnp.tanh], XS)

    np.testing.assert_allclose(jax.jit(jax.grad(of))(2.0), NORM, rtol=1e-2)


@pytest.mark.parametrize(
    ("fn", "named"),
    [
        (nnx.LayerNorm(4, rngs=nnx.Rngs(0)), "LayerNorm.*square"),
        (nnx.BatchNorm(4, rngs=nnx.Rngs(0)), "BatchNorm"),
        (jnp.exp, "exp"),
        (lambda x: jax.nn.softmax(x) * x, "mul"),
        (jnp.round, "round"),
        (lambda x: jnp.where(x > 1, x, 0), "gt"),
        (lambda x: jnp.where(x > 0, x, 1), "gt"),
        (lambda x: jnp.where(x > 0, x, x[..., ::-1]), "gt"),
        (lambda x: jnp.where(x > 0, x, 0) + (x > 0), "gt"),
        (lambda x: jnp.where(x[..., :1] > 0, x, 0), "gt"),
        (lambda x: x @ jnp.swapaxes(x, -1, -2), "dot_general"),
    ],
)
def test_what_has_no_bound_is_named(fn, named):
    with pytest.raises(ValueError, match=f"layer 1.*{named}"):
        jacreg.lipschitz_bound([jnp.tanh, fn], XS)


def test_bad_calls():
    with pytest.raises(TypeError, match="layers must be"):
        jacreg.lipschitz_bound([MATRIX], XS)
    with pytest.raises(ValueError, match=r"layer 1 .* does not take a batch"):
        jacreg.lipschitz_bound([jnp.tanh, lambda x: x @ jnp.ones((3, 3))], XS)
    with pytest.raises(ValueError, match="one array"):
        jacreg.lipschitz_bound(lambda x: (x, x), XS)


def test_layers_that_mix_rows_are_bounded_as_a_whole():
    """On one row x minus the batch's mean is 0, and of norm 1 on more."""
    xs = jnp.ones((4, 3))
    centred = jacreg.lipschitz_bound(lambda xs: xs - xs.mean(0), xs)
    summed = jacreg.lipschitz_bound([jnp.tanh, lambda xs: xs.sum(0), lambda xs: 2 * xs], xs)
    assert 1 <= centred <= 1.01
    assert 4 <= summed <= 4.04  # the root of four rows, doubled


def test_rows_are_mixed_where_a_layer_before_made_several_of_each():
    xs = jnp.ones((4, 6))
    layers = [lambda xs: xs.reshape(-1, 3), lambda xs: xs.sum(0)]
    assert 8**0.5 <= jacreg.lipschitz_bound(layers, xs) <= 1.01 * 8**0.5


TABLE = jnp.array([1.0, 3.0, 2.0, 50.0])


@pytest.mark.parametrize(
    "layer",
    [
        lambda xs: xs * TABLE[: len(xs), None],
        lambda xs: xs * TABLE[:, None],
        lambda xs: xs * len(xs),
        lambda xs: xs / np.sqrt(len(xs)),
        lambda xs: jnp.where(jnp.arange(len(xs))[:, None] > 1, 10 * xs, xs),
        lambda xs: jnp.concatenate([xs[:1], 5 * xs[1:]]),
        lambda xs: xs - jax.lax.dynamic_update_slice(xs, xs[:1], (0, 0)),
        lambda xs: jnp.einsum("n,ni->ni", TABLE[: len(xs)], xs),
        lambda xs: jax.lax.map(lambda both: both[0] * both[1], (xs, TABLE[: len(xs)])),
        lambda xs: (xs.reshape(-1, 1) * TABLE[: len(xs)].repeat(3)[:, None]).reshape(xs.shape),
        lambda xs: xs + xs.at[2:].set(3 * xs[2:]),
    ],
)
def test_rows_may_each_be_treated_in_a_way_of_their_own(layer):
    """One row does not tell what the others meet, though it tells what it does not see of them."""
    xs = jnp.ones((4, 3))
    truth = np.linalg.norm(jax.jacobian(layer)(xs).reshape(12, 12), 2)
    for found in (
        jacreg.lipschitz_bound(layer, xs),
        jax.jit(lambda: jacreg.lipschitz_bound([jnp.tanh, layer], xs))(),
    ):
        assert truth <= found <= 1.01 * truth


@pytest.mark.parametrize(
    "layer",
    [
        lambda xs: xs @ ENTANGLED + 1,
        lambda xs: (xs.reshape(-1, 60) @ ENTANGLED + jnp.ones((len(xs), 1))).reshape(xs.shape),
        lambda xs: jnp.roll(xs @ ENTANGLED, 1, axis=1)[:, ::-1],
        lambda xs: jax.vmap(lambda x: ENTANGLED.T @ x)(xs),
        lambda xs: jax.lax.scan(
            lambda carry, kernel: (carry @ kernel, None), xs + jnp.zeros((len(xs), 60)),
            ENTANGLED[None],
        )[0],
    ],
)  # fmt: skip
def test_one_row_tells_all_where_each_is_treated_alike(layer):
    """A hundred rows would be too many to write out."""
    found = jacreg.lipschitz_bound(layer, jax.ShapeDtypeStruct((100, 60), jnp.float32))
    truth = np.linalg.norm(ENTANGLED, 2)
    assert truth <= found <= 1.01 * truth


ENTANGLED = jax.random.normal(jax.random.key(7), (60, 60))


def test_layers_in_a_loop_are_bounded_as_one_by_one():
    kernels = jax.random.normal(jax.random.key(3), (3, 5, 5))

    def looped(xs):
        return jax.lax.scan(lambda xs, kernel: (jnp.tanh(xs @ kernel), None), xs, kernels)[0]

    def unrolled(xs):
        for kernel in kernels:
            xs = jnp.tanh(xs @ kernel)
        return xs

    xs = jax.ShapeDtypeStruct((4, 5), jnp.float32)
    found = jacreg.lipschitz_bound(looped, xs)
    np.testing.assert_allclose(found, jacreg.lipschitz_bound(unrolled, xs), rtol=1e-6)
    truth = np.prod([np.linalg.norm(kernel, 2) for kernel in kernels])
    assert truth <= found <= 1.01**3 * truth


def test_a_long_loop_keeps_its_name():
    def looped(xs):
        return jax.lax.fori_loop(0, 10**6, lambda i, xs: jnp.tanh(xs), xs)

    with pytest.raises(ValueError, match="scan"):
        jacreg.lipschitz_bound(looped, jax.ShapeDtypeStruct((4, 5), jnp.float32))
