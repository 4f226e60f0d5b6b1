"""The batch and what tests of a model's call share."""

import jax
import pytest

KEY = jax.random.key(0)
XS = jax.random.normal(jax.random.key(1), (4, 3))


def told(mistake):
    with pytest.raises((TypeError, ValueError)) as caught:
        mistake()
    return str(caught.value)


def apply(functional, *inputs):
    return functional.apply(functional.params, functional.state, *inputs)[0]
