"""What a new user got wrong on the first day, and what they are told: each was met by one."""

import subprocess
import sys
import traceback

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import jacreg
import jacreg.eqx
import jacreg.linen
import jacreg.nnx

KEY = jax.random.key(0)
XS = jnp.ones((5, 4))
MODEL = eqx.nn.MLP(4, 3, 8, 1, key=KEY)


def told(mistake):
    """All that a user reads: the message and its notes."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        mistake()
    return type(caught.value), "".join(traceback.format_exception_only(caught.value))


def test_a_model_of_one_example_is_linearised_as_it_is():
    kind, text = told(lambda: jacreg.linearize(MODEL, XS))
    assert kind is TypeError
    assert "jacreg.eqx.function(model)" in text
    assert "xs of shape (5, 4)" in text


def test_one_example_in_place_of_a_batch():
    _, text = told(lambda: jacreg.linearize(jacreg.eqx.function(MODEL), XS[0]))
    assert "with the whole batch, xs of shape (4,)" in text


def test_an_error_of_ones_own_stays_what_it_is():
    class OwnError(ValueError):
        pass

    def fails(xs):
        raise OwnError("mine")

    kind, text = told(lambda: jacreg.linearize(fails, XS))
    assert kind is OwnError
    assert "mine" in text


FLAGGED = lambda xs, flag: jnp.sin(xs) if flag else xs  # noqa: E731
LIN = jacreg.linearize(jnp.sin, XS)
SWAPPED = jacreg.linearize(lambda ts, xs: ts[:, None] * xs, jnp.ones(5), XS)


class Field(eqx.Module):
    def __call__(self, t, y, args):
        return y


class Dense(linen.Module):
    @linen.compact
    def __call__(self, xs):
        return linen.Dense(3)(xs)


class Rate(nnx.Module):
    def __call__(self, t, y, args):
        return y


MISTAKES = {
    "a field of Equinox": (lambda: jacreg.linearize(Field(), XS), "jacreg.eqx.function(model)"),
    "a module of nnx": (lambda: jacreg.linearize(Rate(), XS), "pass jacreg.nnx.function(model)"),
    "a module of linen": (lambda: jacreg.linearize(Dense(), XS), "jacreg.linen.function(model)"),
    "a Linearization to color": (lambda: jacreg.color(LIN), "color(fn, xs); got a Linear"),
    "no batch to color": (lambda: jacreg.color(jnp.sin), "color(fn, xs); got no batch"),
    "an error of what is exact": (
        lambda: jacreg.with_standard_error(jacreg.divergence)(LIN), "pass one of Hutchinson(num_pr"
    ),
    "an error of an exact loss": (
        lambda: jacreg.with_standard_error(jacreg.losses.jacobian_penalty)(LIN, jacreg.Exact()),
        "pass one of Projection(num_probes=...)",
    ),
    "a loss without a key": (
        lambda: jacreg.losses.jacobian_penalty(LIN), "jacobian_penalty: Projection is stochastic"
    ),
    "another loss without a key": (
        lambda: jacreg.losses.contractive_penalty(LIN, jacreg.Projection()), "contractive_penalty: "
    ),
    "a score without a key": (
        lambda: jacreg.losses.implicit_score_matching(LIN, jacreg.Hutchinson()),
        "implicit_score_matching: Hutchinson is stochastic",
    ),
    "a loss to plan": (
        lambda: jacreg.plan(jacreg.losses.jacobian_penalty, LIN),
        "got jacobian_penalty. Write jacreg.plan(jacreg.divergence, lin, method); of a loss, with "
        "the quantity in it",
    ),
    "the time before the batch": (lambda: jacreg.divergence(SWAPPED), "linearize(fn, xs, ts)"),
    "a flag": (lambda: jacreg.linearize(FLAGGED, XS, True), "lambda x: fn(x, True)"),
    "a flag of NumPy": (lambda: jacreg.linearize(FLAGGED, XS, jnp.bool_(False)), "flag (False)"),
    "a flag of a dict": (
        lambda: jacreg.linearize(lambda xs, how: FLAGGED(xs, how["train"]), XS, {"train": True}),
        "lambda x: fn(x, argument_1)",
    ),
    "a count": (
        lambda: jacreg.linearize(lambda xs, n: sum(xs for _ in range(n)), XS, 3), "number (3)"
    ),
    "a string": (lambda: jacreg.linearize(FLAGGED, XS, "train"), "1 after xs is 'train'"),
    "a function": (lambda: jacreg.linearize(FLAGGED, XS, jnp.sin), "close over options, functions"),
    "a list of numbers": (lambda: jacreg.linearize(jnp.sin, [[1.0, 2.0]]), "jnp.asarray(xs)"),
    "a list of numbers to color": (lambda: jacreg.color(jnp.sin, [1.0]), "color: xs must be arr"),
    "a list of examples": (lambda: jacreg.linearize(jnp.sin, [XS[0], XS[1]]), "jnp.stack(xs)"),
    "a batch of text": (lambda: jacreg.linearize(jnp.sin, "train"), "got 'train'"),
    "complex inputs": (lambda: jacreg.linearize(jnp.sin, XS + 1j), "(xs.real, xs.imag)"),
    "complex outputs": (lambda: jacreg.linearize(jnp.fft.fft, XS), "(y.real, y.imag)"),
    "a critic of patches": (
        lambda: jacreg.losses.gradient_penalty(lambda xs: xs, XS), 'reduction="sum"'
    ),
    "a loss of patches": (
        lambda: jacreg.losses.curvature_penalty(lambda xs, _: xs, XS, XS, step=0.1),
        "Sum over the numbers of each example",
    ),
    "a field of patches": (lambda: jacreg.laplacian(LIN), "sum over those of each example"),
    "a field with an axis more": (
        lambda: jacreg.laplacian(jacreg.linearize(lambda xs: xs[:, :1], XS)), "Squeeze"
    ),
    "an array for a shape": (
        lambda: jacreg.operator_norm(jnp.sin, XS, key=KEY), "an array of shape (5, 4); pass x.shape"
    ),
    "a number for a shape": (lambda: jacreg.operator_norm(jnp.sin, 4.0, key=KEY), "got 4.0"),
    "text for a shape": (lambda: jacreg.operator_norm_bound(jnp.sin, "4"), "got '4'"),
    "a negative length": (lambda: jacreg.operator_norm(jnp.sin, -4, key=KEY), "got (-4,)"),
    "a function for a quantity": (lambda: jacreg.divergence(jnp.sin), "jacreg.linearize(fn, xs)"),
    "a function for a norm": (
        lambda: jacreg.spectral_norm(jnp.sin, key=KEY), "lin must be a Linearization, got Pjit"
    ),
    "a seed for a key": (
        lambda: jacreg.divergence(LIN, jacreg.Hutchinson(2), key=0), "jax.random.key(0) say; got i"
    ),
    "numbers for a key": (lambda: jacreg.spectral_norm(LIN, key=XS[0]), "an array float32[4]"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_message_says_what_to_do(mistake):
    _, text = told(MISTAKES[mistake][0])
    assert MISTAKES[mistake][1] in text


def test_only_modules_of_ones_own_are_modules():
    _, text = told(lambda: jacreg.linearize(eqx.filter_jit(lambda xs: xs @ XS), XS))
    assert "module itself" not in text
    _, text = told(lambda: jacreg.divergence(jacreg.linearize(lambda xs, ts: xs[:, :2], XS, XS)))
    assert "comes first" not in text


def test_what_this_library_worded_has_no_other_advice():
    _, text = told(lambda: jacreg.losses.gradient_penalty(lambda xs: xs, XS))
    assert "jax.vmap" not in text


def test_an_integer_of_numpy_is_a_shape():
    four = np.int64(4)
    assert jacreg.operator_norm(lambda x: 2 * x, four, key=KEY) == 2
    layer = eqx.nn.Linear(4, 4, key=KEY)
    assert jacreg.eqx.SpectralNormalized(layer, in_shape=four, key=KEY).in_shape == (4,)


def test_no_shape_of_a_normalised_layer_is_negative():
    layer = eqx.nn.Linear(4, 4, key=KEY)
    kind, text = told(lambda: jacreg.eqx.SpectralNormalized(layer, in_shape=-4, key=KEY))
    assert kind is ValueError
    assert "in_shape must have no negative length, got (-4,)" in text


def test_the_key_in_the_place_of_the_method():
    lin = jacreg.linearize(jacreg.eqx.function(MODEL), XS)
    kind, text = told(lambda: jacreg.losses.jacobian_penalty(lin, KEY))
    assert kind is TypeError
    assert "pass it by name, key=" in text


@pytest.mark.parametrize("layers", [0, 1])
def test_batch_norm_without_its_state(layers):
    norm = eqx.nn.BatchNorm(4, "batch", mode="batch")
    model = norm if layers == 0 else eqx.nn.Sequential([norm])
    kind, text = told(lambda: jacreg.linearize(jacreg.eqx.function(model), XS))
    assert kind is ValueError
    assert "make_with_state" in text


def test_a_sequential_model_without_state_needs_none():
    model = eqx.nn.Sequential([eqx.nn.Linear(4, 3, key=KEY)])
    assert jacreg.linearize(jacreg.eqx.function(model), XS).value.shape == (5, 3)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("jacobian_penalty", "it is jacreg.losses.jacobian_penalty"),
        ("no_such_name", "has no attribute 'no_such_name'\n"),
    ],
)
def test_a_name_that_is_elsewhere(name, hint):
    kind, text = told(lambda: getattr(jacreg, name))
    assert kind is AttributeError
    assert hint in text
    assert not hasattr(jacreg, name)


def test_an_adapter_that_was_not_imported():
    code = "import jacreg; jacreg.eqx.function"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].endswith("import jacreg.eqx")


def test_a_result_in_the_place_of_the_quantity():
    kind, text = told(lambda: jacreg.plan(jacreg.divergence(LIN), LIN))
    assert kind is TypeError
    assert "write jacreg.plan(jacreg.divergence, lin, method)" in text.replace("Write", "write")


def test_the_method_in_the_place_of_the_other_function():
    kind, text = told(lambda: jacreg.gram(LIN, jacreg.Exact()))
    assert kind is TypeError
    assert "write method=Exact(chunk_size=None)" in text


def test_a_number_in_the_place_of_a_cell_or_a_shape():
    pytest.importorskip("optimistix")
    from jacreg import equilibrium, flow

    kind, text = told(lambda: equilibrium.solve(3, XS))
    assert kind is TypeError
    assert "cell(zs, *args), got int" in text
    kind, text = told(lambda: flow.sample(lambda xs, ts: xs, 5, key=KEY))
    assert kind is TypeError
    assert "such as (16, 2), got 5" in text


def test_numpy_numbers_are_numbers():
    assert jacreg.Exact(np.int64(2)) == jacreg.Exact(2)
    assert hash(jacreg.Exact(np.int32(2))) == hash(jacreg.Exact(2))
    found = jacreg.divergence(LIN, jacreg.Exact(np.int64(3)))
    np.testing.assert_array_equal(found, jacreg.divergence(LIN, jacreg.Exact(3)))
    half = jacreg.linearize(jnp.sin, XS.astype(jnp.bfloat16))
    noise = jacreg.NoiseInjection(np.float32(0.125))
    assert type(noise.scale) is float
    assert jacreg.frobenius_squared(half, noise, key=KEY).shape == (5,)
    for wrong in (True, 2.0, np.bool_(True), jnp.int32(2), "2"):
        kind, text = told(lambda wrong=wrong: jacreg.Exact(wrong))
        assert kind is TypeError
        assert "must be an integer" in text
