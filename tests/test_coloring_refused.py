"""A colouring serves the function and the quantity that it was made for, and no other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from local_functions import conv, conv_net, images, max_pool

import jacreg
from jacreg._coloring import _coloring
from jacreg._dependence import _rules_linear, _windows


def test_another_function_is_refused(x64):
    xs = images()
    coloring = jacreg.color(lambda x: conv(x, 3), xs)
    others = {
        "deeper": conv_net,
        "dilated": lambda x: conv(x, 3, dilation=2),
        "larger kernel": lambda x: conv(x, 3, size=5),
    }
    for other in others.values():
        for batch in (xs, images((5, 6, 6, 3))):
            with pytest.raises(jacreg.ColoringError, match="another function"):
                jacreg.divergence(jacreg.linearize(other, batch), coloring)
    with pytest.raises(jacreg.ColoringError, match="shapes"):
        jacreg.divergence(jacreg.linearize(lambda x: conv(x, 3), images((2, 7, 6, 3))), coloring)


def test_layers_taken_from_a_stack_are_the_same_function_traced_or_not(x64):
    """JAX unstacks an array that it iterates over, and slices a tracer."""
    stack = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3)))

    def fn(stack):
        def net(xs):
            for scales in stack:
                xs = jnp.tanh(scales * xs + jnp.roll(xs, 1, axis=1))
            return xs

        return net

    coloring = jacreg.color(fn(stack), images())
    step = jax.jit(lambda stack, xs: jacreg.divergence(jacreg.linearize(fn(stack), xs), coloring))
    expected = jacreg.divergence(jacreg.linearize(fn(stack), images()), jacreg.Exact())
    np.testing.assert_allclose(step(stack, images()), expected, rtol=1e-12)


def test_other_indices_are_read_again(x64):
    def shifted(by):
        index = jnp.roll(jnp.arange(6), by)
        return lambda x: x * x[:, index]

    coloring = jacreg.color(shifted(1), images())
    # Two colours keep neighbours apart, and entries three apart, but not entries two apart.
    with pytest.raises(jacreg.ColoringError, match="indices"):
        jacreg.divergence(jacreg.linearize(shifted(2), images()), coloring)
    lin = jacreg.linearize(shifted(3), images())
    np.testing.assert_allclose(jacreg.divergence(lin, coloring), jacreg.divergence(lin), atol=1e-12)


def test_other_indices_are_read_again_for_norms_too(x64):
    def windows(starts, second=1, third=2):
        first, second, third = (jnp.array(starts) + shift for shift in (0, second, third))
        return lambda x: x[:, first] * x[:, second] * x[:, third]

    coloring = jacreg.color(windows([0, 1, 2, 3]), images(), quantity="frobenius")
    assert not coloring.is_dense
    # The same windows in another order meet no others; wider ones do.
    other = jacreg.linearize(windows([3, 1, 0, 2]), images())
    np.testing.assert_allclose(
        jacreg.frobenius_squared(other, coloring),
        jacreg.frobenius_squared(other, jacreg.Exact()),
        rtol=1e-11,
    )

    spread = windows([0, 1, 0, 1], 2, 3)
    with pytest.raises(jacreg.ColoringError, match="indices"):
        jacreg.frobenius_squared(jacreg.linearize(spread, images()), coloring)


def test_another_quantity_is_refused(x64):
    xs = images()
    coloring = jacreg.color(conv_net, xs)
    with pytest.raises(TypeError, match="frobenius"):
        jacreg.frobenius_squared(jacreg.linearize(conv_net, xs), coloring)
    with pytest.raises(ValueError, match="quantity"):
        jacreg.color(conv_net, xs, quantity="determinant")
    with pytest.raises(ValueError, match="shape"):
        jacreg.color(max_pool, xs)


def test_planted_violations_are_caught(x64, monkeypatch):
    """A wrong rule loses edges; the numeric probes see it."""
    xs = images()
    narrow = _windows.window

    def blind(*args, **kwargs):
        return narrow(*args, **{**kwargs, "taps": 1})

    monkeypatch.setattr(_rules_linear, "window", blind)
    with pytest.raises(jacreg.ColoringError, match="takes entry"):
        jacreg.color(conv_net, xs)


def test_planted_colors_are_caught(x64, monkeypatch):
    """Too few colours make a wrong diagonal; the numeric probes see it."""
    from jacreg._coloring import _plan

    def everything_at_once(edges):
        return np.zeros(edges.shape[0], dtype=np.int32)

    monkeypatch.setattr(_plan, "color_graph", everything_at_once)
    with pytest.raises(jacreg.ColoringError, match="differs from single entries"):
        jacreg.color(conv_net, images())


def test_coloring_is_hashable_equal_and_explains_itself(x64):
    a, b = (jacreg.color(conv_net, images()) for _ in range(2))
    assert a == b
    assert hash(a) == hash(b)
    assert a != jacreg.color(conv_net, images(), quantity="frobenius")
    assert repr(a).startswith("Coloring(divergence: 48 products")
    with pytest.raises(ValueError, match="read-only"):
        a.colors[0] = 1


def test_kinds_cover_every_quantity():
    assert set(_coloring.KINDS) == set(_coloring.QUANTITIES)
