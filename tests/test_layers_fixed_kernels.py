"""Constrained kernels computed once for evaluation: equal, never behind, never a wrong bound."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jacreg.eqx
import jacreg.nnx

KEY = jax.random.key(3)
XS = np.random.default_rng(3).standard_normal((3, 6, 6, 2)).astype(np.float32)
MOST = 1 + 1e-5


def _nnx():
    rngs = nnx.Rngs(0)
    return jacreg.nnx.LipschitzSequential(
        [
            jacreg.nnx.AOLConv(2, 4, 2, strides=2, groups=2, rngs=rngs),
            jacreg.nnx.SLLConv(4, 3, rngs=rngs),
            lambda xs: xs.reshape(len(xs), -1),
            jacreg.nnx.OrthogonalDense(36, 6, rngs=rngs),
            jacreg.nnx.SLLDense(6, rngs=rngs),
        ],
        in_shape=(6, 6, 2),
    )


def _eqx():
    layout = ("NHWC", "HWIO", "NHWC")
    return jacreg.eqx.LipschitzSequential(
        [
            jacreg.eqx.AOLConv(2, 4, 2, strides=2, groups=2, layout=layout, key=KEY),
            jacreg.eqx.SLLConv(4, 3, layout=layout, key=KEY),
            jnp.ravel,
            jacreg.eqx.OrthogonalDense(36, 6, key=KEY),
            jacreg.eqx.SLLDense(6, key=KEY),
        ],
        in_shape=(6, 6, 2),
    )


def _trained(model):
    """The module itself after steps of a large rate on its parameters."""
    optimizer = nnx.Optimizer(model, optax.adam(0.3), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        grads = nnx.grad(lambda m: jnp.square(m(XS) - 1).sum())(model)
        optimizer.update(model, grads)

    for _ in range(3):
        step(model, optimizer)
    return model


def _holds_an_inverse(fn, *args):
    return "triangular_solve" in str(jax.make_jaxpr(fn)(*args))


def test_a_copy_computes_no_kernel_and_gives_the_same_numbers():
    model = _nnx()
    fixed = jacreg.nnx.fixed_kernels(model)
    expected, found = model(XS), fixed(XS)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert 1 <= float(jax.jit(lambda: fixed.lipschitz_bound())()) <= MOST
    assert _holds_an_inverse(jacreg.nnx.function(model), XS)
    assert not _holds_an_inverse(jacreg.nnx.function(fixed), XS)
    np.testing.assert_allclose(nnx.jit(lambda m, xs: m(xs))(fixed, XS), expected, atol=1e-6)
    graph, state = nnx.split(fixed)
    np.testing.assert_array_equal(nnx.merge(graph, state)(XS), found)
    again = jacreg.nnx.fixed_kernels(fixed)
    np.testing.assert_array_equal(again(XS), found)

    @jax.jit
    def of_inputs(xs):
        return [jax.grad(lambda xs: jnp.sum(m(xs) ** 2))(xs) for m in (model, fixed)]  # noqa: B023

    np.testing.assert_allclose(*of_inputs(XS), atol=1e-5)


def test_training_goes_on_beside_a_copy_and_the_copy_does_not_fall_behind():
    model = _nnx()
    shapes = jax.tree.map(jnp.shape, nnx.state(model))
    fixed, before = jacreg.nnx.fixed_kernels(model), model(XS)
    assert jax.tree.map(jnp.shape, nnx.state(model)) == shapes  # what a checkpoint holds
    fixed.train()
    assert {path[-1] for path, _ in nnx.to_flat_state(nnx.state(fixed, nnx.Param))} == {"bias"}
    _trained(model)
    assert float(jnp.abs(model(XS) - before).max()) > 0.1
    np.testing.assert_allclose(fixed(XS), before, atol=1e-6)
    np.testing.assert_allclose(jacreg.nnx.fixed_kernels(model)(XS), model(XS), atol=1e-6)
    nnx.update(fixed, nnx.state(model, nnx.Param))
    np.testing.assert_array_equal(fixed(XS), model(XS))
    assert all(layer.lipschitz_bound() == 1 for layer in fixed.layers if hasattr(layer, "bias"))
    np.testing.assert_allclose(jacreg.nnx.fixed_kernels(fixed)(XS), model(XS), atol=1e-6)


def test_gradients_pass_through_a_copy():
    graph, params = nnx.split(_nnx())

    def loss(params, change):
        return jnp.sum(change(nnx.merge(graph, params))(XS) ** 3)

    own = jax.jit(jax.grad(lambda p: loss(p, lambda model: model)))(params)
    through = jax.jit(jax.grad(lambda p: loss(p, jacreg.nnx.fixed_kernels)))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), own, through)
    model = _eqx()

    def mean(model, change):
        return jnp.sum(jax.vmap(change(model))(XS) ** 3)

    own = eqx.filter_jit(eqx.filter_grad(mean))(model, lambda m: m)
    through = eqx.filter_jit(eqx.filter_grad(mean))(model, jacreg.eqx.fixed_kernels)
    pairs = [jax.tree.leaves(eqx.filter(each, eqx.is_array)) for each in (own, through)]
    for a, b in zip(*pairs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_equinox_models_hold_no_parameters_that_could_differ():
    model = _eqx()
    fixed = jacreg.eqx.fixed_kernels(model)
    expected = jax.jit(jax.vmap(model))(XS)
    jitted = eqx.filter_jit(lambda xs: jax.vmap(fixed)(xs))
    np.testing.assert_allclose(jitted(XS), expected, atol=1e-6)
    assert 1 <= float(jax.jit(lambda: fixed.lipschitz_bound())()) <= MOST
    assert _holds_an_inverse(jax.vmap(model), XS)
    assert not _holds_an_inverse(jax.vmap(fixed), XS)
    assert fixed.layers[0].weight is None
    assert fixed.layers[4].scale is None
    assert jax.tree.structure(jacreg.eqx.fixed_kernels(fixed)) == jax.tree.structure(fixed)
    dense, others = fixed.layers[3], model.layers[3].weight + 1
    moved = eqx.tree_at(lambda m: m.weight, dense, others, is_leaf=lambda leaf: leaf is None)
    plain = eqx.tree_at(lambda m: m.weight, model.layers[3], others)
    np.testing.assert_array_equal(moved(jnp.ones(36)), plain(jnp.ones(36)))
    assert moved.lipschitz_bound() == 1


@pytest.mark.parametrize("entry", ["kernel", "sums", "weights"])
def test_kernels_that_something_moved_are_not_called_1_lipschitz(entry):
    """Each held number multiplied: the bound is above the norm of what is computed then."""
    shapes = {0: (6, 6, 2), 1: (3, 3, 4), 3: (36,), 4: (6,)}
    trained, moved = _trained(_nnx()), 0
    for low, high in ((0.3, 1.0), (1.0, 3.0)):
        for index, shape in shapes.items():
            layer = jacreg.nnx.fixed_kernels(trained).layers[index]
            held = dict(layer.fixed.items()).get(entry)
            if held is None:
                continue
            rng = np.random.default_rng(0)
            held[...] = held[...] * rng.uniform(low, high, held.shape).astype(np.float32)
            points = 3 * rng.standard_normal((4, *shape)).astype(np.float32)

            @jax.jit
            def measured(points, layer=layer):
                jacobian = jax.jacfwd(lambda x: layer(x[None])[0].ravel())
                return jax.vmap(jacobian)(points), layer.lipschitz_bound()

            jacobians, bound = measured(points)
            flat = np.asarray(jacobians).reshape((*jacobians.shape[:2], -1))
            assert np.linalg.norm(flat, 2, (1, 2)).max() <= float(bound) * MOST
            moved += bound > 1.1
    assert moved >= 1


def test_what_is_no_module():
    with pytest.raises(TypeError, match=r"nnx\.Module"):
        jacreg.nnx.fixed_kernels(lambda xs: xs)  # pyright: ignore[reportArgumentType]
    dense = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(jacreg.nnx.fixed_kernels(dense)(XS), dense(XS))
    assert jacreg.eqx.fixed_kernels(jnp.tanh) is jnp.tanh
