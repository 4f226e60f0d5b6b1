"""Every public call under the options that users set: strict types, checks, other keys."""

import contextlib
import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chains import conv, kernels, net, numbers
from every_call import CALLS, Net, batch, prepare

import jacreg

# What these run eagerly in the fast suite; all others are slow tests.
SAMPLE = (
    "jacobian local", "diagonal coloring", "divergence hutch++", "frobenius_squared coupled",
    "log_pseudo_determinant", "spectral_norm", "empirical_ntk", "gram", "gradient_penalty",
    "layerwise_log_frobenius",
)  # fmt: skip
SOME = [
    pytest.param(name, marks=() if name in SAMPLE else pytest.mark.slow, id=name) for name in CALLS
]


@contextlib.contextmanager
def option(name, value):
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        yield
    finally:
        jax.config.update(name, before)


def trace_all(dtype=jnp.float32, key=None):
    """Trace every call; return what each raised."""
    prepare(dtype)
    xs, failed = batch(4, dtype), {}
    key = jax.random.key(0) if key is None else key
    for name, call in CALLS.items():
        try:
            jax.jit(lambda xs, key, call=call: call(Net(), xs, key)).trace(xs, key)
        except Exception as error:  # all of them are shown together
            failed[name] = f"{type(error).__name__}: {str(error)[:200]}"
    return failed


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_no_rank_and_no_dtype_is_promoted(dtype):
    with (
        jax.enable_x64(dtype == "float64"),
        jax.numpy_rank_promotion("raise"),
        jax.numpy_dtype_promotion("strict"),
    ):
        assert trace_all(jnp.dtype(dtype)) == {}


def test_no_rank_where_double_precision_is_on():
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"):
        assert trace_all() == {}


@contextlib.contextmanager
def checking_leaks():
    """JAX collects garbage after each trace: what is alive by now is left out of it."""
    gc.collect()
    gc.freeze()
    with jax.checking_leaks():
        yield


def test_no_tracer_leaks():
    with checking_leaks():
        assert trace_all() == {}


def test_keys_of_raw_numbers():
    assert trace_all(key=jax.random.PRNGKey(0)) == {}


@pytest.mark.parametrize("name", ["rbg", "unsafe_rbg"])
def test_keys_of_another_generator(name):
    assert trace_all(key=jax.random.key(0, impl=name)) == {}


def test_the_options_are_on():
    def widens(xs):
        return xs * jnp.ones((2, 4))[0]

    with jax.numpy_rank_promotion("raise"), pytest.raises(ValueError, match="rank_promotion"):
        widens(batch(2))
    with (
        jax.numpy_dtype_promotion("strict"),
        pytest.raises(Exception, match="strict"),
    ):
        batch(2) + jnp.ones(4, jnp.bfloat16)
    with option("jax_debug_key_reuse", True):
        key = jax.random.key(0)
        jax.random.normal(key)
        with pytest.raises(Exception, match="consumed"):
            jax.random.normal(key)


def matrices(depth):
    return net([numbers(4, 4, seed=k) / 2 for k in range(depth)], layer=product)


def product(xs, matrix):
    return xs @ jnp.asarray(matrix, xs.dtype)


def local(xs, kernel, *padding, **options):
    return conv(xs, jnp.asarray(kernel, xs.dtype), *padding, **options)


def convolutions(depth, taps=(3,)):
    return net(kernels(depth, taps), layer=local)


def attention(xs):
    q, k, v = (product(xs, numbers(4, 4, seed=n)) for n in range(3))
    weights = jax.nn.softmax(jnp.einsum("nti,nsi->nts", q, k), axis=-1)
    return xs + jnp.einsum("nts,nsi->nti", weights, v)


def grouped(xs):
    kernel = jnp.asarray(numbers(3, 1, 4), xs.dtype)
    found = jax.lax.conv_general_dilated(
        xs, kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=4
    )
    return jnp.tanh(found)


# What has a way of its own: closed forms by their depth, colours, second derivatives.
FORMS = {
    **{f"matrices, {depth}": (matrices(depth), (4,)) for depth in (1, 2, 3, 4, 5)},
    **{f"convolutions, {depth}": (convolutions(depth), (6, 2)) for depth in (1, 2, 3, 4)},
    "convolutions in the plane": (convolutions(3, (3, 3)), (5, 4, 2)),
    "condition": (lambda xs: jnp.where(xs > 0, matrices(3)(xs), xs), (4,)),
    "groups": (lambda xs: grouped(grouped(xs)), (6, 4)),
    "circular": (
        lambda xs: local(
            jnp.pad(xs, ((0, 0), (1, 1), (0, 0)), mode="wrap"), numbers(3, 2, 2), "VALID"
        ),
        (6, 2),
    ),
    "gradient": (jax.grad(lambda xs: jnp.sum(convolutions(2)(xs) ** 2)), (6, 2)),
    "attention": (attention, (3, 4)),
    "norm": (lambda xs: xs / jnp.sqrt(1 + jnp.mean(xs * xs, axis=1, keepdims=True)), (4,)),
    "product of a row": (lambda xs: xs * jnp.prod(matrices(1)(xs), axis=1, keepdims=True), (4,)),
    "joined": (
        lambda xs: jnp.concatenate([jnp.sin(xs[:, :2]), matrices(2)(xs)[:, 2:]], axis=1),
        (4,),
    ),
    "loop": (lambda xs: jax.lax.fori_loop(0, 3, lambda _, x: matrices(2)(x), xs), (4,)),
    "table": (lambda xs: jnp.sin(xs[:, np.array([1, 2, 3, 0])]) * xs, (4,)),
}


@pytest.mark.parametrize("name", FORMS)
def test_nothing_is_promoted_or_leaked_on_any_way(name):
    """The options are of jacreg alone: the network was traced before."""
    fn, shape = FORMS[name]
    xs = jnp.ones((2, *shape), jnp.bfloat16)
    lin = jacreg.linearize(fn, xs)
    energy = jacreg.linearize(lambda xs: jnp.square(fn(xs)).reshape(2, -1).sum(1), xs)
    calls = [
        (jacreg.divergence, lin), (jacreg.diagonal, lin), (jacreg.frobenius_squared, lin),
        (jacreg.laplacian, energy), (jacreg.hessian_diagonal, energy),
    ]  # fmt: skip
    with (
        jax.numpy_rank_promotion("raise"),
        jax.numpy_dtype_promotion("strict"),
        checking_leaks(),
    ):
        for quantity, of in calls:
            # A function of its own, which no earlier trace answers for.
            jax.jit(lambda lin, quantity=quantity: quantity(lin)).trace(of)


def test_layers_in_groups_and_bounds_are_lowered_without_promotion():
    xs = jnp.ones((2, 6, 4), jnp.bfloat16)
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        slope = jax.grad(lambda xs: jacreg.divergence(jacreg.linearize(grouped, xs)).sum())
        jax.jit(slope).lower(xs)
        for activation in (jax.nn.relu, jax.nn.gelu, jax.nn.softplus, jax.nn.softmax, jnp.tanh):
            layers = [grouped, activation, lambda xs: product(xs, numbers(4, 300))]
            assert float(jacreg.lipschitz_bound(layers, xs)) > 0
        wide = jnp.asarray(numbers(300, 300), jnp.bfloat16)  # proved by a factorisation
        assert float(jacreg.operator_norm_bound(lambda x: wide @ x, 300, dtype=xs.dtype)) > 0


@pytest.mark.parametrize("name", SOME)
def test_no_key_is_used_twice(name):
    with option("jax_debug_key_reuse", True):
        run = jax.jit(lambda xs, key: CALLS[name](Net(), xs, key))
        jax.block_until_ready(run(batch(2), jax.random.key(0)))


@pytest.mark.parametrize("name", SOME)
def test_no_nan_and_no_infinity_on_the_way(name):
    with option("jax_debug_nans", True), option("jax_debug_infs", True):
        jax.block_until_ready(CALLS[name](Net(), batch(2), jax.random.key(0)))


@pytest.mark.parametrize("name", SOME)
def test_without_compilation(name):
    xs, key = batch(2), jax.random.key(0)
    expected = jax.jit(lambda xs, key: CALLS[name](Net(), xs, key))(xs, key)
    with jax.disable_jit():
        found = CALLS[name](Net(), xs, key)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("value", [jnp.inf, jnp.nan])
def test_a_log_pseudo_determinant_says_singular_and_not_finite_as_before(value):
    scales = jnp.array([1.0, 0.0, value])[:, None]
    lin = jacreg.linearize(lambda xs: xs * scales, jnp.ones((3, 4)))
    found = np.asarray(jacreg.log_pseudo_determinant(lin))
    assert found[0] == 0
    assert found[1] == -np.inf
    assert np.isnan(found[2])


def double_precision():
    stack = contextlib.ExitStack()
    stack.enter_context(jax.enable_x64(True))
    stack.enter_context(jax.numpy_dtype_promotion("strict"))
    return stack


OPTIONS = {
    "ranks": (lambda: jax.numpy_rank_promotion("raise"), "float32"),
    "dtypes, float32": (lambda: jax.numpy_dtype_promotion("strict"), "float32"),
    "dtypes, bfloat16": (lambda: jax.numpy_dtype_promotion("strict"), "bfloat16"),
    "dtypes, float64": (double_precision, "float64"),
    "leaks": (checking_leaks, "float32"),
    "key reuse": (lambda: option("jax_debug_key_reuse", True), "float32"),
    "nans": (lambda: option("jax_debug_nans", True), "float32"),
    "another generator": (lambda: option("jax_default_prng_impl", "rbg"), "float32"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_what_is_made_outside_jit(name):
    make, dtype = OPTIONS[name]
    with make():
        xs = batch(3, jnp.dtype(dtype))
        assert jacreg.rows_independent(Net().field, xs)
        for quantity in (jacreg.divergence, jacreg.frobenius_squared):
            coloring = jacreg.color(Net().local, xs, quantity=quantity)
            assert coloring.num_colors < 4
            lin = jacreg.linearize(Net().local, xs)
            assert quantity(lin, coloring).dtype == dtype
            assert str(jacreg.plan(quantity, lin))
        assert jacreg.choose(Net().field, xs, quantity=jacreg.divergence, budget=2).report
