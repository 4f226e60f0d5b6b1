"""What tells early whether a closed form is worth reading for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg
from jacreg._chain._outlook import (
    check_hessian_readable,
    check_readable,
    may_save,
)
from jacreg._choice import Unfit

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(3, 3, 2, 2)).astype(np.float32)


def linear(xs):
    return jax.lax.conv_general_dilated(
        xs, KERNEL, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def convolved(xs, count):
    for _ in range(count):
        xs = jnp.tanh(linear(xs))
    return xs


def of_images(count, energy):
    def fn(xs):
        found = convolved(xs, count)
        return jnp.sin(found).sum((1, 2, 3)) if energy else found

    return jacreg.linearize(fn, jnp.ones((2, 4, 4, 2)))


@pytest.mark.parametrize(
    ("check", "most"),
    [(check_readable, 4), (check_hessian_readable, 2)],
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


def circled(xs, axis):
    parts = [jax.lax.slice_in_dim(xs, -1, None, axis=axis), xs]
    return jnp.concatenate(parts, axis)


@pytest.mark.parametrize(
    ("fn", "readable"),
    [
        (lambda xs: convolved(circled(xs, 1), 1), False),
        (lambda xs: convolved(-circled(circled(xs, 2), 1), 1), False),
        # One example under vmap: an axis of its own for the batch.
        (jax.vmap(lambda x: convolved(circled(x, 0)[None], 1)[0]), False),
        (lambda xs: convolved(circled(xs.transpose(0, 3, 1, 2), 2).transpose(0, 2, 3, 1), 1),
         False),
        # Channels beside each other are read; nothing comes back through what has no second
        # derivative behind it.
        (lambda xs: convolved(circled(xs[..., :1], 3), 1), True),
        (lambda xs: convolved(xs, 1) + linear(circled(xs, 1)[:, 1:]), True),
    ],
)  # fmt: skip
def test_a_padding_by_other_entries_has_no_way_back(fn, readable):
    lin = jacreg.linearize(lambda xs: fn(xs).sum((1, 2, 3)), jnp.ones((2, 4, 4, 2)))
    if readable:
        check_hessian_readable(lin)
        return
    with pytest.raises(Unfit, match="padding by other entries"):
        check_hessian_readable(lin)
