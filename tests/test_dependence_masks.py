"""A mask on a parameter is part of the program: what it does not let through is no edge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jacreg
from jacreg._coloring._reading import dependence_of

pytestmark = pytest.mark.usefixtures("x64")
RNG = np.random.default_rng(0)
W, V = RNG.normal(size=(8, 8)), RNG.normal(size=(8, 8))
BLOCKS = np.kron(np.eye(4), np.ones((2, 2))) > 0
XS = RNG.normal(size=(3, 8))


def of(matrix):
    """A layer whose weights are made inside, as a network's are, from parameters."""
    return lambda xs: jnp.tanh(xs @ matrix(jnp.asarray(W)))


def padded(low, high, interior):
    return lambda w: lax.pad(w[:4, :4], 0.0, ((0, 4, 0), (low, high, interior)))


# Functions whose pattern is exact.
MASKED = {
    "where": of(lambda w: jnp.where(BLOCKS, w, 0)),
    "times booleans": of(lambda w: w * BLOCKS),
    "times integers": of(lambda w: BLOCKS.astype(int) * w),
    "negative": of(lambda w: -(w * BLOCKS)),
    "half the precision": of(lambda w: (w * BLOCKS).astype(jnp.float32)),
    "sum": of(lambda w: w * BLOCKS + w.T * np.eye(8, dtype=int)),
    "difference": of(lambda w: w * BLOCKS - w.T * np.eye(8, dtype=int)[::-1]),
    "a band": of(lambda w: jnp.triu(jnp.tril(w, 1), -1)),
    "a triangle": of(jnp.tril),
    "turned": of(lambda w: jnp.flip((w * np.triu(np.ones((8, 8), int), 3)).T, 0)),
    "a part": of(lambda w: (w * np.triu(np.ones((8, 8), bool), 3))[:, 2:6]),
    "put together": of(lambda w: jnp.concatenate([w[:, :4] * BLOCKS[:, :4], 0 * w[:, :4]], 1)),
    "reshaped": of(lambda w: (w * BLOCKS).reshape(4, 2, 8).reshape(8, 8)),
    "block_diag": of(lambda w: jax.scipy.linalg.block_diag(w[:3, :3], w[3:5, 3:5], w[5:, 5:])),
    "padded": of(padded(1, 3, 0)),
    "padded between": of(padded(0, 1, 1)),
    "padded by less": of(padded(-1, 5, 0)),
    "under jit": of(jax.jit(lambda w: w * BLOCKS)),
    "of one example": jax.vmap(lambda x: jnp.sin(jnp.where(BLOCKS, W, 0) @ x)),
    "from the left": lambda xs: jnp.sin((jnp.where(BLOCKS, W, 0) @ xs.T).T),
    "two layers": lambda xs: of(lambda w: w.T * BLOCKS)(of(lambda w: w * BLOCKS)(xs)) * xs,
    "chosen by a value": of(lambda w: jnp.where(w > 0, w * BLOCKS, 2 * w * BLOCKS)),
}
# Those of which nothing is known, or not all.
OPEN = {
    "a parameter": of(lambda w: w),
    "filled with ones": of(lambda w: jnp.where(BLOCKS, w, 1)),
    "a sum with a parameter": of(lambda w: w * BLOCKS + V),
    "either of a mask and none": of(lambda w: jnp.where(w > 0, w * BLOCKS, w)),
    "padded with a parameter": of(
        lambda w: lax.pad(w[:4] * BLOCKS[:4], w[0, 0], ((0, 4, 0), (0, 0, 0)))
    ),
    "a mask of floats": of(lambda w: w * BLOCKS.astype(float)),
    "exponentials": of(lambda w: jnp.exp(w * BLOCKS)),
    "a quotient": of(lambda w: (w * BLOCKS) / V),
}


def true_pattern(fn):
    jacobian = jax.jacobian(fn)(XS)[np.arange(3), :, np.arange(3)]
    return jacobian, (np.asarray(jacobian) != 0).any(0)


@pytest.mark.parametrize("name", MASKED)
def test_what_a_mask_leaves_out_is_no_edge(name):
    fn = MASKED[name]
    jacobian, true = true_pattern(fn)
    relation, _, reader = dependence_of(jacreg.linearize(fn, XS))
    assert not reader.dense_primitives
    np.testing.assert_array_equal(relation.matrix().toarray(), true)
    assert not true.all()
    found = jacreg.jacobian(jacreg.linearize(fn, XS), sparse=True).todense()
    np.testing.assert_allclose(found, jacobian, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", OPEN)
def test_no_edge_is_lost(name):
    fn = OPEN[name]
    _, true = true_pattern(fn)
    found = dependence_of(jacreg.linearize(fn, XS))[0].matrix().toarray()
    assert found.all() or not (true & ~found).any()


def masked_by(mask):
    return lambda xs: jnp.tanh(xs @ jnp.where(mask, W, 0))


def test_a_colouring_belongs_to_its_mask():
    coloring = jacreg.color(masked_by(BLOCKS), XS, quantity=jacreg.jacobian)
    assert coloring.num_colors == 2
    other = np.roll(BLOCKS, 1, axis=0) | BLOCKS
    with pytest.raises(jacreg.ColoringError):
        jacreg.jacobian(jacreg.linearize(masked_by(other), XS), coloring)
    with pytest.raises(jacreg.ColoringError, match="traced"):
        jax.jit(lambda m: jacreg.jacobian(jacreg.linearize(masked_by(m), XS), coloring))(BLOCKS)


def test_a_masked_flow_takes_a_product_a_block():
    plan = jacreg.plan(jacreg.frobenius_squared, jacreg.linearize(MASKED["two layers"], XS))
    assert (plan.path, plan.num_products) == ("colouring", 2)
