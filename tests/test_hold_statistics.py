"""A training pass with its statistics held: rows apart, values and gradients as before."""

import adapter_nets as nets
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg

pytestmark = pytest.mark.usefixtures("x64")
RNG = np.random.default_rng(0)
XS, WEIGHTS = RNG.normal(size=(6, 3)), RNG.normal(size=(3, 4))


def normed(xs, weights=WEIGHTS, statistics=None):
    """A layer, a norm without an epsilon and an activation, with statistics of its own or given."""
    hidden = xs @ weights
    mean, var = statistics or (hidden.mean(axis=0), hidden.var(axis=0))
    return jax.nn.relu((hidden - mean) / jnp.sqrt(var) + 0.3) ** 2


def test_the_jacobian_is_that_with_constants():
    hidden = XS @ WEIGHTS
    given = hidden.mean(axis=0), hidden.var(axis=0)
    held = jacreg.hold_statistics(normed, XS)
    np.testing.assert_allclose(held(XS), normed(XS), atol=1e-12)
    assert jacreg.rows_independent(held, XS)
    constant = lambda xs: normed(xs, statistics=given)  # noqa: E731
    whole = jax.jacrev(constant)(XS)
    blocks = jnp.stack([whole[n, :, n] for n in range(len(XS))])
    lin = jacreg.linearize(held, XS)
    np.testing.assert_allclose(jacreg.jacobian(lin), blocks, atol=1e-12)
    np.testing.assert_allclose(held(2 * XS + 1), constant(2 * XS + 1), atol=1e-12)


def test_a_time_an_example_is_held_with_the_statistics():
    times = RNG.normal(size=(6, 1))
    hidden = XS @ WEIGHTS * times
    given = hidden.mean(axis=0), hidden.var(axis=0)
    field = lambda xs, ts, statistics=None: normed(xs * ts, statistics=statistics)  # noqa: E731
    lin = jacreg.linearize(jacreg.hold_statistics(field, XS, times), XS)
    np.testing.assert_allclose(lin.value, field(XS, times), atol=1e-12)
    truth = jacreg.linearize(lambda xs: field(xs, times, given), XS)
    np.testing.assert_allclose(jacreg.jacobian(lin), jacreg.jacobian(truth), atol=1e-12)


def test_a_time_in_the_wrong_place_is_told():
    field = lambda xs, ts: normed(xs * ts)  # noqa: E731
    times = np.ones((6, 1))
    with pytest.raises(TypeError) as caught:
        jacreg.linearize(jacreg.hold_statistics(field, XS), XS, times)
    assert "write linearize(hold_statistics(fn, xs, ts), xs)" in caught.value.__notes__[-1]
    with pytest.raises(TypeError, match="takes xs alone, got 1 arguments more"):
        jacreg.linearize(jacreg.hold_statistics(field, XS, times), XS, times)


def test_a_penalty_does_not_feel_the_scale_in_front_of_a_norm():
    """Nor does the loss: so neither shrinks these weights."""

    @jax.jit
    def penalty(weights):
        held = jacreg.hold_statistics(lambda xs: normed(xs, weights), XS)
        return jacreg.frobenius_squared(jacreg.linearize(held, XS), jacreg.Exact()).mean()

    slope = jax.grad(penalty)(WEIGHTS)
    assert abs(jnp.sum(slope * WEIGHTS)) < 1e-10 < 1 < jnp.linalg.norm(slope)
    np.testing.assert_allclose(penalty(3 * WEIGHTS), penalty(WEIGHTS), rtol=1e-12)


def test_parameters_are_differentiated_through_the_statistics():
    def loss(weights, hold):
        fn = lambda xs: normed(xs, weights)  # noqa: E731
        ys = jacreg.linearize(jacreg.hold_statistics(fn, XS), XS).value if hold else fn(XS)
        return jnp.sum(jnp.sin(ys))

    ours, truth = (jax.jit(jax.grad(loss), static_argnums=1)(WEIGHTS, each) for each in (1, 0))
    np.testing.assert_allclose(ours, truth, atol=1e-12)


@pytest.mark.parametrize("framework", nets.FRAMEWORKS)
def test_batch_norm_and_dropout_of_every_framework(framework):
    net, xs = nets.build(framework), nets.images()
    options = {"statistics": "batch", "dropout_key": jax.random.key(3), "return_state": True}
    fn = net.function(**options)

    @jax.jit
    def found(xs):
        held = jacreg.hold_statistics(net.function(**options), xs)
        lin = jacreg.linearize(held, xs, has_aux=True)
        return lin.value, jax.tree.leaves(lin.aux), jacreg.jacobian(lin, jacreg.Exact())

    value, state, jacobian = found(xs)
    expected, new_state = jax.jit(fn)(xs)
    np.testing.assert_allclose(value, expected, atol=1e-12)
    for got, truth in zip(state, jax.tree.leaves(new_state), strict=True):
        if jnp.issubdtype(got.dtype, jnp.floating):
            np.testing.assert_allclose(got, truth, atol=1e-12)
    held = jacreg.hold_statistics(lambda xs: fn(xs)[0], xs)
    assert jacreg.rows_independent(held, xs)
    dense = jax.jit(jax.jacrev(held))(xs)
    blocks = jnp.stack([dense[n, :, n] for n in range(len(xs))])
    np.testing.assert_allclose(jacobian, blocks, atol=1e-12)
    assert float(jnp.abs(blocks).max()) > 1e-3


def test_a_colouring_of_two_rows_serves_a_batch():
    def fn(xs):
        return jnp.tanh(xs - xs.mean(axis=0)) * xs[:, ::-1]

    coloring = jacreg.color(jacreg.hold_statistics(fn, XS[:2]), XS[:2], quantity="frobenius")
    assert coloring.num_colors == 2

    @jax.jit
    def norms(xs):
        lin = jacreg.linearize(jacreg.hold_statistics(fn, xs), xs)
        return [jacreg.frobenius_squared(lin, each) for each in (coloring, jacreg.Exact())]

    np.testing.assert_allclose(*norms(XS), rtol=1e-12)


def ghosts(xs):
    """Statistics of groups of three rows."""
    groups = xs.reshape(2, 3, -1)
    return (groups - groups.mean(axis=1, keepdims=True)).reshape(xs.shape)


def whitened(xs):
    return xs @ jnp.linalg.inv(jnp.cov(xs.T) + jnp.eye(3))


def clipped(xs):
    """By the largest entry; a jump of the example's own, and of its largest position."""
    top = jax.nn.one_hot(jnp.argmax(xs, axis=1), 3)
    return jnp.where(xs > 0, xs, 2 * xs) / jnp.abs(xs).max(axis=0) + top * xs


def in_calls(xs):
    return jax.jit(jax.checkpoint(lambda xs: jnp.tanh(xs - xs.mean(axis=0))))(xs) * 2


@pytest.mark.parametrize("fn", [ghosts, whitened, clipped, in_calls])
def test_what_is_taken_over_the_batch(fn):
    held = jacreg.hold_statistics(fn, XS)
    np.testing.assert_allclose(held(XS), fn(XS), atol=1e-12)
    assert jacreg.rows_independent(held, XS)
    assert not jacreg.rows_independent(fn, XS)
    # Elsewhere it is a function of each row alone, jumps too.
    other = held(np.concatenate([XS[:2], -XS[2:]]))
    np.testing.assert_allclose(other[:2], held(XS)[:2], atol=1e-12)
    if fn is clipped:
        expected = jnp.where(-XS > 0, -XS, -2 * XS) / jnp.abs(XS).max(axis=0)
        expected -= jax.nn.one_hot(jnp.argmax(-XS, axis=1), 3) * XS
        np.testing.assert_allclose(other[2:], expected[2:], atol=1e-12)


@pytest.mark.parametrize(
    ("fn", "says"),
    [
        (lambda xs: jax.lax.cumsum(xs, 0), "cumsum at test_hold_statistics.py:"),
        (lambda xs: jax.nn.softmax(xs @ xs.T) @ xs, "dot_general at test_hold_statistics.py:"),
        (lambda xs: jax.lax.scan(lambda h, _: (h - h.mean(0), None), xs, None, 2)[0], "scan at"),
        (lambda xs: jnp.roll(xs, 1, axis=0), "to other places"),
        (lambda xs: xs[::-1], "to other places"),
    ],
)
def test_other_ways_to_mix_rows_are_refused(fn, says):
    with pytest.raises(ValueError, match=says):
        jacreg.hold_statistics(fn, XS)


def test_a_function_whose_rows_are_apart_is_as_it_was():
    held = jacreg.hold_statistics(lambda xs: jnp.tanh(xs @ WEIGHTS), XS)
    np.testing.assert_allclose(held(2 * XS), jnp.tanh(2 * XS @ WEIGHTS), atol=1e-12)


def test_wrong_calls():
    with pytest.raises(TypeError, match="hold_statistics: fn must be a function of a batch, got l"):
        jacreg.hold_statistics([normed], XS)
    with pytest.raises(TypeError, match="a list of numbers"):
        jacreg.hold_statistics(normed, [1.0, 2.0])
    with pytest.raises(TypeError, match="floating point"):
        jacreg.hold_statistics(normed, XS.astype(int))
