"""The Jacobian, contractive and noise-injection penalties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.errors import TraceContextError
from losses_oracle import (
    assert_unbiased,
    batch,
    check_dtypes,
    check_gradient,
    check_transforms,
    dense,
    mlp,
    mlp_params,
    repeated,
)

import jacreg
from jacreg import losses
from jacreg._probes import draw

KEY = jax.random.key(0)


def official_criterion(fn, xs, probes):
    """The published algorithm: unit vectors, factor C, half the batch mean.

    Args:
        fn: `[N, n] -> [N, C]`.
        xs: `[N, n]`.
        probes: `[n_proj, N, C]`, of length one.
    """
    value, pullback = jax.vjp(fn, xs)
    num_outputs = value.shape[1]
    squares = sum(num_outputs * jnp.sum(pullback(v)[0] ** 2) for v in probes)
    return 0.5 * squares / (len(probes) * xs.shape[0])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("num_probes", [1, 3])
def test_the_mean_of_the_jacobian_penalty_is_the_official_criterion(num_probes):
    params = mlp_params(KEY, [5, 7, 4])
    xs = batch(jax.random.key(1), (6, 5))
    key = jax.random.key(2)
    keys = [key] if num_probes == 1 else list(jax.random.split(key, num_probes))
    probes = jnp.stack([draw(k, jnp.zeros((6, 4)), "sphere") / jnp.sqrt(4.0) for k in keys])
    np.testing.assert_allclose(jnp.linalg.norm(probes, axis=2), 1.0, rtol=1e-12)

    def ours(params):
        lin = jacreg.linearize(lambda x: mlp(params, x), xs)
        method = jacreg.Projection(num_probes)
        return jnp.mean(losses.jacobian_penalty(lin, method, key=key))

    def official(params):
        return official_criterion(lambda x: mlp(params, x), xs, probes)

    (value, gradient), (expected, expected_gradient) = jax.jit(
        lambda params: [jax.value_and_grad(f)(params) for f in (ours, official)]
    )(params)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14),
        gradient,
        expected_gradient,
    )


@pytest.mark.usefixtures("x64")
def test_exact_equals_the_official_criterion_over_the_standard_basis():
    params = mlp_params(KEY, [5, 7, 4])
    xs = batch(jax.random.key(1), (6, 5))
    probes = jnp.broadcast_to(jnp.eye(4)[:, None, :], (4, 6, 4))
    lin = jacreg.linearize(lambda x: mlp(params, x), xs)
    ours = jnp.mean(losses.jacobian_penalty(lin, jacreg.Exact()))
    np.testing.assert_allclose(
        ours, official_criterion(lambda x: mlp(params, x), xs, probes), rtol=1e-12
    )


@pytest.mark.usefixtures("x64")
def test_contractive_penalty_is_the_squared_norm_of_the_dense_jacobian():
    params = mlp_params(KEY, [5, 7, 4])
    xs = batch(jax.random.key(1), (6, 5))
    lin = jacreg.linearize(lambda x: mlp(params, x), xs)
    truth = jnp.sum(dense(lambda x: mlp(params, x), xs) ** 2, axis=(1, 2))
    np.testing.assert_allclose(losses.contractive_penalty(lin), truth, rtol=1e-12)
    np.testing.assert_allclose(2 * losses.jacobian_penalty(lin, jacreg.Exact()), truth, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_contractive_penalty_of_a_linear_encoder_is_weight_decay():
    kernel = batch(KEY, (5, 3))
    lin = jacreg.linearize(lambda x: x @ kernel, batch(jax.random.key(1), (4, 5)))
    np.testing.assert_allclose(
        losses.contractive_penalty(lin), np.full(4, jnp.sum(kernel**2)), rtol=1e-12
    )


@pytest.mark.usefixtures("x64")
def test_gradients_of_the_contractive_penalty():
    xs = batch(jax.random.key(1), (3, 4))

    def loss(params):
        return jnp.mean(losses.contractive_penalty(jacreg.linearize(lambda x: mlp(params, x), xs)))

    check_gradient(loss, mlp_params(KEY, [4, 3, 2]))


@pytest.mark.usefixtures("x64")
def test_noise_injection_of_a_linear_map_is_the_gaussian_projection():
    kernel = batch(KEY, (5, 3))
    xs = batch(jax.random.key(1), (4, 5))
    key = jax.random.key(2)
    value = losses.noise_injection_penalty(lambda x: x @ kernel, xs, scale=0.7, key=key)
    lin = jacreg.linearize(lambda x: x @ kernel, xs)
    projected = jacreg.frobenius_squared(
        lin, jacreg.Projection(distribution="gaussian", mode="forward"), key=key
    )
    np.testing.assert_allclose(value, projected, rtol=1e-10)
    many = repeated(xs[0], 400_000)
    values = losses.noise_injection_penalty(lambda x: x @ kernel, many, scale=0.7, key=key)
    assert_unbiased(values, jnp.sum(kernel**2))


@pytest.mark.usefixtures("x64")
def test_noise_injection_is_the_method_of_that_name():
    params = mlp_params(KEY, [5, 7, 4])
    xs = batch(jax.random.key(1), (6, 5))
    key = jax.random.key(2)
    lin = jacreg.linearize(lambda x: mlp(params, x), xs)
    np.testing.assert_allclose(
        losses.noise_injection_penalty(lambda x: mlp(params, x), xs, scale=0.1, key=key),
        jacreg.frobenius_squared(lin, jacreg.NoiseInjection(0.1), key=key),
        rtol=1e-10,
    )


@pytest.mark.usefixtures("x64")
def test_noise_injection_takes_a_traced_scale_and_one_for_each_example():
    xs = batch(jax.random.key(1), (3, 4))
    key = jax.random.key(2)

    def penalty(scale):
        return losses.noise_injection_penalty(jnp.sin, xs, scale=scale, key=key)

    each = jnp.array([0.1, 0.2, 0.3])
    apart = jnp.stack([penalty(s)[i] for i, s in enumerate(each)])
    np.testing.assert_allclose(penalty(each), apart, rtol=1e-12)
    np.testing.assert_allclose(jax.jit(penalty)(each), apart, rtol=1e-12)
    np.testing.assert_allclose(jax.jit(penalty)(0.1), penalty(0.1), rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_noise_injection_needs_no_derivative_and_takes_trees():
    def counted(tree):
        return jax.lax.while_loop(
            lambda c: c[0] < 3, lambda c: (c[0] + 1, 2 * c[1]), (0, tree["a"])
        )[1]

    xs = {"a": batch(KEY, (3, 2))}
    key = jax.random.key(2)
    value = losses.noise_injection_penalty(counted, xs, scale=0.5, key=key)
    noise = draw(key, xs, "gaussian")["a"]
    np.testing.assert_allclose(value, 64 * jnp.sum(noise**2, axis=1), rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_what_a_function_draws_is_the_same_in_both_calls():
    """Two masks would differ by much more than the noise moves, over its scale."""
    xs, key = batch(KEY, (3, 4)), jax.random.key(2)
    for call in (
        lambda fn: losses.noise_injection_penalty(fn, xs, scale=1e-3, key=key),
        lambda fn: losses.nuclear_norm_penalty(jnp.sin, fn, xs, scale=1e-3, key=key),
        lambda fn: losses.nuclear_norm_penalty(fn, jnp.sin, xs, scale=1e-3, key=key),
        lambda fn: losses.finite_difference_score_matching(fn, xs, scale=1e-3, key=key),
    ):
        drawn = iter([2.0, 3.0])
        np.testing.assert_array_equal(
            call(lambda zs, drawn=drawn: next(drawn) * zs), call(lambda zs: 2.0 * zs)
        )
        with pytest.raises(TraceContextError) as caught:
            call(nnx.Sequential(nnx.Dropout(0.5, rngs=nnx.Rngs(0))))
        assert any("jacreg.nnx.function(module)" in note for note in caught.value.__notes__)


@pytest.mark.usefixtures("x64")
def test_gradients_of_noise_injection():
    xs = batch(jax.random.key(1), (3, 4))

    def loss(params):
        values = losses.noise_injection_penalty(
            lambda x: mlp(params, x), xs, scale=0.3, key=jax.random.key(2)
        )
        return jnp.mean(values)

    check_gradient(loss, mlp_params(KEY, [4, 3, 2]))


@pytest.mark.usefixtures("x64")
def test_transforms_and_dtypes():
    def contractive(xs):
        return losses.contractive_penalty(jacreg.linearize(jnp.tanh, xs))

    def noise(xs):
        return losses.noise_injection_penalty(jnp.tanh, xs, scale=0.5, key=KEY)

    xs = batch(jax.random.key(1), (3, 4))
    check_transforms(contractive, xs)
    check_transforms(noise, xs)
    check_dtypes(contractive, (3, 4))
    # Noise itself depends on the dtype it is drawn in; the dtype of the result is what counts.
    for dtype in (jnp.bfloat16, jnp.float32, jnp.float64):
        assert noise(xs.astype(dtype)).dtype == dtype


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"scale": 0.0}, ValueError, "positive and finite"),
        ({"scale": -1.0}, ValueError, "positive and finite"),
        ({"scale": float("nan")}, ValueError, "positive and finite"),
        ({"scale": float("inf")}, ValueError, "positive and finite"),
        ({"scale": jnp.array([0.1, -0.1])}, ValueError, "positive and finite"),
        ({"scale": jnp.ones(3)}, ValueError, r"a scalar or shape \(2,\)"),
        ({"scale": "0.1"}, TypeError, "real number"),
        ({"scale": True}, TypeError, "real number"),
        ({"scale": 1j}, TypeError, "real number"),
        ({"scale": None}, TypeError, "real number"),
        ({"key": None}, ValueError, "needs a key"),
        ({"xs": jnp.ones((2, 3), int)}, TypeError, "floating point"),
        ({"xs": jnp.float32(1)}, ValueError, "batch axis"),
        ({"xs": ()}, ValueError, "no array"),
        ({"xs": (jnp.ones((2, 1)), jnp.ones((3, 1)))}, ValueError, "share the batch axis"),
        ({"fn": jnp.sum}, ValueError, "keep the batch axis"),
        ({"fn": lambda x: x[:1]}, ValueError, "keep the batch axis"),
        ({"fn": lambda x: jnp.argmax(x, axis=1)}, TypeError, "floating-point"),
        ({"fn": lambda x: ()}, ValueError, "no array"),
    ],
)
def test_bad_input(change, error, message):
    good = {"fn": jnp.tanh, "xs": jnp.ones((2, 3)), "scale": 0.1, "key": KEY} | change
    fn, xs = good.pop("fn"), good.pop("xs")
    with pytest.raises(error, match=message):
        losses.noise_injection_penalty(fn, xs, **good)


def test_a_stochastic_method_needs_a_key():
    lin = jacreg.linearize(jnp.tanh, jnp.ones((2, 3)))
    with pytest.raises(ValueError, match="needs a key"):
        losses.contractive_penalty(lin, jacreg.Projection())
