"""Particular to linen: any flag, fields or arguments, and the lifted transformations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.core import freeze

import jacreg
import jacreg.linen

XS = jax.random.normal(jax.random.key(1), (64, 3)) + 2
KEY = jax.random.key(0)


class TrainFlag(nn.Module):
    @nn.compact
    def __call__(self, xs, train: bool):
        xs = nn.BatchNorm(use_running_average=not train, epsilon=0.0)(xs)
        return nn.Dropout(0.5, deterministic=not train)(xs)


class TwoFlags(nn.Module):
    @nn.compact
    def __call__(self, xs, *, deterministic: bool, use_running_average: bool = False):
        xs = nn.BatchNorm(epsilon=0.0)(xs, use_running_average=use_running_average)
        return nn.Dropout(0.5)(xs, deterministic=deterministic)


class Field(nn.Module):
    training: bool = True

    @nn.compact
    def __call__(self, xs):
        xs = nn.BatchNorm(epsilon=0.0)(xs, use_running_average=not self.training)
        return nn.Dropout(0.5)(xs, deterministic=not self.training)


class NoFlag(nn.Module):
    @nn.compact
    def __call__(self, xs):
        xs = nn.BatchNorm(use_running_average=False, epsilon=0.0)(xs)
        return nn.Dropout(0.5, deterministic=False)(xs)


class Setup(nn.Module):
    inner: nn.Module

    def setup(self):
        self.dropout = nn.Dropout(0.5)

    def __call__(self, xs, is_training=True):
        xs = self.inner(xs, use_running_average=not is_training)
        return self.dropout(xs, deterministic=not is_training)


class Rematerialised(nn.Module):
    @nn.compact
    def __call__(self, xs, train: bool):
        return nn.remat(TrainFlag, static_argnums=(2,))()(xs, train)


class Compiled(nn.Module):
    @nn.compact
    def __call__(self, xs, train: bool):
        return nn.jit(TrainFlag, static_argnums=(2,))()(xs, train)


MODULES = {
    "train": (TrainFlag(), (False,), {}),
    "two": (TwoFlags(), (), {"deterministic": True}),
    "field": (Field(), (), {}),
    "none": (NoFlag(), (), {}),
    "setup": (Setup(nn.BatchNorm(epsilon=0.0)), (), {}),
    "sequential": (
        nn.Sequential(
            [
                nn.BatchNorm(use_running_average=False, epsilon=0.0),
                nn.Dropout(0.5, deterministic=False),
            ]
        ),
        (),
        {},
    ),
    "remat": (Rematerialised(), (False,), {}),
    "jit": (Compiled(), (False,), {}),
}


def initialised(name):
    module, args, kwargs = MODULES[name]
    return module, module.init({"params": KEY, "dropout": KEY}, XS, *args, **kwargs)


@pytest.mark.parametrize("name", MODULES)
def test_statistics_and_dropout_are_set_apart_whatever_the_flags(name):
    module, variables = initialised(name)
    start = jax.tree.map(lambda x: x, variables)
    old_mean = jax.tree.leaves(variables["batch_stats"])[0]
    shown = repr(module)

    def run(**options):
        fn = jacreg.linen.function(module, variables, return_state=True, **options)
        lin = jacreg.linearize(fn, XS, has_aux=True)
        return np.asarray(lin.value), jax.tree.leaves(lin.aux)[0]

    def check_mask(masked, clean):
        kept = masked != 0
        assert 0.3 < kept.mean() < 0.7
        np.testing.assert_allclose(masked[kept], 2 * clean[kept], rtol=1e-4)

    mean, var = jax.tree.leaves(variables["batch_stats"])
    running, kept_mean = run()
    np.testing.assert_allclose(running, (XS - mean) / np.sqrt(var), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(kept_mean, old_mean)
    masked, kept_mean = run(dropout_key=KEY)
    check_mask(masked, running)
    np.testing.assert_array_equal(kept_mean, old_mean)

    batch, new_mean = run(statistics="batch")
    np.testing.assert_allclose(batch, (XS - XS.mean(0)) / XS.std(0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(new_mean, 0.99 * old_mean + 0.01 * XS.mean(0), rtol=1e-4)
    masked, new_mean = run(statistics="batch", dropout_key=KEY)
    check_mask(masked, batch)
    np.testing.assert_allclose(new_mean, 0.99 * old_mean + 0.01 * XS.mean(0), rtol=1e-4)

    assert repr(module) == shown
    jax.tree.map(np.testing.assert_array_equal, variables, start)


@pytest.mark.parametrize("name", ["jit", "remat"])
def test_our_traces_do_not_reach_the_users_own_calls(name):
    """nn.jit caches by its arguments alone; an interceptor is none of them."""
    module, variables = initialised(name)
    jacreg.linen.function(module, variables, statistics="batch", return_state=True)(XS)
    plain, _ = module.apply(variables, XS, False, mutable=["batch_stats"])
    mean, var = jax.tree.leaves(variables["batch_stats"])
    np.testing.assert_allclose(plain, (XS - mean) / np.sqrt(var), rtol=1e-4, atol=1e-5)
    ours = jacreg.linen.function(module, variables, statistics="batch")(XS)
    np.testing.assert_allclose(ours, (XS - XS.mean(0)) / XS.std(0), rtol=1e-3, atol=1e-4)


def test_the_mask_is_that_of_plain_flax():
    module, variables = initialised("train")
    ours = jacreg.linen.function(module, variables, statistics="batch", dropout_key=KEY)(XS)
    plain, _ = module.apply(variables, XS, True, rngs={"dropout": KEY}, mutable=["batch_stats"])
    np.testing.assert_array_equal(ours, plain)


def test_write_back_and_gradient_of_the_variables():
    module, variables = initialised("train")

    def loss(params):
        fn = jacreg.linen.function(
            module, {**variables, "params": params}, statistics="batch", return_state=True
        )
        lin = jacreg.linearize(fn, XS, has_aux=True)
        return (lin.value**2).mean(), lin.aux

    grads, state = jax.grad(loss, has_aux=True)(variables["params"])
    assert jax.tree.structure(grads) == jax.tree.structure(variables["params"])
    assert jnp.abs(grads["BatchNorm_0"]["scale"]).min() > 0
    new = {**variables, **state}
    assert jax.tree.structure(new) == jax.tree.structure(variables)
    assert jnp.abs(new["batch_stats"]["BatchNorm_0"]["mean"]).min() > 0


def test_frozen_variables():
    module, variables = initialised("train")
    frozen = jacreg.linen.function(module, freeze(variables))(XS)
    np.testing.assert_array_equal(frozen, jacreg.linen.function(module, variables)(XS))
    params, state, apply = jacreg.linen.functional(module, freeze(variables))
    np.testing.assert_array_equal(apply(params, state, XS)[0], frozen)


def test_noise_of_the_modules_own_is_seeded_by_the_key():
    class Noisy(nn.Module):
        @nn.compact
        def __call__(self, xs):
            return xs + jax.random.normal(self.make_rng("noise"), xs.shape)

    on = jacreg.linen.function(Noisy(), {}, dropout_key=KEY)
    np.testing.assert_array_equal(on(XS), on(XS))
    assert jnp.abs(on(XS) - XS).min() > 0
    with pytest.raises(ValueError, match="draws random numbers"):
        jacreg.linen.function(Noisy(), {})(XS)


def test_attention_with_dropout():
    module = nn.MultiHeadDotProductAttention(2, dropout_rate=0.5, deterministic=False)
    xs = jax.random.normal(KEY, (3, 5, 4))
    variables = module.init({"params": KEY, "dropout": KEY}, xs)
    off = jacreg.linen.function(module, variables)(xs)
    plain = module.clone(deterministic=True).apply(variables, xs)
    np.testing.assert_array_equal(off, plain)
    on = jacreg.linen.function(module, variables, dropout_key=KEY)(xs)
    assert jnp.abs(on - off).max() > 1e-4


def test_records_of_a_forward_pass_are_no_state():
    class Sowing(nn.Module):
        @nn.compact
        def __call__(self, xs):
            self.sow("intermediates", "seen", xs.mean())
            return nn.BatchNorm(use_running_average=False)(xs)

    variables = Sowing().init(KEY, XS)
    params, state, apply = jacreg.linen.functional(Sowing(), variables)
    assert set(state) == {"batch_stats"}
    _, new_state = apply(params, state, XS, train=True)
    assert jax.tree.structure(new_state) == jax.tree.structure(state)


def test_bad_variables():
    module, variables = initialised("train")
    for call in (jacreg.linen.function, jacreg.linen.functional):
        with pytest.raises(TypeError, match=r"dict of collections.*'scale'"):
            call(module, variables["params"]["BatchNorm_0"])
        with pytest.raises(TypeError, match="dict of collections"):
            call(module, None)


def test_under_scan_and_vmap_the_numbers_are_those_of_plain_flax():
    class Block(nn.Module):
        train: bool

        @nn.compact
        def __call__(self, xs, _):
            xs = nn.BatchNorm(use_running_average=not self.train)(nn.Dense(4)(xs))
            return nn.Dropout(0.5, deterministic=not self.train)(jnp.tanh(xs)), None

    class Net(nn.Module):
        @nn.compact
        def __call__(self, xs, train):
            scan = nn.scan(
                Block,
                variable_axes={"params": 0, "batch_stats": 0},
                split_rngs={"params": True, "dropout": True},
                length=2,
            )
            xs, _ = scan(train)(xs, None)
            heads = nn.vmap(
                nn.Dense,
                in_axes=None,
                out_axes=1,
                variable_axes={"params": 0},
                split_rngs={"params": True},
                axis_size=2,
            )
            return heads(3)(xs)

    xs = jax.random.normal(KEY, (5, 4))
    variables = Net().init(KEY, xs, False)
    np.testing.assert_allclose(
        jacreg.linen.function(Net(), variables)(xs),
        Net().apply(variables, xs, False),
        rtol=1e-5,
        atol=1e-6,
    )
    options = {"statistics": "batch", "dropout_key": KEY, "return_state": True}
    lin = jacreg.linearize(jacreg.linen.function(Net(), variables, **options), xs, has_aux=True)
    plain, state = Net().apply(variables, xs, True, rngs={"dropout": KEY}, mutable=["batch_stats"])
    np.testing.assert_allclose(lin.value, plain, rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), lin.aux, dict(state))


def test_parameters_without_their_collection_are_told():
    module = nn.Dense(2)
    params = module.init(KEY, XS)["params"]
    nested = {"Dense_0": params}
    with pytest.raises(TypeError, match=r"got one of 'Dense_0'. If these are the param.* pass"):
        jacreg.linearize(jacreg.linen.function(nn.Sequential([module]), nested), XS)
