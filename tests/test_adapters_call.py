"""How a model is called: the parameter of the batch, methods, options, and what is said instead."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jacreg
import jacreg.eqx
import jacreg.linen
import jacreg.nnx
from jacreg._batch_parameter import likely_batch

KEY = jax.random.key(0)
XS = jax.random.normal(jax.random.key(1), (4, 3))
TS = jnp.linspace(0.1, 1, 4)
WEIGHT = jnp.asarray([0.5, -1.0, 2.0])


def told(mistake):
    with pytest.raises((TypeError, ValueError)) as caught:
        mistake()
    return str(caught.value)


# Fields: every one broadcasts, so that the wrong order would raise nothing.


class Silent(eqx.Module):
    weight: jax.Array

    def __call__(self, t, y):
        return jnp.tanh(self.weight * y) * t


class Diffrax(Silent):
    def __call__(self, t, y, args):
        return Silent.__call__(self, t, y) if args is None else Silent.__call__(self, t, y) + args


class Keyed(Silent):
    def __call__(self, time, x, *, key=None):
        return Silent.__call__(self, time, x)


class Noised(Silent):
    def __call__(self, sigma, x, train: bool = False):
        return Silent.__call__(self, sigma, x)


class StateFirst(Silent):
    def __call__(self, y, t):
        return Silent.__call__(self, t, y)


class NnxField(nnx.Module):
    def __init__(self, weight):
        self.weight = nnx.Param(weight)

    def __call__(self, t, y, args=None):
        return jnp.tanh(self.weight[...] * y) * t[:, None]


class LinenField(nn.Module):
    @nn.compact
    def __call__(self, t, y):
        weight = self.param("weight", lambda _: WEIGHT)
        return jnp.tanh(weight * y) * t[:, None]


FIELDS = {
    "(t, y)": lambda: jacreg.eqx.function(Silent(WEIGHT)),
    "(t, y, args)": lambda: jacreg.eqx.function(Diffrax(WEIGHT)),
    "(time, x, key)": lambda: jacreg.eqx.function(Keyed(WEIGHT)),
    "(sigma, x, train)": lambda: jacreg.eqx.function(Noised(WEIGHT)),
    "(y, t)": lambda: jacreg.eqx.function(StateFirst(WEIGHT)),
    "functional": lambda: lambda *xs: _apply(jacreg.eqx.functional(Silent(WEIGHT)), *xs),
    "nnx": lambda: jacreg.nnx.function(NnxField(WEIGHT)),
    "nnx functional": lambda: lambda *xs: _apply(jacreg.nnx.functional(NnxField(WEIGHT)), *xs),
    "linen": lambda: jacreg.linen.function(LinenField(), {"params": {"weight": WEIGHT}}),
}  # fmt: skip


def _apply(functional, *inputs):
    return functional.apply(functional.params, functional.state, *inputs)[0]


@pytest.mark.parametrize("name", FIELDS)
def test_the_derivative_of_a_field_is_that_in_its_state(name):
    lin = jacreg.linearize(FIELDS[name](), XS, TS)
    slopes = (1 - jnp.tanh(WEIGHT * XS) ** 2) * WEIGHT * TS[:, None]
    np.testing.assert_allclose(jacreg.divergence(lin), slopes.sum(1), rtol=1e-5)
    np.testing.assert_allclose(lin.value, jnp.tanh(WEIGHT * XS) * TS[:, None], rtol=1e-5)


def test_args_of_a_field_come_last_or_as_an_option():
    fn = jacreg.eqx.function(Diffrax(WEIGHT))
    np.testing.assert_allclose(fn(XS, TS, XS), fn(XS, TS) + XS, rtol=1e-6)
    shared = jacreg.eqx.function(Diffrax(WEIGHT), args=WEIGHT)
    np.testing.assert_allclose(shared(XS, TS), fn(XS, TS) + WEIGHT, rtol=1e-6)
    at_half = jacreg.eqx.function(Diffrax(WEIGHT), t=0.5)
    np.testing.assert_allclose(at_half(XS), fn(XS, 0.5), rtol=1e-6)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("x t", "x"), ("t y", "y"), ("t y args", "y"), ("t x y", "x"), ("step sample", "sample"),
        ("ts ys", "ys"), ("t z", "z"), ("x_t t", "x_t"), ("noise_level images", "images"),
        ("state x", "state"), ("carry inputs", "carry"), ("z x", "z"), ("img y", "img"),
        ("tokens positions", "tokens"), ("query keys", "query"),
        ("t tokens", None), ("label x", None), ("params x", None), ("y x", None), ("t t2", None),
    ],
)  # fmt: skip
def test_names_tell_which_parameter_takes_the_batch(parameters, expected):
    free = parameters.split()
    assert likely_batch(free, free, 2) == expected


def test_a_single_parameter_takes_the_batch_whatever_its_name():
    class Embedding(eqx.Module):
        def __call__(self, t, scale=2.0):
            return scale * t

    np.testing.assert_allclose(jacreg.eqx.function(Embedding())(XS), 2 * XS)


def test_what_stands_behind_starred_inputs_keeps_its_default():
    class Added(nnx.Module):
        def __call__(self, xs, *others, scale=2.0):
            return scale * sum(others, xs)

    class Doubled(nnx.Module):
        def __call__(self, xs):
            return 2 * xs

    fn = jacreg.nnx.function(Added())
    np.testing.assert_allclose(fn(XS, XS, 3 * XS), 10 * XS, rtol=1e-6)
    np.testing.assert_allclose(jacreg.nnx.function(Added(), scale=1.0)(XS, XS), 2 * XS, rtol=1e-6)
    # Flax's own: `__call__(self, *args, rngs=None, **kwargs)`.
    fn = jacreg.nnx.function(nnx.Sequential(Doubled(), jnp.tanh, Doubled()))
    np.testing.assert_allclose(fn(XS), 2 * jnp.tanh(2 * XS), rtol=1e-6)


class Conditional(eqx.Module):
    def __call__(self, label, x):
        return label * x**2


def test_where_it_is_open_the_line_to_write_is_shown_and_works():
    text = told(lambda: jacreg.linearize(jacreg.eqx.function(Conditional()), XS, TS))
    assert "Conditional.__call__(label, x)" in text
    assert 'jacreg.eqx.function(model, wrt="x") or wrt="label"' in text
    lin = jacreg.linearize(jacreg.eqx.function(Conditional(), wrt="x"), XS, TS)
    np.testing.assert_allclose(jacreg.divergence(lin), (2 * TS[:, None] * XS).sum(1), rtol=1e-5)
    lin = jacreg.linearize(jacreg.eqx.function(Conditional(), wrt="label"), XS, TS)
    np.testing.assert_allclose(jacreg.divergence(lin), 3 * TS**2, rtol=1e-5)


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
        return lambda xs: _apply(self.adapter.functional(*self.parts, **options), xs)

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


def test_a_model_without_a_call_of_its_own():
    class Methods(eqx.Module):
        def encode(self, x):
            return 2 * x

        def decode(self, z):
            return z

    class NnxMethods(nnx.Module):
        def encode(self, xs):
            return 2 * xs

    class LinenMethods(nn.Module):
        def encode(self, xs):
            return 2 * xs

    for adapter, parts in (
        (jacreg.eqx, (Methods(),)),
        (jacreg.nnx, (NnxMethods(),)),
        (jacreg.linen, (LinenMethods(), {})),
    ):
        text = told(lambda adapter=adapter, parts=parts: adapter.function(*parts)(XS))
        assert "has no __call__; name the method to call" in text
        assert "encode" in text
        np.testing.assert_allclose(adapter.function(*parts, method="encode")(XS), 2 * XS)
    assert 'method="encode"' in told(lambda: jacreg.nnx.function(NnxMethods().encode))
    assert "got the class Methods itself" in told(lambda: jacreg.eqx.function(Methods))


def test_a_bound_linen_module_brings_its_variables_and_streams():
    module = LinenModel()
    variables = module.init(KEY, XS, False)
    bound = module.bind(variables)
    clean = jacreg.linen.function(module, variables)(XS)
    for fn in (
        jacreg.linen.function(bound),
        jacreg.linen.function(bound.encoder),
        jacreg.linen.function(bound, method="encode"),
        lambda xs: _apply(jacreg.linen.functional(bound), xs),
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


def test_an_nnx_module_itself_is_pointed_to_the_adapter():
    """nnx forbids what a module does to itself; the error says what to pass instead."""
    norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
    with pytest.raises(Exception, match="different trace level") as caught:
        jacreg.linearize(norm, XS)
    assert "jacreg.nnx.function(module) runs a private copy" in "".join(caught.value.__notes__)


def test_jitted_models():
    class Dropped(eqx.Module):
        linear: eqx.nn.Linear
        drop: eqx.nn.Dropout

        def __call__(self, x, *, key=None):
            return self.drop(self.linear(x), key=key)

    model = Dropped(eqx.nn.Linear(3, 3, key=KEY), eqx.nn.Dropout(0.5))
    jitted = eqx.filter_jit(model)
    np.testing.assert_allclose(
        jacreg.eqx.function(jitted)(XS), jax.vmap(model.linear)(XS), rtol=1e-6
    )

    @eqx.filter_grad
    def gradient(jitted):
        lin = jacreg.linearize(jacreg.eqx.function(jitted), XS)
        return jacreg.losses.jacobian_penalty(lin, jacreg.Exact()).mean()

    leaves = [leaf for leaf in jax.tree.leaves(gradient(jitted)) if leaf.shape == (3, 3)]
    np.testing.assert_allclose(leaves[0], model.linear.weight, rtol=1e-5)
    linear = nnx.Linear(3, 3, rngs=nnx.Rngs(0))
    assert "Pass the module itself" in told(lambda: jacreg.nnx.function(nnx.jit(linear)))


def test_a_flag_as_an_input_is_told_to_be_an_option(case):
    text = told(lambda: case.fn()(XS, True))
    assert (
        f"a flag is no input but an option: {case.line}enable_dropout=...)".lower() in text.lower()
    )


class Transformed(nnx.Module):
    """nnx.remat and nnx.jit inside a differentiated call, which Flax alone does not survive."""

    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.linear = nnx.Linear(3, 3, rngs=rngs)

    @nnx.remat
    def rematerialised(self, xs):
        return self.norm(self.linear(xs))

    @nnx.jit
    def jitted(self, xs):
        return jnp.tanh(self.linear(xs))

    def __call__(self, xs):
        return self.rematerialised(xs) * self.jitted(xs)


def test_transformed_methods_leave_the_nnx_module_whole():
    model = Transformed(nnx.Rngs(0))
    before = jax.tree.leaves(nnx.state(model))

    def loss(model):
        lin = jacreg.linearize(jacreg.nnx.function(model), XS)
        return jacreg.losses.jacobian_penalty(lin, jacreg.Exact()).mean()

    def plain(kernel):
        hidden = lambda xs: xs @ kernel + model.linear.bias[...]  # noqa: E731
        dense = jax.vmap(jax.jacrev(lambda x: hidden(x) / jnp.sqrt(1 + 1e-5) * jnp.tanh(hidden(x))))
        return (dense(XS) ** 2).sum((1, 2)).mean() / 2

    expected = jax.grad(plain)(model.linear.kernel[...])
    for gradient in (nnx.grad(loss)(model), nnx.jit(nnx.grad(loss))(model)):
        np.testing.assert_allclose(gradient["linear"]["kernel"][...], expected, rtol=1e-4)
    # A module passed to jax.jit is a copy; what the call learned comes back as aux.
    fn = jacreg.nnx.function(model, statistics="batch", return_state=True)
    state = jacreg.linearize(fn, XS, has_aux=True).aux
    through_jit = jax.jit(
        lambda model, xs: jacreg.nnx.function(model, statistics="batch", return_state=True)(xs)[1]
    )(model, XS)
    for a, b in zip(jax.tree.leaves(through_jit), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(nnx.state(model)), before, strict=True):
        np.testing.assert_array_equal(a, b)
    nnx.update(model, state)
    assert jnp.abs(model.norm.mean[...]).max() > 0
    assert isinstance(model.linear, nnx.Linear)
