"""Penalties on the gradient of a critic, of a loss, and along a generator's paths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from losses_oracle import (
    assert_unbiased,
    batch,
    check_gradient,
    dense,
    mlp,
    mlp_params,
    repeated,
)

from jacreg import losses

KEY = jax.random.key(0)


def critic(params):
    return lambda xs: mlp(params, xs)[:, 0]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("target", [0, 0.0, 1.0, 2.5])
def test_the_gradient_penalty_is_the_squared_distance_of_the_norm(target):
    params, xs = mlp_params(KEY, [4, 5, 1]), batch(jax.random.key(1), (6, 4))
    gradients = np.asarray(dense(critic(params), xs))
    truth = (np.linalg.norm(gradients, axis=1) - target) ** 2
    values = losses.gradient_penalty(critic(params), xs, target=target)
    np.testing.assert_allclose(values, truth, rtol=1e-10)
    traced = jax.jit(lambda t: losses.gradient_penalty(critic(params), xs, target=t))(target)
    np.testing.assert_allclose(traced, truth, rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_the_target_is_one_as_in_wgan_gp():
    xs = jnp.ones((3, 4))
    values = losses.gradient_penalty(lambda x: 2 * x.sum(axis=1), xs)
    np.testing.assert_allclose(values, [9.0] * 3, rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_gradients_of_the_gradient_penalty(target):
    xs = batch(jax.random.key(1), (3, 3))

    def loss(params):
        return jnp.mean(losses.gradient_penalty(critic(params), xs, target=target))

    check_gradient(loss, mlp_params(KEY, [3, 4, 1]))


@pytest.mark.usefixtures("x64")
def test_a_zero_gradient_gives_no_nan():
    def penalty(scale, target):
        fn = lambda x: scale * x.sum(axis=1)  # noqa: E731
        return jnp.sum(losses.gradient_penalty(fn, jnp.ones((2, 3)), target=target))

    for target, value in ((0.0, 0.0), (1.0, 2.0)):
        both = jax.jit(jax.value_and_grad(penalty), static_argnums=1)
        np.testing.assert_allclose(both(0.0, target), (value, 0))
    # R1 is a polynomial here, 2 * 3 * scale^2: its second derivative is right at zero too.
    second = jax.jit(jax.grad(jax.grad(penalty)), static_argnums=1)
    np.testing.assert_allclose(second(0.0, 0.0), 12)


@pytest.mark.usefixtures("x64")
def test_conditions_share_the_batch_and_are_not_differentiated():
    xs, labels = batch(KEY, (4, 3)), jnp.arange(4)
    values = losses.gradient_penalty(lambda x, y, t: y * t * x[:, 0], xs, labels, 2.0, target=0.0)
    np.testing.assert_allclose(values, (2.0 * np.arange(4)) ** 2)


@pytest.mark.usefixtures("x64")
def test_images_and_trees():
    xs = {"a": batch(KEY, (2, 2, 2)), "b": batch(KEY, (2, 3))}
    values = losses.gradient_penalty(
        lambda t: t["a"].sum(axis=(1, 2)) + 2 * t["b"].sum(axis=1), xs, target=0
    )
    np.testing.assert_allclose(values, [4 + 12] * 2)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"fn": lambda x: x}, ValueError, r"shape \(2,\), got \(2, 3\)"),
        ({"fn": lambda x: x[:, :1]}, ValueError, r"got \(2, 1\).*Squeeze"),
        ({"fn": lambda x: x.mean()}, ValueError, r"got \(\)"),
        ({"fn": lambda x: ()}, ValueError, r"got \[\]"),
        ({"xs": jnp.ones((2, 3), int)}, TypeError, "floating point"),
        ({"target": float("nan")}, ValueError, "finite"),
        ({"target": "1"}, TypeError, "real number"),
        ({"target": None}, TypeError, "real number"),
        ({"target": jnp.ones(2)}, ValueError, "scalar"),
    ],
)
def test_bad_input_of_the_gradient_penalty(change, error, message):
    good = {"fn": lambda x: x.sum(axis=1), "xs": jnp.ones((2, 3)), "target": 1.0} | change
    with pytest.raises(error, match=message):
        losses.gradient_penalty(good["fn"], good["xs"], target=good["target"])


def patches(params):
    """A critic `[N, 4] -> [N, 3, 1]`."""
    return lambda xs: mlp(params, xs)[:, :, None]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("reduction", "divisor"), [("sum", 1), ("mean", 3)])
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_a_reduction_of_several_outputs_is_taken_before_the_gradient(reduction, divisor, target):
    params, xs = mlp_params(KEY, [4, 5, 3]), batch(jax.random.key(1), (6, 4))
    gradients = np.asarray(dense(patches(params), xs)).sum(axis=(1, 2)) / divisor
    norms = np.linalg.norm(gradients, axis=1)
    options = {"reduction": reduction}
    # Two leaves are outputs of one example as well.
    split = lambda xs: (mlp(params, xs)[:, :1], mlp(params, xs)[:, 1:])  # noqa: E731
    per_pixel = lambda xs, labels: labels[:, None] * mlp(params, xs)  # noqa: E731

    @jax.jit
    def penalties(xs):
        return (
            losses.gradient_penalty(patches(params), xs, target=target, **options),
            losses.gradient_penalty(split, xs, target=target, **options),
            losses.loss_gradient_penalty(per_pixel, xs, jnp.arange(6), **options),
        )

    *of_fn, of_loss = penalties(xs)
    for values in of_fn:
        np.testing.assert_allclose(values, (norms - target) ** 2, rtol=1e-10)
    np.testing.assert_allclose(of_loss, (np.arange(6) * norms) ** 2, rtol=1e-10)
    check_gradient(
        lambda p: jnp.mean(losses.gradient_penalty(patches(p), xs, target=target, **options)),
        params,
    )


def test_a_reduction_of_one_number_is_that_number():
    xs = jnp.ones((2, 3))
    for reduction in ("sum", "mean"):
        values = losses.gradient_penalty(lambda x: 2 * x.sum(axis=1), xs, reduction=reduction)
        alone = losses.gradient_penalty(lambda x: 2 * x.sum(axis=1), xs)
        np.testing.assert_allclose(values, alone, rtol=1e-6)


@pytest.mark.parametrize(
    ("fn", "reduction", "message"),
    [
        (lambda x: x, "max", r"one of \('sum', 'mean'\).*got 'max'"),
        (lambda x: x, None, r"reduction=\"sum\" or reduction=\"mean\""),
        (lambda x: (x, x), None, r"reduction=\"sum\""),
        (lambda x: x.mean(), "sum", "keep the batch axis"),
        (lambda x: (), "mean", "returned no array"),
    ],
)
def test_bad_reductions(fn, reduction, message):
    with pytest.raises(ValueError, match=message):
        losses.gradient_penalty(fn, jnp.ones((2, 3)), reduction=reduction)


def cross_entropy(params):
    def loss(xs, labels):
        log_p = jax.nn.log_softmax(mlp(params, xs))
        return -jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]

    return loss


@pytest.mark.usefixtures("x64")
def test_double_backpropagation_in_closed_form():
    """d CE / d x = J^T (p - onehot)."""
    params, xs, labels = mlp_params(KEY, [4, 5, 3]), batch(KEY, (6, 4)), jnp.arange(6) % 3
    jacobians = np.asarray(dense(lambda x: mlp(params, x), xs))

    @jax.jit
    def run(xs):
        residual = jax.nn.softmax(mlp(params, xs)) - jax.nn.one_hot(labels, 3)
        of_mean = jax.grad(lambda x: jnp.mean(cross_entropy(params)(x, labels)))(xs)
        return residual, of_mean, losses.loss_gradient_penalty(cross_entropy(params), xs, labels)

    residual, of_mean, values = run(xs)
    truth = np.sum(np.einsum("boi,bo->bi", jacobians, residual) ** 2, axis=1)
    np.testing.assert_allclose(values, truth, rtol=1e-10)
    # Per example: the gradient of the batch mean is 1/N of it.
    np.testing.assert_allclose(values, 36 * np.sum(np.square(of_mean), axis=1), rtol=1e-10)
    check_gradient(
        lambda p: jnp.mean(losses.loss_gradient_penalty(cross_entropy(p), xs, labels)), params
    )


@pytest.mark.parametrize(
    ("loss_fn", "labels", "error", "message"),
    [
        (lambda x, y: jnp.mean(x.sum(axis=1) - y), jnp.ones(2), ValueError, "losses before their"),
        (lambda x, y: x.sum(axis=1) - y, jnp.ones(3), ValueError, "batch"),
    ],
)
def test_bad_input_of_double_backpropagation(loss_fn, labels, error, message):
    with pytest.raises(error, match=message):
        losses.loss_gradient_penalty(loss_fn, jnp.ones((2, 3)), labels)


def generator(weights, shape=(2, 3, 5)):
    return lambda latents: jnp.tanh(latents @ weights).reshape((-1, *shape))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("shape", "channel_axis", "pixels"),
    [
        ((2, 3, 5), -1, 2 * 3),
        ((2, 3, 5), 1, 3 * 5),
        ((2, 3, 5), 3, 2 * 3),
        ((2, 15), -1, 2),
        ((2, 15), None, 30),
        ((30,), -1, 30),
    ],
)
def test_the_path_length_penalty_is_the_formula_of_the_official_code(shape, channel_axis, pixels):
    """Noise over the root of height * width, the gradient of its product with the image."""
    weights, latents = batch(KEY, (4, 30)), batch(jax.random.key(1), (6, 4))
    key, fn = jax.random.key(2), generator(weights, shape)
    options = {"key": key, "channel_axis": channel_axis}

    @jax.jit
    def run(latents):
        noise = jax.random.normal(key, (6, *shape)) / np.sqrt(pixels)
        gradients = jax.grad(lambda z: jnp.sum(fn(z) * noise))(latents)
        penalty = losses.path_length_penalty(fn, latents, mean=0.7, **options)
        return gradients, losses.path_lengths(fn, latents, **options), penalty

    gradients, found, values = run(latents)
    lengths = np.sqrt(np.sum(np.square(gradients), axis=1))
    np.testing.assert_allclose(found, lengths, rtol=1e-10)
    np.testing.assert_allclose(values, (lengths - 0.7) ** 2, rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_the_mean_square_of_path_lengths_is_the_norm_over_the_pixels():
    weights, z = batch(KEY, (2, 8)), jnp.array([0.3, -0.2])
    fn = generator(weights, (2, 2, 2))
    truth = np.sum(np.square(dense(fn, z[None]))) / 4
    lengths = jax.jit(lambda z: losses.path_lengths(fn, repeated(z, 700_000), key=KEY))(z)
    assert_unbiased(np.square(lengths), truth)


@pytest.mark.usefixtures("x64")
def test_gradients_of_the_path_length_penalty_flow_through_the_mean_too():
    latents = batch(jax.random.key(1), (3, 3))

    def loss(weights):
        fn = generator(weights, (2, 2, 1))
        lengths = losses.path_lengths(fn, latents, key=KEY)
        mean = 0.5 + 0.01 * (jnp.mean(lengths) - 0.5)
        return jnp.mean(losses.path_length_penalty(fn, latents, key=KEY, mean=mean))

    check_gradient(loss, batch(KEY, (3, 4)))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"key": None}, ValueError, "needs a key"),
        ({"mean": jnp.ones(2)}, ValueError, "mean must be a scalar"),
        ({"channel_axis": 4}, ValueError, "channel_axis must be an axis"),
        ({"channel_axis": 0}, ValueError, "channel_axis must be an axis"),
        ({"latents": jnp.ones((2, 4), int)}, TypeError, "floating point"),
        ({"generator": lambda z: (z, z)}, ValueError, "one array of images"),
    ],
)
def test_bad_input_of_the_path_length_penalty(change, error, message):
    good = {"generator": generator(jnp.ones((4, 30))), "latents": jnp.ones((2, 4))}
    good |= {"key": KEY, "mean": 0.0} | change
    fn, latents = good.pop("generator"), good.pop("latents")
    with pytest.raises(error, match=message):
        losses.path_length_penalty(fn, latents, **good)
