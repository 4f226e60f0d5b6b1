"""Fixed points of batches and their implicit derivatives against closed forms."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jacreg
from jacreg.equilibrium import EquilibriumSolver, solve
from jacreg.equilibrium._gmres import gmres

KEY = jax.random.key(0)
TIGHT = {"tolerance": 1e-12, "max_steps": 200, "backward_tolerance": 1e-12}


@partial(jax.jit, static_argnames=("size", "norm"))
def affine(size=4, norm=0.7):
    matrix = jax.random.normal(KEY, (size, size))
    matrix = norm * matrix / jnp.linalg.norm(matrix, 2)
    return matrix, jax.random.normal(jax.random.key(1), (3, size))


@pytest.mark.parametrize("method", ["anderson", "iteration"])
def test_affine_cell_and_its_derivatives(method, x64):
    matrix, offsets = affine()
    solver = EquilibriumSolver(method, **TIGHT)

    def found(matrix, offsets):
        # A tuple as the state, as in a model of several scales; the matrix is closed over.
        def cell(state, offsets):
            new = jnp.concatenate(state, 1) @ matrix.T + offsets
            return new[:, :1], new[:, 1:]

        return solve(cell, (jnp.zeros((3, 1)), jnp.zeros((3, 3))), offsets, solver=solver)

    def closed(matrix, offsets):
        return jnp.linalg.solve(jnp.eye(4) - matrix, offsets.T).T

    def state(*given):
        return jnp.concatenate(found(*given).state, 1)

    @jax.jit
    def run(*given):
        def both(state):
            weights = jnp.cos(jnp.arange(12.0)).reshape(3, 4)
            gradients = jax.grad(lambda *given: jnp.vdot(weights, state(*given)), (0, 1))(*given)
            return gradients, *jax.jvp(state, given, given)

        return found(*given), both(state), both(closed)

    result, got, want = run(matrix, offsets)
    np.testing.assert_allclose(np.concatenate(result.state, 1), want[1], rtol=1e-9)
    assert result.converged.all()
    assert (result.residual <= 1e-12).all()
    # Anderson's method on an affine map of four dimensions is GMRES: five mixtures suffice.
    assert (result.num_evaluations.max() < 20) == (method == "anderson")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9), got, want)


def nonlinear(matrix, offsets, solver=EquilibriumSolver(**TIGHT)):
    def cell(z, table):
        return {"z": jnp.tanh(z["z"] @ matrix.T) + offsets * table[1][:, None]}

    table = (jnp.arange(3), jnp.array([1.0, 0.5, -1.0]))
    return solve(cell, {"z": jnp.zeros((3, 4))}, table, solver=solver)


def differences(fn, at, along, step=1e-5):
    """The central difference of a function along a direction."""
    return (fn(at + step * along) - fn(at - step * along)) / (2 * step)


def test_derivatives_by_differences_in_both_modes_and_twice(x64):
    matrix, offsets = affine(norm=0.9)
    along = jnp.cos(jnp.arange(16.0)).reshape(4, 4)

    def loss(matrix):
        return jnp.sum(jnp.sin(nonlinear(matrix, offsets).state["z"]))

    @jax.jit
    def all_of(matrix):
        pushed = jax.jvp(loss, (matrix,), (along,))
        gradient, curved = jax.jvp(jax.grad(loss), (matrix,), (along,))
        return *pushed, gradient, curved

    _, pushed, gradient, curved = all_of(matrix)
    np.testing.assert_allclose(pushed, differences(lambda m: all_of(m)[0], matrix, along), 1e-6)
    np.testing.assert_allclose(jnp.vdot(gradient, along), pushed, rtol=1e-9)
    np.testing.assert_allclose(curved, differences(lambda m: all_of(m)[2], matrix, along), 1e-5)


def test_penalty_and_spectral_radius_at_the_rest_point(x64):
    """Users' three lines: rest, penalty, radius. The state is detached in the penalty alone."""
    matrix, offsets = affine(norm=0.9)
    along = jnp.cos(jnp.arange(16.0)).reshape(4, 4)

    def measured(matrix):
        cell = lambda z: jnp.tanh(z @ matrix.T) + offsets  # noqa: E731
        state = solve(cell, jnp.zeros((3, 4)), solver=EquilibriumSolver(**TIGHT)).state
        lin = jacreg.linearize(cell, state)
        norm = jacreg.frobenius_squared(lin, jacreg.Exact()).mean()
        radius = jacreg.spectral_radius(lin, key=KEY)
        penalty = jacreg.losses.equilibrium_jacobian_penalty(cell, state, key=KEY, num_probes=4000)
        return norm, (state, radius, penalty)

    run = jax.jit(jax.value_and_grad(measured, has_aux=True))
    (_, (state, radius, penalty)), gradient = jax.device_get(run(matrix))
    matrix = np.asarray(matrix)
    dense = (1 - np.tanh(state @ matrix.T) ** 2)[:, :, None] * matrix
    values = np.abs(np.linalg.eigvals(dense)).max(1)
    np.testing.assert_allclose(radius, values, rtol=2e-3)
    np.testing.assert_allclose(penalty, np.sum(dense**2, (1, 2)) / 4, rtol=0.15)
    slope = differences(lambda matrix: run(matrix)[0][0], matrix, np.asarray(along))
    np.testing.assert_allclose(np.vdot(gradient, along), slope, rtol=1e-6)


def test_each_row_stops_by_its_own_residual():
    calls = []
    rates = np.array([0.1, 0.5, 0.9], np.float32)

    def cell(z):
        jax.debug.callback(lambda: calls.append(1))
        return rates[:, None] * z + 1

    solver = EquilibriumSolver("iteration", max_steps=1000)
    result = jax.jit(lambda start: solve(cell, start, solver=solver))(np.zeros((3, 1), np.float32))
    np.testing.assert_allclose(result.state[:, 0], 1 / (1 - rates), rtol=1e-2)
    assert result.converged.all()
    assert (np.diff(result.num_evaluations) > 0).all()
    jax.block_until_ready(result)
    jax.effects_barrier()
    assert len(calls) == result.num_evaluations.max()
    # A row that has stopped stays where it alone would have stopped.
    by_itself = jax.jit(
        lambda rate: solve(lambda z: rate * z + 1, jnp.zeros((1, 1)), solver=solver)
    )
    for row, rate in enumerate(rates):
        alone = by_itself(rate)
        assert alone.num_evaluations[0] == result.num_evaluations[row]
        np.testing.assert_allclose(alone.state[0], result.state[row], rtol=1e-6)


def test_a_scalar_state_is_solved_by_the_secant_method():
    """Two points are enough in one dimension; older ones, from another slope, only delay."""

    def kinked(z):
        return jnp.where(z < 1, 2.3 - 0.8 * z, 1.2 + 0.3 * z)

    solver = EquilibriumSolver(tolerance=1e-6, memory=8)
    result = solve(kinked, jnp.zeros(2), solver=solver)
    np.testing.assert_allclose(result.state, 1.2 / 0.7, rtol=1e-6)
    assert (result.num_evaluations <= 5).all()


SLOPES = jnp.array([0.1, -0.3, 4.0])  # of z <- w s z^2 + 1/2: the last grows without bound


@pytest.mark.parametrize("method", ["anderson", "iteration"])
@pytest.mark.parametrize("closed_over", [False, True])
def test_an_example_that_gives_up_adds_nothing(method, closed_over):
    solver = EquilibriumSolver(method, max_steps=100, tolerance=1e-6)

    def solved(w, slopes):
        if closed_over:
            cell, args = (lambda z: w * slopes[:, None] * z * z + 0.5), ()
        else:
            cell, args = (lambda z, s, w: w * s[:, None] * z * z + 0.5), (slopes, w)
        return solve(cell, jnp.zeros((len(slopes), 1)), *args, solver=solver)

    # Unmasked: the state of the one that gave up is a constant.
    def loss(w, slopes):
        result = solved(w, slopes)
        return result.state.sum(), result

    @jax.jit
    def run(w, slopes):
        gradients, result = jax.grad(loss, (0, 1), has_aux=True)(w, slopes)
        tangent = jax.jvp(lambda w: loss(w, slopes)[0], (w,), (1.0,))[1]
        return result, gradients, tangent

    result, (by_w, by_slope), tangent = jax.device_get(run(1.0, SLOPES))
    assert result.converged.tolist() == [True, True, False]
    assert np.isfinite(result.state).all()
    z, slopes = result.state[:2, 0], np.asarray(SLOPES)[:2]
    want = (slopes * z**2 / (1 - 2 * slopes * z)).sum()
    np.testing.assert_allclose(by_w, want, rtol=1e-3)
    np.testing.assert_allclose(tangent, want, rtol=1e-3)
    assert by_slope[2] == 0
    np.testing.assert_allclose(by_slope[:2], z**2 / (1 - 2 * slopes * z), rtol=1e-3)


def test_an_example_that_gives_up_is_not_differentiated_where_it_ended():
    """There the derivatives are infinite, and 0 times them is nan."""
    solver = EquilibriumSolver("iteration", max_steps=100, tolerance=1e-6)

    @jax.jit
    @partial(jax.grad, has_aux=True)
    def solved(w):
        cell = lambda z: w * jnp.array([[0.1], [-0.3], [4.0]]) * jnp.exp(z)  # noqa: E731
        result = solve(cell, jnp.zeros((3, 1)), solver=solver)
        return result.state.sum(), result

    found, result = solved(1.0)
    assert result.converged.tolist() == [True, True, False]
    assert jnp.isinf(jnp.exp(result.state[2, 0]))
    z = np.asarray(result.state)[:2, 0]
    np.testing.assert_allclose(found, (z / (1 - z)).sum(), rtol=1e-4)


# Of a row that gives up, on states near the rest points of the others.
NO_REST = {
    "grows": lambda z: 2 * z + 1,
    "turns": lambda z: 1 - z,
    "jumps": lambda z: jnp.where(z > 0.3, z - 1, z + 0.7),
    "leaves its domain": lambda z: jnp.log(z) - 1,
    "overflows": lambda z: jnp.exp(jnp.exp(z + 1)),
    "loses its slope": lambda z: -jnp.sqrt(jnp.abs(z) + 0.0) - 1 / (z - 0.2),
}


@pytest.mark.parametrize("name", NO_REST)
@pytest.mark.parametrize("tree", [False, True])
def test_the_gradient_is_that_of_the_rows_that_converged(name, tree, x64):
    solver = EquilibriumSolver("iteration", max_steps=60, tolerance=1e-10)

    def solved(w, bad):
        def plain(z, bad):
            return w * jnp.where(bad[:, None], NO_REST[name](z), 0.4 * jnp.cos(z) + 0.1)

        def two(z, bad):
            return {"a": plain(z["a"], bad), "b": 0.5 * jnp.sin(w * z["a"]) + 0.2 * z["b"]}

        start = jnp.full((len(bad), 1), 0.5)
        cell, start = (two, {"a": start, "b": start}) if tree else (plain, start)
        result = solve(cell, start, bad, solver=solver)
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(result.state)), result

    @jax.jit
    def run(w, bad):
        both = jax.value_and_grad(solved, has_aux=True)
        tangent = jax.jvp(lambda w: solved(w, bad)[0], (w,), (1.0,))[1]
        return both(w, bad), both(w, bad[::2]), tangent

    ((_, result), found), ((_, alone), want), tangent = run(1.1, np.array([False, True, False]))
    assert result.converged.tolist() == [True, False, True]
    assert alone.converged.all()
    np.testing.assert_allclose(found, want, rtol=1e-8)
    np.testing.assert_allclose(tangent, want, rtol=1e-8)


def test_what_is_not_finite_at_once_gives_up_at_once():
    def cell(z):
        return jnp.where(jnp.arange(3)[:, None] == 1, jnp.nan, 0.5 * z + 1)

    result = jax.jit(lambda start: solve(cell, start))(jnp.zeros((3, 2)))
    assert result.converged.tolist() == [True, False, True]
    assert result.num_evaluations[1] == 1
    assert jnp.isinf(result.residual[1])
    np.testing.assert_allclose(result.state, [[2, 2], [0, 0], [2, 2]], rtol=1e-4)


def test_giving_up_is_counted():
    matrix, offsets = affine(norm=1.5)
    solver = EquilibriumSolver("iteration", max_steps=7, backward_steps=1)
    run = jax.jit(lambda start: solve(lambda z: z @ matrix.T + offsets, start, solver=solver))
    result = run(jnp.zeros((3, 4)))
    assert not result.converged.any()
    assert (result.num_evaluations == 7).all()
    assert (result.residual > 1e-2).all()


@pytest.mark.skipif(jax.device_count() < 4, reason="needs four (host) devices")
@pytest.mark.parametrize("kind", ["shard_map", "explicit"])
def test_four_devices_give_what_one_does(kind):
    """State, counts and the gradient of shared weights."""
    weight, xs = 0.4 * jax.random.normal(KEY, (3, 3)), jax.random.normal(KEY, (8, 3))

    def rest(weight, xs):
        found = solve(lambda z, x: jnp.tanh(z @ weight) + x, jnp.zeros_like(xs), xs)
        return found.state, found.num_evaluations

    def gradient(rest):
        return jax.jit(jax.value_and_grad(lambda w, xs: jnp.sum(rest(w, xs)[0] ** 2)))

    expected = (jax.jit(rest)(weight, xs), gradient(rest)(weight, xs))
    axes = AxisType.Explicit if kind == "explicit" else AxisType.Auto
    mesh = jax.make_mesh((4,), ("data",), axis_types=(axes,))
    if kind == "shard_map":
        specs = {"in_specs": (P(), P("data")), "out_specs": P("data")}
        split = jax.shard_map(rest, mesh=mesh, **specs)
        found = (jax.jit(split)(weight, xs), gradient(split)(weight, xs))
    else:
        with jax.set_mesh(mesh):
            weight = jax.device_put(weight, NamedSharding(mesh, P()))
            xs = jax.device_put(xs, NamedSharding(mesh, P("data")))
            found = (jax.jit(rest)(weight, xs), gradient(rest)(weight, xs))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), found, expected)


def test_it_vmaps_and_rests_in_zero():
    def rest(scale):
        return solve(lambda z: scale * z, jnp.ones((2, 3))).state

    np.testing.assert_allclose(jax.jit(jax.vmap(rest))(jnp.array([0.1, -0.4])), 0, atol=1e-6)


def test_low_precision_states():
    def cell(z):
        return {"a": 0.5 * z["a"] + 1, "b": 0.25 * z["b"] + z["a"].astype(jnp.float32)}

    start = {"a": jnp.zeros((2, 3), jnp.bfloat16), "b": jnp.zeros((2, 3))}
    result = jax.jit(lambda start: solve(cell, start, solver=EquilibriumSolver(tolerance=1e-2)))(
        start
    )
    assert result.state["a"].dtype == jnp.bfloat16
    np.testing.assert_allclose(result.state["a"].astype(jnp.float32), 2.0, rtol=0.02)
    np.testing.assert_allclose(result.state["b"], 8 / 3, rtol=0.02)


def test_linear_solves_are_gmres_cut_short(x64):
    """After k products the solution is the best one in the Krylov space of dimension k."""
    matrix, right = affine()
    matrix, right = np.asarray(matrix), np.asarray(right)
    matrices = np.stack([np.eye(4) - matrix, np.eye(4) + matrix.T, 3 * np.eye(4)])

    @partial(jax.jit, static_argnums=(0, 1))
    def solution(tolerance, steps):
        product = lambda vs: jnp.einsum("nij,nj->ni", matrices, vs)  # noqa: E731
        return gmres(product, right, tolerance=tolerance, num_steps=steps)

    for steps in (1, 3, 9):
        got = solution(1e-13, steps)
        for row, (used, vector) in enumerate(zip(matrices, right, strict=True)):
            powers = [np.linalg.matrix_power(used, power) @ vector for power in range(steps)]
            space = np.linalg.qr(np.stack(powers[: 1 if row == 2 else 4], 1))[0]
            best = space @ np.linalg.lstsq(used @ space, vector)[0]
            np.testing.assert_allclose(got[row], best, rtol=1e-8)
    # A tolerance that fewer products reach ends it before the space is full.
    residual = np.einsum("nij,nj->ni", matrices, solution(0.3, 4)) - right
    sizes = np.linalg.norm(residual, axis=1) / np.linalg.norm(right, axis=1)
    assert (sizes[:2] > 1e-3).all()
    assert (sizes <= 0.3).all()


def test_a_singular_or_broken_row_spoils_no_other(x64):
    matrices = jnp.stack([2 * jnp.eye(2), jnp.zeros((2, 2)), jnp.full((2, 2), jnp.nan)])
    product = lambda vs: jnp.einsum("nij,nj->ni", matrices, vs)  # noqa: E731
    run = jax.jit(lambda right, tol: gmres(product, right, tolerance=tol, num_steps=2))
    got = run(np.ones((3, 2)), 1e-9)
    np.testing.assert_allclose(got, [[0.5, 0.5], [0, 0], [0, 0]])
    np.testing.assert_array_equal(run(np.zeros((3, 2)), 1.0), 0)


def test_bad_inputs():
    with pytest.raises(ValueError, match=r"keep the shape of its state: got \(2, 3\) -> \(2, 1\)"):
        solve(lambda z: z[:, :1], jnp.zeros((2, 3)))
    with pytest.raises(ValueError, match="keep the shape of its state"):
        solve(lambda z: (z,), jnp.zeros((2, 3)))
    with pytest.raises(TypeError, match="floating point, got int32"):
        solve(lambda z: z, jnp.zeros((2, 3), jnp.int32))
    with pytest.raises(ValueError, match="batch axis"):
        solve(lambda z: z, jnp.zeros(()))
    with pytest.raises(ValueError, match="Did you mean 'anderson'"):
        EquilibriumSolver("andersen")
    with pytest.raises(ValueError, match="EquilibriumSolver: max_steps must be at least 1"):
        EquilibriumSolver(max_steps=0)
    with pytest.raises(TypeError, match="EquilibriumSolver: memory must be an integer"):
        EquilibriumSolver(memory=2.5)
    with pytest.raises(TypeError, match="EquilibriumSolver: tolerance must be a Python number"):
        EquilibriumSolver(tolerance=None)
    with pytest.raises(TypeError, match=r"solver must be of EquilibriumSolver.*got 'anderson'"):
        solve(lambda z: z, jnp.zeros((2, 3)), solver="anderson")
