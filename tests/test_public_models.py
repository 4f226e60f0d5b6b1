"""Public models, each in three lines: a penalty, its gradient, the dense Jacobian beside them."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import public_models_eqx
import public_models_linen
import public_models_nnx
import pytest

import jacreg

pytestmark = pytest.mark.usefixtures("x64")
MODELS = {**public_models_eqx.MODELS, **public_models_nnx.MODELS, **public_models_linen.MODELS}


def test_the_page_lists_each_of_them_and_no_other():
    page = Path(__file__).parent.parent / "docs" / "tutorials" / "your-model.md"
    rows = re.findall(r"^\| (.+?) \| (eqx|nnx|linen) \|", page.read_text(), re.MULTILINE)
    assert [f"{model} ({framework})" for model, framework in rows] == list(MODELS)


def flat(tree, num_examples):
    """The leaves of a batch side by side, `[N, size]`."""
    leaves = [leaf.reshape(num_examples, -1) for leaf in jax.tree.leaves(tree)]
    return jnp.concatenate(leaves, axis=1)


@pytest.mark.parametrize("name", MODELS)
def test_penalty_and_gradient_equal_those_of_the_dense_jacobian(name):
    case = MODELS[name]()
    leaves, structure = jax.tree.flatten(case.xs)
    number, shapes = len(leaves[0]), [leaf.shape[1:] for leaf in leaves]
    cuts = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]

    def plain(params, row, *args):
        parts = jnp.split(row, cuts)
        tree = [part.reshape(1, *shape) for part, shape in zip(parts, shapes, strict=True)]
        return flat(case.plain(params, jax.tree.unflatten(structure, tree), *args), 1)[0]

    @jax.jit
    def dense(params):
        """The dense Jacobian of each example alone, by the framework and jacrev."""
        args = [arg[:, None] for arg in case.args]
        jacobian = jax.vmap(jax.jacrev(plain, 1), (None, 0, *(0 for _ in args)))
        jacobians = jacobian(params, flat(case.xs, number), *args)
        return (jacobians**2).sum((1, 2)) / 2, jacobians

    @jax.jit
    @jax.value_and_grad
    def penalty(params):
        lin = jacreg.linearize(case.ours(params), case.xs, *case.args)
        return jacreg.losses.jacobian_penalty(lin, jacreg.Exact()).mean()

    @jax.jit
    def products(params, tangents):
        lin = jacreg.linearize(case.ours(params), case.xs, *case.args)
        return flat(lin.value, number), flat(lin.jvp(tangents), number)

    norms, jacobians = dense(case.params)
    value, gradient = penalty(case.params)
    np.testing.assert_allclose(value, norms.mean(), rtol=1e-9)
    assert value > 1e-3

    rng = np.random.default_rng(1)
    draw = lambda x: jnp.asarray(rng.normal(size=x.shape))  # noqa: E731
    tangents = jax.tree.map(draw, case.xs)
    ys, images = products(case.params, tangents)
    expected = jnp.einsum("noi,ni->no", jacobians, flat(tangents, number))
    np.testing.assert_allclose(images, expected, rtol=1e-8, atol=1e-10)
    whole = flat(case.plain(case.params, case.xs, *case.args), number)
    np.testing.assert_allclose(ys, whole, rtol=1e-6, atol=1e-7)

    direction = jax.tree.map(draw, case.params)
    step = 1e-6
    ahead, behind = (
        dense(jax.tree.map(lambda p, d, s=s: p + s * d, case.params, direction))[0].mean()
        for s in (step, -step)
    )
    slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: (g * d).sum(), gradient, direction)))
    assert abs(slope) > 1e-3
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-5)
