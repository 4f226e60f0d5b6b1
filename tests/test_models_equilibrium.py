"""Equilibrium models: fixed points and implicit gradients against closed forms."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import jacreg
import models
from models.conv import transpose_axes
from models.equilibrium import EquilibriumSolver, solve
from models.equilibrium._linear import TruncatedGMRES

KEY = jax.random.key(0)
TIGHT = {"tolerance": 1e-12, "max_steps": 200, "backward_tolerance": 1e-12}


def affine(size=4, norm=0.7):
    matrix = jax.random.normal(KEY, (size, size))
    matrix = norm * matrix / jnp.linalg.norm(matrix, 2)
    return matrix, jax.random.normal(jax.random.key(1), (size,))


@pytest.mark.parametrize("method", ["anderson", "iteration"])
def test_affine_cell_and_its_gradient(method, x64):
    matrix, offset = affine()
    solver = EquilibriumSolver(method, **TIGHT)

    def found(matrix, offset):
        # A tuple as the state, as in a model of several scales.
        def cell(state):
            z = jnp.concatenate(state)
            new = matrix @ z + offset
            return new[:1], new[1:]

        return solve(cell, (jnp.zeros(1), jnp.zeros(3)), solver=solver)

    result = jax.jit(found)(matrix, offset)
    state = jnp.concatenate(result.state)
    expected = jnp.linalg.solve(jnp.eye(4) - matrix, offset)
    np.testing.assert_allclose(state, expected, rtol=1e-9)
    assert result.converged
    assert result.residual <= 1e-12
    # Anderson's method on an affine map of four dimensions is GMRES: five mixtures suffice.
    assert (result.num_evaluations < 20) == (method == "anderson")

    def loss(solution):
        return jnp.sum(jnp.sin(solution))

    got = jax.jit(jax.grad(lambda *a: loss(jnp.concatenate(found(*a).state)), (0, 1)))(
        matrix, offset
    )
    want = jax.grad(lambda a, b: loss(jnp.linalg.solve(jnp.eye(4) - a, b)), (0, 1))(matrix, offset)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7), got, want)


def test_backward_solve_is_gmres_cut_short(x64):
    """After k products the solution is the best one in the Krylov space of dimension k."""
    matrix, right = affine()
    matrix = jnp.eye(4) - matrix

    def solution(rtol, steps, transposed=False):
        operator = lx.MatrixLinearOperator(matrix)
        operator = operator.T if transposed else operator
        return lx.linear_solve(operator, right, TruncatedGMRES(rtol, steps), throw=False).value

    for transposed, used, steps in ((False, matrix, 2), (True, matrix.T, 3)):
        powers = [jnp.linalg.matrix_power(used, power) @ right for power in range(steps)]
        space = jnp.stack(powers, 1)
        best = space @ jnp.linalg.lstsq(used @ space, right)[0]
        np.testing.assert_allclose(solution(1e-13, steps, transposed), best, rtol=1e-8)
    # A tolerance that fewer products reach ends it before the space is full.
    residual = jnp.linalg.norm(matrix @ solution(0.3, 4) - right) / jnp.linalg.norm(right)
    assert 1e-3 < residual <= 0.3


def test_evaluations_are_counted_as_they_happen():
    calls = []
    matrix, offset = affine()

    def cell(z):
        jax.debug.callback(lambda: calls.append(1))
        return matrix @ z + offset

    result = solve(cell, jnp.zeros(4), solver=EquilibriumSolver(tolerance=1e-3))
    jax.block_until_ready(result)
    jax.effects_barrier()
    assert len(calls) == result.num_evaluations
    distance = jnp.linalg.norm(matrix @ result.state + offset - result.state)
    assert distance <= 1e-3 * jnp.linalg.norm(result.state)


def test_each_example_has_its_own_count():
    rates = jnp.array([0.1, 0.5, 0.9])
    solver = EquilibriumSolver("iteration", max_steps=1000)
    result = jax.vmap(lambda rate: solve(lambda z: rate * z + 1, jnp.zeros(1), solver=solver))(
        rates
    )
    np.testing.assert_allclose(result.state[:, 0], 1 / (1 - rates), rtol=1e-2)
    assert result.converged.all()
    assert (np.diff(result.num_evaluations) > 0).all()


def test_a_scalar_state_is_solved_by_the_secant_method():
    """Two points are enough in one dimension; older ones, from another slope, only delay."""

    def kinked(z):
        return jnp.where(z < 1, 2.3 - 0.8 * z, 1.2 + 0.3 * z)

    result = solve(kinked, jnp.zeros(1), solver=EquilibriumSolver(tolerance=1e-6, memory=8))
    np.testing.assert_allclose(result.state, 1.2 / 0.7, rtol=1e-6)
    assert result.num_evaluations <= 5


def test_giving_up_is_reported_and_does_not_raise():
    matrix, offset = affine(norm=1.5)

    def found(offset):
        solver = EquilibriumSolver("iteration", max_steps=7, backward_steps=1)
        return solve(lambda z: matrix @ z + offset, jnp.zeros(4), solver=solver)

    result = found(offset)
    assert not result.converged
    assert result.num_evaluations == 7
    assert result.residual > 1e-2
    gradient = jax.grad(lambda offset: found(offset).state.sum())(offset)
    assert np.isfinite(gradient).all()


def test_synthetic_model_is_bais(x64):
    model = models.build("equilibrium", key=KEY, tolerance=1e-11, max_steps=200)
    assert model.inner.weight.shape == (50, 1)
    x, z = jnp.array([0.4]), jnp.array([-0.3])
    hidden = jnp.maximum(
        model.inner.weight @ z + model.injection.weight @ x + model.injection.bias, 0
    )
    np.testing.assert_allclose(model.cell(z, model.inject(x)), model.outer.weight @ hidden)
    xs = jnp.linspace(-2, 2, 5)[:, None]
    states = jax.jit(jax.vmap(model))(xs)
    injected = jax.vmap(model.inject)(xs)
    cell = lambda zs: jax.vmap(model.cell)(zs, injected)  # noqa: E731
    np.testing.assert_allclose(cell(states), states, rtol=1e-9)
    # One dimension: J is f'(z), so a Gaussian probe gives f'(z)^2 e^2.
    penalty = jacreg.losses.equilibrium_jacobian_penalty(cell, states, key=KEY, num_probes=2000)
    slopes = jacreg.jacobian(jacreg.linearize(cell, states))[:, 0, 0]
    np.testing.assert_allclose(penalty, slopes**2, rtol=0.2)

    weight = model.inner.weight

    def loss(weight):
        changed = eqx.tree_at(lambda m: m.inner.weight, model, weight)
        return jnp.sum(jax.vmap(changed)(xs) ** 2)

    loss = jax.jit(loss)
    gradient = jax.jit(jax.grad(loss))(weight)
    direction = jnp.cos(jnp.arange(weight.size)).reshape(weight.shape)
    difference = (loss(weight + 1e-5 * direction) - loss(weight - 1e-5 * direction)) / 2e-5
    np.testing.assert_allclose(jnp.vdot(gradient, direction), difference, rtol=1e-5)


def test_mdeq_converges_in_any_layout(x64):
    options = {"input_shape": (4, 8, 2), "widths": (2, 4), "groups": 2, "num_classes": 3}
    options |= {"tolerance": 1e-10, "max_steps": 100}
    images = jax.random.normal(KEY, (2, 4, 8, 2))

    def logits(parts, axes):
        model = models.build("mdeq", key=KEY, layout=parts, **options)

        @jax.jit
        def run(xs):
            result = jax.vmap(model.solve)(xs)
            again = jax.vmap(model.cell)(result.state, jax.vmap(model.inject)(xs))
            return result, again, jax.vmap(model.readout)(result.state)

        result, again, ys = run(transpose_axes(images, "NHWC", axes))
        assert result.converged.all()
        for a, b in zip(result.state, again, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-8)
        return ys

    expected = logits(("NHWC", "HWIO", "NHWC"), "NHWC")
    assert expected.shape == (2, 3)
    got = logits(("CWNH", "OIHW", "NHCW"), "NCWH")
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("equilibrium", {"solver": "andersen"}, "Did you mean 'anderson'"),
        ("equilibrium", {"tolerance": 0.0}, "tolerance of an equilibrium solver must be positive"),
        ("mdeq", {"input_shape": (30, 32, 3)}, "divisible by 4"),
        ("mdeq", {"widths": (6, 8)}, "groups = 4 must divide"),
        ("mdeq", {"widths": ()}, "at least one scale"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        models.build(name, key=KEY, **options)


def test_bad_inputs():
    with pytest.raises(ValueError, match="keep the shape of its state"):
        solve(lambda z: z[:1], jnp.zeros(3))
    with pytest.raises(ValueError, match=r"shape \(1,\), got \(2,\)"):
        models.build("equilibrium", key=KEY)(jnp.ones(2))
