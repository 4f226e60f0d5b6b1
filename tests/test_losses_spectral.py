"""Spectral, nuclear-norm, layerwise and matching penalties."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from losses_oracle import (
    assert_unbiased,
    batch,
    check_gradient,
    dense,
    linear_lin,
    mlp,
    mlp_params,
    repeated,
)

import jacreg
from jacreg import losses

KEY = jax.random.key(0)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (1, 5), (5, 1)])
def test_the_spectral_penalty_converges_to_the_largest_singular_value(shape):
    matrices = batch(KEY, (6, *shape))

    @jax.jit
    def penalty(matrices):
        return losses.spectral_penalty(linear_lin(matrices), key=KEY, num_iterations=200)

    norms = np.linalg.norm(matrices, 2, axis=(1, 2))
    np.testing.assert_allclose(penalty(matrices), norms, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_the_spectral_penalty_is_power_iteration_and_a_lower_bound():
    """After k products ||J v||^2 = sum s^(4k+2) c^2 / sum s^(4k) c^2."""
    lin = linear_lin(np.broadcast_to(np.diag([2.0, 1.0]), (3, 2, 2)))
    start = np.array([[1.0, 1.0], [0.2, 3.0], [1.0, 0.0]])
    for k in (1, 2, 5):
        penalty = functools.partial(losses.spectral_penalty, num_iterations=k)
        values = jax.jit(penalty)(lin, start=start)
        weights = np.array([2.0, 1.0]) ** (4 * k) * start**2
        expected = np.sqrt(weights @ [4.0, 1.0] / weights.sum(axis=1))
        np.testing.assert_allclose(values, expected, rtol=1e-12)
        assert np.all(values <= 2 + 1e-12)


@pytest.mark.usefixtures("x64")
def test_a_warm_start_continues_where_it_stopped():
    lin = linear_lin(batch(KEY, (4, 3, 5)))

    @jax.jit
    def run(lin):
        halfway = losses.right_singular_vector(lin, key=KEY, num_iterations=3)
        on = losses.spectral_penalty(lin, num_iterations=4, start=halfway)
        return halfway, on, losses.spectral_penalty(lin, key=KEY, num_iterations=7)

    halfway, *penalties = run(lin)
    np.testing.assert_allclose(np.linalg.norm(halfway, axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(*penalties, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_the_gradient_of_the_spectral_penalty_is_that_of_the_norm():
    xs = batch(jax.random.key(1), (3, 4))

    def penalty(params):
        lin = jacreg.linearize(lambda x: mlp(params, x), xs)
        return jnp.mean(losses.spectral_penalty(lin, key=KEY, num_iterations=100))

    def truth(params):
        jacobians = jax.vmap(jax.jacrev(lambda x: mlp(params, x[None])[0]))(xs)
        return jnp.mean(jnp.linalg.norm(jacobians, 2, axis=(1, 2)))

    params = mlp_params(KEY, [4, 5, 3])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        *jax.jit(lambda params: [jax.grad(each)(params) for each in (penalty, truth)])(params),
    )
    check_gradient(penalty, params, order=1)


@pytest.mark.usefixtures("x64")
def test_a_zero_jacobian_has_no_norm_and_no_nan():
    def penalty(scale):
        lin = jacreg.linearize(lambda x: scale * x, jnp.ones((2, 3)))
        return jnp.sum(losses.spectral_penalty(lin, key=KEY, num_iterations=3))

    value, gradient = jax.jit(jax.value_and_grad(penalty))(0.0)
    assert (value, gradient) == (0, 0)


@pytest.mark.usefixtures("x64")
def test_the_spectral_penalty_of_images_and_trees():
    xs = {"a": batch(KEY, (2, 2, 2)), "b": batch(KEY, (2, 3))}

    def fn(tree):
        return jnp.stack([3 * tree["a"].sum(axis=(1, 2)), tree["b"].sum(axis=1)], axis=1)

    values = jax.jit(
        lambda xs: losses.spectral_penalty(jacreg.linearize(fn, xs), key=KEY, num_iterations=60)
    )(xs)
    np.testing.assert_allclose(values, [6, 6], rtol=1e-9)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"key": None}, ValueError, "needs a key"),
        ({"num_iterations": 0}, ValueError, "at least 1"),
        ({"num_iterations": 2.0}, TypeError, "integer"),
        ({"start": jnp.ones((2, 4))}, ValueError, r"start .*\(2, 3\), got \(2, 4\)"),
    ],
)
@pytest.mark.parametrize("fn", [losses.spectral_penalty, losses.right_singular_vector])
def test_bad_input_of_the_spectral_penalty(fn, change, error, message):
    lin = jacreg.linearize(jnp.sin, jnp.ones((2, 3)))
    with pytest.raises(error, match=message):
        fn(lin, **({"key": KEY, "num_iterations": 2} | change))
    with pytest.raises(TypeError, match="must be a Linearization"):
        fn(jnp.sin, key=KEY, num_iterations=2)


@pytest.mark.usefixtures("x64")
def test_the_nuclear_norm_penalty_of_linear_maps_has_a_closed_form():
    inner, outer = (
        np.asarray(batch(jax.random.key(i), shape)) for i, shape in enumerate([(3, 2), (2, 4)])
    )
    example = batch(jax.random.key(2), (3,))

    @jax.jit
    def penalty(inner, outer):
        xs = repeated(example, 400_000)
        return losses.nuclear_norm_penalty(
            lambda h: h @ outer, lambda x: x @ inner, xs, scale=0.3, key=KEY
        )

    truth = 0.5 * (np.sum(inner**2) + np.sum(outer**2))
    assert_unbiased(penalty(inner, outer), truth)
    # Never below the nuclear norm, and equal to it for the balanced factors of the SVD.
    u, s, vt = np.linalg.svd(inner @ outer)
    s = s[:2]
    assert truth >= np.sum(s)
    balanced = penalty(u[:, :2] * np.sqrt(s), np.sqrt(s)[:, None] * vt[:2])
    assert_unbiased(balanced, np.sum(s))


@pytest.mark.usefixtures("x64")
def test_the_nuclear_norm_penalty_is_the_formula_of_the_paper():
    inner, outer = mlp_params(KEY, [3, 4, 2]), mlp_params(jax.random.key(1), [2, 4, 5])
    xs, scale = batch(jax.random.key(2), (6, 3)), 0.2

    @jax.jit
    def both(xs):
        outer_key, inner_key = jax.random.split(KEY)
        h = mlp(inner, xs)
        e_outer = scale * jax.random.normal(outer_key, h.shape)
        e_inner = scale * jax.random.normal(inner_key, xs.shape)
        paper = (
            jnp.sum((mlp(outer, h + e_outer) - mlp(outer, h)) ** 2, axis=1)
            + jnp.sum((mlp(inner, xs + e_inner) - h) ** 2, axis=1)
        ) / (2 * scale**2)
        values = losses.nuclear_norm_penalty(
            lambda h: mlp(outer, h), lambda x: mlp(inner, x), xs, scale=scale, key=KEY
        )
        return values, paper

    np.testing.assert_allclose(*both(xs), rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_gradients_of_the_nuclear_norm_penalty():
    xs = batch(jax.random.key(1), (3, 3))

    def loss(params):
        inner, outer = params
        values = losses.nuclear_norm_penalty(
            lambda h: mlp(outer, h), lambda x: mlp(inner, x), xs, scale=0.3, key=KEY
        )
        return jnp.mean(values)

    check_gradient(loss, (mlp_params(KEY, [3, 3, 2]), mlp_params(jax.random.key(1), [2, 3])))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"scale": -0.1}, ValueError, "positive and finite"),
        ({"key": None}, ValueError, "needs a key"),
        ({"inner": lambda x: x[:1]}, ValueError, "inner must keep the batch axis"),
        ({"outer": lambda x: x[:1]}, ValueError, "outer must keep the batch axis"),
        ({"xs": jnp.ones((2, 3), int)}, TypeError, "floating point"),
        ({"inner": lambda x: x.astype(int)}, TypeError, "inner must return floating-point"),
    ],
)
def test_bad_input_of_the_nuclear_norm_penalty(change, error, message):
    good = {"outer": jnp.sin, "inner": jnp.cos, "xs": jnp.ones((2, 3)), "scale": 0.1, "key": KEY}
    good |= change
    args = [good.pop(name) for name in ("outer", "inner", "xs")]
    with pytest.raises(error, match=message):
        losses.nuclear_norm_penalty(*args, **good)


@pytest.mark.usefixtures("x64")
def test_jacobian_matching_is_the_squared_distance():
    params, xs = mlp_params(KEY, [4, 5, 3]), batch(jax.random.key(1), (6, 4))
    targets = batch(jax.random.key(2), (6, 3, 4))

    @jax.jit
    def run(xs):
        lin = jacreg.linearize(lambda x: mlp(params, x), xs)
        values = [
            losses.jacobian_matching(lin, each)
            for each in (targets, jacreg.jacobian(lin), jnp.zeros((6, 3, 4)))
        ]
        return *values, losses.contractive_penalty(lin)

    values, itself, of_zero, contractive = run(xs)
    difference = np.asarray(dense(lambda x: mlp(params, x), xs)) - np.asarray(targets)
    np.testing.assert_allclose(values, np.sum(difference**2, axis=(1, 2)), rtol=1e-10)
    assert np.all(itself == 0)
    np.testing.assert_allclose(of_zero, contractive, rtol=1e-10)

    def loss(params):
        lin = jacreg.linearize(lambda x: mlp(params, x), xs)
        return jnp.mean(losses.jacobian_matching(lin, targets))

    check_gradient(loss, params)


@pytest.mark.usefixtures("x64")
def test_jacobian_matching_of_trees_and_images():
    xs = {"a": batch(KEY, (3, 2, 2)), "b": batch(jax.random.key(1), (3, 4))}
    lin = jacreg.linearize(lambda t: {"y": t["a"].sum(axis=1) * t["b"][:, :2]}, xs)
    targets = jax.tree.map(jnp.ones_like, jacreg.jacobian(lin))
    difference = jax.tree.map(
        lambda j: np.sum((np.asarray(j) - 1) ** 2, axis=tuple(range(1, j.ndim))),
        jacreg.jacobian(lin),
    )
    np.testing.assert_allclose(
        losses.jacobian_matching(lin, targets), sum(jax.tree.leaves(difference)), rtol=1e-10
    )


@pytest.mark.parametrize("shape", [(2, 4, 3), (2, 3), (3, 4), (2, 1, 4)])
def test_targets_of_the_wrong_shape_are_named(shape):
    lin = jacreg.linearize(lambda x: x @ jnp.ones((4, 3)), jnp.ones((2, 4)))
    message = r"targets .*\(2, 3, 4\), got " + str(shape).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ValueError, match=message):
        losses.jacobian_matching(lin, jnp.ones(shape))


@pytest.mark.usefixtures("x64")
def test_the_layerwise_penalty_is_the_summed_log_norm_and_a_bound():
    params, xs = mlp_params(KEY, [4, 5, 3]), batch(jax.random.key(1), (6, 4))
    (k0, b0), (k1, b1) = params
    layers = [lambda x: jnp.tanh(x @ k0 + b0), lambda h: h @ k1 + b1]
    first = np.linalg.norm(dense(layers[0], xs), axis=(1, 2))

    @jax.jit
    def run(xs):
        sampled = losses.layerwise_penalty(layers, xs, jacreg.Projection(), key=KEY)
        return losses.layerwise_penalty(layers, xs), sampled

    values, sampled = run(xs)
    np.testing.assert_allclose(values, np.log(first) + np.log(np.linalg.norm(k1)), rtol=1e-10)
    whole = np.log(np.linalg.norm(dense(lambda x: mlp(params, x), xs), axis=(1, 2)))
    assert np.all(values >= whole)
    assert sampled.shape == (6,)

    def loss(params):
        (k0, b0), (k1, b1) = params
        layers = [lambda x: jnp.tanh(x @ k0 + b0), lambda h: h @ k1 + b1]
        return jnp.mean(losses.layerwise_penalty(layers, xs))

    check_gradient(loss, params)


def test_bad_input_of_the_layerwise_penalty():
    xs = jnp.ones((2, 3))
    with pytest.raises(ValueError, match="at least one function"):
        losses.layerwise_penalty([], xs)
    with pytest.raises(ValueError, match="needs a key"):
        losses.layerwise_penalty([jnp.sin], xs, jacreg.Projection())
