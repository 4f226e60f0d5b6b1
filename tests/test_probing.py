"""Random signs on the classes of a partial colouring."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg

KEY = jax.random.key(0)
NUMBERS = ("NWC", "WIO", "NWC")


def convolutions(depth, width=12, channels=2):
    """Residual convolutions of kernel 3 along one axis."""
    kernels = jax.random.normal(jax.random.key(1), (depth, 3, channels, channels)) / 3

    def fn(xs):
        for kernel in kernels:
            update = jax.lax.conv_general_dilated(
                xs, kernel.astype(xs.dtype), (1,), "SAME", dimension_numbers=NUMBERS
            )
            xs = xs + jnp.tanh(update)
        return xs

    return fn, jax.random.normal(KEY, (2, width, channels), jnp.result_type(float))


def dense(fn, xs):
    size = xs[0].size
    one = jax.jacfwd(lambda x: fn(x.reshape(1, *xs.shape[1:]))[0].reshape(-1))
    return np.asarray(jax.vmap(one)(xs.reshape(len(xs), size)))


def over_all_signs(monkeypatch, quantity, lin, method):
    """The mean over every sign vector of an example."""
    size = lin.inputs.size
    signs = jnp.asarray(list(itertools.product([-1.0, 1.0], repeat=size)))

    def one(signs):
        def planted(key, like, distribution):
            assert distribution == "rademacher"
            leaf = jax.tree.leaves(like)[0]
            return jnp.broadcast_to(signs.reshape(leaf.shape[1:]), leaf.shape)

        with monkeypatch.context() as patch:
            patch.setattr("jacreg._coloring._probing.draw", planted)
            return quantity(lin, method, key=KEY)

    return np.asarray(jnp.mean(jax.lax.map(one, signs), axis=0))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_unbiased_over_all_signs(x64, monkeypatch, count):
    fn, xs = convolutions(2, width=4)
    lin, truth = jacreg.linearize(fn, xs), dense(fn, xs)
    method = jacreg.Probing(count)
    found = over_all_signs(monkeypatch, jacreg.divergence, lin, method)
    np.testing.assert_allclose(found, np.einsum("nii->n", truth), rtol=1e-12)
    found = over_all_signs(monkeypatch, jacreg.diagonal, lin, method)
    np.testing.assert_allclose(found.reshape(2, -1), np.einsum("nii->ni", truth), rtol=1e-12)
    found = over_all_signs(monkeypatch, jacreg.frobenius_squared, lin, method)
    np.testing.assert_allclose(found, (truth**2).sum((1, 2)), rtol=1e-12)


@pytest.mark.parametrize("quantity", ["divergence", "diagonal", "frobenius_squared"])
def test_exact_once_the_colours_suffice(x64, quantity):
    fn, xs = convolutions(1)
    lin, function = jacreg.linearize(fn, xs), getattr(jacreg, quantity)
    colors = jacreg.color(fn, xs, quantity=_name(quantity)).num_colors
    exact = function(lin, jacreg.Exact())
    for count in (colors, colors + 5):
        assert jacreg.plan(function, lin, jacreg.Probing(count)).num_products == colors
        np.testing.assert_allclose(
            function(lin, jacreg.Probing(count), key=KEY), exact, rtol=1e-12, atol=1e-12
        )
    short = function(lin, jacreg.Probing(colors - 1), key=KEY)
    assert np.abs(np.asarray(short - exact)).max() > 1e-6


def _name(quantity):
    return "frobenius" if quantity == "frobenius_squared" else "divergence"


def test_far_apart_is_better_than_anywhere(x64):
    """At equal products, a fraction of Hutchinson's error (its variance in closed form)."""
    fn, xs = convolutions(6, width=40)
    lin, truth = jacreg.linearize(fn, xs), dense(fn, xs)
    symmetric = (truth + truth.swapaxes(1, 2)) / 2
    count = 8
    assert jacreg.color(fn, xs).num_colors > count
    off = symmetric - np.stack([np.diag(np.diag(s)) for s in symmetric])
    hutchinson = np.sqrt(2 * (off**2).sum((1, 2)) / count)
    classes = _classes_of(lin, count)
    same = classes[:, None] == classes[None, :]
    probing = np.sqrt(2 * (off**2 * same).sum((1, 2)))
    assert (probing < 0.25 * hutchinson).all()
    # The closed form is what is sampled: the test could see an error of a tenth.
    keys = jax.random.split(KEY, 400)
    draws = jax.lax.map(lambda k: jacreg.divergence(lin, jacreg.Probing(count), key=k), keys)
    errors = np.asarray(draws) - np.einsum("nii->n", truth)
    np.testing.assert_allclose(np.sqrt((errors**2).mean(0)), probing, rtol=0.15)
    assert (np.abs(errors.mean(0)) <= 5 * probing / 20).all()


def _classes_of(lin, count):
    from jacreg._coloring._probing import _find

    return _find(lin, "diagonal", count).colors


def test_all_see_all(x64):
    """Without locality it is Hutchinson's estimate on halves of the entries."""
    weights = jax.random.normal(KEY, (6, 6))
    lin = jacreg.linearize(lambda xs: jnp.tanh(xs @ weights), jnp.ones((3, 6)))
    plan = jacreg.plan(jacreg.divergence, lin, jacreg.Probing(2))
    assert (plan.path, plan.num_products) == ("partial colouring", 2)
    assert jacreg.divergence(lin, jacreg.Probing(2), key=KEY).shape == (3,)


def test_standard_error_and_several_probes(x64):
    fn, xs = convolutions(2)
    lin = jacreg.linearize(fn, xs)
    method = jacreg.Probing(4, num_probes=2)
    assert jacreg.plan(jacreg.divergence, lin, method).num_products <= 4
    mean, error = jacreg.with_standard_error(jacreg.divergence)(lin, method, key=KEY)
    np.testing.assert_allclose(mean, jacreg.divergence(lin, method, key=KEY), rtol=1e-12)
    assert (np.asarray(error) > 0).all()


def test_gradient_under_jit(x64):
    fn, xs = convolutions(1, width=6)

    def loss(scale):
        lin = jacreg.linearize(lambda xs: scale * fn(xs), xs)
        return jacreg.frobenius_squared(lin, jacreg.Probing(3), key=KEY).sum()

    gradient = jax.jit(jax.grad(loss))(1.5)
    np.testing.assert_allclose(gradient, 2 * loss(1.5) / 1.5, rtol=1e-9)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: jacreg.Probing(0), "at least 1"),
        (lambda: jacreg.Probing(5, num_probes=2), "a multiple of num_probes"),
        (lambda: jacreg.divergence(jacreg.linearize(jnp.sin, jnp.ones((2, 3))), jacreg.Probing(1)),
         "needs a key"),
    ],
)  # fmt: skip
def test_wrong_calls(make, words):
    with pytest.raises(ValueError, match=words):
        make()
