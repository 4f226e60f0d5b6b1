"""1-Lipschitz layers by the singular values of their matrices, before and after training."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from random_maps import dense_norm

import jacreg
import jacreg.eqx
import jacreg.linen
import jacreg.nnx
from models.conv import ConvLayout

KEY = jax.random.key(2)
FIRST = ("NCHW", "OIHW", "NCHW")
MOST = 1 + 1e-5

# In nnx: how it is made, and the shape of one example.
LAYERS = {
    "dense": (lambda r: jacreg.nnx.OrthogonalDense(5, 7, rngs=r), (5,)),
    "dense, square": (lambda r: jacreg.nnx.OrthogonalDense(6, 6, rngs=r), (6,)),
    "dense, fewer": (lambda r: jacreg.nnx.OrthogonalDense(7, 3, rngs=r), (7,)),
    "residual": (lambda r: jacreg.nnx.SLLDense(6, rngs=r), (6,)),
    "aol": (lambda r: jacreg.nnx.AOLConv(2, 4, 3, rngs=r), (5, 4, 2)),
    "aol, strides": (
        lambda r: jacreg.nnx.AOLConv(2, 6, (3, 4), strides=(2, 3), padding=1, rngs=r), (6, 7, 2)
    ),
    "aol, groups": (
        lambda r: jacreg.nnx.AOLConv(4, 6, 2, strides=2, groups=2, layout=FIRST, rngs=r), (4, 4, 5)
    ),
    "aol, volumes": (
        lambda r: jacreg.nnx.AOLConv(
            2, 2, 2, padding="VALID", layout=("NHWDC", "WHDIO", "NCDWH"), rngs=r
        ), (3, 3, 2, 2)
    ),
    "aol, sequences": (
        lambda r: jacreg.nnx.AOLConv(3, 2, 5, layout=ConvLayout("NWC", "WIO", "NWC"), rngs=r),
        (9, 3),
    ),
    "residual convolution": (lambda r: jacreg.nnx.SLLConv(3, 3, rngs=r), (4, 5, 3)),
    "residual, other layout": (
        lambda r: jacreg.nnx.SLLConv(2, (2, 3), layout=("NCHW", "OIWH", "NHWC"), rngs=r), (2, 4, 4)
    ),
}  # fmt: skip


def _draw(shape, seed=2):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _worst(jacobians):
    """The largest norm of `[P, M, *in]`, in float64 from float32 derivatives."""
    flat = np.asarray(jacobians, np.float64).reshape((*jacobians.shape[:2], -1))
    return np.linalg.norm(flat, 2, axis=(1, 2)).max()


FAST = ("dense, fewer", "residual", "aol, strides", "residual convolution")


@pytest.mark.parametrize(
    "name",
    [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in LAYERS],
)
def test_norm_before_and_after_training_at_a_large_rate(name):
    make, shape = LAYERS[name]
    layer = make(nnx.Rngs(0))
    assert layer.lipschitz_bound() == 1
    graph, params = nnx.split(layer)
    xs = _draw((8, *shape))
    points = [0 * xs[0], 0.3 * xs[0], xs[0], xs[1], 10 * xs[2]]
    targets = 3 * _draw(jax.eval_shape(layer, xs).shape, seed=1)

    @jax.jit
    def jacobians(params):
        layer = nnx.merge(graph, params)
        return jax.vmap(jax.jacfwd(lambda x: layer(x[None])[0].ravel()))(jnp.stack(points))

    assert _worst(jacobians(params)) <= MOST
    optimizer = optax.adam(0.3)

    @jax.jit
    def train(params):
        def loss(params):
            return jnp.mean(jnp.square(nnx.merge(graph, params)(xs) - targets))

        def step(carry, _):
            params, state = carry
            value, grads = jax.value_and_grad(loss)(params)
            updates, state = optimizer.update(grads, state)
            return (optax.apply_updates(params, updates), state), value

        return jax.lax.scan(step, (params, optimizer.init(params)), None, length=200)

    (params, _), losses = train(params)
    assert losses[-1] < losses[0]
    assert 0.3 < _worst(jacobians(params)) <= MOST
    gradients = jax.jit(jax.grad(lambda p: jnp.sum(jnp.square(nnx.merge(graph, p)(xs)))))
    for constant in (0.0, 1.0, 1e4):
        filled = jax.tree.map(lambda p: np.full(p.shape, constant, p.dtype), params)  # noqa: B023
        assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients(filled)))
        assert _worst(jacobians(filled)) <= MOST


def test_residual_layers_divide_by_the_weighted_sums_of_their_paper():
    """x - 2 W T^-1 relu(W^T x + b), T_i = sum_j |W^T W|_ij q_j / q_i (Araujo et al. 2023)."""
    raw, bias = jnp.array([0.5, -1.0, 2.0, 0.1]), jnp.array([0.3, -0.2, 0.0, 1.0])
    q = 10 * np.tanh(np.asarray(raw, np.float64) / 10)
    ratios = np.exp(q[None] - q[:, None])

    def dense(matrix, x):
        sums = (np.abs(matrix.T @ matrix) * ratios).sum(1)
        return x - 2 * matrix @ (np.maximum(matrix.T @ x + np.asarray(bias), 0) / sums)

    layer = jacreg.nnx.SLLDense(4, rngs=nnx.Rngs(0))
    layer.scale[...], layer.bias[...] = raw, bias
    xs = _draw((3, 4))
    matrix = np.asarray(layer.kernel[...], np.float64)
    np.testing.assert_allclose(layer(xs), [dense(matrix, x) for x in xs], rtol=2e-5, atol=2e-5)
    # One tap is a matrix at each pixel.
    pixels = jacreg.nnx.SLLConv(4, 1, rngs=nnx.Rngs(1))
    pixels.scale[...], pixels.bias[...] = raw, bias
    matrix = np.asarray(pixels.kernel[...], np.float64)[0, 0]
    want = [[[dense(matrix, x) for x in xs]]]
    np.testing.assert_allclose(pixels(xs[None, None]), want, rtol=2e-5, atol=2e-5)


def test_a_square_orthogonal_layer_keeps_every_norm():
    layer = jacreg.nnx.OrthogonalDense(6, 6, use_bias=False, rngs=nnx.Rngs(0))
    xs = _draw((5, 6))
    lengths = np.linalg.norm(jax.jit(lambda xs: layer(xs))(xs), axis=1)
    np.testing.assert_allclose(lengths, np.linalg.norm(xs, axis=1), rtol=1e-6)


def test_group_sort_and_max_min():
    xs = jnp.array([[3.0, 1.0, 2.0, 5.0, 4.0, 0.0]])
    np.testing.assert_array_equal(jacreg.nnx.MaxMin()(xs), [[3, 1, 5, 2, 4, 0]])
    np.testing.assert_array_equal(jacreg.nnx.GroupSort(3)(xs), [[3, 2, 1, 5, 4, 0]])
    np.testing.assert_array_equal(jacreg.eqx.GroupSort(3)(xs[0]), [3, 2, 1, 5, 4, 0])
    np.testing.assert_array_equal(jacreg.eqx.MaxMin()(xs[0]), [3, 1, 5, 2, 4, 0])
    for layer in (jacreg.linen.MaxMin(), jacreg.linen.GroupSort(2)):
        np.testing.assert_array_equal(layer.apply({}, xs), [[3, 1, 5, 2, 4, 0]])
    images = _draw((2, 4, 3, 3))
    found = jacreg.nnx.MaxMin(axis=1)(images)
    np.testing.assert_array_equal(found[:, 0], images[:, :2].max(1))
    odd = jnp.ones((1, 3))
    for name, call in {
        "jacreg.nnx.MaxMin": jacreg.nnx.MaxMin(),
        "jacreg.eqx.MaxMin": jax.vmap(jacreg.eqx.MaxMin()),
        "jacreg.linen.MaxMin": lambda xs: jacreg.linen.MaxMin().apply({}, xs),
        "jacreg.nnx.GroupSort": jacreg.nnx.GroupSort(2),
    }.items():
        with pytest.raises(ValueError, match=f"^{name}: axis .* multiple of 2"):
            call(odd)
    with pytest.raises(ValueError, match="at least 1"):
        jacreg.nnx.GroupSort(0)


@pytest.mark.parametrize("layer", ["AOLConv", "SLLConv"])
def test_channels_in_another_place_are_told_so(layer):
    sizes = (3, 3, 3) if layer == "AOLConv" else (3, 3)
    one = getattr(jacreg.eqx, layer)(*sizes, key=jax.random.key(0))
    batch = getattr(jacreg.nnx, layer)(*sizes, rngs=nnx.Rngs(0))
    last = jnp.ones((2, 5, 5, 3))
    with pytest.raises(
        ValueError, match=r"CHW, 3 channels in axis 0; got .*moveaxis\(x, 2, 0\)"
    ) as told:
        jacreg.linearize(jax.vmap(one), last)
    assert "jax.vmap" not in "".join(told.value.__notes__)
    with pytest.raises(ValueError, match=r"takes one example .* jax.vmap\(layer\)"):
        one(jnp.moveaxis(last, 3, 1))
    with pytest.raises(ValueError, match=r"NHWC, 3 channels in axis 3; got .*moveaxis\(x, 1, 3\)"):
        batch(jnp.moveaxis(last, 3, 1))
    with pytest.raises(ValueError, match=r"takes a batch with axes NHWC"):
        batch(last[0])
    with pytest.raises(ValueError, match=r"got shape \(2, 5, 5, 4\)\.$"):
        batch(jnp.ones((2, 5, 5, 4)))
    for copy, xs in (
        (jacreg.eqx.fixed_kernels(one), last[0].T),
        (jacreg.nnx.fixed_kernels(batch), last),
    ):
        copy(xs)
        with pytest.raises(ValueError, match="channels in axis"):
            copy(jnp.swapaxes(xs, -1, -3))


def test_equinox_and_linen_are_the_same_functions():
    def both(own, theirs, xs):
        return jax.jit(lambda xs: (jax.vmap(own)(xs), theirs(xs)))(xs)

    xs = _draw((3, 4, 5, 6))  # N, C, H, W
    pairs = [
        (jacreg.nnx.AOLConv(4, 6, 3, strides=2, layout=FIRST, rngs=nnx.Rngs(0)),
         jacreg.eqx.AOLConv(4, 6, 3, strides=2, key=KEY)),
        (jacreg.nnx.SLLConv(4, 3, layout=FIRST, rngs=nnx.Rngs(0)),
         jacreg.eqx.SLLConv(4, 3, key=KEY)),
    ]  # fmt: skip
    for theirs, own in pairs:
        own = eqx.tree_at(lambda m: m.weight, own, theirs.kernel[...])
        np.testing.assert_allclose(*both(own, theirs, xs), atol=1e-6)
    flat = xs.reshape(3, -1)[:, :6]
    for theirs, own in [
        (
            jacreg.nnx.OrthogonalDense(6, 4, rngs=nnx.Rngs(0)),
            jacreg.eqx.OrthogonalDense(6, 4, key=KEY),
        ),
        (jacreg.nnx.SLLDense(6, rngs=nnx.Rngs(0)), jacreg.eqx.SLLDense(6, key=KEY)),
    ]:
        own = eqx.tree_at(lambda m: m.weight, own, theirs.kernel[...].T)
        np.testing.assert_allclose(*both(own, theirs, flat), atol=1e-5)
    dense = jacreg.linen.OrthogonalDense(6, 4)
    variables = dense.init(KEY, flat)
    assert isinstance(dense, linen.Module)
    fn = jacreg.linen.function(dense, variables)
    assert dense_norm(lambda x: fn(x[None])[0], (6,)) <= MOST


def test_layers_in_a_row_say_their_bound():
    def network(adapter, **size):
        module = jacreg.nnx if adapter == "nnx" else jacreg.eqx
        random = {"rngs": nnx.Rngs(0)} if adapter == "nnx" else {"key": KEY}
        return module.LipschitzSequential(
            [
                module.AOLConv(1, 4, 2, strides=2, **random),
                module.MaxMin(),
                module.SLLConv(4, 3, **random),
                (lambda x: x.reshape(len(x), -1)) if adapter == "nnx" else jnp.ravel,
                module.OrthogonalDense(64, 3, **random),
                jnp.tanh,
            ],
            **size,
        )

    for adapter, shape in (("nnx", (8, 8, 1)), ("eqx", (1, 8, 8))):
        model = network(adapter, in_shape=shape)
        fn = model if adapter == "nnx" else jax.vmap(model)

        @jax.jit
        def measured(xs):
            lin = jacreg.linearize(fn, xs)  # noqa: B023
            return lin.value, model.lipschitz_bound(), jacreg.spectral_norm(lin, key=KEY)  # noqa: B023

        value, bound, norms = measured(_draw((2, *shape)))
        assert 1 <= float(bound) <= MOST
        assert value.shape == (2, 3)
        assert (norms <= MOST).all()
        with pytest.raises(ValueError, match=r"layer 3.*in_shape"):
            network(adapter).lipschitz_bound()
    short = jacreg.nnx.LipschitzSequential([jacreg.nnx.SLLDense(4, rngs=nnx.Rngs(0)), jax.nn.relu])
    assert float(short.lipschitz_bound()) <= MOST
    with pytest.raises(TypeError, match="list of layers"):
        jacreg.nnx.LipschitzSequential(jnp.tanh)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jacreg.nnx.OrthogonalDense(0, 3, rngs=nnx.Rngs(0)), "in_features"),
        (lambda: jacreg.nnx.AOLConv(3, 4, 3, groups=2, rngs=nnx.Rngs(0)), "groups"),
        (lambda: jacreg.nnx.AOLConv(3, 4, 3, padding="FULL", rngs=nnx.Rngs(0)), "padding"),
        (lambda: jacreg.nnx.AOLConv(3, 4, (3,), rngs=nnx.Rngs(0)), "kernel_size"),
        (lambda: jacreg.eqx.SLLConv(3, 3, layout=("NCHW", "OIHW"), key=KEY), "three strings"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_row_of_layers_that_mixes_the_batch_has_no_bound_of_its_own():
    net = jacreg.nnx.LipschitzSequential([lambda xs: xs - xs.mean(0)], in_shape=(3,))
    with pytest.raises(ValueError, match="mix the rows of a batch"):
        net.lipschitz_bound()
