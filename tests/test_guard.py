"""Conditions over parts that are not finite: both directions give the finite value."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg

XS = jnp.asarray([[1.0, -1.0, 0.5], [-2.0, 3.0, -0.25]])
MIX = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)), jnp.float32)


def where_behind(xs):
    """Forward finite, reverse nan in JAX."""
    return jnp.where(xs >= 0, xs, jnp.sqrt(-xs))


def where_before(xs):
    """Reverse finite, forward nan in JAX."""
    return jnp.sqrt(jnp.where(xs > 0, xs, 0.0))


def through_sums(xs):
    roots = jnp.sqrt(-xs)
    return jnp.where(xs < 0, -(roots + 2 * roots * xs) / 3, jax.nn.relu(xs))


def three_cases(xs):
    return jax.lax.select_n(
        (xs > 0).astype(jnp.int32) + (xs > 2), jnp.sqrt(-xs), xs, jnp.log(xs - 2)
    )


def mixed(xs):
    return jnp.tanh(where_behind(xs @ MIX) @ MIX)


def reversed_inside(xs):
    return jnp.where(xs >= 0, xs, jnp.sqrt(-xs[:, ::-1])[:, ::-1])


def transposed_inside(xs):
    return jnp.where(xs >= 0, xs, jnp.sqrt(-xs.T).T)


def reshaped_inside(xs):
    return jnp.where(xs >= 0, xs, jnp.sqrt(-xs.reshape(-1, 1, 3)).reshape(xs.shape))


def sliced_behind(xs):
    joined = jnp.stack([xs, jnp.where(xs >= 0, xs, jnp.sqrt(-xs[:, None]).sum(1))], axis=1)
    return joined[:, 1]


def transposed_before(xs):
    return jnp.sqrt(jnp.where(xs > 0, xs, 0.0).T[::-1])[::-1].T


# On the derivative itself, free of a part that is left out.
SLOPES = {
    where_behind: lambda x: 1.0 if x >= 0 else -0.5 / np.sqrt(-x),
    where_before: lambda x: 0.5 / np.sqrt(x) if x > 0 else 0.0,
    **dict.fromkeys(
        (reversed_inside, transposed_inside, reshaped_inside, sliced_behind),
        lambda x: 1.0 if x >= 0 else -0.5 / np.sqrt(-x),
    ),
    transposed_before: lambda x: 0.5 / np.sqrt(x) if x > 0 else 0.0,
    through_sums: lambda x: (
        -(-0.5 / np.sqrt(-x) * (1 + 2 * x) + 2 * np.sqrt(-x)) / 3 if x < 0 else 1.0
    ),
    three_cases: lambda x: -0.5 / np.sqrt(-x) if x <= 0 else 1 / (x - 2) if x > 2 else 1.0,
}


@pytest.mark.parametrize("fn", SLOPES, ids=lambda fn: fn.__name__)
def test_every_quantity_gives_the_finite_derivative(fn):
    truth = np.vectorize(SLOPES[fn])(np.asarray(XS, float))

    @jax.jit
    def plain(xs):
        return jax.jacfwd(fn)(xs), jax.jacrev(fn)(xs)

    assert not all(np.isfinite(each).all() for each in plain(XS)), "the case is one"

    @jax.jit
    def read(lin):
        ones = jnp.ones_like(XS)
        slopes = lin.jvp(ones), lin.vjp(ones), jacreg.diagonal(lin, jacreg.Exact())
        penalty = jacreg.losses.jacobian_penalty(lin, key=jax.random.key(0))
        return slopes, jacreg.jacobian(lin, jacreg.Exact()), jacreg.gram(lin), penalty

    for mode in ("both", "forward", "reverse"):
        # Through jit and back, as a pytree.
        lin = jax.jit(lambda xs, m=mode: jacreg.linearize(fn, xs, mode=m))(XS)
        slopes, jacobian, gram, penalty = read(lin)
        for found in slopes:
            np.testing.assert_allclose(found, truth, rtol=1e-5)
        dense = np.stack([np.diag(row) for row in truth])
        np.testing.assert_allclose(jacobian, dense, rtol=1e-5)
        np.testing.assert_allclose(gram, dense @ dense, rtol=1e-5)
        assert np.isfinite(penalty).all()


def test_what_lies_between_layers_is_finite_in_both_directions():
    @jax.jit
    def run(xs):
        lin, back, forth = (
            jacreg.linearize(mixed, xs, mode=mode) for mode in ("both", "reverse", "forward")
        )
        dense = [jacreg.jacobian(each, jacreg.Exact()) for each in (back, forth)]
        return *dense, jacreg.divergence(lin)

    rows, columns, trace = run(XS)
    assert np.isfinite(rows).all()
    np.testing.assert_allclose(rows, columns, rtol=1e-5)
    np.testing.assert_allclose(trace, np.trace(rows, axis1=1, axis2=2), rtol=1e-4)


def test_rows_of_length_one_where_they_have_a_length():
    """A factor that a row shares: JAX writes its product without repeating it."""

    def normalised(xs):
        length = jnp.sqrt(jnp.sum(xs**2, axis=-1, keepdims=True))
        return jnp.where(length > 0, xs / length, xs) @ MIX

    xs = jnp.asarray([[2.0, 3.0, 6.0], [0.0, 0.0, 0.0]])
    assert not np.isfinite(jax.jit(jax.jacrev(normalised))(xs)).all(), "the case is one"
    unit = np.asarray([2.0, 3.0, 6.0]) / 7
    slope = np.stack([(np.eye(3) - np.outer(unit, unit)) / 7, np.eye(3)])
    dense = np.asarray(MIX).T @ slope
    for mode in ("both", "forward", "reverse"):

        @jax.jit
        def read(xs, mode=mode):
            lin = jacreg.linearize(normalised, xs, mode=mode)
            methods = jacreg.Auto(), jacreg.Exact()
            return [jacreg.jacobian(lin, method) for method in methods], jacreg.gram(lin)

        found, gram = read(xs)
        for each in found:
            np.testing.assert_allclose(each, dense, atol=1e-6)
        np.testing.assert_allclose(gram, dense @ dense.swapaxes(1, 2), atol=1e-5)


def test_a_value_that_is_used_twice_keeps_its_derivative():
    """The root is left out in one place and asked for in another."""

    def twice(xs):
        roots = jnp.sqrt(xs)
        return jnp.where(xs > 1, 2 * xs, roots) + 3 * roots

    xs = jnp.asarray([[0.25, 4.0]])
    found = jacreg.diagonal(jacreg.linearize(twice, xs), jacreg.Exact())
    np.testing.assert_allclose(found, [[4 * 0.5 / 0.5, 2 + 3 * 0.25]], rtol=1e-6)


def test_a_network_without_such_a_factor_keeps_its_program():
    def relu_network(xs):
        return jax.nn.relu(xs @ MIX + 1.0) @ MIX

    program = jacreg.linearize(relu_network, XS).program.linear
    assert str(program).count("select_n") == 1


def of_two_parts(xs):
    return jnp.where(xs >= 0, jnp.roll(xs, 1, axis=1), jnp.sqrt(-xs) * jnp.roll(xs, 1, axis=1))


CURVED = (where_behind, where_before, sliced_behind, through_sums, three_cases, mixed, of_two_parts)


@pytest.mark.parametrize("fn", CURVED, ids=lambda fn: fn.__name__)
def test_second_derivatives_are_finite_where_those_of_either_direction_are(fn):
    def field(xs):
        return (fn(xs) * jnp.arange(1.0, 4.0)).sum(1)

    def one(x):
        return field(x[None])[0]

    seconds = lambda f: jax.jacfwd(jax.jacfwd(f)), jax.hessian
    methods = jacreg.Auto(), jacreg.Exact()

    @jax.jit
    def run(xs):
        lin = jacreg.linearize(field, xs)
        found = [
            (jacreg.hessian_diagonal(lin, method), jacreg.laplacian(lin, method))
            for method in methods
        ]
        return [jax.vmap(second(one))(xs) for second in seconds], found

    dense, found = run(XS)
    forward, reverse = (np.diagonal(each, axis1=1, axis2=2) for each in dense)
    truth = np.where(np.isfinite(forward), forward, reverse)
    assert np.isfinite(truth).all()
    assert not (np.isfinite(forward).all() and np.isfinite(reverse).all()), "the case is one"
    for diagonal, laplacian in found:
        np.testing.assert_allclose(diagonal, truth, atol=1e-4)
        np.testing.assert_allclose(laplacian, truth.sum(1), atol=1e-4)
