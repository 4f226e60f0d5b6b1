"""Particular to nnx: grad and jit keep the link, flags passed on, random streams."""

import adapter_nets as nets
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.errors import TraceContextError

import jacreg
import jacreg.nnx

XS = nets.images(6, np.float32)
KEY = jax.random.key(0)


def module(rate=0.5):
    return nets.build("nnx", np.float32, rate).parts[0]


def loss(model, **options):
    fn = jacreg.nnx.function(model, return_state=True, **options)
    lin = jacreg.linearize(fn, XS, has_aux=True)
    penalty = jacreg.losses.jacobian_penalty(lin, key=KEY).mean()
    return (lin.value**2).mean() + penalty, lin.aux


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dropout_key": KEY},
        {"statistics": "batch"},
        {"statistics": "batch", "dropout_key": KEY},
    ],
)
def test_nnx_grad_reaches_the_parameters(options):
    model = module()
    functional = jacreg.nnx.functional(model, **options)

    def pure(params):
        fn = lambda x: functional.apply(params, functional.state, x)[0]  # noqa: E731
        lin = jacreg.linearize(fn, XS)
        return (lin.value**2).mean() + jacreg.losses.jacobian_penalty(lin, key=KEY).mean()

    value, expected = jax.jit(jax.value_and_grad(pure))(functional.params)
    (got, _), grads = nnx.jit(nnx.value_and_grad(lambda m: loss(m, **options), has_aux=True))(model)
    np.testing.assert_allclose(got, value, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(grads["dense"]))


def test_new_statistics_are_written_inside_and_outside_of_grad():
    expected = nets.reference(nets.weights(np.float32), nets.running(np.float32), XS, batch=True)[1]

    def inside(model):
        value, state = loss(model, statistics="batch", dropout_key=KEY)
        nnx.update(model, state)
        return value

    first, second = module(), module()
    nnx.jit(nnx.grad(inside))(first)
    _, state = nnx.jit(
        nnx.grad(lambda m: loss(m, statistics="batch", dropout_key=KEY), has_aux=True)
    )(second)
    np.testing.assert_array_equal(second.norm.mean[...], nets.running(np.float32)[0])
    nnx.update(second, state)
    for model in (first, second):
        np.testing.assert_allclose(model.norm.mean[...], expected[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(model.norm.var[...], expected[1], rtol=1e-5, atol=1e-6)
        assert type(model.norm) is nnx.BatchNorm
        assert model.dropout.rngs.count[...] == 0


def test_the_plain_module_would_have_failed():
    """Why there is an adapter: nnx refuses to update statistics under a linearization."""
    model = module()
    with pytest.raises(TraceContextError):
        jacreg.linearize(model, XS)


def test_the_modules_own_mode_does_not_matter():
    training, evaluating = module(), module()
    training.train()
    evaluating.eval()
    for options in ({}, {"statistics": "batch"}, {"dropout_key": KEY}):
        a, b = (jacreg.nnx.function(m, **options)(XS) for m in (training, evaluating))
        np.testing.assert_array_equal(a, b)
    assert training.norm.use_running_average is False
    assert evaluating.norm.use_running_average is True
    assert evaluating.dropout.deterministic is True


def test_function_reads_the_module_when_it_is_called():
    model = module()
    fn = jacreg.nnx.function(model)
    before = fn(XS)
    model.dense.bias[...] = model.dense.bias[...] + 1
    np.testing.assert_allclose(fn(XS), before + 1, rtol=1e-5, atol=1e-5)


class CallFlags(nnx.Module):
    """One flag for everything, passed on, as in code that came from linen."""

    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(2, rngs=rngs)
        self.dropout = nnx.Dropout(0.5)

    def __call__(self, xs, train: bool, *, rngs: nnx.Rngs | None = None):
        xs = self.norm(xs, use_running_average=not train)
        return self.dropout(xs, deterministic=not train, rngs=rngs)


def test_flags_passed_at_call_time_are_overruled():
    model, xs = CallFlags(nnx.Rngs(0)), jax.random.normal(KEY, (64, 2)) + 3
    running = jacreg.nnx.function(model)(xs)
    np.testing.assert_allclose(running, xs / np.sqrt(1 + 1e-5), rtol=1e-6)
    batch = jacreg.nnx.function(model, statistics="batch")(xs)
    np.testing.assert_allclose(batch.mean(0), 0, atol=1e-5)
    masked = jacreg.nnx.function(model, dropout_key=KEY)(xs)
    kept = masked != 0
    np.testing.assert_allclose(masked[kept], 2 * running[kept], rtol=1e-6)
    assert 0.3 < kept.mean() < 0.7
    assert model.dropout.rngs is None


class Streams(nnx.Module):
    """Random streams in unusual places: none of its own, shared, stacked."""

    def __init__(self, rngs):
        self.bare = nnx.Dropout(0.5)
        self.one = nnx.Dropout(0.5, rngs=rngs)
        self.two = nnx.Dropout(0.5, rngs=rngs)
        self.shared = self.one

    def __call__(self, xs):
        return jnp.stack([d(xs) for d in (self.bare, self.one, self.two, self.shared)], 1)


def test_every_layer_has_a_mask_of_its_own_from_the_key_alone():
    xs = jnp.ones((50, 8))
    masks = jacreg.nnx.function(Streams(nnx.Rngs(0)), dropout_key=KEY)(xs) > 0
    others = jacreg.nnx.function(Streams(nnx.Rngs(9)), dropout_key=KEY)(xs) > 0
    np.testing.assert_array_equal(masks, others)
    for a in range(4):
        assert 0.3 < masks[:, a].mean() < 0.7
        for b in range(a):
            assert (masks[:, a] != masks[:, b]).mean() > 0.3
    np.testing.assert_array_equal(jacreg.nnx.function(Streams(nnx.Rngs(0)))(xs), 1)


def test_layers_made_and_run_under_vmap():
    """Stacked streams: one key a layer."""

    class Block(nnx.Module):
        def __init__(self, rngs):
            self.linear = nnx.Linear(4, 4, rngs=rngs)
            self.norm = nnx.BatchNorm(4, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, xs):
            return self.dropout(jnp.tanh(self.norm(self.linear(xs))))

    class Stack(nnx.Module):
        def __init__(self, rngs):
            @nnx.split_rngs(splits=3)
            @nnx.vmap(in_axes=(0,), out_axes=0)
            def make(rngs):
                return Block(rngs)

            self.blocks = make(rngs)

        def __call__(self, xs):
            @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
            def run(xs, block):
                return block(xs)

            return run(xs, self.blocks)

    model, xs = Stack(nnx.Rngs(0)), jax.random.normal(KEY, (5, 4))
    for options in ({}, {"dropout_key": KEY}, {"statistics": "batch", "dropout_key": KEY}):
        fn = jacreg.nnx.function(model, return_state=True, **options)
        lin = jacreg.linearize(fn, xs, has_aux=True)
        np.testing.assert_allclose(lin.value, fn(xs)[0], rtol=1e-5, atol=1e-6)
        means = lin.aux["blocks"]["norm"]["mean"][...]
        assert means.shape == (3, 4)
        assert bool((means != 0).all()) == (options.get("statistics") == "batch")
    assert (fn(xs)[0] == 0).mean() > 0.2
    assert (jacreg.nnx.function(model)(xs) == 0).mean() == 0


def test_attention_with_dropout():
    model = nnx.MultiHeadAttention(
        2, 4, dropout_rate=0.5, decode=False, rngs=nnx.Rngs(0), keep_rngs=False
    )
    xs = jax.random.normal(KEY, (3, 5, 4))
    off = jacreg.nnx.function(model)(xs)
    on = jacreg.nnx.function(model, dropout_key=KEY)
    np.testing.assert_array_equal(on(xs), on(xs))
    assert jnp.abs(on(xs) - off).max() > 1e-4
    params, state, apply = jacreg.nnx.functional(model)
    with pytest.raises(ValueError, match="dropout is active in MultiHeadAttention"):
        apply(params, state, xs, train=True)


# Newer flax wants a sown value captured; older releases have no way to.
@pytest.mark.filterwarnings("ignore:Using 'Module.sow:DeprecationWarning")
def test_records_of_a_forward_pass_are_no_state():
    class Sowing(nnx.Module):
        def __init__(self):
            self.norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
            self.rngs = nnx.Rngs(1)

        def __call__(self, xs):
            self.sow(nnx.Intermediate, "seen", xs.mean())
            return self.norm(xs) + 0 * jax.random.normal(self.rngs(), xs.shape)

    model, xs = Sowing(), jnp.ones((4, 3))
    params, state, apply = jacreg.nnx.functional(model)
    _, new_state = apply(params, state, xs, train=True)
    assert jax.tree.structure(new_state) == jax.tree.structure(state)
    lin = jacreg.linearize(
        jacreg.nnx.function(model, statistics="batch", return_state=True), xs, has_aux=True
    )
    nnx.update(model, lin.aux)
    np.testing.assert_allclose(model.norm.mean[...], 0.01, rtol=1e-4)
    assert not hasattr(model, "seen")


def test_frozen_variables_and_sequential():
    class Frozen(nnx.Variable):
        pass

    class Scaled(nnx.Module):
        def __init__(self):
            self.factor = Frozen(jnp.asarray(2.0))

        def __call__(self, xs):
            return self.factor[...] * xs

    model = nnx.Sequential(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), jnp.tanh, Scaled())
    params, state, apply = jacreg.nnx.functional(model)
    assert len(jax.tree.leaves(params)) == 2
    assert len(jax.tree.leaves(state)) == 1
    xs = jnp.ones((4, 3))
    np.testing.assert_allclose(apply(params, state, xs)[0], model(xs), rtol=1e-6)
    np.testing.assert_allclose(jacreg.nnx.function(model)(xs), model(xs), rtol=1e-6)


def test_a_linear_layer_needs_nothing():
    """The three lines of the documentation."""
    model, xs = nnx.Linear(3, 2, rngs=nnx.Rngs(0)), jnp.ones((4, 3))
    lin = jacreg.linearize(jacreg.nnx.function(model), xs)
    penalty = jacreg.losses.jacobian_penalty(lin, jacreg.Exact()).mean()
    np.testing.assert_allclose(penalty, 0.5 * (model.kernel[...] ** 2).sum(), rtol=1e-5)
