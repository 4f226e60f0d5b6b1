"""Estimators are exact on average: over all signs, over orthonormal frames, then by sampling."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jacreg
from jacreg import _frobenius, _trace
from jacreg._probes import draw, sample_probes

N, IN, OUT = 3, 5, 4
A = np.random.default_rng(0).normal(size=(IN, OUT))
B = np.random.default_rng(1).normal(size=(IN, IN))


def rectangular(xs):
    return jnp.tanh(xs @ jnp.asarray(A))


def square(xs):
    return jnp.tanh(xs @ jnp.asarray(B))


def batch():
    return jnp.asarray(np.random.default_rng(2).normal(size=(N, IN)))


def dense(fn):
    return np.asarray(jax.jit(jax.vmap(jax.jacobian(lambda x: fn(x[None])[0])))(batch()))


def plant(monkeypatch, module, probes):
    """Make the module's `draw` hand out the given probes, one call after the other."""
    queue = iter(probes)
    monkeypatch.setattr(module, "draw", lambda key, like, distribution: next(queue))


def all_signs(size):
    return [jnp.broadcast_to(jnp.asarray(s), (N, size)) for s in product((-1.0, 1.0), repeat=size)]


def frame(size):
    q, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(size, size)))
    return [jnp.broadcast_to(jnp.asarray(row), (N, size)) * size**0.5 for row in q]


@pytest.mark.parametrize(("mode", "size"), [("reverse", OUT), ("forward", IN)])
@pytest.mark.parametrize("probes", [all_signs, frame])
def test_projection(mode, size, probes, x64, monkeypatch):
    lin = jacreg.linearize(rectangular, batch())
    vectors = probes(size)
    plant(monkeypatch, _frobenius, vectors)
    method = jacreg.Projection(mode=mode)
    key = jax.random.key(0)
    values = [jacreg.frobenius_squared(lin, method, key=key) for _ in vectors]
    np.testing.assert_allclose(
        np.mean(values, 0), (dense(rectangular) ** 2).sum((1, 2)), rtol=1e-12
    )


@pytest.mark.parametrize("probes", [all_signs, frame])
def test_hutchinson(probes, x64, monkeypatch):
    lin = jacreg.linearize(square, batch())
    vectors = probes(IN)
    diagonal = np.diagonal(dense(square), axis1=1, axis2=2)
    key = jax.random.key(0)
    plant(monkeypatch, _trace, vectors)
    traces = [jacreg.divergence(lin, jacreg.Hutchinson(), key=key) for _ in vectors]
    np.testing.assert_allclose(np.mean(traces, 0), diagonal.sum(1), rtol=1e-12)
    plant(monkeypatch, _trace, vectors)
    entries = [jacreg.diagonal(lin, jacreg.Hutchinson(), key=key) for _ in vectors]
    np.testing.assert_allclose(np.mean(entries, 0), diagonal, rtol=1e-11, atol=1e-13)


def test_noise_injection_of_a_linear_map_is_the_forward_projection(x64, monkeypatch):
    lin = jacreg.linearize(lambda xs: xs @ jnp.asarray(A), batch())
    vectors = frame(IN)
    plant(monkeypatch, _frobenius, vectors)
    values = [
        jacreg.frobenius_squared(lin, jacreg.NoiseInjection(0.1), key=jax.random.key(0))
        for _ in vectors
    ]
    np.testing.assert_allclose(np.mean(values, 0), (A**2).sum(), rtol=1e-10)


def test_noise_injection_keeps_what_the_function_closed_over(x64):
    """The dropout mask of the extra call is the mask of the shared pass."""
    mask = jnp.asarray(np.random.default_rng(5).integers(0, 2, size=(N, OUT)), float)
    lin = jacreg.linearize(lambda xs: (xs @ jnp.asarray(A)) * mask, batch())
    noise = jacreg.frobenius_squared(lin, jacreg.NoiseInjection(1e-3, 4000), key=jax.random.key(0))
    truth = np.einsum("ij,nj->n", A**2, np.asarray(mask))
    np.testing.assert_allclose(noise, truth, rtol=0.1)


def coupled(xs):
    """Every row sees every other, as under train-mode BatchNorm."""
    return jnp.tanh((xs - xs.mean(0)) / jnp.sqrt(0.1 + xs.var(0)) @ jnp.asarray(A))


def test_coupled_batch_is_exact_over_all_signs(x64, monkeypatch):
    """The mean over every pair of sign draws and a frame of probes is the blocks' norm."""
    full = np.asarray(jax.jit(jax.jacobian(coupled))(batch()))
    truth = np.stack([(full[n, :, n] ** 2).sum() for n in range(N)])
    signs = jnp.array(list(product((-1, 1), repeat=N)))
    frames = jnp.stack(frame(OUT))
    probes, first, second = (
        i.reshape(-1) for i in np.meshgrid(*map(np.arange, (OUT, len(signs), len(signs))))
    )

    @jax.jit
    def estimates(xs):
        lin = jacreg.linearize(coupled, xs)

        def estimate(probe, s, t):
            draws = iter([signs[s], signs[t]])
            monkeypatch.setattr(_frobenius, "draw", lambda *_: frames[probe])
            monkeypatch.setattr(jax.random, "rademacher", lambda *_: next(draws))
            return jacreg.frobenius_squared(lin, jacreg.CoupledBatch(), key=jax.random.key(0))

        return jax.vmap(estimate)(probes, first, second)

    found = np.asarray(estimates(batch()))
    np.testing.assert_allclose(found.mean(0), truth, rtol=1e-11)
    # Equal signs in both leave the other examples in: what the second draw is for.
    same = first == second
    assert (np.abs(found[same].mean(0) - truth) > 0.01 * truth).all()


def test_coupled_batch_draws_and_the_naive_projection_misses(x64):
    """40,000 draws: CoupledBatch within five standard errors, the projection outside."""
    full = np.asarray(jax.jit(jax.jacobian(coupled))(batch()))
    truth = np.stack([(full[n, :, n] ** 2).sum() for n in range(N)])
    keys = jax.random.split(jax.random.key(0), 40_000)

    @jax.jit
    def samples(method_keys, xs):
        lin = jacreg.linearize(coupled, xs)

        def one(key):
            return (
                jacreg.frobenius_squared(lin, jacreg.CoupledBatch(), key=key),
                jacreg.frobenius_squared(lin, jacreg.Projection(), key=key),
            )

        return jax.lax.map(one, method_keys, batch_size=1000)

    ours, naive = (np.asarray(s) for s in samples(keys, batch()))
    sem = ours.std(0) / np.sqrt(len(keys))
    mean_sem = ours.mean(1).std() / np.sqrt(len(keys))
    assert 5 * mean_sem <= 0.05 * truth.mean(), "the test could not see an error"
    assert abs(ours.mean() - truth.mean()) <= 5 * mean_sem
    assert (np.abs(ours.mean(0) - truth) <= 5 * sem).all()
    naive_sem = naive.std(0) / np.sqrt(len(keys))
    assert (np.abs(naive.mean(0) - truth) >= 5 * naive_sem).any()
    assert abs(naive.mean() - truth.mean()) >= 5 * naive.mean(1).std() / np.sqrt(len(keys))


METHODS = {
    "sphere": (jacreg.Projection(), rectangular),
    "gaussian": (jacreg.Projection(distribution="gaussian"), rectangular),
    "signs": (jacreg.Projection(distribution="rademacher"), rectangular),
    "forward": (jacreg.Projection(mode="forward"), rectangular),
    "coupled": (jacreg.CoupledBatch(), rectangular),
}


@pytest.mark.parametrize("name", METHODS)
def test_sampled_norms_have_the_right_mean(name, x64):
    method, fn = METHODS[name]
    lin = jacreg.linearize(fn, batch())
    truth = (dense(fn) ** 2).sum((1, 2))
    count = 200_000
    samples = np.asarray(jax.jit(lambda key: jax.vmap(
        lambda k: jacreg.frobenius_squared(lin, method, key=k))(jax.random.split(key, count))
    )(jax.random.key(1)))  # fmt: skip
    sem = samples.std(0) / count**0.5
    assert (5 * sem <= 0.02 * truth).all(), "the test could not see an error"
    assert (np.abs(samples.mean(0) - truth) <= 5 * sem).all()


def test_variance_of_the_distributions_is_the_papers(x64):
    """2C/(C+2) tr A^2 - 2/(C+2) (tr A)^2, 2 tr A^2, 2 (tr A^2 - sum A_ii^2)."""
    lin = jacreg.linearize(rectangular, batch())
    blocks = dense(rectangular)
    a = blocks @ blocks.transpose(0, 2, 1)
    trace, square_trace = np.trace(a, axis1=1, axis2=2), (a**2).sum((1, 2))
    entries = (np.diagonal(a, axis1=1, axis2=2) ** 2).sum(1)
    expected = {
        "sphere": 2 * OUT / (OUT + 2) * square_trace - 2 / (OUT + 2) * trace**2,
        "gaussian": 2 * square_trace,
        "rademacher": 2 * (square_trace - entries),
    }
    keys = jax.random.split(jax.random.key(2), 200_000)
    for distribution, variance in expected.items():
        method = jacreg.Projection(distribution=distribution)
        samples = jax.jit(jax.vmap(lambda k, m=method: jacreg.frobenius_squared(lin, m, key=k)))(
            keys
        )
        np.testing.assert_allclose(np.var(np.asarray(samples), 0), variance, rtol=0.05)


@pytest.mark.parametrize("distribution", ["sphere", "gaussian", "rademacher"])
def test_probes_have_identity_covariance(distribution, x64):
    like = {"a": jnp.zeros((2, 2)), "b": jnp.zeros((2,))}
    probes = sample_probes(lambda k: draw(k, like, distribution), jax.random.key(0), 100_000)
    flat = np.concatenate([probes["a"][:, 0], probes["b"][:, :1]], axis=1)
    np.testing.assert_allclose(flat.T @ flat / len(flat), np.eye(3), atol=0.03)
    if distribution == "sphere":
        np.testing.assert_allclose((flat**2).sum(1), 3, rtol=1e-12)
    assert (probes["a"][:, 0] != probes["a"][:, 1]).any(), "each example has its own"


def test_more_probes_are_the_mean_over_their_keys(x64):
    key = jax.random.key(0)

    @jax.jit
    def run(xs):
        norm, lin = jacreg.frobenius_squared, jacreg.linearize(rectangular, xs)
        singles = [norm(lin, jacreg.Projection(), key=k) for k in jax.random.split(key, 3)]
        return norm(lin, jacreg.Projection(3), key=key), singles

    together, singles = run(batch())
    np.testing.assert_allclose(together, np.mean(singles, 0))


def test_gradients_of_penalties_are_central_differences(x64):
    def penalty(scale, method):
        lin = jacreg.linearize(lambda xs: jnp.tanh(xs @ (scale * jnp.asarray(A))), batch())
        return jacreg.losses.jacobian_penalty(lin, method, key=jax.random.key(0)).mean()

    run = jax.jit(jax.value_and_grad(penalty), static_argnums=1)
    for method in (jacreg.Exact(), jacreg.Exact(1), jacreg.Projection(), jacreg.Projection(2),
                   jacreg.Projection(mode="forward"), jacreg.NoiseInjection(0.1),
                   jacreg.CoupledBatch()):  # fmt: skip
        step = 1e-5
        central = (run(1 + step, method)[0] - run(1 - step, method)[0]) / (2 * step)
        np.testing.assert_allclose(run(1.0, method)[1], central, rtol=1e-7)
    check_grads(jax.jit(lambda s: penalty(s, jacreg.Exact())), (1.0,), order=2, rtol=1e-6)


@pytest.mark.parametrize(
    ("outputs", "mode", "used"),
    [(2, "both", "vjp"), (9, "both", "jvp"), (IN, "both", "jvp"), (9, "reverse", "vjp"),
     (2, "forward", "jvp")],
)  # fmt: skip
def test_dense_quantities_take_the_cheaper_direction(outputs, mode, used, monkeypatch):
    """On a tie a Jacobian takes rows, which come in its own order, a norm columns."""
    taken = set()
    for name in ("jvp", "vjp"):
        original = getattr(jacreg.Linearization, name)
        monkeypatch.setattr(
            jacreg.Linearization,
            name,
            lambda lin, v, name=name, original=original: (taken.add(name), original(lin, v))[1],
        )
    lin = jacreg.linearize(lambda xs: xs @ jnp.ones((IN, outputs)), batch(), mode=mode)
    jacreg.frobenius_squared(lin, jacreg.Exact())
    assert taken == {used}
    taken.clear()
    jacreg.jacobian(lin)
    assert taken == {"vjp" if outputs == IN else used}


def test_pseudo_determinant(x64):
    def found(fn):
        return jax.jit(lambda xs: jacreg.log_pseudo_determinant(jacreg.linearize(fn, xs)))(batch())

    wide, tall = dense(rectangular), dense(square)
    np.testing.assert_allclose(
        found(rectangular), 0.5 * np.linalg.slogdet(wide @ wide.transpose(0, 2, 1))[1], rtol=1e-10
    )
    np.testing.assert_allclose(found(square), np.linalg.slogdet(tall)[1], rtol=1e-10)
    twice = found(lambda xs: jnp.stack([xs[:, 0], xs[:, 0] * 2], 1))
    np.testing.assert_array_equal(twice, -np.inf)
    # Of rank two but for rounding, which alone would give a finite logarithm.
    thin = A[:, :2] @ B[:2, :4]
    assert np.linalg.svd(thin, compute_uv=False)[-1] > 0
    np.testing.assert_array_equal(found(lambda xs: xs @ jnp.asarray(thin)), -np.inf)
    assert jnp.isnan(found(lambda xs: xs @ jnp.asarray(A) * jnp.nan)).all()


def test_pseudo_determinant_has_no_gradient_where_the_rank_is_deficient(x64):
    used = jnp.arange(N) > 0

    @jax.jit
    @jax.grad
    def slope(scale):
        lin = jacreg.linearize(lambda xs: scale * xs * used[:, None], batch())
        return jnp.sum(jnp.where(used, jacreg.log_pseudo_determinant(lin), 0.0))

    np.testing.assert_allclose(slope(2.0), (N - 1) * IN / 2.0)


@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (8, 8), (10, 3072)])
def test_pseudo_determinant_of_ill_conditioned_maps_in_float32(shape):
    rng = np.random.default_rng(0)
    left, _ = np.linalg.qr(rng.normal(size=(shape[0], shape[0])))
    right, _ = np.linalg.qr(rng.normal(size=(shape[1], min(shape))))
    values = np.logspace(0, -4.5, min(shape))
    matrix = left[:, : len(values)] * values @ right.T
    transposed = matrix.T.astype(np.float32)

    @jax.jit
    def found(transposed):
        lin = jacreg.linearize(lambda xs: xs @ transposed, jnp.ones((2, shape[1])))
        return jacreg.log_pseudo_determinant(lin)

    np.testing.assert_allclose(found(transposed), np.log(values).sum(), rtol=1e-3)
