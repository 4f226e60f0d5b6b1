"""A Linearization is static where it is the same program: one trace for all its batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jacreg
import jacreg.nnx

BATCHES = np.random.default_rng(0).normal(size=(3, 4, 6)).astype(np.float32)
WEIGHTS = jnp.asarray(np.random.default_rng(1).normal(size=(6, 6)), jnp.float32)


class Network(nnx.Module):
    def __init__(self, rngs):
        self.first, self.last = nnx.Linear(6, 5, rngs=rngs), nnx.Linear(5, 6, rngs=rngs)

    def __call__(self, xs):
        return self.last(nnx.relu(self.first(xs)))


def scaled(slope):
    """A custom derivative whose rule closes over a number."""

    @jax.custom_jvp
    def fn(xs):
        return jnp.sin(xs)

    fn.defjvp(lambda primals, tangents: (fn(primals[0]), slope * tangents[0]))
    return lambda xs: fn(xs @ WEIGHTS)


def scaled_back(slope):
    @jax.custom_vjp
    def fn(xs):
        return jnp.sin(xs)

    fn.defvjp(lambda xs: (fn(xs), None), lambda _, cotangent: (slope * cotangent,))
    return lambda xs: fn(xs @ WEIGHTS)


def counted():
    traces = []

    @jax.jit
    def use(lin):
        traces.append(1)
        return jacreg.frobenius_squared(lin), lin.vjp(lin.value)

    return use, traces


SAME = {
    "plain": lambda: lambda xs: jnp.tanh(xs @ WEIGHTS),
    "relu, whose rule is custom": lambda: lambda xs: jax.nn.relu(xs @ WEIGHTS),
    "nnx": lambda: jacreg.nnx.function(Network(nnx.Rngs(0))),
    "a scan": lambda: lambda xs: jax.lax.scan(lambda h, w: (h @ w, None), xs, WEIGHTS[None])[0],
    "a custom rule": lambda: scaled(2.0),
    "a custom VJP": lambda: scaled_back(2.0),
}


@pytest.mark.parametrize("make", SAME.values(), ids=list(SAME))
def test_one_trace_for_all_batches(make):
    use, traces = counted()
    for xs in BATCHES:
        # A new function each time: only the programs are the same.
        lin = jacreg.linearize(make(), jnp.asarray(xs))
        norms, pulled = use(lin)
        np.testing.assert_allclose(norms, jacreg.frobenius_squared(lin), rtol=1e-5)
        np.testing.assert_allclose(pulled, lin.vjp(lin.value), rtol=1e-5)
    assert len(traces) == 1


OTHERS = {
    "another literal": (lambda: lambda xs: 2.0 * xs, lambda: lambda xs: 3.0 * xs),
    "another operation": (lambda: jnp.sin, lambda: jnp.cos),
    "other wiring": (lambda: lambda xs: jnp.sin(xs) - xs, lambda: lambda xs: xs - jnp.sin(xs)),
    "another rule": (lambda: scaled(2.0), lambda: scaled(3.0)),
    "another rule back": (lambda: scaled_back(2.0), lambda: scaled_back(3.0)),
    "another axis": (lambda: lambda xs: jnp.roll(xs, 1, 1), lambda: lambda xs: jnp.roll(xs, 1, 0)),
    "another hint": (lambda: jnp.sin, lambda: jnp.sin),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_program_is_traced_again(name):
    use, traces = counted()
    modes = ("both", "reverse") if name == "another hint" else ("both", "both")
    for make, mode in zip(OTHERS[name], modes, strict=True):
        lin = jacreg.linearize(make(), jnp.asarray(BATCHES[0]), mode=mode)
        use(lin)
    assert len(traces) == 2
    assert len({jax.tree.structure(lin), jax.tree.structure(lin)}) == 1


def test_it_is_frozen():
    lin = jacreg.linearize(jnp.sin, jnp.ones((2, 3)))
    with pytest.raises(AttributeError):
        lin.value = 0


def test_directions_are_read_from_the_program():
    xs = jnp.ones((2, 6))

    def loop(xs):
        return jax.lax.while_loop(lambda s: s[0] < 2, lambda s: (s[0] + 1, 2 * s[1]), (0, xs))[1]

    def largest(xs):
        return jax.lax.reduce_window(xs, 0.0, jax.lax.max, (1, 2), (1, 2), "VALID")

    for fn, forward, reverse in (
        (jnp.sin, True, True),
        (scaled_back(1.0), False, True),
        (loop, True, False),
        (largest, True, False),
    ):
        found = jacreg.linearize(fn, xs).directions
        assert (found.forward, found.reverse) == (forward, reverse)
        assert ("forward" in found, "reverse" in found) == (forward, reverse)
        assert jax.jit(lambda xs, fn=fn: jacreg.linearize(fn, xs))(xs).directions == found
    lin = jacreg.linearize(largest, xs)
    np.testing.assert_allclose(jacreg.frobenius_squared(lin), jnp.full(2, 1.5), rtol=1e-6)
    with pytest.raises(jacreg.DirectionError, match=r"no reverse-mode.*reduce_window"):
        lin.vjp(lin.value)


def test_an_error_of_ones_own_is_no_missing_direction(monkeypatch):
    lin = jacreg.linearize(jnp.sin, jnp.ones((2, 3)))

    def broken(*_):
        raise TypeError("a fault of ours")

    monkeypatch.setattr("jacreg._linearize.with_products", broken)
    for product, vector in ((lin.jvp, lin.xs), (lin.vjp, lin.value)):
        with pytest.raises(TypeError, match="a fault of ours") as caught:
            product(vector)
        assert not isinstance(caught.value, jacreg.DirectionError)
