"""`functional` of the three adapters: pure, trainable, checkpointable, and back again."""

import adapter_nets as nets
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jacreg

each_framework = pytest.mark.parametrize("framework", nets.FRAMEWORKS)


def build(framework, **options):
    return nets.build(framework, np.float32, **options)


def images(num=6):
    return nets.images(num, np.float32)


@each_framework
def test_evaluation_is_deterministic_and_leaves_the_state(framework):
    net, xs = build(framework), images()
    functional = net.functional()
    params, state, apply = functional
    ys, new_state = jax.jit(apply)(params, state, xs)
    with_key, _ = apply(params, state, xs, key=jax.random.key(0))
    np.testing.assert_allclose(with_key, ys, rtol=1e-5, atol=1e-5)
    expected = nets.reference(nets.weights(np.float32), nets.running(np.float32), xs)[0]
    np.testing.assert_allclose(ys, expected, rtol=1e-4, atol=1e-5)
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(new_state), strict=True):
        np.testing.assert_array_equal(old, new)


@each_framework
def test_training_normalises_by_the_batch_and_updates(framework):
    net, xs = build(framework, rate=0.0), images()
    params, state, apply = net.functional()
    ys, new_state = apply(params, state, xs, train=True)  # no active dropout: no key needed
    expected, stats = nets.reference(
        nets.weights(np.float32), nets.running(np.float32), xs, batch=True
    )
    np.testing.assert_allclose(ys, expected, rtol=1e-4, atol=1e-5)
    for got, want in zip(nets.as_statistics(framework, new_state), stats, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@each_framework
def test_batch_statistics_without_training(framework):
    net, xs = build(framework), images()
    params, state, apply = net.functional(statistics="batch")
    ys, new_state = apply(params, state, xs)
    expected, stats = nets.reference(
        nets.weights(np.float32), nets.running(np.float32), xs, batch=True
    )
    np.testing.assert_allclose(ys, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(nets.as_statistics(framework, new_state)[0], stats[0], rtol=1e-5)


@each_framework
def test_training_with_dropout_needs_a_key(framework):
    net, xs = build(framework), images()
    params, state, apply = net.functional()
    with pytest.raises(ValueError, match=r"dropout is active.*no key"):
        apply(params, state, xs, train=True)
    with pytest.raises(TypeError, match="key must be one PRNG key"):
        apply(params, state, xs, train=True, key=1)
    first, again, other, old_style = (
        apply(params, state, xs, train=True, key=key)[0]
        for key in (jax.random.key(0), jax.random.key(0), jax.random.key(1), jax.random.PRNGKey(0))
    )
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, old_style)
    assert (jnp.abs(first - other).max(axis=1) > 1e-4).all()


@each_framework
def test_a_fixed_mask_is_that_of_function(framework):
    net, xs = build(framework), images()
    key = jax.random.key(7)
    params, state, apply = net.functional(dropout_key=key)
    fixed, _ = apply(params, state, xs, key=jax.random.key(8))
    np.testing.assert_allclose(fixed, net.function(dropout_key=key)(xs), rtol=1e-5, atol=1e-6)
    fallback, _ = apply(params, state, xs, train=True)
    stepped, _ = apply(params, state, xs, train=True, key=key)
    np.testing.assert_array_equal(fallback, stepped)


@each_framework
def test_params_are_the_trainable_arrays_and_nothing_holds_a_key(framework):
    params, state, _ = build(framework).functional()
    names = nets.as_weights(framework, params)
    assert len(jax.tree.leaves(params)) == len(names) == 6
    for name, value in nets.weights(np.float32).items():
        np.testing.assert_array_equal(names[name], value)
    assert len(jax.tree.leaves(state)) == (3 if framework == "equinox" else 2)
    for leaf in jax.tree.leaves((params, state)):
        assert np.asarray(leaf).dtype in (np.float32, np.int32)


@each_framework
def test_a_step_with_optax_compiles_once_and_learns(framework):
    net, xs = build(framework), images(8)
    labels = jnp.arange(8) % nets.CLASSES
    params, state, apply = net.functional()
    optimizer = optax.adam(3e-2)
    traces = []

    @jax.jit
    def step(params, state, opt_state, key):
        traces.append(1)

        def loss(params):
            ys, new_state = apply(params, state, xs, train=True, key=key)
            lin = jacreg.linearize(lambda x: apply(params, state, x)[0], xs)
            penalty = jacreg.losses.jacobian_penalty(lin, key=key).mean()
            task = optax.softmax_cross_entropy_with_integer_labels(ys, labels).mean()
            return task + 1e-3 * penalty, (new_state, task)

        grads, (new_state, task) = jax.grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), new_state, opt_state, task

    params = jax.tree.map(jnp.copy, params)
    opt_state = optimizer.init(params)
    tasks = []
    for number in range(30):
        key = jax.random.fold_in(jax.random.key(0), number)
        params, state, opt_state, task = step(params, state, opt_state, key)
        tasks.append(float(task))
    assert len(traces) == 1
    assert np.mean(tasks[-5:]) < 0.5 * tasks[0]
    mean, _ = nets.as_statistics(framework, state)
    assert np.abs(mean - nets.running(np.float32)[0]).max() > 0.1


@each_framework
def test_merge_gives_the_model_back(framework):
    net, xs = build(framework), images()
    functional = net.functional()
    params = jax.tree.map(lambda p: 2 * p, functional.params)
    _, state = functional.apply(params, functional.state, xs, train=True, key=jax.random.key(0))
    expected, _ = functional.apply(params, state, xs)
    merged = functional.merge(params, state)
    if framework == "nnx":
        rebuilt = nets.Net(net.adapter, (merged,))
    elif framework == "linen":
        rebuilt = nets.Net(net.adapter, (net.parts[0], merged))
    else:
        rebuilt = nets.Net(net.adapter, merged)
    assert type(rebuilt.parts[0]) is type(net.parts[0])
    np.testing.assert_allclose(rebuilt.function()(xs), expected, rtol=1e-5, atol=1e-5)


@each_framework
def test_checkpoint_round_trip(framework, tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint")
    params, state, apply = build(framework).functional()
    opt_state = optax.adam(1e-3).init(params)
    saved = {"params": params, "state": state, "optimizer": opt_state}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "step", saved)
        checkpointer.wait_until_finished()
        blank = jax.tree.map(jnp.zeros_like, saved)
        restored = checkpointer.restore(tmp_path / "step", blank)
    assert jax.tree.structure(restored) == jax.tree.structure(saved)
    for new, old in zip(jax.tree.leaves(restored), jax.tree.leaves(saved), strict=True):
        assert (new.dtype, new.weak_type) == (old.dtype, old.weak_type)
        np.testing.assert_array_equal(new, old)
    ys, _ = apply(restored["params"], restored["state"], images())
    np.testing.assert_array_equal(ys, apply(params, state, images())[0])


@each_framework
def test_further_arguments_reach_the_model(framework):
    from flax import linen as nn
    from flax import nnx

    times, xs = jnp.arange(4.0), jnp.ones((4, 3))
    key = jax.random.key(0)
    if framework == "nnx":

        class Timed(nnx.Module):
            def __init__(self):
                self.linear = nnx.Linear(3, 2, rngs=nnx.Rngs(0))

            def __call__(self, xs, train, ts, scale=1.0):
                return self.linear(xs) * ts[:, None] * scale

        net = nets.Net(nets.jacreg.nnx, (Timed(),))
    elif framework == "linen":

        class Timed(nn.Module):
            @nn.compact
            def __call__(self, xs, train, ts, scale=1.0):
                return nn.Dense(2)(xs) * ts[:, None] * scale

        net = nets.Net(nets.jacreg.linen, (Timed(), Timed().init(key, xs, False, times)))
    else:
        import equinox as eqx

        class Timed(eqx.Module):
            linear: eqx.nn.Linear

            def __call__(self, x, inference, t, scale=1.0):
                return self.linear(x) * t * scale

        net = nets.Net(nets.jacreg.eqx, (Timed(eqx.nn.Linear(3, 2, key=key)),))
    plain = net.function()(xs, times)
    np.testing.assert_allclose(plain[2], 2 * plain[1], rtol=1e-6)
    np.testing.assert_allclose(plain[0], 0)
    lin = jacreg.linearize(net.function(), xs, times, 3.0)
    np.testing.assert_allclose(lin.value, 3 * plain, rtol=1e-6)
    params, state, apply = net.functional()
    np.testing.assert_allclose(apply(params, state, xs, times, 3.0)[0], 3 * plain, rtol=1e-6)
