"""A dense request that would not fit says so before anything is allocated."""

import jax
import jax.numpy as jnp
import pytest

import jacreg
from jacreg import _memory

N, INPUTS = 8, 32


@pytest.fixture
def scarce(monkeypatch):
    """A machine with 4096 bytes."""
    monkeypatch.setattr(_memory, "_SMALL", 0)
    monkeypatch.setattr(_memory, "available_bytes", lambda: 4096)


def linearized():
    return jacreg.linearize(lambda xs: jnp.tanh(xs), jnp.ones((N, INPUTS)))


def test_the_message_names_bytes_and_what_to_do(scarce):
    with pytest.raises(ValueError, match=r"\[8, 32, 32\] in float32 takes 32,768 bytes") as caught:
        jacreg.jacobian(linearized())
    for part in ("4,096 bytes", "Projection()", "gram"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "request_dense",
    [
        lambda lin: jacreg.gram(lin),
        lambda lin: jacreg.log_pseudo_determinant(lin),
        lambda lin: jacreg.frobenius_squared(lin, jacreg.Exact(chunk_size=32)),
        lambda lin: jacreg.empirical_ntk(
            lambda p, xs: xs @ p, jnp.ones((INPUTS, 8)), lin.xs, trace_outputs=False
        ),
    ],
)
def test_every_dense_result(scarce, request_dense):
    with pytest.raises(ValueError, match="are available"):
        request_dense(linearized())


def test_what_needs_products_alone_still_works(scarce):
    lin = linearized()
    norms = jacreg.frobenius_squared(lin, jacreg.Exact(chunk_size=2))
    assert jnp.allclose(norms, jnp.sum((1 - lin.value**2) ** 2, axis=1))


def test_it_is_said_while_tracing_and_nothing_is_allocated():
    def dense(xs):
        return jacreg.jacobian(jacreg.linearize(jnp.tanh, xs))

    huge = jax.ShapeDtypeStruct((10**5, 10**5), jnp.float32)
    with pytest.raises(ValueError, match=r"takes 4,000,000,000,000,000 bytes"):
        jax.eval_shape(dense, huge)


def test_the_bytes_of_this_machine():
    found = _memory.available_bytes()
    assert found is None or 2**20 < found < 2**50
