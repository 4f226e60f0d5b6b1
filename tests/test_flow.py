"""Continuous flows against linear fields with a closed form, and against themselves."""

import dataclasses
from functools import partial

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg
import jacreg.eqx
import models
from jacreg.flow import FlowSolver, bits_per_dimension, log_density, sample, time_first
from jacreg.flow._field import Rate, check_field

KEY = jax.random.key(0)
FINE = [FlowSolver("rk4", step_size=0.02), FlowSolver("dopri5", rtol=1e-10, atol=1e-10)]
MATRIX = np.array([[0.3, -0.8, 0.1], [0.5, 0.2, 0.0], [0.0, 0.4, -0.9]])


def linear(xs, ts):
    return xs @ jnp.asarray(MATRIX.T, xs.dtype)


@jax.jit
def closed_form(xs):
    """Where the linear flow takes xs, the normal log density there, and the kinetic energy."""
    latents = xs @ jax.scipy.linalg.expm(MATRIX).T
    times = jnp.linspace(0, 1, 2001)
    paths = jax.vmap(lambda t: xs @ jax.scipy.linalg.expm(t * MATRIX).T)(times)
    speeds = jnp.sum((paths @ MATRIX.T) ** 2, 2)
    energy = jax.scipy.integrate.trapezoid(speeds, times, axis=0)
    return latents, jax.scipy.stats.norm.logpdf(latents).sum(1), energy


@pytest.mark.parametrize("solver", FINE, ids=["rk4", "dopri5"])
@pytest.mark.parametrize("regularize", [False, True])
def test_linear_field_has_a_closed_form(solver, regularize, x64):
    xs = jax.random.normal(KEY, (4, 3))
    result = jax.jit(lambda xs: log_density(linear, xs, solver=solver, regularize=regularize))(xs)
    latents, base, energy = closed_form(xs)
    np.testing.assert_allclose(result.values, latents, rtol=1e-6)
    np.testing.assert_allclose(result.log_density, base + np.trace(MATRIX), rtol=1e-6)
    assert result.converged
    if regularize:
        np.testing.assert_allclose(result.frobenius_squared, np.sum(MATRIX**2), rtol=1e-6)
        np.testing.assert_allclose(result.kinetic_energy, energy, rtol=1e-6)
    else:
        assert result.kinetic_energy is None
        assert result.frobenius_squared is None


def test_the_norm_above_the_dense_dimensions_is_the_same(x64, monkeypatch):
    xs = jax.random.normal(KEY, (2, 3))
    solver = FlowSolver("rk4", step_size=0.5)

    @jax.jit
    def both(xs):
        dense = log_density(linear, xs, solver=solver, regularize=True)
        monkeypatch.setattr("jacreg.flow._rates._DENSE_DIMENSIONS", 2)
        return dense, log_density(linear, xs, solver=solver, regularize=True)

    dense, chunked = both(xs)
    np.testing.assert_allclose(chunked.log_density, dense.log_density, rtol=1e-12)
    np.testing.assert_allclose(chunked.frobenius_squared, dense.frobenius_squared, rtol=1e-12)


def test_samples_invert_the_flow(x64):
    @jax.jit
    def there_and_back(key):
        drawn = sample(linear, (4, 3), solver=FINE[1], key=key).values
        return log_density(linear, drawn, solver=FINE[1]).values, jax.random.normal(key, (4, 3))

    latents, expected = there_and_back(KEY)
    np.testing.assert_allclose(latents, expected, rtol=1e-7)


def test_hutchinson_draws_the_values_of_the_sign_vectors(x64):
    # A linear field's integrals are e^T A e and norm(e^T A)^2 for the probe of each example, so
    # with 64 keys every draw must be one of the eight sign vectors' values and, as e and -e
    # agree, all four of these must come up. Their mean is the truth.
    xs = jax.random.normal(KEY, (2, 3))
    solver = FlowSolver("rk4", step_size=0.5)
    signs = np.array([[1, a, b] for a in (-1, 1) for b in (-1, 1)])
    values = np.stack(
        [np.einsum("ki,ij,kj->k", signs, MATRIX, signs), np.sum((signs @ MATRIX) ** 2, 1)], 1
    )
    truth = [np.trace(MATRIX), np.sum(MATRIX**2)]
    np.testing.assert_allclose(values.mean(0), truth, atol=1e-12)

    @jax.jit
    def run(keys):
        exact = log_density(linear, xs, solver=solver)

        def draw(key):
            options = {"method": jacreg.Hutchinson(), "regularize": True, "key": key}
            result = log_density(linear, xs, solver=solver, **options)
            trace = result.log_density - exact.log_density + np.trace(MATRIX)
            return jnp.stack([trace, result.frobenius_squared], 1)

        return jax.lax.map(draw, keys)

    draws = np.asarray(run(jax.random.split(KEY, 64))).reshape(-1, 1, 2)
    distances = np.abs(draws - values).max(2)
    assert float(distances.min(1).max()) < 1e-9
    assert set(np.unique(distances.argmin(1)).tolist()) == {0, 1, 2, 3}


def test_colored_divergence_and_images(x64):
    model = models.build("flow_conv", key=KEY, widths=(2,), input_shape=(5, 5, 1))
    field = jacreg.eqx.function(model)
    xs = jax.random.normal(KEY, (2, 5, 5, 1))
    solver = FlowSolver("rk4", step_size=0.5)
    coloring = jacreg.color(field, xs, jnp.zeros(2))

    @jax.jit
    def both(xs):
        methods = jacreg.Auto(), coloring
        return [log_density(field, xs, solver=solver, method=method) for method in methods]

    exact, colored = both(xs)
    np.testing.assert_allclose(colored.log_density, exact.log_density, rtol=1e-10)
    with pytest.raises(ValueError, match="needs a key"):
        log_density(field, xs, solver=solver, method=coloring, regularize=True)


def curved(weight, xs, ts, condition=0.0):
    return jnp.tanh(xs @ weight) * jnp.cos(ts)[:, None] + condition


ADJOINTS = {
    "direct": diffrax.DirectAdjoint(),
    "backsolve": diffrax.BacksolveAdjoint(),
    "forward": diffrax.ForwardMode(),
}


@pytest.mark.parametrize(
    ("method", "regularize"), [(jacreg.Auto(), False), (jacreg.Hutchinson(), True)]
)
def test_derivatives_by_differences_and_by_every_adjoint(method, regularize, x64):
    """In the weights that the field closes over, the data and a condition, in both modes."""
    weight = 0.7 * jnp.asarray(MATRIX)
    given = (weight, jax.random.normal(KEY, (3, 3)), jnp.array([[0.1], [-0.2], [0.3]]))
    along = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), given)

    def loss(solver, *given):
        weight, xs, condition = given
        field = lambda xs, ts, condition: curved(weight, xs, ts, condition)  # noqa: E731
        options = {"method": method, "regularize": regularize, "key": KEY}
        result = log_density(field, xs, condition, solver=solver, **options)
        penalty = result.kinetic_energy + result.frobenius_squared if regularize else 0
        return jnp.mean(0.1 * penalty - result.log_density)

    solver = FlowSolver("dopri5", rtol=1e-9, atol=1e-9, max_steps=64)
    along = jax.device_get(along)

    def slope(gradient):
        return sum(map(np.vdot, jax.tree.leaves(gradient), jax.tree.leaves(along)))

    # The default adjoint is by checkpoints: its program gives the values, too.
    both = jax.jit(jax.value_and_grad(partial(loss, solver), (0, 1, 2)))
    up, down = (
        jax.tree.map(lambda a, v, s=s: np.asarray(a) + s * v, given, along) for s in (1e-5, -1e-5)
    )
    difference = (both(*up)[0] - both(*down)[0]) / 2e-5
    np.testing.assert_allclose(slope(both(*given)[1]), difference, rtol=1e-6)
    for name, adjoint in ADJOINTS.items() if method == jacreg.Auto() else ():
        used = dataclasses.replace(solver, adjoint=adjoint)
        if name == "forward":
            found = jax.jit(lambda g, v, s=used: jax.jvp(partial(loss, s), g, v)[1])(given, along)
        else:
            found = slope(jax.jit(jax.grad(partial(loss, used), (0, 1, 2)))(*given))
        np.testing.assert_allclose(found, difference, rtol=1e-6, err_msg=name)


def test_the_adjoint_of_a_steady_state_is_refused():
    with pytest.raises(ValueError, match=r"steady state.*DirectAdjoint"):
        FlowSolver(adjoint=diffrax.ImplicitAdjoint())
    with pytest.raises(TypeError, match="one of diffrax"):
        FlowSolver(adjoint="direct")


def test_time_condition_and_base(x64):
    """dz/dt = cos(t) A z + c: z(1) and the trace in closed form, the base a logistic density."""
    xs, shift = jax.random.normal(KEY, (4, 3)), jnp.array([[1.0], [0.0], [-1.0], [2.0]])
    rotation = jnp.asarray(np.diag([0.5, -0.2, 0.1]))
    matrix = MATRIX @ np.asarray(rotation) @ np.linalg.inv(MATRIX)

    def field(xs, ts, shift):
        return jnp.cos(ts)[:, None] * ((xs - shift) @ matrix.T)

    def base(zs):
        return jax.scipy.stats.logistic.logpdf(zs).sum(1)

    @jax.jit
    def run(xs):
        result = log_density(field, xs, shift, base=base, solver=FINE[1])
        moved = shift + (xs - shift) @ jax.scipy.linalg.expm(jnp.sin(1.0) * matrix).T
        expected = base(moved) + jnp.sin(1.0) * jnp.trace(rotation)
        drawn = sample(field, (4, 3), shift, base=jax.random.logistic, solver=FINE[1], key=KEY)
        back = log_density(field, drawn.values, shift, solver=FINE[1]).values
        return result, moved, expected, back, jax.random.logistic(KEY, (4, 3))

    result, moved, expected, back, latents = run(xs)
    np.testing.assert_allclose(result.values, moved, rtol=1e-7)
    np.testing.assert_allclose(result.log_density, expected, rtol=1e-7)
    np.testing.assert_allclose(back, latents, rtol=1e-6)
    with pytest.raises(ValueError, match=r"one log density an example, shape \(4,\), got \(4, 3\)"):
        log_density(field, xs, shift, base=jax.scipy.stats.logistic.logpdf)
    with pytest.raises(ValueError, match=r"base must draw latents of shape \(4, 3\), got \(3,\)"):
        sample(field, (4, 3), shift, base=lambda key, shape: jnp.zeros(3), key=KEY)


class TestTheOrderOfAField:
    """A field that broadcasts either way round: only the order tells what is differentiated."""

    xs, t = jnp.linspace(-1, 1, 6).reshape(3, 2), jnp.asarray(0.5)

    def same(self, field, *args):
        rate = Rate(field, args)
        lin = jacreg.linearize(rate.fn, self.xs, *rate.arguments(self.xs, self.t))
        np.testing.assert_allclose(lin.value, 0.5 * jnp.tanh(self.xs), rtol=1e-6)
        slopes = 0.5 * (1 - jnp.tanh(self.xs) ** 2)
        np.testing.assert_allclose(jacreg.divergence(lin), slopes.sum(1), rtol=1e-6)
        check_field(field, self.xs, args)

    def test_state_first(self):
        self.same(lambda xs, ts: jnp.tanh(xs) * ts[:, None])
        self.same(lambda xs, ts, c: jnp.tanh(xs) * ts[:, None] * c[:, None], jnp.ones(3))

    def test_a_time_that_stands_second_is_the_time(self):
        """Though what follows it is called `args`: these broadcast the other way round too."""
        one = jnp.ones((3, 1))
        self.same(lambda x, t, args: jnp.tanh(x) * jnp.expand_dims(t, range(t.ndim, 2)) * args, one)
        self.same(lambda x, ts, args: jnp.tanh(x) * ts.mean() * args, one)
        with pytest.raises(TypeError, match=r"here with xs, ts; got one with .*x, t, args"):
            check_field(lambda x, t, args: x * t, self.xs, ())

    def test_diffrax_order_is_known_by_its_names(self):
        def three(t, y, args):
            assert args is None
            return jnp.tanh(y) * t

        self.same(three)
        self.same(lambda s, y, args: jnp.tanh(y) * s)
        self.same(lambda t, y: jnp.tanh(y) * t)
        self.same(lambda time, y: jnp.tanh(y) * time)

    def test_it_is_marked_where_names_do_not_tell(self):
        self.same(time_first(lambda a, b, c: jnp.tanh(b) * a))
        self.same(time_first(lambda a, b: jnp.tanh(b) * a))
        marked = time_first(lambda a, b, c: b * a)
        np.testing.assert_allclose(marked(2.0, jnp.ones(2), None), 2.0)

    def test_conditions_are_args(self):
        two = jnp.full((3, 1), 2.0)
        self.same(lambda t, y, args: jnp.tanh(y) * t * args, two / 2)
        self.same(lambda t, y, args: jnp.tanh(y) * t * args[0] / args[1][:, None], two, two[:, 0])

    def test_modules_of_one_example(self):
        class Field(eqx.Module):
            scale: jax.Array

            def __call__(self, t, y, args):
                return jnp.tanh(self.scale * y) * t

        self.same(jax.vmap(Field(jnp.ones(2)), (None, 0, None)))
        self.same(jacreg.eqx.function(Field(jnp.ones(2))))

    def test_what_does_not_fit_is_told(self):
        for match, field, args in (
            ("takes the state first", lambda ts, xs: xs, ()),
            (r"parameters \(a, b, c\).*time_first", lambda a, b, c: b, ()),
            ("xs, ts and 1 conditions; got", lambda xs, ts: xs, (jnp.ones(3),)),
            ("function of a batch, got int", 3, ()),
        ):
            with pytest.raises(TypeError, match=match):
                check_field(field, self.xs, args)
        model = eqx.nn.MLP(3, 2, 4, 1, key=KEY)
        with pytest.raises((TypeError, ValueError)) as caught:
            check_field(lambda x, t: model(jnp.append(x, t)), self.xs, ())
        assert any("jacreg.eqx.function(model)" in note for note in caught.value.__notes__)


def test_the_result_says_how_and_is_planned_once(x64):
    traces = []
    weight = jax.random.normal(KEY, (3, 3))

    def field(xs, ts):
        traces.append(1)
        return jnp.tanh(xs @ weight)

    xs = jnp.ones((2, 3))
    result = jax.jit(lambda xs: log_density(field, xs, solver=FINE[0]))(xs)
    # To check its shape, and to integrate: not once a stage.
    assert len(traces) == 2
    lin = jacreg.linearize(field, xs, jnp.zeros(2))
    assert result.plan == jacreg.plan(jacreg.divergence, lin)
    assert result.plan.path == "closed form"
    assert result.num_steps == 50
    products = log_density(field, xs, method=jacreg.Exact()).plan
    assert (products.path, products.num_products) == ("products", 3)
    assert sample(field, (2, 3), key=KEY).plan is None


@pytest.mark.parametrize("method", ["euler", "midpoint", "heun", "tsit5", "dopri8"])
def test_every_solver_has_its_order_and_count(method, x64):
    calls = []

    def field(xs, ts):
        jax.debug.callback(lambda: calls.append(1))
        return linear(xs, ts)

    xs = jax.random.normal(KEY, (2, 3))
    solver = FlowSolver(method, step_size=0.01, rtol=1e-8, atol=1e-8)
    run = jax.jit(lambda key: sample(field, (2, 3), solver=solver, key=key))
    result = jax.block_until_ready(run(KEY))
    jax.effects_barrier()
    assert len(calls) == result.num_evaluations
    expected = jax.random.normal(KEY, (2, 3)) @ jax.scipy.linalg.expm(-MATRIX).T
    tolerance = {"euler": 0.03, "midpoint": 1e-4, "heun": 1e-4}.get(method, 1e-6)
    np.testing.assert_allclose(result.values, expected, rtol=tolerance, atol=tolerance)
    assert xs.shape == result.values.shape


def test_dtypes_are_kept_and_halves_are_widened(x64):
    for dtype, wide in ((jnp.float32, jnp.float32), (jnp.bfloat16, jnp.float32)):
        xs = jnp.ones((2, 3), dtype)
        run = jax.jit(lambda xs: log_density(lambda xs, ts: -xs, xs, solver=FlowSolver("rk4")))
        result = run(xs)
        assert result.log_density.dtype == result.values.dtype == wide


@pytest.mark.parametrize("stiffness", [1.0, 30.0])
@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_evaluations_are_counted_as_they_happen(method, stiffness):
    calls = []

    def field(xs, ts):
        jax.debug.callback(lambda: calls.append(1))
        return jnp.sin(stiffness * xs * (1 + ts[:, None]))

    solver = FlowSolver(method, step_size=0.1)
    result = jax.jit(lambda key: sample(field, (4, 2), solver=solver, key=key))(KEY)
    jax.block_until_ready(result)
    jax.effects_barrier()
    assert len(calls) == result.num_evaluations
    assert result.converged


def test_giving_up_is_reported():
    solver = FlowSolver("dopri5", max_steps=3, rtol=1e-6, atol=1e-6)

    @jax.jit
    def run():
        steep = log_density(lambda xs, ts: jnp.sin(50 * xs), jnp.ones((2, 2)), solver=solver)
        return steep, log_density(linear, jnp.ones((2, 3)), solver=FlowSolver())

    result, whole = run()
    assert not result.converged
    assert result.num_evaluations == 1 + 6 * 3
    assert 0.9 < result.remaining < 1
    assert whole.converged
    assert whole.remaining == 0


def test_what_remains_is_the_share_of_the_time():
    # The pole at 0.6 of the two units of time cannot be passed.
    solver = FlowSolver("dopri5", end_time=2.0, max_steps=40)

    def field(xs, ts):
        return 0 * xs + 1 / (1.2 - ts[:, None]) ** 2

    @jax.jit
    def run(xs):
        backwards = sample(field, (2, 1), solver=solver, key=KEY)
        return log_density(field, xs, solver=solver), backwards

    result, backwards = run(jnp.ones((2, 1)))
    assert not result.converged
    np.testing.assert_allclose(result.remaining, 0.4, atol=1e-3)
    np.testing.assert_allclose(backwards.remaining, 0.6, atol=1e-3)


def test_bits_per_dimension():
    # A uniform density on [0, 1]^d costs exactly the eight bits of a grey value.
    np.testing.assert_allclose(bits_per_dimension(jnp.zeros(2), 784), 8.0)
    np.testing.assert_allclose(bits_per_dimension(jnp.array([-2.0]), 2, levels=1), 1 / np.log(2))


def test_bad_input():
    with pytest.raises(ValueError, match="Did you mean 'dopri5'"):
        FlowSolver("dopri55")
    with pytest.raises(ValueError, match="FlowSolver: step_size must be positive"):
        FlowSolver("rk4", step_size=-0.1)
    with pytest.raises(ValueError, match="must be positive"):
        FlowSolver(end_time=float("nan"))
    with pytest.raises(TypeError, match="FlowSolver: max_steps must be an integer"):
        FlowSolver(max_steps=2.5)
    with pytest.raises(TypeError, match="FlowSolver: rtol must be a Python number, got '1e-5'"):
        FlowSolver(rtol="1e-5")
    with pytest.raises(TypeError, match=r"solver must be of FlowSolver.*got 'rk4'"):
        log_density(linear, jnp.ones((2, 3)), solver="rk4")
    with pytest.raises(TypeError, match=r"solver must be of FlowSolver.*got 'rk4'"):
        sample(linear, (2, 3), solver="rk4", key=KEY)
    with pytest.raises(ValueError, match=r"keep the shape.*\(2, 3\) -> \(2, 1\)"):
        log_density(lambda xs, ts: xs[:, :1], jnp.ones((2, 3)))
    with pytest.raises(TypeError, match="floating-point"):
        log_density(linear, jnp.ones((2, 3), int))
    with pytest.raises(ValueError, match="one Rademacher probe"):
        log_density(linear, jnp.ones((2, 3)), method=jacreg.Hutchinson(3), regularize=True, key=KEY)


@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_a_row_that_explodes_is_a_failure(method):
    """Fixed steps reach the end whatever came of them, and the likelihood of a survivor is none."""
    solver = FlowSolver(method, max_steps=50)
    xs = jnp.asarray([[0.01, 0.0], [3.0, 0.0]])

    @jax.jit
    def solve(xs):
        return log_density(lambda xs, ts: 30 * xs**3, xs, solver=solver)

    found = solve(xs)
    assert not found.converged
    assert solve(xs[:1]).converged
