"""What tells early whether a closed form is worth reading for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg
from jacreg._chain._outlook import (
    check_diagonal_readable,
    check_hessian_readable,
    check_readable,
    may_save,
)
from jacreg._choice import Unfit

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(3, 3, 2, 2)).astype(np.float32)


def convolved(xs, count):
    for _ in range(count):
        xs = jnp.tanh(
            jax.lax.conv_general_dilated(
                xs, KERNEL, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        )
    return xs


def of_images(count, energy):
    def fn(xs):
        found = convolved(xs, count)
        return jnp.sin(found).sum((1, 2, 3)) if energy else found

    return jacreg.linearize(fn, jnp.ones((2, 4, 4, 2)))


@pytest.mark.parametrize(
    ("check", "most"),
    [(check_readable, 4), (check_diagonal_readable, 3), (check_hessian_readable, 2)],
)
def test_so_many_convolutions_have_a_closed_way(check, most):
    check(of_images(most, check is not check_readable))
    with pytest.raises(Unfit, match="too many convolutions"):
        check(of_images(most + 1, check is not check_readable))


@pytest.mark.parametrize(("width", "saves"), [(5, True), (6, False), (7, False)])
def test_a_space_narrower_than_the_input_may_save(width, saves):
    weights = RNG.normal(size=(6, width)).astype(np.float32)
    lin = jacreg.linearize(lambda xs: jnp.tanh(xs @ weights).sum(1), jnp.ones((3, 6)))
    assert may_save(lin) == saves


def test_what_a_checkpoint_computes_again_is_no_obstacle():
    weights = RNG.normal(size=(6, 6)).astype(np.float32)
    layers = jax.checkpoint(lambda xs: jnp.sin(jnp.sin(xs @ weights) @ weights))
    check_readable(jacreg.linearize(layers, jnp.ones((3, 6))))
