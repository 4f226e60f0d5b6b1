"""Score matching: implicit, sliced, denoising and by finite differences."""

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
from jacreg._probes import draw
from jacreg.losses._denoising import finite_difference_terms
from jacreg.losses._score_matching import sliced_terms

KEY = jax.random.key(0)


@functools.cache
def sliced(variance_reduced, distribution):
    def values(params, xs, key):
        return losses.sliced_score_matching(
            jacreg.linearize(lambda x: mlp(params, x), xs),
            variance_reduced=variance_reduced,
            key=key,
            distribution=distribution,
        )

    return jax.jit(values)


def setting(d=4, n=5):
    params = mlp_params(KEY, [d, 6, d])
    xs = batch(jax.random.key(1), (n, d))
    jacobians = np.asarray(dense(lambda x: mlp(params, x), xs))
    scores = np.asarray(jax.jit(mlp)(params, xs))
    return params, xs, jacobians, scores


@pytest.mark.usefixtures("x64")
def test_implicit_score_matching_is_trace_and_half_squared_norm():
    params, xs, jacobians, scores = setting()
    truth = np.trace(jacobians, axis1=1, axis2=2) + 0.5 * np.sum(scores**2, axis=1)

    @jax.jit
    def found(xs):
        return losses.implicit_score_matching(jacreg.linearize(lambda x: mlp(params, x), xs))

    np.testing.assert_allclose(found(xs), truth, rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_the_true_score_minimises_implicit_score_matching():
    """For N(0, S): E[tr ds + 1/2 |s|^2] of s = -A x is -tr A + 1/2 tr(A S A^T), least at S^-1."""
    covariance = jnp.array([[2.0, 0.5], [0.5, 1.0]])
    root = jnp.linalg.cholesky(covariance)
    # Points whose second moments are exactly the covariance.
    xs = jnp.sqrt(2.0) * jnp.concatenate([root.T, -root.T])

    def objective(precision):
        lin = jacreg.linearize(lambda x: -x @ precision.T, xs)
        return jnp.mean(losses.implicit_score_matching(lin))

    precision = jnp.linalg.inv(covariance)
    np.testing.assert_allclose(objective(precision), -0.5 * jnp.trace(precision), rtol=1e-10)
    np.testing.assert_allclose(jax.grad(objective)(precision), np.zeros((2, 2)), atol=1e-10)
    assert objective(precision + 0.1 * jnp.eye(2)) > objective(precision)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("variance_reduced", [True, False])
def test_sliced_over_all_sign_vectors_is_implicit(variance_reduced):
    params, xs, _, scores = setting()
    lin = jacreg.linearize(lambda x: mlp(params, x), xs)
    slices = jnp.asarray(sign_vectors((4,)))
    values = [sliced_terms(lin, jnp.broadcast_to(s, xs.shape), variance_reduced) for s in slices]
    mean = np.mean(values, axis=0)
    if variance_reduced:
        mean = mean + 0.5 * np.sum(scores**2, axis=1)
    np.testing.assert_allclose(mean, losses.implicit_score_matching(lin), rtol=1e-10)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("distribution", ["rademacher", "gaussian", "sphere"])
@pytest.mark.parametrize("variance_reduced", [True, False])
def test_sliced_is_the_formula_of_the_official_code(variance_reduced, distribution):
    params, xs, jacobians, scores = setting()
    key = jax.random.key(3)
    probes = np.asarray(draw(key, xs, distribution))
    curvature = np.einsum("bi,bij,bj->b", probes, jacobians, probes)
    norm = np.sum(scores**2, axis=1) if variance_reduced else np.sum(probes * scores, axis=1) ** 2
    values = sliced(variance_reduced, distribution)(params, xs, key)
    np.testing.assert_allclose(values, curvature + 0.5 * norm, rtol=1e-10)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("distribution", ["rademacher", "gaussian", "sphere"])
@pytest.mark.parametrize("variance_reduced", [True, False])
def test_sliced_is_unbiased(variance_reduced, distribution):
    params, xs, *_ = setting(d=3, n=1)

    @jax.jit
    def run(xs):
        def score(xs):
            return 3 + mlp(params, xs)

        values = losses.sliced_score_matching(
            jacreg.linearize(score, repeated(xs[0], 800_000)),
            variance_reduced=variance_reduced,
            key=KEY,
            distribution=distribution,
        )
        return values, losses.implicit_score_matching(jacreg.linearize(score, xs))[0]

    assert_unbiased(*run(xs))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("variance_reduced", [True, False])
def test_several_slices_are_averaged(variance_reduced):
    params, xs, *_ = setting()
    lin = jacreg.linearize(lambda x: mlp(params, x), xs)

    def value(key, num_probes):
        return losses.sliced_score_matching(
            lin, key=key, num_probes=num_probes, variance_reduced=variance_reduced
        )

    single = [value(k, 1) for k in jax.random.split(KEY, 3)]
    np.testing.assert_allclose(value(KEY, 3), np.mean(single, axis=0), rtol=1e-10)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("scale", [0.5, "each"])
def test_denoising_is_the_formula_of_the_paper(scale):
    params, xs, *_ = setting()
    key = jax.random.key(3)
    scale = np.linspace(0.1, 2.0, 5) if scale == "each" else scale
    noise = np.asarray(draw(key, xs, "gaussian"))
    column = np.broadcast_to(scale, (5,))[:, None]
    noisy = np.asarray(xs) + column * noise
    # Vincent: the target is grad log q(noisy | clean) = (clean - noisy) / scale^2.
    target = (np.asarray(xs) - noisy) / column**2
    expected = 0.5 * np.sum((np.asarray(mlp(params, noisy)) - target) ** 2, axis=1)
    values = losses.denoising_score_matching(lambda x: mlp(params, x), xs, scale=scale, key=key)
    np.testing.assert_allclose(values, expected, rtol=1e-9)
    traced = jax.jit(
        lambda s: losses.denoising_score_matching(lambda x: mlp(params, x), xs, scale=s, key=key)
    )
    np.testing.assert_allclose(traced(scale), expected, rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_the_smoothed_score_minimises_denoising():
    """Data at 0 smoothed by N(0, s^2) has the score -x / s^2, where the loss is exactly 0."""
    xs = jnp.zeros((50, 3))
    values = losses.denoising_score_matching(lambda x: -x / 0.7**2, xs, scale=0.7, key=KEY)
    np.testing.assert_allclose(values, np.zeros(50), atol=1e-20)


@pytest.mark.usefixtures("x64")
def test_denoising_has_the_mean_of_its_closed_form():
    """For s = -a x at x: 1/2 E|-a x + (1/s - a s) e|^2 = 1/2 (a^2 |x|^2 + d (1/s - a s)^2)."""
    a, scale, x = 0.4, 0.8, jnp.array([1.0, -2.0])
    values = losses.denoising_score_matching(
        lambda x: -a * x, repeated(x, 300_000), scale=scale, key=KEY
    )
    assert_unbiased(values, 0.5 * (a**2 * 5 + 2 * (1 / scale - a * scale) ** 2))


@pytest.mark.usefixtures("x64")
def test_finite_differences_of_a_linear_score_over_a_frame_are_implicit_score_matching():
    """Exact at any step: the slope is exact and the mean of both ends is the middle."""
    kernel = batch(KEY, (4, 4))
    xs = batch(jax.random.key(1), (5, 4))
    frame = jnp.linalg.qr(batch(jax.random.key(2), (4, 4)))[0] * 2.0
    scale = jnp.asarray(0.7)
    values = [
        finite_difference_terms(
            "test", lambda x: x @ kernel, xs, jnp.broadcast_to(v, xs.shape), scale
        )
        for v in frame
    ]
    lin = jacreg.linearize(lambda x: x @ kernel, xs)
    np.testing.assert_allclose(
        np.mean(values, axis=0), losses.implicit_score_matching(lin), rtol=1e-10
    )


@pytest.mark.usefixtures("x64")
def test_finite_differences_are_the_formula_of_the_official_code():
    """Perturbations v of length eps: d / (2 eps^2) v.(s+ - s-) + |s+ + s-|^2 / 8."""
    params, xs, *_ = setting()
    key, scale = jax.random.key(3), 0.2
    eps = scale * np.sqrt(4)
    v = np.asarray(draw(key, xs, "sphere"))
    v = v / np.linalg.norm(v, axis=1, keepdims=True) * eps
    ahead, behind = (np.asarray(mlp(params, np.asarray(xs) + s * v)) for s in (1, -1))
    official = np.sum((ahead + behind) ** 2, axis=1) / 8 + np.sum(
        (ahead - behind) * v, axis=1
    ) * 4 / (2 * eps**2)
    values = losses.finite_difference_score_matching(
        lambda x: mlp(params, x), xs, scale=scale, key=key
    )
    np.testing.assert_allclose(values, official, rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_finite_differences_tend_to_the_sliced_loss():
    params, xs, *_ = setting()
    lin = jacreg.linearize(lambda x: mlp(params, x), xs)
    sliced = losses.sliced_score_matching(lin, key=KEY, distribution="sphere")
    errors = [
        jnp.max(
            jnp.abs(
                losses.finite_difference_score_matching(
                    lambda x: mlp(params, x), xs, scale=scale, key=KEY
                )
                - sliced
            )
        )
        for scale in (0.02, 0.01)
    ]
    assert errors[1] < 1e-3
    np.testing.assert_allclose(errors[0] / errors[1], 4, rtol=0.05)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["implicit", "sliced", "slice", "denoising", "difference"])
def test_gradients(name):
    xs = batch(jax.random.key(1), (3, 3))

    def loss(params):
        def score(x):
            return mlp(params, x)

        if name == "denoising":
            values = losses.denoising_score_matching(score, xs, scale=0.5, key=KEY)
        elif name == "difference":
            values = losses.finite_difference_score_matching(score, xs, scale=0.5, key=KEY)
        else:
            lin = jacreg.linearize(score, xs)
            values = (
                losses.implicit_score_matching(lin)
                if name == "implicit"
                else losses.sliced_score_matching(lin, key=KEY, variance_reduced=name == "sliced")
            )
        return jnp.mean(values)

    check_gradient(loss, mlp_params(KEY, [3, 3, 3]))


@pytest.mark.usefixtures("x64")
def test_images_and_trees():
    def score(tree):
        return {"a": -(tree["a"] ** 2), "b": tree["b"] * jnp.sum(tree["a"], axis=(1, 2))[:, None]}

    tree = {"a": batch(KEY, (3, 2, 2)), "b": batch(jax.random.key(1), (3, 2))}
    a, b = np.asarray(tree["a"]), np.asarray(tree["b"])
    total = a.sum(axis=(1, 2))
    trace = -2 * total + 2 * total
    norm = (a**4).sum(axis=(1, 2)) + (b**2).sum(axis=1) * total**2
    truth = trace + 0.5 * norm

    @jax.jit
    def run(tree):
        lin = jacreg.linearize(score, tree)
        return (
            losses.implicit_score_matching(lin),
            losses.sliced_score_matching(lin, key=KEY),
            losses.denoising_score_matching(score, tree, scale=0.1, key=KEY),
            losses.finite_difference_score_matching(score, tree, scale=0.1, key=KEY),
        )

    found, *others = run(tree)
    np.testing.assert_allclose(found, truth, rtol=1e-10)
    assert all(values.shape == (3,) for values in others)


def test_a_score_with_reverse_mode_only():
    @jax.custom_vjp
    def score(x):
        return jnp.sin(x)

    score.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),))
    xs = batch(KEY, (3, 4))
    lin, plain = jacreg.linearize(score, xs), jacreg.linearize(jnp.sin, xs)
    for loss in (
        losses.implicit_score_matching,
        lambda lin: losses.sliced_score_matching(lin, key=KEY),
    ):
        np.testing.assert_allclose(loss(lin), loss(plain), rtol=1e-5)


WIDER = jnp.ones((3, 4))


@pytest.mark.parametrize("loss", [losses.implicit_score_matching, losses.sliced_score_matching])
def test_bad_scores(loss):
    kwargs = {} if loss is losses.implicit_score_matching else {"key": KEY}
    with pytest.raises(ValueError, match=r"shape of xs, \(2, 3\), got \(2, 4\)"):
        loss(jacreg.linearize(lambda x: x @ WIDER, jnp.ones((2, 3))), **kwargs)
    with pytest.raises(TypeError, match="must be a Linearization, got function"):
        loss(lambda x: x, **kwargs)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"num_probes": 0}, ValueError, "at least 1"),
        ({"key": None}, ValueError, "needs a key"),
        ({"distribution": "uniform"}, ValueError, "distribution must be one of"),
    ],
)
def test_bad_input_of_sliced(change, error, message):
    lin = jacreg.linearize(jnp.sin, jnp.ones((2, 3)))
    with pytest.raises(error, match=message):
        losses.sliced_score_matching(lin, **({"key": KEY} | change))


@pytest.mark.parametrize(
    "loss", [losses.denoising_score_matching, losses.finite_difference_score_matching]
)
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"scale": -1.0}, ValueError, "positive and finite"),
        ({"scale": 0.0}, ValueError, "positive and finite"),
        ({"scale": float("nan")}, ValueError, "positive and finite"),
        ({"scale": jnp.ones((2, 1))}, ValueError, r"a scalar or shape \(2,\)"),
        ({"key": None}, ValueError, "needs a key"),
        ({"xs": jnp.ones((2, 3), int)}, TypeError, "floating point"),
        ({"score": lambda x: x @ WIDER}, ValueError, r"\(2, 3\), got \(2, 4\)"),
        ({"score": lambda x: x[:1]}, ValueError, r"\(2, 3\), got \(1, 3\)"),
        ({"score": lambda x: {"a": x}}, ValueError, "shape of xs"),
    ],
)
def test_bad_input_of_noisy_losses(loss, change, error, message):
    good = {"score": jnp.sin, "xs": jnp.ones((2, 3)), "scale": 0.5, "key": KEY} | change
    score, xs = good.pop("score"), good.pop("xs")
    with pytest.raises(error, match=message):
        loss(score, xs, **good)
