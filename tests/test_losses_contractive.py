"""The closed form of the contractive penalty, and its Hessian term."""

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
    mlp,
    mlp_params,
    repeated,
    sign_vectors,
)

import jacreg
from jacreg import losses

KEY = jax.random.key(0)
ACTIVATIONS = {"sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh, "softplus": jax.nn.softplus}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_closed_form_is_the_contractive_penalty_of_the_layer(name):
    kernel, bias = batch(KEY, (5, 4)), batch(jax.random.key(1), (4,))
    xs = 2 * batch(jax.random.key(2), (6, 5))

    def layer(xs, kernel):
        return ACTIVATIONS[name](xs @ kernel + bias)

    truth = np.sum(np.square(dense(lambda x: layer(x, kernel), xs)), axis=(1, 2))

    def closed_mean(kernel):
        values = losses.dense_contractive_penalty(layer(xs, kernel), kernel, name)
        return jnp.mean(values), values

    def mean(kernel):
        lin = jacreg.linearize(lambda x: layer(x, kernel), xs)
        values = losses.contractive_penalty(lin)
        return jnp.mean(values), values

    @jax.jit
    def both(kernel):
        return [jax.grad(each, has_aux=True)(kernel) for each in (closed_mean, mean)]

    (closed_gradient, closed), (gradient, by_products) = both(kernel)
    np.testing.assert_allclose(closed, truth, rtol=1e-10)
    np.testing.assert_allclose(closed, by_products, rtol=1e-10)
    np.testing.assert_allclose(closed_gradient, gradient, rtol=1e-9)
    check_gradient(lambda kernel: closed_mean(kernel)[0], kernel)


@pytest.mark.usefixtures("x64")
def test_the_sigmoid_form_is_the_formula_of_the_paper():
    rng = np.random.default_rng(0)
    weights, hidden = rng.normal(size=(4, 7)), rng.uniform(size=(3, 4))
    paper = [
        sum((h[i] * (1 - h[i])) ** 2 * sum(w**2 for w in weights[i]) for i in range(4))
        for h in hidden
    ]
    np.testing.assert_allclose(
        losses.dense_contractive_penalty(hidden, weights.T, "sigmoid"), paper, rtol=1e-12
    )


@pytest.mark.parametrize(
    ("hidden", "kernel", "activation", "error", "message"),
    [
        ((2, 4), (3, 4), "relu", ValueError, "must be one of .*sigmoid.*relu"),
        ((2, 4), (3, 4), jnp.tanh, ValueError, "must be one of"),
        ((2, 4), (4, 3), "tanh", ValueError, r"\(2, 4\) and \(4, 3\).*transposed"),
        ((2, 4), (3, 5), "tanh", ValueError, r"\(2, 4\) and \(3, 5\)"),
        ((4,), (3, 4), "tanh", ValueError, r"\(4,\) and \(3, 4\)"),
    ],
)
def test_bad_input_of_the_closed_form(hidden, kernel, activation, error, message):
    with pytest.raises(error, match=message):
        losses.dense_contractive_penalty(jnp.ones(hidden), jnp.ones(kernel), activation)


def test_the_closed_form_takes_floating_point_only():
    with pytest.raises(TypeError, match="hidden must be floating point, got int32"):
        losses.dense_contractive_penalty(jnp.ones((2, 4), jnp.int32), jnp.ones((3, 4)), "tanh")


def quadratic(tensor):
    """An encoder whose second derivative is constant: J(x + e) - J(x) is linear in e."""
    return lambda xs: jnp.einsum("hij,bi,bj->bh", tensor, xs, xs)


@pytest.mark.usefixtures("x64")
def test_the_hessian_term_of_a_quadratic_encoder_has_a_closed_form():
    tensor = batch(KEY, (2, 3, 3))
    symmetric = np.asarray(tensor) + np.swapaxes(tensor, 1, 2)
    truth = 0.3**2 * np.sum(symmetric**2)

    @jax.jit
    def values(example):
        return [
            losses.contractive_hessian_penalty(
                quadratic(tensor),
                repeated(example, 800_000),
                scale=0.3,
                key=jax.random.key(2),
                method=method,
            )
            for method in (jacreg.Exact(), jacreg.Projection())
        ]

    for found in values(batch(jax.random.key(1), (3,))):
        assert_unbiased(found, truth)


@pytest.mark.usefixtures("x64")
def test_the_hessian_term_at_one_noise_is_the_difference_of_dense_jacobians():
    params = mlp_params(KEY, [4, 5, 3])
    xs = batch(jax.random.key(1), (6, 4))
    key = jax.random.key(2)

    def encoder(x):
        return mlp(params, x)

    @jax.jit
    def run(xs):
        exact, one = (
            losses.contractive_hessian_penalty(encoder, xs, scale=0.5, key=key, method=method)
            for method in (jacreg.Exact(), jacreg.Projection(distribution="rademacher"))
        )
        noise_key, probe_key = jax.random.split(key)
        noise = 0.5 * jax.random.normal(noise_key, xs.shape)
        change = dense(encoder, xs + noise) - dense(encoder, xs)
        return exact, one, change, jax.random.rademacher(probe_key, (6, 3), jnp.int32)

    exact, one, change, probe = map(np.asarray, run(xs))
    np.testing.assert_allclose(exact, np.sum(change**2, axis=(1, 2)), rtol=1e-10)
    # One projection a noise: with Rademacher probes, over all of them, the same.
    signs = sign_vectors((3,))
    projected = np.mean([np.sum((change.mT @ s) ** 2, axis=1) for s in signs], axis=0)
    np.testing.assert_allclose(projected, exact, rtol=1e-10)
    np.testing.assert_allclose(
        one, np.sum(np.einsum("boi,bo->bi", change, probe) ** 2, axis=1), rtol=1e-10
    )


@pytest.mark.usefixtures("x64")
def test_the_hessian_term_averages_over_its_noises():
    xs = batch(jax.random.key(1), (3, 4))
    keys = jax.random.split(KEY, 5)

    @functools.partial(jax.jit, static_argnums=1)
    def penalty(key, num_probes):
        return losses.contractive_hessian_penalty(
            jnp.sin, xs, scale=0.5, num_probes=num_probes, key=key
        )

    single = [penalty(key, 1) for key in keys]
    together = penalty(KEY, 5)
    np.testing.assert_allclose(together, np.mean(single, axis=0), rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_the_hessian_term_is_zero_without_noise_or_curvature():
    xs = batch(jax.random.key(1), (3, 4))
    kernel = batch(KEY, (4, 2))
    for encoder, scale in ((jnp.sin, 0.0), (lambda x: x @ kernel, 1.0)):
        values = jax.jit(
            functools.partial(
                losses.contractive_hessian_penalty, encoder, scale=scale, num_probes=2, key=KEY
            )
        )
        np.testing.assert_allclose(values(xs), np.zeros(3), atol=1e-25)


@pytest.mark.usefixtures("x64")
def test_gradients_of_the_hessian_term():
    xs = batch(jax.random.key(1), (3, 3))

    def loss(params):
        values = losses.contractive_hessian_penalty(
            lambda x: mlp(params, x), xs, scale=0.5, num_probes=1, key=jax.random.key(2)
        )
        return jnp.mean(values)

    check_gradient(loss, mlp_params(KEY, [3, 3, 2]))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"scale": -0.1}, ValueError, "non-negative and finite"),
        ({"scale": float("nan")}, ValueError, "non-negative and finite"),
        ({"scale": jnp.ones(5)}, ValueError, r"shape \(2,\)"),
        ({"num_probes": 0}, ValueError, "num_probes must be at least 1"),
        ({"num_probes": 1.5}, TypeError, "num_probes must be an integer"),
        ({"key": None}, ValueError, "needs a key"),
        ({"encoder": lambda x: x[:1]}, ValueError, "encoder must keep the batch axis"),
        ({"encoder": lambda x: jnp.concatenate([x, x])}, ValueError, "encoder must keep"),
        ({"xs": jnp.ones((2, 3), int)}, TypeError, "floating point"),
        ({"method": jacreg.Hutchinson()}, TypeError, "method must be one of"),
    ],
)
def test_bad_input_of_the_hessian_term(change, error, message):
    good = {"encoder": jnp.tanh, "xs": jnp.ones((2, 3)), "scale": 0.1, "num_probes": 1, "key": KEY}
    good |= change
    encoder, xs = good.pop("encoder"), good.pop("xs")
    with pytest.raises(error, match=message):
        losses.contractive_hessian_penalty(encoder, xs, **good)
