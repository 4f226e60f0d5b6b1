"""What a new user got wrong on the first day, and what they are told: each was met by one."""

import subprocess
import sys
import traceback

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

import jacreg
import jacreg.eqx

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
