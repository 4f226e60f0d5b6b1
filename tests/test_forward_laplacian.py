"""The forward Laplacian against dense Hessians in float64, over the whole table of forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laplacian_fuzz import random_field
from laplacian_programs import PROGRAMS, block, conv, layer_norm, weights
from own_primitives import primitive

from jacreg._forms import FORMS, Form
from jacreg._forward_laplacian import Refusal, second_order
from jacreg._forward_laplacian._carried import Carried, Order
from jacreg._forward_laplacian._directions import seed
from jacreg._forward_laplacian._run import Runner

WEIGHT = 0.7
# Programs are run once each: what counts is the time to compile.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def points(shape, seed=9):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(2, *shape)))


def dense_diagonal(field, xs, w):
    """Second derivatives by one entry of x at a time, forward over forward."""
    basis = jnp.eye(xs[0].size).reshape(-1, *xs.shape[1:])

    def second(direction):
        tangent = jnp.broadcast_to(direction, xs.shape)

        def first(xs):
            return jax.jvp(lambda xs: field(xs, w), (xs,), (tangent,))[1]

        return jax.jvp(first, (xs,), (tangent,))[1]

    return jnp.moveaxis(jax.vmap(second)(basis), 0, 1).reshape(xs.shape)


def forward(field, xs, w, keep=False):
    return second_order(jax.make_jaxpr(field)(xs, w), [xs, w], 0, Order(keep))


def evaluated(name):
    """Everything that is asked of one program, compiled as one."""
    field, shape = PROGRAMS[name]
    xs = points(shape)

    def everything(xs, w):
        def objective(w, laplacian):
            return (laplacian(w) * jnp.asarray([1.0, 2.0])).sum()

        def ours(w):
            return forward(field, xs, w)

        def truth(w):
            return dense_diagonal(field, xs, w).reshape(2, -1).sum(1)

        return {
            "laplacian": (ours(w), truth(w)),
            "diagonal": (
                forward(field, xs, w, keep=True),
                dense_diagonal(field, xs, w),
            ),
            "gradient": (jax.jvp(lambda w: objective(w, ours), (w,), (jnp.ones_like(w),))[1],
                         jax.jvp(lambda w: objective(w, truth), (w,), (jnp.ones_like(w),))[1]),
        }  # fmt: skip

    compiled = jax.jit(everything).lower(xs, jnp.asarray(WEIGHT)).compile(QUICK)
    return compiled(xs, jnp.asarray(WEIGHT))


@pytest.mark.parametrize("name", PROGRAMS)
def test_equals_the_dense_hessian(name, x64):
    for what, (found, truth) in evaluated(name).items():
        assert (found.shape, found.dtype) == (truth.shape, truth.dtype), what
        np.testing.assert_allclose(found, truth, rtol=1e-9, atol=1e-9, err_msg=what)


@pytest.mark.parametrize("number", range(5))
def test_random_programs(number, x64):
    field, shape = random_field(number)
    xs, w = points(shape, number), jnp.asarray(WEIGHT)

    def both(xs, w):
        return forward(field, xs, w), dense_diagonal(field, xs, w).reshape(2, -1).sum(1)

    found, truth = jax.jit(both).lower(xs, w).compile(QUICK)(xs, w)
    np.testing.assert_allclose(found, truth, rtol=1e-9, atol=1e-9)


PAIR = primitive("sine_and_cosine", lambda x: (jnp.sin(x), jnp.cos(2 * x)))
TRIPLE = primitive("triple_product", lambda a, b, c: jnp.einsum("...i,...i,...i->...", a, b, c))
NORM = primitive("squared_norm", lambda a: jnp.sum(a * a, axis=-1))
ROOT = primitive("root_of_squares", lambda a: jnp.sqrt(jnp.sum(a * a, axis=-1)))
# A primitive of one's own, and a row that is not true of it.
ROWS = {
    "sine_and_cosine": (
        Form("elementwise", "smooth"),
        lambda xs, w: (PAIR(xs @ weights(3, 4) * w)[0] * PAIR(xs @ weights(3, 4))[1] ** 2).sum(1),
    ),
    "triple_product": (
        Form("contraction", "bilinear"),
        lambda xs, w: TRIPLE(xs, jnp.sin(xs * w), xs[:, ::-1]),
    ),
    "squared_norm": (Form("contraction", "bilinear"), lambda xs, w: NORM(jnp.sin(xs * w))),
    "root_of_squares": (Form("elementwise", "smooth"), lambda xs, w: ROOT(jnp.sin(xs * w))),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_that_does_not_fit_counts_as_none(name, monkeypatch, x64):
    """Elementwise is said of one output of the operands' shape, and bilinear of two operands."""
    row, field = ROWS[name]
    monkeypatch.setitem(FORMS, name, row)
    xs, w = points((3,)), jnp.asarray(WEIGHT)
    assert name in str(jax.make_jaxpr(field)(xs, w))
    truth = dense_diagonal(field, xs, w)
    found = forward(field, xs, w, keep=True)
    np.testing.assert_allclose(found, truth, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(forward(field, xs, w), truth.sum(1), rtol=1e-9, atol=1e-9)


def slots(function, xs):
    """Directions that are carried for the output of a function of a batch."""
    program = jax.make_jaxpr(function)(xs)
    directions = seed(xs.shape, xs.dtype)
    carried = Carried(xs, directions.seen, lambda: directions, lambda: None)
    (out,) = Runner(Order(keep=False)).run(program, (), [carried])
    return int(np.prod(out.tangent().slots))


def test_directions_are_shared_until_layers_mix_them():
    tokens, images = jnp.ones((2, 6, 4)), jnp.ones((2, 12, 10, 1))
    kernel = weights(3, 3, 1, 1)
    assert slots(jnp.tanh, tokens) == 1
    assert slots(lambda xs: layer_norm(xs) @ weights(4, 7), tokens) == 4
    assert slots(lambda xs: block(xs, 1.0), tokens) == 24
    assert slots(lambda xs: conv(jnp.tanh(xs), kernel), images) == 9
    assert slots(lambda xs: conv(jnp.tanh(conv(xs, kernel)), kernel), images) == 25
    assert slots(lambda xs: conv(jnp.tanh(conv(xs, kernel, 2)), kernel, 2), images) == 49
    assert slots(lambda xs: xs.sum((1, 2, 3)), images) == 120


@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("pooled", ["sum", "mean of columns", "weighed"])
def test_a_sum_over_windows_takes_what_sees_a_position(strides, pooled, x64):
    """Not a slot for each of 99 positions at each place, of which a window sees nine."""
    kernel, scales = weights(3, 3, 1, 2), jnp.asarray(np.random.default_rng(3).normal(size=99))

    def field(xs, w):
        hidden = jnp.tanh(conv(xs * w, kernel, strides, ((1, 0), (2, 1))))
        if pooled == "sum":
            return (hidden**2).sum((1, 2, 3))
        if pooled == "mean of columns":
            return jnp.exp(hidden.mean(1)).sum((1, 2))
        return hidden[..., 0].sum(2) ** 2 @ scales[: hidden.shape[1]]

    xs = points((11, 9, 1))
    program = jax.make_jaxpr(lambda xs: forward(field, xs, WEIGHT, keep=True))(xs)
    found = jax.jit(jax.extend.core.jaxpr_as_fun(program))(xs)[0]
    np.testing.assert_allclose(found, dense_diagonal(field, xs, WEIGHT), rtol=1e-9, atol=1e-9)
    if pooled == "sum":
        most = max(v.aval.size for each in program.eqns for v in each.outvars)
        assert most <= 2 * 9 * (10 * 10) * 2


def test_what_is_infinite_and_not_seen_stays_out_of_a_sum(x64):
    """A position beside a pole is finite, in the diagonal too."""
    kernel = jnp.ones((3, 1, 1))

    def field(xs, w):
        windows = jax.lax.conv_general_dilated(
            xs[..., None], kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
        )
        return (1 / windows[..., 0]).sum(1) * w

    xs = jnp.asarray([[1.0, -1.0, 0.0, 5.0, 2.0, 3.0, 4.0, 1.0]])
    found = forward(field, xs, WEIGHT, keep=True)
    of_windows = 2 * WEIGHT / np.convolve(np.asarray(xs[0]), np.ones(3), "same")[2:] ** 3
    assert not np.isfinite(found[0, :3]).any()
    np.testing.assert_allclose(found[0, 3:], np.convolve(of_windows, np.ones(3), "same")[1:])


def test_what_forward_mode_does_not_go_through_is_refused():
    @jax.custom_vjp
    def clipped(x):
        return x

    clipped.defvjp(lambda x: (x, None), lambda _, g: (jnp.clip(g, -1, 1),))
    xs = jnp.ones((2, 3))
    with pytest.raises(Refusal) as refused:
        forward(lambda xs, w: clipped(jnp.sin(xs)).sum(1), xs, 1.0)
    assert refused.value.equation.primitive.name == "custom_vjp_call"
    # Where x does not enter, any function will do.
    found = forward(lambda xs, w: (clipped(w) * xs**2).sum(1), xs, 1.0)
    np.testing.assert_allclose(found, 6.0)


def products(xs, w):
    """Two intermediates that depend on x, which meet in an operation."""
    return jnp.sin(xs @ w), jnp.cos(xs @ (w + 1))


# The second derivative of each has a number of Python in it, as the 2 of 2 a' b'.
MEETINGS = {
    "product": lambda a, b: a * b,
    "quotient": lambda a, b: a / (2 + b),
    "contraction": lambda a, b: jnp.einsum("ni,nj->nij", a, b),
    "batched contraction": lambda a, b: jnp.einsum("ni,nij->nj", a, b[:, :, None] * a[:, None]),
    "convolution": lambda a, b: jax.vmap(jnp.convolve)(a, b),
    "square of a sum": lambda a, b: (a - b) ** 2,
    "gated": lambda a, b: a * jax.nn.sigmoid(3 * b) - 2 * b,
    "three": lambda a, b: 3 * a * b * (a + 1),
    "norm": lambda a, b: a / jnp.sqrt(1 + jnp.sum(b * b, axis=1, keepdims=True)),
    "running product": lambda a, b: jnp.cumprod(1 + a * b / 4, axis=1),
    # Taken in float32 whatever came in.
    "product of a row": lambda a, b: jnp.prod((a * b) @ jnp.ones((4, 3), a.dtype), axis=1),
    "wider in between": lambda a, b: a * (a * b).astype(jnp.float32),
}


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("name", MEETINGS)
def test_half_precision_against_float64(name, keep, x64):
    def field(xs, w):
        return MEETINGS[name](*products(xs, w)).reshape(2, -1).sum(1)

    found = {}
    for dtype in (jnp.float64, jnp.float32, jnp.bfloat16, jnp.float16):
        xs = (jnp.arange(8).reshape(2, 4) / 8).astype(dtype)
        w = (jnp.arange(16).reshape(4, 4) % 7 / 8 - 0.25).astype(dtype)
        run = jax.jit(lambda xs, w: forward(field, xs, w, keep), compiler_options=QUICK)
        found[dtype] = np.asarray(run(xs, w), np.float64)
    truth = found.pop(jnp.float64)
    for dtype, values in found.items():
        atol = 16 * float(jnp.finfo(dtype).eps) * np.abs(truth).max()
        np.testing.assert_allclose(values, truth, atol=atol, err_msg=str(dtype))
