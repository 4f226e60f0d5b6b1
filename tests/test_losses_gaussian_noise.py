"""Camuto's explicit regulariser against dense traces and against noise itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from losses_oracle import batch, check_gradient, dense, mlp_params, sign_vectors

import jacreg
from jacreg import losses

KEY = jax.random.key(0)
SCALES = (0.3, 0.5, 0.2)


def tails(params):
    """The rest of a three-layer network from its input and each hidden layer on."""

    def rest(start):
        def fn(h):
            for i, (kernel, bias) in enumerate(params[start:], start=start):
                h = h @ kernel + bias
                h = jnp.tanh(h) if i < len(params) - 1 else h
            return h

        return fn

    return [rest(k) for k in range(len(params))]


@jax.jit
def activations(params, xs):
    hidden = [xs]
    for kernel, bias in params[:-1]:
        hidden.append(jnp.tanh(hidden[-1] @ kernel + bias))
    return hidden


def layers(params, xs, mode="both"):
    pairs = zip(tails(params), activations(params, xs), strict=True)
    return [jacreg.linearize(fn, h, mode=mode) for fn, h in pairs]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("sizes", [[4, 5, 3, 2], [2, 3, 3, 6]])
@pytest.mark.parametrize("mode", ["both", "forward", "reverse"])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_exact_traces(loss, mode, sizes):
    params, xs = mlp_params(KEY, sizes), batch(jax.random.key(1), (5, sizes[0]))
    expected = np.zeros(5)
    for scale, fn, h in zip(SCALES, tails(params), activations(params, xs), strict=True):
        jacobians, logits = (np.asarray(each) for each in (dense(fn, h), jax.jit(fn)(h)))
        for n in range(5):
            p = np.exp(logits[n]) / np.exp(logits[n]).sum()
            hessian = np.eye(sizes[-1]) if loss == "mse" else np.diag(p) - np.outer(p, p)
            trace = np.trace(jacobians[n].T @ hessian @ jacobians[n])
            expected[n] += 0.5 * scale**2 * trace
    values = jax.jit(
        lambda xs: losses.gaussian_noise_regularizer(layers(params, xs, mode), SCALES, loss=loss)
    )
    np.testing.assert_allclose(values(xs), expected, rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_it_is_what_noise_adds_to_the_squared_error_of_a_linear_network():
    """Exactly: signs have the second moments of Gaussian noise, all that a square sees."""
    first, last = batch(KEY, (3, 2)), batch(jax.random.key(1), (2, 2))
    x, target = jnp.array([1.0, -0.5, 2.0]), jnp.array([0.3, 0.2])
    lins = [
        jacreg.linearize(lambda x: x @ first @ last, x[None]),
        jacreg.linearize(lambda h: h @ last, x[None] @ first),
    ]
    scales = (1.0, 2.0)
    signs = jnp.asarray(sign_vectors((5,)))
    noisy = ((x + scales[0] * signs[:, :3]) @ first + scales[1] * signs[:, 3:]) @ last
    added = 0.5 * (
        jnp.mean(jnp.sum((noisy - target) ** 2, axis=1)) - jnp.sum((x @ first @ last - target) ** 2)
    )
    np.testing.assert_allclose(
        losses.gaussian_noise_regularizer(lins, scales)[0], added, rtol=1e-10
    )


@pytest.mark.usefixtures("x64")
def test_it_is_what_small_noise_adds_to_the_cross_entropy():
    """By Gauss-Hermite quadrature, whose error and that of the expansion are O(scale^4)."""
    kernel = batch(KEY, (1, 3))
    x, label = jnp.array([[0.4]]), 1
    lin = jacreg.linearize(lambda x: x @ kernel, x)
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    weights = weights / weights.sum()
    for scale in (0.1, 0.05):
        logits = (x + scale * nodes[:, None]) @ kernel
        noisy = weights @ -jax.nn.log_softmax(logits)[:, label]
        added = noisy + jax.nn.log_softmax(x @ kernel)[0, label]
        explicit = losses.gaussian_noise_regularizer([lin], [scale], loss="cross_entropy")[0]
        assert abs(added - explicit) < 0.5 * scale**4


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_gradients(loss):
    xs = batch(jax.random.key(1), (3, 3))

    def mean(params):
        return jnp.mean(losses.gaussian_noise_regularizer(layers(params, xs), 0.4, loss=loss))

    check_gradient(mean, mlp_params(KEY, [3, 3, 2]))


def test_confident_logits_have_a_finite_gradient():
    def mean(kernel):
        lin = jacreg.linearize(lambda x: x @ kernel, jnp.ones((2, 2)))
        return jnp.mean(losses.gaussian_noise_regularizer([lin], [1.0], loss="cross_entropy"))

    value, gradient = jax.value_and_grad(mean)(jnp.array([[500.0, -500.0, 0.0]] * 2))
    assert value == 0
    assert jnp.all(jnp.isfinite(gradient))


def test_scales_may_be_traced_shared_or_an_array():
    params, xs = mlp_params(KEY, [3, 4, 2]), batch(jax.random.key(1), (3, 3))
    lins = layers(params, xs)
    each = losses.gaussian_noise_regularizer(lins, [0.3, 0.3])
    for scales in (0.3, jnp.float32(0.3), jnp.full(2, 0.3), np.full(2, 0.3)):
        np.testing.assert_allclose(losses.gaussian_noise_regularizer(lins, scales), each, rtol=1e-6)
    traced = jax.jit(losses.gaussian_noise_regularizer)
    np.testing.assert_allclose(traced(lins, 0.3), each, rtol=1e-6)
    np.testing.assert_allclose(traced(lins, [0.3, 0.3]), each, rtol=1e-6)
    half = losses.gaussian_noise_regularizer(
        [jacreg.linearize(jnp.tanh, xs.astype(jnp.bfloat16))], [0.3], loss="cross_entropy"
    )
    assert half.dtype == jnp.bfloat16


def good_lin(out=2):
    return jacreg.linearize(lambda x: x @ jnp.ones((3, out)), jnp.ones((4, 3)))


@pytest.mark.parametrize(
    ("lins", "scales", "loss", "error", "message"),
    [
        ([good_lin()], [0.1], "l1", ValueError, "loss must be one of .*'l1'"),
        ([], [], "mse", ValueError, "lins is empty"),
        (good_lin(), [0.1], "mse", TypeError, r"write \[lin\]"),
        ([jnp.tanh], [0.1], "mse", TypeError, "must hold Linearizations"),
        ([good_lin()], [0.1, 0.2], "mse", ValueError, r"one number a layer \(1\)"),
        ([good_lin()], ["a"], "mse", TypeError, "real number"),
        ([good_lin()], [-0.1], "mse", ValueError, "non-negative and finite"),
        ([good_lin()], [float("inf")], "mse", ValueError, "non-negative and finite"),
        ([good_lin(), good_lin(3)], 0.1, "mse", ValueError, "same output"),
        ([good_lin(1)], [0.1], "cross_entropy", ValueError, "at least two classes"),
        ([jacreg.linearize(jnp.sin, jnp.ones((2, 3, 3)))], [0.1], "cross_entropy", ValueError, "C"),
    ],
)
def test_bad_input(lins, scales, loss, error, message):
    with pytest.raises(error, match=message):
        losses.gaussian_noise_regularizer(lins, scales, loss=loss)
