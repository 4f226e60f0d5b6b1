"""Particular to Equinox: the ways a model is called, its state, its axis names."""

import warnings

import adapter_nets as nets
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg
import jacreg.eqx

XS = jax.random.normal(jax.random.key(1), (64, 3)) + 2
KEY = jax.random.key(0)


def norm(axis_name="batch", **options):
    return eqx.nn.BatchNorm(3, axis_name, eps=0.0, mode="batch", **options)


class Plain(eqx.Module):
    def __call__(self, x):
        return 2 * x


class Keyed(eqx.Module):
    dropout: eqx.nn.Dropout

    def __call__(self, x, *, key=None):
        return self.dropout(2 * x, key=key)


class MustKey(eqx.Module):
    dropout: eqx.nn.Dropout

    def __call__(self, x, key):
        first, _ = jax.random.split(key)
        return self.dropout(2 * x, key=first)


class Stateful(eqx.Module):
    norm: eqx.nn.BatchNorm

    def __call__(self, x, state):
        return self.norm(x, state)


class Both(eqx.Module):
    norm: eqx.nn.BatchNorm
    dropout: eqx.nn.Dropout

    def __call__(self, x, running, *, key=None, inference=False):
        x, running = self.norm(x, running, inference=inference)
        return self.dropout(x, key=key, inference=inference), running


def with_state(make, *args):
    return eqx.nn.make_with_state(make)(*args)


def both():
    return with_state(lambda: Both(norm(), eqx.nn.Dropout(0.5)))


def check_mask(masked, clean):
    kept = masked != 0
    assert 0.3 < kept.mean() < 0.7
    np.testing.assert_allclose(masked[kept], 2 * clean[kept], rtol=1e-4)


@pytest.mark.parametrize(
    "model", [Plain(), Keyed(eqx.nn.Dropout(0.5)), MustKey(eqx.nn.Dropout(0.5))]
)
def test_models_without_state(model):
    np.testing.assert_allclose(jacreg.eqx.function(model)(XS), 2 * XS)
    if not isinstance(model, Plain):
        check_mask(jacreg.eqx.function(model, dropout_key=KEY)(XS), 2 * XS)
    params, state, apply = jacreg.eqx.functional(model)
    assert state is None
    trained, _ = apply(params, state, XS, train=True, key=KEY)
    if isinstance(model, Plain):
        np.testing.assert_allclose(trained, 2 * XS)
    else:
        check_mask(trained, 2 * XS)
    ys, aux = jacreg.eqx.function(model, return_state=True)(XS)
    assert aux is None
    assert ys.shape == XS.shape


def test_a_model_with_state_only():
    model, state = with_state(lambda: Stateful(norm()))
    np.testing.assert_allclose(jacreg.eqx.function(model, state)(XS), XS, rtol=1e-6)
    fn = jacreg.eqx.function(model, state, statistics="batch", return_state=True)
    lin = jacreg.linearize(fn, XS, has_aux=True)
    np.testing.assert_allclose(lin.value.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(lin.value.std(0), 1, rtol=1e-4)
    count, mean, _ = jax.tree.leaves(lin.aux)
    assert count == 1
    np.testing.assert_allclose(mean, 0.01 * XS.mean(0), rtol=1e-5)
    # The state that came out goes in again, as many times as one likes.
    again = jacreg.eqx.function(model, lin.aux, statistics="batch", return_state=True)
    for _ in range(2):
        assert jax.tree.leaves(again(XS)[1])[0] == 2


def test_call_time_inference_is_overruled_and_the_state_may_have_any_name():
    model, state = both()
    running = jacreg.eqx.function(model, state)(XS)
    np.testing.assert_allclose(running, XS, rtol=1e-6)
    check_mask(jacreg.eqx.function(model, state, dropout_key=KEY)(XS), running)
    batch = jacreg.eqx.function(model, state, statistics="batch")(XS)
    np.testing.assert_allclose(batch, (XS - XS.mean(0)) / XS.std(0), rtol=1e-3, atol=1e-4)
    masked = jacreg.eqx.function(model, state, statistics="batch", dropout_key=KEY)(XS)
    check_mask(masked, batch)
    model = eqx.nn.inference_mode(model)
    np.testing.assert_array_equal(
        jacreg.eqx.function(model, state, statistics="batch", dropout_key=KEY)(XS), masked
    )
    assert model.norm.inference is True
    assert type(model.norm) is eqx.nn.BatchNorm


def test_the_state_is_not_used_up():
    model, state = both()
    jacreg.eqx.function(model, state, statistics="batch")(XS)
    params, kept, apply = jacreg.eqx.functional(model, state)
    apply(params, kept, XS, train=True, key=KEY)
    apply(params, kept, XS, train=True, key=KEY)
    state.get(model.norm.batch_counter)
    kept.get(model.norm.batch_counter)


def test_sequential_with_and_without_state():
    plain = eqx.nn.Sequential([eqx.nn.Linear(3, 3, key=KEY), eqx.nn.Lambda(jnp.tanh)])
    expected = jax.vmap(plain)(XS)
    np.testing.assert_allclose(jacreg.eqx.function(plain)(XS), expected, rtol=1e-6)
    _, empty = with_state(lambda: plain)
    ys, state = jacreg.eqx.function(plain, empty, return_state=True)(XS)
    np.testing.assert_allclose(ys, expected, rtol=1e-6)
    assert isinstance(state, eqx.nn.State)
    model, state = with_state(lambda: eqx.nn.Sequential([norm(), eqx.nn.Dropout(0.5)]))
    running = jacreg.eqx.function(model, state)(XS)
    np.testing.assert_allclose(running, XS, rtol=1e-6)
    check_mask(jacreg.eqx.function(model, state, dropout_key=KEY)(XS), running)


def test_filter_grad_reaches_the_parameters():
    model, state = nets.build("equinox", np.float32).parts
    xs = nets.images(4, np.float32)

    @eqx.filter_jit
    @eqx.filter_grad
    def grads(model):
        fn = jacreg.eqx.function(model, state, statistics="batch", dropout_key=KEY)
        lin = jacreg.linearize(fn, xs)
        return jacreg.losses.jacobian_penalty(lin, key=KEY).mean()

    params, kept, apply = jacreg.eqx.functional(model, state, statistics="batch", dropout_key=KEY)

    @jax.jit
    @jax.grad
    def expected(params):
        lin = jacreg.linearize(lambda x: apply(params, kept, x)[0], xs)
        return jacreg.losses.jacobian_penalty(lin, key=KEY).mean()

    got, want = jax.tree.leaves(grads(model)), jax.tree.leaves(expected(params))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    assert max(float(jnp.abs(a).max()) for a in got) > 1e-3


def test_initial_state_kept_in_the_model_is_no_parameter():
    model = Stateful(norm())
    state = eqx.nn.State(model)
    params, kept, apply = jacreg.eqx.functional(model, state)
    assert len(jax.tree.leaves(params)) == 2
    ys, _ = apply(params, kept, XS, train=True)
    np.testing.assert_allclose(ys.mean(0), 0, atol=1e-5)


def test_an_outer_axis_is_left_to_its_owner():
    model, state = with_state(lambda: Stateful(norm(("batch", "device"))))
    fn = jacreg.eqx.function(model, state, statistics="batch")
    parts = XS.reshape(4, 16, 3)
    ys = jax.vmap(fn, axis_name="device")(parts)
    np.testing.assert_allclose(
        ys.reshape(64, 3), (XS - XS.mean(0)) / XS.std(0), rtol=1e-3, atol=1e-4
    )
    with pytest.raises(ValueError, match="name the batch axis differently"):
        fn(XS)


def test_static_flags_nested_layers_and_layers_without_noise():
    class Outer(eqx.Module):
        inner: eqx.Module
        inference: bool = eqx.field(static=True, default=False)

        def __call__(self, x, *, key=None):
            return self.inner(x if self.inference else -x, key=key)

    model = Outer(Keyed(eqx.nn.Dropout(0.5)))
    np.testing.assert_allclose(jacreg.eqx.function(model)(XS), 2 * XS)
    check_mask(jacreg.eqx.function(model, dropout_key=KEY)(XS), -2 * XS)
    silent = Keyed(eqx.nn.Dropout(0.0))
    params, state, apply = jacreg.eqx.functional(silent)
    np.testing.assert_allclose(apply(params, state, XS, train=True)[0], 2 * XS)


def test_a_first_argument_of_any_name_and_a_method():
    class Cell(eqx.Module):
        def __call__(self, state, x):
            return state + 2 * x

        def energy(self, x):
            return (x**2).sum()

    np.testing.assert_allclose(jacreg.eqx.function(Cell())(XS, XS), 3 * XS)
    np.testing.assert_allclose(jacreg.eqx.function(Cell().energy)(XS), (XS**2).sum(1), rtol=1e-5)


def test_bad_state():
    model, state = both()
    with pytest.raises(ValueError, match="needs its state"):
        jacreg.eqx.function(with_state(lambda: Stateful(norm()))[0])(XS)
    with pytest.raises(TypeError, match=r"state must be an eqx\.nn\.State"):
        jacreg.eqx.function(model, {"a": 1})
    with pytest.raises(TypeError, match="no parameter to take it"):
        jacreg.eqx.function(Plain(), state)(XS)
    with pytest.raises(TypeError, match="has no __call__"):
        jacreg.eqx.function(eqx.nn.StateIndex(jnp.zeros(())))

    class NoState(eqx.Module):
        def __call__(self, x, state):
            return x

    with pytest.raises(TypeError, match=r"must return \(y, state\)"):
        jacreg.eqx.function(NoState(), state)(XS)

    class Counting(eqx.Module):
        index: eqx.nn.StateIndex

        def __call__(self, x, state):
            return x, state.set(self.index, x)

    counting, state = with_state(lambda: Counting(eqx.nn.StateIndex(jnp.zeros(3))))
    jacreg.eqx.function(counting, state)(XS)
    with pytest.raises(ValueError, match="differs from example to example"):
        jacreg.eqx.function(counting, state, statistics="batch")(XS)


def test_an_untrained_moving_average_warns_once():
    """Its variance is zero: an inference Jacobian of 316 a layer, before any training."""
    make = lambda: Stateful(eqx.nn.BatchNorm(3, "batch", mode="ema"))  # noqa: E731
    model, state = with_state(make)
    functional = jacreg.eqx.functional(model, state)
    for use in (
        lambda: jacreg.eqx.function(model, state)(XS),
        lambda: functional.apply(functional.params, functional.state, XS)[0],
        lambda: jax.jit(lambda xs: jacreg.eqx.function(model, state)(xs))(XS),
    ):
        with pytest.warns(UserWarning, match="multiplies its input by 316") as caught:
            ys = use()
        assert len(caught) == 1
        assert caught[0].filename == __file__
        np.testing.assert_allclose(ys, XS / jnp.sqrt(1e-5), rtol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, trained = jacreg.eqx.function(model, state, statistics="batch", return_state=True)(XS)
        jacreg.eqx.function(model, trained)(XS)
        functional.apply(functional.params, functional.state, XS, train=True)
        jax.jit(lambda s: jacreg.eqx.function(model, s)(XS))(state)
        jacreg.eqx.function(*with_state(lambda: Stateful(norm())))(XS)
