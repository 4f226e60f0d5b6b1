"""What holds for every loss: `[N]` values, dtypes, transformations, keys, whole batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from losses_oracle import batch, check_transforms

import jacreg
from jacreg import losses

KEY = jax.random.key(0)


def kernel(dtype, shape=(3, 3)):
    return (jax.random.normal(jax.random.key(8), shape) / 2).astype(dtype)


def square(xs):
    """A smooth square vector field on `[N, 3]`."""
    return jnp.tanh(xs @ kernel(xs.dtype))


def scalar(xs):
    return jnp.sum(jnp.square(square(xs)), axis=1)


def two_layers(xs):
    hidden = square(xs)
    tail = jacreg.linearize(square, hidden)
    return [jacreg.linearize(lambda x: square(square(x)), xs), tail]


def of(loss, fn=square, **kwargs):
    return lambda xs: loss(jacreg.linearize(fn, xs), **kwargs)


# name -> xs [N, 3] -> [N]; a list where an option changes the computation.
CASES = {
    "jacobian_penalty": [of(losses.jacobian_penalty, key=KEY)],
    "contractive_penalty": [of(losses.contractive_penalty)],
    "dense_contractive_penalty": [
        lambda xs, a=a: losses.dense_contractive_penalty(square(xs), kernel(xs.dtype), a)
        for a in ("sigmoid", "tanh", "softplus")
    ],
    "contractive_hessian_penalty": [
        lambda xs, m=m: losses.contractive_hessian_penalty(
            square, xs, scale=0.5, num_probes=1, key=KEY, method=m
        )
        for m in (jacreg.Projection(), jacreg.Exact())
    ],
    "noise_injection_penalty": [
        lambda xs: losses.noise_injection_penalty(square, xs, scale=0.5, key=KEY)
    ],
    "gaussian_noise_regularizer": [
        lambda xs, loss=loss: losses.gaussian_noise_regularizer(
            two_layers(xs), [0.3, 0.5], loss=loss
        )
        for loss in ("mse", "cross_entropy")
    ],
    "implicit_score_matching": [of(losses.implicit_score_matching)],
    "sliced_score_matching": [
        of(losses.sliced_score_matching, key=KEY, num_probes=1, variance_reduced=flag)
        for flag in (True, False)
    ],
    "denoising_score_matching": [
        lambda xs: losses.denoising_score_matching(square, xs, scale=0.5, key=KEY)
    ],
    "finite_difference_score_matching": [
        lambda xs: losses.finite_difference_score_matching(square, xs, scale=0.5, key=KEY)
    ],
    "flow_regularizers": [
        lambda xs, i=i: losses.flow_regularizers(
            jacreg.linearize(square, xs), jnp.ones(xs.shape, xs.dtype)
        )[i]
        for i in range(3)
    ],
    "equilibrium_jacobian_penalty": [
        lambda xs: losses.equilibrium_jacobian_penalty(square, xs, key=KEY, num_probes=1)
    ],
    "free_form_flow_surrogate": [
        lambda xs: losses.free_form_flow_surrogate(square, jnp.sin, xs, key=KEY)
    ],
    "mean_flow_loss": [
        lambda xs: losses.mean_flow_loss(
            lambda z, r, t: square(z) * t.astype(z.dtype)[:, None], xs, 2 * xs, 0.25, 0.5
        )
    ],
    "lyapunov_exponents": [
        lambda xs: losses.lyapunov_exponents(square, xs, num_steps=2, key=KEY)[:, 0]
    ],
    "lyapunov_penalty": [
        lambda xs: losses.lyapunov_penalty(square, xs, num_steps=2, num_exponents=2, key=KEY)
    ],
    "nuclear_norm_penalty": [
        lambda xs: losses.nuclear_norm_penalty(jnp.sin, square, xs, scale=0.5, key=KEY)
    ],
    "spectral_penalty": [of(losses.spectral_penalty, key=KEY, num_iterations=3)],
    "jacobian_matching": [
        lambda xs: losses.jacobian_matching(
            jacreg.linearize(square, xs), jnp.ones((*xs.shape, 3), xs.dtype)
        )
    ],
    "layerwise_penalty": [lambda xs: losses.layerwise_penalty([square, square], xs)],
    "gradient_penalty": [
        lambda xs, t=t: losses.gradient_penalty(scalar, xs, target=t) for t in (0.0, 1.0)
    ],
    "loss_gradient_penalty": [
        lambda xs: losses.loss_gradient_penalty(
            lambda x, y: jnp.sum(jnp.square(square(x) - y), axis=1), xs, jnp.ones_like(xs)
        )
    ],
    "cross_lipschitz_penalty": [of(losses.cross_lipschitz_penalty)],
    "curvature_penalty": [
        lambda xs, d=d: losses.curvature_penalty(
            lambda x, y: scalar(x) * y, xs, jnp.ones_like(xs[:, 0]), step=2.0, direction=d
        )
        for d in ("sign", "gradient")
    ],
    "gradient_alignment_penalty": [
        lambda xs: losses.gradient_alignment_penalty(
            lambda x, y: scalar(x) * y, xs, jnp.ones_like(xs[:, 0]), radius=2.0, key=KEY
        )
    ],
    "path_length_penalty": [lambda xs: losses.path_length_penalty(square, xs, key=KEY, mean=0.1)],
    "path_lengths": [lambda xs: losses.path_lengths(square, xs, key=KEY)],
    "lipschitz_margin_loss": [
        lambda xs: losses.lipschitz_margin_loss(
            square(xs), jnp.arange(len(xs)) % 3, margin=0.5, temperature=0.5
        )
    ],
    "certified_radius": [
        lambda xs: losses.certified_radius(
            square(xs), jnp.argmax(square(xs), axis=1), lipschitz=2.0
        )
    ],
}
NOT_PER_EXAMPLE = {
    "FlowRegularizers", "bernoulli", "every", "ramp", "right_singular_vector", "subsample"
}  # fmt: skip
EACH = [
    pytest.param(case, id=f"{name}-{i}")
    for name, cases in CASES.items()
    for i, case in enumerate(cases)
]


def test_no_loss_is_left_out():
    public = {name for name in vars(losses) if not name.startswith("_")}
    assert set(CASES) == public - NOT_PER_EXAMPLE


@pytest.mark.parametrize("loss", EACH)
def test_single_and_half_precision(loss):
    xs = batch(jax.random.key(1), (4, 3)).astype(jnp.bfloat16)
    single = np.asarray(xs, np.float32)
    changed = single + np.array([0, 0, 0, 1], np.float32)[:, None]

    compiled = jax.jit(lambda single, half: (loss(single), loss(half)))
    values, half = compiled(single, xs)
    changed, _ = compiled(changed, xs)
    assert values.shape == (4,)
    assert values.dtype == jnp.float32
    assert np.all(np.isfinite(values))
    # A row is valued by itself: another row changes nothing but its own value.
    np.testing.assert_allclose(changed[:3], values[:3], rtol=1e-5)
    assert changed[3] != values[3]
    assert half.dtype == jnp.bfloat16
    # Eight bits of mantissa, a few operations, and differences that cancel some of them.
    np.testing.assert_allclose(np.asarray(half, np.float32), values, rtol=0.1, atol=0.05)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("loss", EACH)
def test_double_precision_under_transformations(loss):
    xs = batch(jax.random.key(1), (4, 3))
    check_transforms(loss, xs)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(loss(x))))(xs)
    assert gradient.dtype == jnp.float64
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize(
    "call",
    [
        lambda fn, xs: losses.noise_injection_penalty(fn, xs, scale=0.1, key=KEY),
        lambda fn, xs: losses.contractive_hessian_penalty(fn, xs, scale=0.1, key=KEY),
        lambda fn, xs: losses.denoising_score_matching(fn, xs, scale=0.1, key=KEY),
        lambda fn, xs: losses.finite_difference_score_matching(fn, xs, scale=0.1, key=KEY),
        lambda fn, xs: losses.nuclear_norm_penalty(jnp.sin, fn, xs, scale=0.1, key=KEY),
        lambda fn, xs: losses.nuclear_norm_penalty(fn, jnp.sin, xs, scale=0.1, key=KEY),
        lambda fn, xs: losses.equilibrium_jacobian_penalty(fn, xs, key=KEY),
        lambda fn, xs: losses.gradient_penalty(fn, xs),
        lambda fn, xs: losses.loss_gradient_penalty(fn, xs, jnp.ones(2)),
        lambda fn, xs: losses.path_length_penalty(fn, xs, key=KEY, mean=0.0),
    ],
)
def test_what_is_no_function_is_named(call):
    with pytest.raises(TypeError, match="must be a function of a batch, got dict"):
        call({"kernel": 1}, jnp.ones((2, 3)))


@pytest.mark.parametrize(
    "loss",
    [
        losses.jacobian_penalty,
        losses.contractive_penalty,
        losses.implicit_score_matching,
        lambda lin: losses.jacobian_matching(lin, 0.0),
        lambda lin: losses.flow_regularizers(lin, 0.0),
    ],
)
def test_what_is_no_linearization_is_named(loss):
    with pytest.raises(TypeError, match="must be a Linearization, got function"):
        loss(square)
