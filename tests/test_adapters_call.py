"""How a model is called: switches, streams, methods, options, and what is said instead."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from adapter_calls import KEY, XS, apply, told
from flax import linen as nn
from flax import nnx

import jacreg
import jacreg.eqx
import jacreg.linen
import jacreg.nnx

# One model with several methods, switches and streams, in each framework.


class NnxModel(nnx.Module):
    def __init__(self, rngs):
        self.encoder = nnx.Linear(3, 3, rngs=rngs)
        self.parts = nnx.List([nnx.Linear(3, 3, rngs=rngs), jnp.tanh])
        self.drop = nnx.Dropout(0.5)

    def encode(self, xs, mask=None):
        ys = self.encoder(xs)
        return ys if mask is None else ys * mask

    def __call__(self, xs, enable_dropout: bool, *, rngs):
        return self.drop(self.encode(xs), deterministic=not enable_dropout, rngs=rngs)


class LinenModel(nn.Module):
    def setup(self):
        self.encoder = nn.Dense(3)
        self.parts = [nn.Dense(3), jnp.tanh]
        self.drop = nn.Dropout(0.5)

    def encode(self, xs, mask=None):
        ys = self.encoder(xs)
        return ys if mask is None else ys * mask

    def __call__(self, xs, enable_dropout: bool):
        self.parts[0](xs)
        return self.drop(self.encode(xs), deterministic=not enable_dropout)


class EqxModel(eqx.Module):
    encoder: eqx.nn.Linear
    parts: list
    drop: eqx.nn.Dropout

    def __init__(self, key):
        self.encoder = eqx.nn.Linear(3, 3, key=key)
        self.parts = [eqx.nn.Linear(3, 3, key=key), jnp.tanh]
        self.drop = eqx.nn.Dropout(0.5)

    def encode(self, x, mask=None):
        y = self.encoder(x)
        return y if mask is None else y * mask

    def __call__(self, x, enable_dropout, key):
        return self.drop(self.encode(x), inference=not enable_dropout, key=key)


class Case:
    """A model, its adapter, and the plain calls that the adapter must equal."""

    def __init__(self, adapter: Any, parts: tuple, line: str):
        self.adapter, self.parts, self.line = adapter, parts, line

    def fn(self, **options):
        return self.adapter.function(*self.parts, **options)

    def apply(self, **options):
        return lambda xs: apply(self.adapter.functional(*self.parts, **options), xs)

    def trained(self, **options):
        params, state, apply = self.adapter.functional(*self.parts, **options)
        return lambda xs: apply(params, state, xs, train=True, key=KEY)[0]


@pytest.fixture(params=["nnx", "linen", "eqx"])
def case(request):
    if request.param == "nnx":
        return Case(jacreg.nnx, (NnxModel(nnx.Rngs(0)),), "jacreg.nnx.function(module, ")
    if request.param == "linen":
        variables = LinenModel().init(KEY, XS, False)
        return Case(
            jacreg.linen, (LinenModel(), variables), "jacreg.linen.function(module, variables, "
        )
    return Case(jacreg.eqx, (EqxModel(KEY),), "jacreg.eqx.function(model, ")


def plain(case, name="encoder"):
    """The output of a layer of the model on XS, without the adapter."""
    if case.adapter is jacreg.linen:
        variables = {"params": case.parts[1]["params"][name]}
        return nn.Dense(3).apply(variables, XS)
    model = case.parts[0]
    layer = model.parts[0] if name == "parts_0" else getattr(model, name)
    return layer(XS) if case.adapter is jacreg.nnx else jax.vmap(layer)(XS)


def test_a_switch_of_any_name_is_off_without_a_key_and_on_with_one(case):
    clean = plain(case)
    for fn in (case.fn(), case.fn(enable_dropout=False), case.apply(), case.apply(method="encode")):
        np.testing.assert_allclose(fn(XS), clean, rtol=1e-6)
    for fn in (
        case.fn(dropout_key=KEY),
        case.fn(dropout_key=KEY, enable_dropout=True),
        case.trained(),
        case.trained(enable_dropout=False),
    ):
        dropped = fn(XS)
        np.testing.assert_array_equal(dropped, fn(XS))
        kept = dropped != 0
        assert 0 < kept.sum() < kept.size
        np.testing.assert_allclose(dropped[kept], 2 * clean[kept], rtol=1e-6)


def test_streams_of_the_call_give_what_the_plain_call_gives(case):
    model = case.parts[0]
    if case.adapter is jacreg.nnx:
        option = {"rngs": nnx.Rngs(3)}
        on, off = (model(XS, flag, rngs=nnx.Rngs(3)) for flag in (True, False))
    elif case.adapter is jacreg.linen:
        option = {"rngs": {"dropout": KEY}}
        on, off = (model.apply(case.parts[1], XS, flag, **option) for flag in (True, False))
    else:
        option, keys = {"key": KEY}, jax.random.split(KEY, 4)
        on, off = (jax.vmap(model, (0, None, 0))(XS, flag, keys) for flag in (True, False))
    for make in (case.fn, case.apply):
        fn = make(enable_dropout=True, **option)
        for _ in range(2):
            np.testing.assert_allclose(jacreg.linearize(fn, XS).value, on, rtol=1e-6)
        np.testing.assert_allclose(make(enable_dropout=False, **option)(XS), off, rtol=1e-6)
    assert jnp.abs(on - off).max() > 0.1
    assert "enable_dropout has no value. Say it: " in told(lambda: case.fn(**option)(XS))
    assert "both say what is drawn" in told(lambda: case.fn(dropout_key=KEY, **option))


def test_methods_and_submodules_by_name_and_functions_of_the_model(case):
    for method in ("encode", "encoder", lambda model, xs: model.encode(xs)):
        for fn in (case.fn(method=method), case.apply(method=method)):
            np.testing.assert_allclose(fn(XS), plain(case), rtol=1e-6)
    np.testing.assert_allclose(case.fn(method="parts.0")(XS), plain(case, "parts_0"), rtol=1e-6)
    mask = jnp.asarray([1.0, 0.0, 2.0])
    masked = case.fn(method="encode", mask=mask)
    np.testing.assert_allclose(masked(XS), plain(case) * mask, rtol=1e-6)
    np.testing.assert_allclose(case.fn(method="encode")(XS, XS), plain(case) * XS, rtol=1e-6)
    lin = jacreg.linearize(masked, XS)
    assert lin.value.shape == (4, 3)


def test_what_does_not_fit_shows_the_signature_and_the_line(case):
    owner = type(case.parts[0]).__name__
    text = told(lambda: case.fn(method="encode", masks=1)(XS))
    assert f"{owner}.encode(x" in text
    assert ", mask=None), which takes no option masks" in text
    assert f"Write {case.line}mask=...)" in text
    assert 'did you mean "encode"?' in told(lambda: case.fn(method="encod")(XS))
    assert "no place for the last 1 of 3" in told(lambda: case.fn(method="encode")(XS, XS, XS))
    assert 'no parameter "z"' in told(lambda: case.fn(method="encode", wrt="z")(XS))
    assert "method must be a name" in told(lambda: case.fn(method=3))
    assert "wrt must be the name" in told(lambda: case.fn(wrt=0))
    text = told(lambda: case.fn(method=lambda model, xs, scale: xs)(XS))
    assert "scale has no value" in text
    assert f"linearize(fn, xs, scale), where each example has one, or one for all: {case.line}scale"
    text = told(lambda: case.fn(method="encode", train=False)(XS))
    assert "statistics and dropout_key set the mode" in text
    taken = told(lambda: case.fn(method="encode", wrt="mask", mask=XS)(XS))
    assert "so it cannot be an option too" in taken


@pytest.mark.parametrize(
    ("option", "advice"),
    [
        ({"enable_dropout": True}, "write dropout_key=key"),
        ({"deterministic": False}, "write dropout_key=key"),
        ({"train": True}, 'statistics="batch"'),
        ({"inference": False}, "dropout_key=key (dropout on)"),
        ({"use_running_average": False}, 'write statistics="batch"'),
        ({"train": False, "statistics": "batch"}, "leave train out"),
        ({"deterministic": True, "dropout_key": KEY}, "leave dropout_key out"),
        ({"use_running_average": True, "statistics": "batch"}, 'write statistics="running"'),
    ],
)
def test_an_option_that_contradicts_the_mode_is_refused_at_once(case, option, advice):
    assert advice in told(lambda: case.fn(**option))
    assert advice in told(lambda: case.apply(**option)(XS))


def test_a_bound_linen_module_brings_its_variables_and_streams():
    module = LinenModel()
    variables = module.init(KEY, XS, False)
    bound = module.bind(variables)
    clean = jacreg.linen.function(module, variables)(XS)
    for fn in (
        jacreg.linen.function(bound),
        jacreg.linen.function(bound.encoder),
        jacreg.linen.function(bound, method="encode"),
        lambda xs: apply(jacreg.linen.functional(bound), xs),
    ):
        np.testing.assert_allclose(fn(XS), clean, rtol=1e-6)
    rngs = {"dropout": KEY}
    seeded = jacreg.linen.function(module.bind(variables, rngs=rngs), enable_dropout=True)
    np.testing.assert_allclose(seeded(XS), module.apply(variables, XS, True, rngs=rngs), rtol=1e-6)
    assert "not bound to any" in told(lambda: jacreg.linen.function(module))

    def loss(params):
        fn = jacreg.linen.function(module.bind({"params": params}))
        return jacreg.losses.jacobian_penalty(jacreg.linearize(fn, XS), jacreg.Exact()).mean()

    kernel = jax.grad(loss)(variables["params"])["encoder"]["kernel"]
    np.testing.assert_allclose(kernel, variables["params"]["encoder"]["kernel"], rtol=1e-5)


def test_a_flag_as_an_input_is_told_to_be_an_option(case):
    text = told(lambda: case.fn()(XS, True))
    assert (
        f"a flag is no input but an option: {case.line}enable_dropout=...)".lower() in text.lower()
    )
