"""rows_independent: dense, sparse, thresholded and absent dependences between rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg


def _batch(n=8, d=3, seed=0):
    return jax.random.normal(jax.random.key(seed), (n, d))


def _batch_norm(xs):
    return (xs - xs.mean(0)) / jnp.sqrt(xs.var(0) + 1e-5)


def _row_pair(source, target):
    """Row `target` sees row `source`, nothing else is coupled."""
    return lambda xs: jnp.sin(xs).at[target].add(1e-3 * xs[source])


@jax.custom_vjp
def _reverse_only(xs):
    return jnp.tanh(xs)


_reverse_only.defvjp(lambda xs: (jnp.tanh(xs), xs), lambda xs, u: (u / jnp.cosh(xs) ** 2,))


@jax.custom_vjp
def _reverse_only_coupled(xs):
    return xs + 0 * xs.mean(0)


# The value is independent; the derivative that it declares is not.
_reverse_only_coupled.defvjp(
    lambda xs: (_reverse_only_coupled(xs), None), lambda _, u: (u + u.mean(0),)
)


def _forward_only(xs):
    return jax.lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, jnp.sin(s[1])), (0, xs))[1]


def _neither_direction(xs):
    return jax.lax.while_loop(
        lambda s: s[0] < 2, lambda s: (s[0] + 1, _reverse_only(s[1])), (0, xs)
    )[1]


INDEPENDENT = {
    "elementwise": jnp.sin,
    "dense": lambda xs: jnp.tanh(xs @ jnp.ones((3, 5))),
    "per example": jax.vmap(lambda x: x / jnp.linalg.norm(x)),
    "softmax over features": lambda xs: jax.nn.softmax(xs, axis=1),
    "scan over rows": lambda xs: jax.lax.map(jnp.cumsum, xs),
    "reverse only": _reverse_only,
    "forward only": _forward_only,
    "neither direction": _neither_direction,
    "infinite derivative": lambda xs: jnp.sqrt(xs - jax.lax.stop_gradient(xs)),
    "nan in a row": lambda xs: jnp.log(xs),
    "constant": lambda xs: jnp.zeros((xs.shape[0], 2)),
    "a tuple": lambda xs: (jnp.sin(xs), {"b": xs.sum(1)}),
    "empty output": lambda xs: jnp.zeros((xs.shape[0], 0)) * xs.sum(),
}
DEPENDENT = {
    "batch norm": _batch_norm,
    "mean": lambda xs: xs - xs.mean(),
    "softmax over the batch": lambda xs: jax.nn.softmax(xs, axis=0),
    "flip": lambda xs: xs[::-1],
    "roll": lambda xs: jnp.roll(xs, 1, axis=0),
    "cumsum over the batch": lambda xs: jnp.cumsum(xs, axis=0),
    "sort over the batch": lambda xs: jnp.sort(xs, axis=0),
    "rank over the batch (no derivative)": lambda xs: jnp.argsort(
        jnp.argsort(xs, axis=0), axis=0
    ).astype(xs.dtype),
    "threshold at the mean (no derivative)": lambda xs: jnp.where(xs > xs.mean(0), 1.0, 0.0),
    "stop_gradient mean": lambda xs: xs - jax.lax.stop_gradient(xs.mean(0)),
    "derivative below the rounding of the value": lambda xs: 1e6 + xs + 1e-9 * xs.mean(0),
    "reverse only": lambda xs: _reverse_only(_batch_norm(xs)),
    "reverse only, by its rule": _reverse_only_coupled,
    "forward only": lambda xs: _forward_only(_batch_norm(xs)),
    "one leaf of two": lambda xs: (jnp.sin(xs), xs.sum(1) + xs.sum()),
}


@pytest.mark.parametrize("name", INDEPENDENT)
def test_independent(name):
    assert jacreg.rows_independent(INDEPENDENT[name], _batch()) is True


@pytest.mark.parametrize("name", DEPENDENT)
def test_dependent(name):
    assert jacreg.rows_independent(DEPENDENT[name], _batch()) is False


@pytest.mark.parametrize("n", [2, 5])
def test_every_ordered_pair_of_rows_is_seen(n):
    xs = _batch(n)
    for source in range(n):
        for target in range(n):
            expected = source == target
            assert jacreg.rows_independent(_row_pair(source, target), xs) is expected, (
                source,
                target,
            )


def test_one_pair_in_a_large_batch():
    xs = _batch(3000, 2)
    assert jacreg.rows_independent(jnp.sin, xs)
    assert not jacreg.rows_independent(_row_pair(2999, 17), xs)


def test_dropout_with_a_mask_of_the_batch():
    xs = _batch()
    mask = jax.random.bernoulli(jax.random.key(1), 0.5, xs.shape)
    assert jacreg.rows_independent(lambda xs: xs * mask, xs)
    assert jacreg.rows_independent(
        lambda xs: xs * jax.random.bernoulli(jax.random.key(1), 0.5, xs.shape), xs
    )


def test_arguments_and_pytrees():
    xs = {"a": _batch(), "b": _batch(seed=1)}
    labels = jnp.arange(8)
    assert jacreg.rows_independent(lambda xs, t: xs["a"] * t[:, None] + xs["b"], xs, labels)
    assert not jacreg.rows_independent(lambda xs, t: xs["a"] + xs["b"].mean(0), xs, labels)


@pytest.mark.parametrize("n", [0, 1])
def test_without_a_second_row_there_is_nothing_to_depend_on(n):
    assert jacreg.rows_independent(lambda xs: xs - xs.mean(0), _batch(n)) is True


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision(dtype):
    xs = _batch().astype(dtype)
    assert jacreg.rows_independent(lambda xs: jnp.tanh(xs @ jnp.ones((3, 4), dtype)), xs)
    assert not jacreg.rows_independent(_batch_norm, xs)


def test_double_precision(x64):
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)))
    assert jacreg.rows_independent(jnp.sin, xs)
    assert not jacreg.rows_independent(_row_pair(1, 6), xs)


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap])
def test_needs_concrete_values(transform):
    def inside(xs):
        return jnp.sum(xs) * jacreg.rows_independent(jnp.sin, xs)

    with pytest.raises(TypeError, match="outside jit"):
        transform(inside)(_batch()[None] if transform is jax.vmap else _batch())


def test_rounding_is_no_dependence():
    # Differences of large numbers: what is left is rounding, another one in another program.
    xs = 10 + _batch(6, 32)

    def fast_variance(xs):
        variance = jnp.mean(xs * xs, -1, keepdims=True) - jnp.mean(xs, -1, keepdims=True) ** 2
        return xs * jax.lax.rsqrt(variance + 1e-6)

    assert jacreg.rows_independent(fast_variance, xs)
    assert jacreg.rows_independent(lambda xs: xs * 0.3 + 0.7 * xs - xs, xs)
    assert jacreg.rows_independent(lambda xs: jnp.sin(1e4 * jnp.sin(1e4 * xs)), xs)
