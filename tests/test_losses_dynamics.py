"""Losses of continuous flows and equilibrium models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from losses_oracle import batch, check_gradient, dense, mlp, mlp_params, sign_vectors

import jacreg
from jacreg import losses

KEY = jax.random.key(0)


def field(d=4, n=5):
    params, xs = mlp_params(KEY, [d, 6, d]), batch(jax.random.key(1), (n, d))
    return params, xs, np.asarray(dense(lambda x: mlp(params, x), xs))


@pytest.mark.usefixtures("x64")
def test_flow_regularizers_over_all_sign_vectors():
    params, xs, jacobians = field()
    lin = jacreg.linearize(lambda x: mlp(params, x), xs)
    results = [
        losses.flow_regularizers(lin, jnp.broadcast_to(s, xs.shape)) for s in sign_vectors((4,))
    ]
    mean = jax.tree.map(lambda *parts: np.mean(parts, axis=0), *results)
    np.testing.assert_allclose(mean.divergence, np.trace(jacobians, axis1=1, axis2=2), rtol=1e-10)
    np.testing.assert_allclose(mean.frobenius_squared, np.sum(jacobians**2, (1, 2)), rtol=1e-10)
    speed = np.sum(np.asarray(mlp(params, xs)) ** 2, axis=1)
    np.testing.assert_allclose(mean.kinetic_energy, speed, rtol=1e-10)
    assert results[0]._fields == ("divergence", "kinetic_energy", "frobenius_squared")


@pytest.mark.usefixtures("x64")
def test_flow_regularizers_are_the_formulas_of_the_paper_times_the_dimension():
    params, xs, jacobians = field()
    probes = jax.random.normal(jax.random.key(2), xs.shape)
    ours = losses.flow_regularizers(jacreg.linearize(lambda x: mlp(params, x), xs), probes)
    products = np.einsum("bij,bi->bj", jacobians, np.asarray(probes))
    np.testing.assert_allclose(
        ours.divergence, np.sum(products * np.asarray(probes), axis=1), rtol=1e-10
    )
    # RNODE: the mean over dimensions of (e^T J)^2 and of f^2.
    np.testing.assert_allclose(ours.frobenius_squared / 4, np.mean(products**2, 1), rtol=1e-10)
    np.testing.assert_allclose(
        ours.kinetic_energy / 4, np.mean(np.asarray(mlp(params, xs)) ** 2, 1), rtol=1e-10
    )


def test_flow_regularizers_take_one_vector_jacobian_product():
    products = []

    @jax.custom_vjp
    def fn(x):
        return 2 * x

    def backward(_, cotangent):
        # When it runs, not when it is traced: which directions exist is read by tracing.
        jax.debug.callback(lambda: products.append(1))
        return (2 * cotangent,)

    fn.defvjp(lambda x: (2 * x, None), backward)
    xs = jnp.ones((2, 3))
    result = losses.flow_regularizers(jacreg.linearize(fn, xs), jnp.ones((2, 3)))
    np.testing.assert_allclose(result.frobenius_squared, [12.0, 12.0])
    jax.effects_barrier()
    assert len(products) == 1


def test_flow_regularizers_take_integer_signs_and_time():
    xs = jnp.ones((2, 3), jnp.bfloat16)
    lin = jacreg.linearize(lambda x, t: t * x, xs, jnp.bfloat16(2))
    signs = jax.random.rademacher(KEY, (2, 3))
    result = losses.flow_regularizers(lin, signs)
    assert all(r.dtype == jnp.bfloat16 for r in result)
    np.testing.assert_allclose(np.asarray(result.divergence, float), [6, 6])


@pytest.mark.usefixtures("x64")
def test_gradients_of_flow_regularizers():
    xs = batch(jax.random.key(1), (3, 3))
    probes = jax.random.normal(KEY, (3, 3))

    def loss(params):
        lin = jacreg.linearize(lambda x: mlp(params, x), xs)
        return sum(jnp.mean(part) for part in losses.flow_regularizers(lin, probes))

    check_gradient(loss, mlp_params(KEY, [3, 3, 3]))


def test_bad_input_of_flow_regularizers():
    wide = jacreg.linearize(lambda x: x @ jnp.ones((3, 4)), jnp.ones((2, 3)))
    with pytest.raises(ValueError, match=r"vector field .*\(2, 3\), got \(2, 4\)"):
        losses.flow_regularizers(wide, jnp.ones((2, 3)))
    lin = jacreg.linearize(jnp.sin, jnp.ones((2, 3)))
    with pytest.raises(ValueError, match=r"probes must have the shape of xs, \(2, 3\), got \(3,\)"):
        losses.flow_regularizers(lin, jnp.ones(3))
    with pytest.raises(TypeError, match="must be a Linearization"):
        losses.flow_regularizers(jnp.sin, jnp.ones((2, 3)))


def cell_of(params, inputs):
    return lambda z: jnp.tanh(z @ params["w"] + inputs @ params["u"])


def equilibrium_setting():
    params = {"w": 0.5 * batch(KEY, (4, 4)), "u": batch(jax.random.key(1), (3, 4))}
    inputs, state = batch(jax.random.key(2), (5, 3)), batch(jax.random.key(3), (5, 4))
    return params, inputs, state


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("num_probes", [1, 3])
def test_the_equilibrium_penalty_is_the_formula_of_the_official_code(num_probes):
    """jac_loss_estimate: the sum of squares of e^T J over probes, batch and d, by M * N * d."""
    params, inputs, state = equilibrium_setting()
    cell = cell_of(params, inputs)
    keys = [KEY] if num_probes == 1 else jax.random.split(KEY, num_probes)
    jacobians = np.stack(
        [
            jax.jacobian(lambda z, x=x: cell_of(params, x)(z))(z)
            for z, x in zip(state, inputs, strict=True)
        ]
    )
    total = 0.0
    for key in keys:
        probe = np.asarray(jax.random.normal(key, (5, 4)))
        total += np.sum(np.einsum("bij,bi->bj", jacobians, probe) ** 2)
    official = total / num_probes / (5 * 4)
    ours = losses.equilibrium_jacobian_penalty(cell, state, key=KEY, num_probes=num_probes)
    assert ours.shape == (5,)
    np.testing.assert_allclose(jnp.mean(ours), official, rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_the_equilibrium_penalty_is_unbiased_over_gaussian_directions():
    """e^T A e has the mean tr A for Gaussian e: checked with the vertices' own moments."""
    params, inputs, state = equilibrium_setting()
    lin = jacreg.linearize(cell_of(params, inputs), state)
    d = 4
    # Rademacher vectors share the Gaussian's second moments, which are all that enters.
    signs = sign_vectors((d,))
    mean = np.mean([jnp.sum(lin.vjp(jnp.broadcast_to(s, (5, d))) ** 2, 1) for s in signs], axis=0)
    np.testing.assert_allclose(mean, jacreg.frobenius_squared(lin, jacreg.Exact()), rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_no_gradient_flows_through_the_state():
    params, inputs, state = equilibrium_setting()

    def through_state(shift):
        return jnp.sum(
            losses.equilibrium_jacobian_penalty(cell_of(params, inputs), state + shift, key=KEY)
        )

    assert jax.grad(through_state)(0.0) == 0
    assert through_state(0.5) != through_state(0.0)

    def loss(params, state):
        return jnp.mean(
            losses.equilibrium_jacobian_penalty(cell_of(params, inputs), state, key=KEY)
        )

    def solved(params):
        # The state is a function of the parameters, as after a solver.
        return loss(params, state * jnp.sum(params["w"]))

    detached = jax.grad(loss)(params, state * jnp.sum(params["w"]))
    jax.tree.map(np.testing.assert_allclose, jax.grad(solved)(params), detached)
    check_gradient(lambda p: loss(p, state), params)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"cell": lambda z: z[:, :2]}, ValueError, r"the state, \(2, 3\), got \(2, 2\)"),
        ({"cell": lambda z: z[:1]}, ValueError, "batch axis"),
        ({"key": None}, ValueError, "needs a key"),
        ({"num_probes": 0}, ValueError, "at least 1"),
        ({"state": jnp.ones((2, 3), int)}, TypeError, "state must be floating point"),
    ],
)
def test_bad_input_of_the_equilibrium_penalty(change, error, message):
    good = {"cell": jnp.tanh, "state": jnp.ones((2, 3)), "key": KEY} | change
    cell, state = good.pop("cell"), good.pop("state")
    with pytest.raises(error, match=message):
        losses.equilibrium_jacobian_penalty(cell, state, **good)
