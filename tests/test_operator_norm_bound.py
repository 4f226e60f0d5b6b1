"""operator_norm_bound against dense singular values, and against norms on unbounded images."""

from fractions import Fraction
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from random_maps import dense_norm, random_convolution, unbounded_norm, written_out_norm

import jacreg
from jacreg._bounds import _dense
from jacreg._bounds._gram_iteration import spectral_bound
from jacreg._bounds._verified import matrix_bound

KEY = jax.random.key(5)


@pytest.fixture
def never_dense(monkeypatch):
    """Bounds of convolutions as on large images, whatever the size."""
    monkeypatch.setattr(_dense, "MOST_ENTRIES", -1)


def _bounds(fn):
    """On images of this size, and of any size, in one compiled program."""

    @jax.jit
    def both(kernel):
        def bound():
            return jacreg.operator_norm_bound(lambda x: fn(x, kernel), fn.in_shape)

        own = bound()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_dense, "MOST_ENTRIES", -1)
            return own, bound()

    return map(float, both(jnp.asarray(fn.kernel)))


def _check(seed):
    """Ratios of the bounds to the norms, on this image and on an unbounded one."""
    fn = random_convolution(seed)
    truth = written_out_norm(fn)
    own, anywhere = _bounds(fn)
    assert truth <= own <= 1.01 * truth, (seed, fn.options, own, truth)
    assert truth <= anywhere, (seed, fn.options, anywhere, truth)
    rank = fn.kernel.ndim - 2
    unbounded = unbounded_norm(fn, {1: 200, 2: 24, 3: 12}[rank])
    assert unbounded <= anywhere, (seed, fn.options, anywhere, unbounded)
    # The sampled norm is low by what lies between so few frequencies.
    assert anywhere <= 1.01 * unbounded * {1: 1.001, 2: 1.06, 3: 1.2}[rank]
    return (own / truth, anywhere / unbounded) if truth and unbounded else (1.0, 1.0)


@pytest.mark.parametrize("seed", [0, 3, 7, 12, 21, 30])
def test_random_convolutions(seed):
    _check(seed)


def test_the_norms_to_compare_with():
    for seed in (1, 2, 80):  # the last has no place for its kernel
        fn = random_convolution(seed)
        np.testing.assert_allclose(written_out_norm(fn), dense_norm(fn, fn.in_shape), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(0, 500, 20))
def test_five_hundred_random_convolutions(seed):
    ratios = np.array([_check(each) for each in range(seed, seed + 20)])
    print(f"{seed}: bound over norm at most {ratios.max(0)}, at least {ratios.min(0)}")


def _draw(shape, seed=5):
    return np.random.default_rng(seed).standard_normal(shape)


def _kernel_gradients(bound, shape):
    kernel, direction = _draw(shape), _draw(shape, seed=1)

    @jax.jit
    def products(kernel):
        value, tangent = jax.jvp(bound, (kernel,), (direction,))
        return value, tangent, jnp.sum(jax.grad(bound)(kernel) * direction)

    step = 1e-6
    after, before = (products(kernel + s * direction)[0] for s in (step, -step))
    _, forward, reverse = products(kernel)
    np.testing.assert_allclose(reverse, (after - before) / (2 * step), rtol=1e-5)
    np.testing.assert_allclose(forward, (after - before) / (2 * step), rtol=1e-5)


@pytest.mark.parametrize("in_shape", [(4, 5, 2), (60, 60, 2)])
def test_gradients_by_central_differences(x64, in_shape):
    def bound(kernel):
        fn = lambda x: jax.lax.conv_general_dilated(  # noqa: E731
            x[None], kernel, (2, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )[0]
        return jacreg.operator_norm_bound(fn, in_shape)

    _kernel_gradients(bound, (3, 3, 2, 3))


def test_single_precision_holds_in_exact_arithmetic():
    matrix = _draw((40, 30)).astype(np.float32)
    norm_bound = jax.jit(lambda m: jacreg.operator_norm_bound(lambda x: m @ x, 30))
    for scale in (1e-30, 1.0, 1e30):
        bound = norm_bound(matrix * np.float32(scale))
        truth = np.linalg.norm((matrix * np.float32(scale)).astype(np.float64), 2)
        assert bound.dtype == jnp.float32
        assert truth <= float(bound) <= 1.01 * truth


def test_the_flattest_spectrum_and_a_large_matrix(x64):
    rotation = np.linalg.qr(_draw((300, 300)))[0]
    bounds = jax.jit(lambda matrix: (spectral_bound(matrix), matrix_bound(matrix)))
    for bound in bounds(rotation):
        assert 1 <= float(bound) <= 1.01
    assert float(bounds(np.zeros((300, 300)))[1]) == 0
    rotation[0, 0] = np.nan
    assert np.isnan(bounds(rotation)[1])
    _kernel_gradients(matrix_bound, (260, 270))


def test_gram_iteration_answers_where_the_proof_fails(x64, monkeypatch):
    from jacreg._bounds import _verified

    weak = _draw((260, 260))
    weak[0, 0] = 400.0
    truth = np.linalg.norm(weak, 2)
    monkeypatch.setattr(_verified, "_leading", lambda gram: jnp.zeros(260).at[1].set(1.0))
    assert truth <= float(jax.jit(matrix_bound)(weak)) <= 1.01 * truth


MATRIX = np.random.default_rng(0).standard_normal((6, 6)).astype(np.float32)
KERNEL = np.random.default_rng(1).standard_normal((4, 1, 3)).astype(np.float32)


def _loop_over_layers(x):
    def step(carry, matrix):
        return matrix @ carry, carry[:2] + matrix[:2, 0]

    last, seen = jax.lax.scan(step, x, jnp.stack([MATRIX, MATRIX.T, MATRIX]), reverse=True)
    return jnp.concatenate([last, seen.ravel()])


LINEAR = {
    "composition": lambda x: jnp.tanh(MATRIX) @ (MATRIX @ x),
    "bias": lambda x: MATRIX @ x + 100.0,
    "residual": lambda x: x - 0.5 * MATRIX @ x,
    "concatenation": lambda x: jnp.concatenate([MATRIX @ x, jnp.ones(3), x[::-1]]),
    "slices": lambda x: x[1:4] + x[:3] / 2,
    "gather": lambda x: x[jnp.array([0, 0, 0, 1])],
    "mask": lambda x: jnp.where(MATRIX[0] > 0, x, -2 * x + 1),
    "cumsum": jnp.cumsum,
    "mean": jnp.mean,
    "wrapped": lambda x: jnp.convolve(jnp.pad(x, 2, mode="wrap"), MATRIX[0], mode="valid"),
    "outer": lambda x: x[:, None] * MATRIX,
    "batch of matrices": lambda x: jnp.einsum(
        "bij,bj->bi", MATRIX.reshape(3, 6, 2), x.reshape(3, 2)
    ),
    "scalar spread out": lambda x: x.sum() * MATRIX + jnp.zeros((6, 6)),
    "pooling": lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, (3,), (2,), "SAME"),
    "tile": lambda x: jnp.tile(x, 3),
    "written over": lambda x: x.at[jnp.array([0, 2])].set(3 * x[:2]).at[4].set(7.0),
    "added at places": lambda x: x.at[jnp.array([0, 0, 2])].add(2 * x[:3]),
    "added to nothing": lambda x: jnp.ones(6).at[jnp.array([0, 0, 1])].add(x[:3]),
    "first power": lambda x: x**1,
    "groups of the batch": lambda x: jax.lax.conv_general_dilated(
        x.reshape(2, 1, 3), jnp.asarray(KERNEL, x.dtype), (1,), "SAME", batch_group_count=2
    ),
    "odd layout": lambda x: jax.lax.conv_general_dilated(
        x.reshape(1, 3, 1, 2),
        jnp.asarray(KERNEL, x.dtype).reshape(3, 4, 1, 1),
        (2, 1),
        [(1, 2), (-1, 3)],
        (1, 2),
        (2, 1),
        dimension_numbers=("CWNH", "WOIH", "HWCN"),
    ),
    "loop over layers": _loop_over_layers,
    "loop over the argument": lambda x: jax.lax.map(lambda each: 2 * each, x.reshape(3, 2)),
    "loop by a counter": lambda x: jax.lax.fori_loop(
        0, 3, lambda i, c: jnp.asarray(MATRIX)[i] * c + c, x
    ),
    "no step of a loop": lambda x: jax.lax.fori_loop(0, 0, lambda i, c: MATRIX @ c, x),
    "known branch": lambda x: jax.lax.switch(1, [lambda x: x, lambda x: MATRIX @ x], x),
    "diagonal": lambda x: jnp.diagonal(jnp.outer(MATRIX[0], x)),
    "correlation with the argument": lambda x: jnp.convolve(MATRIX[0], x),
}


@pytest.mark.parametrize("name", LINEAR)
def test_linear_maps(name, never_dense):
    fn, truth = LINEAR[name], dense_norm(LINEAR[name], (6,))

    @jax.jit
    def bounds():
        known = name != "correlation with the argument"
        anywhere = jacreg.operator_norm_bound(fn, 6) if known else jnp.inf
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_dense, "MOST_ENTRIES", 4096)
            return anywhere, jacreg.operator_norm_bound(fn, (6,))

    anywhere, own = map(float, bounds())
    assert truth <= anywhere * (1 + 1e-12)
    assert truth <= own <= 1.01 * truth


def test_users_layers_on_small_and_on_large_images():
    conv = nnx.Conv(1, 1, (2, 2), strides=(2, 1), padding="CIRCULAR", rngs=nnx.Rngs(0))
    transposed = eqx.nn.ConvTranspose1d(2, 2, 3, stride=3, dilation=2, groups=2, key=KEY)
    layers = [(lambda x: conv(x[None])[0], (2, 3, 1)), (transposed, (2, 3))]

    @jax.jit
    def measured():
        found = []
        for layer, shape in layers:
            matrix = jax.jacfwd(lambda x: layer(x).ravel())(jnp.zeros(shape))  # noqa: B023
            own = jacreg.operator_norm_bound(layer, shape)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(_dense, "MOST_ENTRIES", -1)
                found.append((matrix, own, jacreg.operator_norm_bound(layer, shape)))
        return found

    for matrix, own, anywhere in measured():
        truth = np.linalg.norm(np.asarray(matrix, np.float64).reshape(len(matrix), -1), 2)
        # The derivatives are in single precision.
        assert truth * (1 - 1e-6) <= own <= 1.01 * truth
        assert truth * (1 - 1e-6) <= anywhere <= 4 * truth


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_counts_beyond_256_and_keeps_small_bounds(dtype, monkeypatch):
    matrix = jnp.asarray(MATRIX * 1e-6, dtype)
    truth = np.linalg.norm(np.asarray(matrix, np.float64), 2)
    places = jnp.zeros(1000, int)
    for most in (4096, -1):
        monkeypatch.setattr(_dense, "MOST_ENTRIES", most)
        bound = partial(jacreg.operator_norm_bound, in_shape=6, dtype=dtype)
        small, many = jax.jit(lambda: (bound(lambda x: matrix @ x), bound(lambda x: x[places])))()  # noqa: B023
        assert small.dtype == dtype
        assert truth <= float(small)
        assert 1000**0.5 <= float(many) <= 1.03 * 1000**0.5


def test_squares_that_double_precision_cannot_hold(x64, monkeypatch):
    for scale in (1e-200, 1e200):
        fn = lambda x: jnp.concatenate([scale * x, scale * x])  # noqa: B023, E731
        for most in (4096, -1):
            monkeypatch.setattr(_dense, "MOST_ENTRIES", most)
            found = float(jax.jit(lambda: jacreg.operator_norm_bound(fn, 3))()) / scale  # noqa: B023
            assert 2**0.5 <= found <= 2**0.5 * (1 + 1e-12)
    # Seven roundings at most.
    chain = float(jacreg.operator_norm_bound(lambda x: x * 0.1 * 0.1 * 0.1 * 0.1, 3))
    assert Fraction(0.1) ** 4 <= Fraction(chain)


def test_zero_kernels_have_bound_zero_and_finite_gradients(monkeypatch):
    for most in (4096, -1):
        monkeypatch.setattr(_dense, "MOST_ENTRIES", most)

        def bound(kernel):
            fn = lambda x: jax.lax.conv(x[None], kernel, (1, 1), "SAME")[0]  # noqa: E731
            return jacreg.operator_norm_bound(fn, (2, 5, 5))

        value, gradient = jax.jit(jax.value_and_grad(bound))(np.zeros((2, 2, 3, 3), np.float32))
        assert value == 0
        assert jnp.all(jnp.isfinite(gradient))


@pytest.mark.parametrize(
    ("fn", "named"),
    [
        (jax.nn.relu, "max"),
        (jnp.sin, "sin"),
        (lambda x: x * x.sum(), "mul"),
        (lambda x: MATRIX @ (x / x[0]), "div"),
        (lambda x: jnp.where(x > 0, x, 0), "gt"),
        (lambda x: x.astype(int), "convert_element_type"),
        (lambda x: x**3, "integer_pow"),
        (lambda x: x.at[jnp.argsort(x)].set(1.0), "sort"),
        (lambda x: jnp.fft.rfft(x), "fft"),
    ],
)
def test_a_nonlinear_map_is_named(fn, named):
    with pytest.raises(ValueError, match=named) as caught:
        jacreg.operator_norm_bound(fn, (6,))
    assert "not linear" in str(caught.value)
    assert str(caught.value).startswith("operator_norm_bound: ")


def test_what_does_not_fit_raises():
    with pytest.raises(TypeError, match="function"):
        jacreg.operator_norm_bound(MATRIX, 6)
    with pytest.raises(ValueError, match="in_shape"):
        jacreg.operator_norm_bound(lambda x: MATRIX @ x, 5)
    for shape in (5.0, jnp.ones(6), None):
        with pytest.raises(TypeError, match=r"in_shape .* pass x.shape"):
            jacreg.operator_norm_bound(lambda x: MATRIX @ x, shape)
    for fn, dtype in [
        (lambda x: (1j * MATRIX) @ x, None),
        (lambda x: MATRIX @ x, jnp.complex64),
        (lambda x: 2 * x, jnp.int32),
    ]:
        with pytest.raises(TypeError, match="needs real floating-point values"):
            jacreg.operator_norm_bound(fn, 6, dtype=dtype)
    assert jacreg.operator_norm_bound(lambda x: MATRIX @ x, np.int64(6)) > 0
    assert jacreg.operator_norm_bound(lambda x: None, 6) == 0


@pytest.mark.parametrize("shape", [(300, 1, 1), (150, 2, 2), (100, 5, 7), (64, 8, 12)])
def test_a_map_that_does_the_same_everywhere(shape):
    """Few singular values, each many times: Lanczos vectors of a used-up space count once."""
    times, width, out = shape
    for seed in range(3):
        matrix = np.random.default_rng(seed).standard_normal((width, out)).astype(np.float32)

        def bound(matrix):
            return jacreg.operator_norm_bound(lambda x: x @ matrix, (times, width))

        found, slope = jax.value_and_grad(bound)(jnp.asarray(matrix))
        left, values, right = np.linalg.svd(np.asarray(matrix, np.float64))
        assert values[0] <= found <= 1.01 * values[0]
        np.testing.assert_allclose(slope, np.outer(left[:, 0], right[0]), atol=3e-3)
