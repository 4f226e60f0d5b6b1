"""The Lanczos engine on spectra that mislead simpler stopping rules."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jacreg._lanczos import leading_singular_vector
from jacreg._structure import norm

SIZE = 600
SPECTRA = {
    "uniform": np.linspace(0, 1, SIZE),
    "dense at the top": 1 - np.linspace(0, 1, SIZE) ** 2,
    "sparse at the top": 1 - np.linspace(0, 1, SIZE) ** 0.25,
    "one percent above a cluster": np.r_[np.linspace(0.985, 0.99, SIZE - 1), 1.0],
    "one percent above a range": np.r_[np.linspace(0, 0.99, SIZE - 1), 1.0],
    "decaying": np.exp(-np.arange(SIZE) / 3),
    "rank one": np.r_[np.zeros(SIZE - 1), 3.0],
    "double": np.r_[np.linspace(0, 0.9, SIZE - 2), 1.0, 1.0],
    "identity": np.ones(SIZE),
    "twenty decades": np.logspace(-20, 0, SIZE),
    "tiny": 1e-25 * np.linspace(0, 1, SIZE),
    "huge": 1e25 * np.linspace(0, 1, SIZE),
}


def _run(singular_values, tolerance, num_examples=24, seed=0, **options):
    order = np.random.default_rng(0).permuted(
        np.broadcast_to(singular_values, (num_examples, singular_values.size)), axis=1
    )
    diagonal = jnp.asarray(order, jnp.float32)
    start = jax.random.normal(jax.random.key(seed), diagonal.shape)
    return _leading(diagonal, start, tolerance, **options)


@partial(jax.jit, static_argnums=2, static_argnames="max_steps")
def _leading(diagonal, start, tolerance, max_steps=None):
    return leading_singular_vector(
        lambda v: v * diagonal,
        lambda u: u * diagonal,
        start,
        tolerance=tolerance,
        max_steps=max_steps,
    )


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4])
@pytest.mark.parametrize("name", SPECTRA)
def test_every_start_reaches_the_tolerance_and_none_is_above(name, tolerance):
    singular_values = SPECTRA[name]
    found = _run(singular_values, tolerance)
    assert bool(jnp.all(found.converged))
    ratio = np.asarray(found.value, np.float64) / singular_values.max()
    assert ratio.min() >= 1 - tolerance
    assert ratio.max() <= 1 + 1e-6
    np.testing.assert_allclose(norm(found.vector), 1, rtol=1e-5)


def test_a_start_without_the_leading_vector_is_what_the_bound_guards_against():
    # The part along the leading vector is 1e-3 of a typical one: agreement of
    # successive estimates would stop at 0.99.
    size = SIZE
    singular_values = jnp.asarray(np.r_[1.0, np.linspace(0.9, 0.99, size - 1)], jnp.float32)
    start = jax.random.normal(jax.random.key(0), (24, size)).at[:, 0].set(1e-3)
    found = _leading(jnp.broadcast_to(singular_values, (24, size)), start, 1e-4)
    assert bool(jnp.all(found.value > 0.9999))
    assert bool(jnp.all(found.converged))


def test_rounding_to_half_precision_is_no_failure():
    """Ritz vectors of rounded products are short of what their coefficients promise."""
    kernel = jax.random.normal(jax.random.key(0), (70, 70), jnp.bfloat16) / 8
    start = jax.random.normal(jax.random.key(1), (512, 70))
    found = jax.jit(
        lambda start: leading_singular_vector(
            lambda v: (v.astype(jnp.bfloat16) @ kernel).astype(jnp.float32),
            lambda u: (u.astype(jnp.bfloat16) @ kernel.T).astype(jnp.float32),
            start,
            tolerance=4 * float(jnp.finfo(jnp.bfloat16).eps),
        )
    )(start)
    assert bool(found.converged.all())
    np.testing.assert_allclose(found.value, np.linalg.norm(kernel.astype(np.float32), 2), rtol=0.01)


def test_too_few_steps_are_reported():
    found = _run(SPECTRA["dense at the top"], 1e-4, max_steps=16)
    assert not bool(jnp.any(found.converged))


def test_zero_operator():
    found = _run(np.zeros(SIZE), 1e-4)
    assert bool(jnp.all(found.converged))
    np.testing.assert_array_equal(found.value, 0)


def test_an_example_is_not_changed_by_its_neighbours():
    easy, hard = SPECTRA["decaying"], SPECTRA["dense at the top"]
    start = jax.random.normal(jax.random.key(0), (24, SIZE))
    easy, hard = (jnp.broadcast_to(jnp.asarray(s, jnp.float32), start.shape) for s in (easy, hard))
    mixed = _leading(easy.at[1:].set(hard[1:]), start, 1e-4)
    alone = _leading(easy, start, 1e-4)
    np.testing.assert_allclose(mixed.value[0], alone.value[0], rtol=1e-6)


def test_norm_has_no_overflow_and_a_zero_gradient_at_zero():
    np.testing.assert_allclose(norm(jnp.full((1, 4), 1e30)), 2e30, rtol=1e-6)
    gradient = jax.grad(lambda x: norm(x).sum())(jnp.array([[0.0, 0.0], [3.0, 4.0]]))
    np.testing.assert_allclose(gradient, [[0, 0], [0.6, 0.8]], rtol=1e-6)
