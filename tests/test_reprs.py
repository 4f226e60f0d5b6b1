"""What a user sees who prints one of the library's objects: sizes and what can be done with it."""

import equinox as eqx
import jax
import jax.numpy as jnp

import jacreg
import jacreg.eqx

KEY = jax.random.key(0)


def test_a_linearization_says_what_maps_to_what():
    lin = jacreg.linearize(lambda xs: xs[:, :2] * 2, jnp.ones((5, 3)))
    text = repr(lin)
    for part in ("float32[N, 3]", "float32[N, 2]", "N=5", ".jvp(v)", ".vjp(u)"):
        assert part in text
    assert len(text) < 200


def test_a_coloring_says_what_it_saves_and_how():
    def smooth(xs):
        return jnp.tanh((jnp.roll(xs, 1, 1) + xs).at[:, 0].set(xs[:, 0]))

    text = repr(jacreg.color(smooth, jnp.ones((2, 12))))
    assert text.startswith("Coloring(divergence: ")
    assert "in place of 12" in text
    dense = jacreg.color(lambda xs: xs @ jnp.ones((4, 4)), jnp.ones((2, 4)))
    assert "4 products J v in place of 4, dense" in repr(dense)


def test_a_model_taken_apart_says_its_sizes_not_its_numbers():
    model = eqx.nn.MLP(200, 100, 50, 1, key=KEY)
    text = repr(jacreg.eqx.functional(model))
    assert "params: 4 arrays, 15,150 numbers" in text
    assert ".apply(params, state, xs" in text
    assert len(text) < 250
    taken = jacreg.eqx.functional(model)
    assert tuple(taken) == (taken.params, taken.state, taken.apply)
