"""Cross-Lipschitz, curvature and gradient-alignment penalties against dense derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from losses_oracle import assert_unbiased, batch, check_gradient, dense, mlp, mlp_params, repeated

import jacreg
from jacreg import losses
from jacreg.losses._gradient_change import _uniform

KEY = jax.random.key(0)
LABELS = jnp.arange(5) % 3


def cross_entropy(params):
    def loss(xs, labels):
        log_p = jax.nn.log_softmax(mlp(params, xs))
        return -jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]

    return loss


def gradients(params, xs):
    single = lambda x, y: cross_entropy(params)(x[None], y[None])[0]  # noqa: E731
    return np.asarray(jax.jit(jax.vmap(jax.grad(single)))(xs, LABELS))


def setting():
    return mlp_params(KEY, [4, 5, 3]), batch(jax.random.key(1), (5, 4))


@pytest.mark.usefixtures("x64")
def test_the_cross_lipschitz_penalty_is_the_sum_over_pairs():
    params, xs = setting()
    jacobians = np.asarray(dense(lambda x: mlp(params, x), xs))
    pairs = jacobians[:, :, None] - jacobians[:, None]
    truth = np.sum(pairs**2, axis=(1, 2, 3)) / 9

    @jax.jit
    def penalties(xs):
        lin = jacreg.linearize(lambda x: mlp(params, x), xs)
        shifted = jacreg.linearize(lambda x: mlp(params, x) + 7 * x[:, :1] ** 2, xs)
        one = jacreg.linearize(lambda x: mlp(params, x)[:, :1], xs)
        calls = (lin,), (lin, jacreg.Exact()), (shifted,), (one,)
        return [losses.cross_lipschitz_penalty(*call) for call in calls]

    *values, shifted, one = penalties(xs)
    for each in values:
        np.testing.assert_allclose(each, truth, rtol=1e-10)
    np.testing.assert_allclose(shifted, truth, rtol=1e-9)
    np.testing.assert_array_equal(one, 0)

    def loss(params):
        lin = jacreg.linearize(lambda x: mlp(params, x), xs)
        return jnp.mean(losses.cross_lipschitz_penalty(lin))

    check_gradient(loss, params)

    @jax.jit
    def sampled(example):
        many = jacreg.linearize(lambda x: mlp(params, x), repeated(example, 100_000))
        return losses.cross_lipschitz_penalty(many, jacreg.Projection(), key=KEY)

    values = sampled(xs[0])
    assert np.all(values >= 0)
    assert_unbiased(values, truth[0])


@pytest.mark.parametrize(
    "fn", [lambda x: x.sum(1), lambda x: x[:, :, None], lambda x: (x, x)], ids=["1", "3", "tree"]
)
def test_what_are_no_logits_is_named(fn):
    with pytest.raises(ValueError, match=r"must be of logits \[N, K\], got"):
        losses.cross_lipschitz_penalty(jacreg.linearize(fn, jnp.ones((2, 3))))


def test_the_cross_lipschitz_penalty_wants_a_linearization():
    with pytest.raises(TypeError, match="must be a Linearization"):
        losses.cross_lipschitz_penalty(lambda x: x)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("direction", ["sign", "gradient"])
def test_the_curvature_penalty_is_its_formula(direction):
    params, xs = setting()
    step = np.linspace(0.2, 0.6, 5)
    before = gradients(params, xs)
    z = np.sign(before) if direction == "sign" else before
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    after = gradients(params, np.asarray(xs) + step[:, None] * z)
    truth = np.sum((after - before) ** 2, axis=1)
    loss_fn, options = cross_entropy(params), {"step": step, "direction": direction}

    @jax.jit
    def penalty(xs):
        smaller = options | {"step": 1e-5}
        return [
            losses.curvature_penalty(loss_fn, xs, LABELS, **each) for each in (options, smaller)
        ]

    values, small = penalty(xs)
    np.testing.assert_allclose(values, truth, rtol=1e-10)
    # To second order in a small step it is ||H z||^2.
    single = lambda x, y: loss_fn(x[None], y[None])[0]  # noqa: E731
    hessians = np.asarray(jax.jit(jax.vmap(jax.hessian(single)))(xs, LABELS))
    limit = np.sum(np.einsum("nij,nj->ni", hessians, z) ** 2, axis=1)
    np.testing.assert_allclose(small / 1e-10, limit, rtol=1e-3)


@pytest.mark.usefixtures("x64")
def test_gradients_of_the_curvature_penalty():
    """The sign is locally constant, so that central differences see the same function."""
    params, xs = setting()

    def loss(params):
        return jnp.mean(losses.curvature_penalty(cross_entropy(params), xs, LABELS, step=0.5))

    check_gradient(loss, params)


@pytest.mark.usefixtures("x64")
def test_the_gradient_alignment_penalty_is_its_formula():
    params, xs = setting()
    radius = np.linspace(0.5, 2.0, 5)
    values = jax.jit(
        lambda xs: losses.gradient_alignment_penalty(
            cross_entropy(params), xs, LABELS, radius=radius, key=KEY
        )
    )(xs)
    noise = jax.random.uniform(jax.random.split(KEY, 1)[0], xs.shape, jnp.float32, -1.0, 1.0)
    here = gradients(params, xs)
    there = gradients(params, xs + radius[:, None] * np.asarray(noise, np.float64))
    norms = np.linalg.norm(here, axis=1) * np.linalg.norm(there, axis=1)
    truth = 1 - np.sum(here * there, axis=1) / norms
    np.testing.assert_allclose(values, truth, rtol=1e-9, atol=1e-12)

    def loss(params):
        values = losses.gradient_alignment_penalty(
            cross_entropy(params), xs, LABELS, radius=0.5, key=KEY
        )
        return jnp.mean(values)

    check_gradient(loss, params)


@pytest.mark.usefixtures("x64")
def test_the_noise_fills_the_cube_and_no_more():
    noise = np.asarray(_uniform(KEY, jnp.zeros((20_000, 2))))
    assert np.all(np.abs(noise) <= 1)
    np.testing.assert_allclose(np.mean(noise**2, axis=0), 1 / 3, atol=0.01)
    np.testing.assert_allclose(np.mean(noise, axis=0), 0, atol=0.02)


@pytest.mark.usefixtures("x64")
def test_zero_gradients_give_no_nan():
    xs, labels = jnp.ones((2, 3)), jnp.ones(2)
    calls = [
        lambda fn: losses.curvature_penalty(fn, xs, labels, step=0.1),
        lambda fn: losses.curvature_penalty(fn, xs, labels, step=0.1, direction="gradient"),
        lambda fn: losses.gradient_alignment_penalty(fn, xs, labels, radius=0.1, key=KEY),
    ]
    for call in calls:
        for power in (1, 2):
            loss = lambda s: jnp.sum(call(lambda x, y: y * s * jnp.sum(x**power, 1)))  # noqa: B023, E731
            np.testing.assert_array_equal(jax.jit(jax.value_and_grad(loss))(0.0), (0, 0))
    # Zero at one of the two points alone.
    shifted = lambda x, y: jnp.sum((x - xs) ** 2, 1)  # noqa: E731
    for call in calls:
        loss = lambda s: jnp.sum(call(lambda x, y: s * shifted(x, y)))  # noqa: B023, E731
        value, gradient = jax.jit(jax.value_and_grad(loss))(1.0)
        assert (value, gradient) == (0, 0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ({"step": 0.0}, ValueError, "step must be positive and finite, a length"),
        ({"step": 0.1, "direction": "up"}, ValueError, "one of .*'up'"),
        (
            {"radius": -1.0, "key": KEY},
            ValueError,
            "radius must be positive.*a distance",
        ),
        ({"radius": 0.1, "key": None}, ValueError, "needs a key"),
    ],
)
def test_bad_options(call, error, message):
    name = "curvature_penalty" if "step" in call else "gradient_alignment_penalty"
    with pytest.raises(error, match=message):
        getattr(losses, name)(lambda x, y: x.sum(1), jnp.ones((2, 3)), jnp.ones(2), **call)


@pytest.mark.parametrize("reduce", [jnp.mean, lambda x: x])
def test_more_than_one_number_an_example_is_refused(reduce):
    fn = lambda x, y: reduce(x)  # noqa: E731
    args = (fn, jnp.ones((2, 3)), jnp.ones(2))
    with pytest.raises(ValueError, match="one number an example"):
        losses.curvature_penalty(*args, step=0.1)
    with pytest.raises(ValueError, match="one number an example"):
        losses.gradient_alignment_penalty(*args, radius=0.1, key=KEY)
