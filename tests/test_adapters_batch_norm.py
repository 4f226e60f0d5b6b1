"""The three meanings of "the Jacobian of example n" under BatchNorm, named in every framework."""

import adapter_nets as nets
import jax
import numpy as np
import pytest

import jacreg

N, DRAWS = 3, 4000
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def meanings():
    """`[N, out, in]` with running statistics, `[N, out, N, in]` of the whole batch: plain JAX."""
    with jax.enable_x64(True):
        w, stats, xs = nets.weights(), nets.running(), nets.images(N)

        def full(batch):
            fn = jax.jit(jax.jacrev(lambda x: nets.reference(w, stats, x, batch=batch)[0]))
            return np.asarray(fn(xs)).reshape(N, nets.CLASSES, N, -1)

        running, coupled = full(False), full(True)
    return np.einsum("nonj->noj", running), coupled


@pytest.mark.parametrize("framework", nets.FRAMEWORKS)
def test_three_meanings(framework, meanings, x64):
    net, xs = nets.build(framework), nets.images(N)
    running, whole = meanings

    # Running statistics: the Jacobian of evaluation, example by example.
    evaluation = net.function(statistics="running")
    found = jax.jit(lambda x: jacreg.jacobian(jacreg.linearize(evaluation, x)))(xs)
    np.testing.assert_allclose(np.asarray(found).reshape(running.shape), running, atol=1e-10)

    training = net.function(statistics="batch")
    assert jacreg.rows_independent(evaluation, xs)
    assert not jacreg.rows_independent(training, xs)
    lin = jax.jit(lambda x: jacreg.linearize(training, x))(xs)

    @jax.jit
    def draws(key):
        methods = (jacreg.CoupledBatch(), jacreg.Projection(distribution="rademacher"))
        return jax.lax.map(
            lambda k: [jacreg.frobenius_squared(lin, m, key=k) for m in methods],
            jax.random.split(key, DRAWS),
            batch_size=200,
        )

    blocks = np.einsum("nonj->noj", whole)
    block_norms = (blocks**2).sum((1, 2))
    # d y_m / d x_n over all m: what a projection of the whole batch estimates.
    whole_norms = (whole**2).sum((0, 1, 3))
    ours, naive = (np.asarray(s) for s in draws(KEY))
    sem, naive_sem = (s.std(0) / DRAWS**0.5 for s in (ours, naive))
    assert (5 * sem <= 0.1 * block_norms).all(), "the test could not see an error"
    assert (np.abs(ours.mean(0) - block_norms) <= 5 * sem).all()
    assert (np.abs(naive.mean(0) - whole_norms) <= 5 * naive_sem).all()
    assert (np.abs(naive.mean(0) - block_norms) >= 5 * naive_sem).all()
    # The three are three.
    running_norms = (running**2).sum((1, 2))
    assert (np.abs(ours.mean(0) - running_norms) >= 5 * sem).all()
