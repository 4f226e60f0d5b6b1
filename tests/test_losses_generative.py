"""Losses of generative models from one product: mean flows and free-form flows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from losses_oracle import batch, dense, mlp, mlp_params, repeated, sign_vectors

import jacreg
from jacreg import losses
from jacreg.losses._free_form_flow import surrogate_of_probe

KEY = jax.random.key(0)


def field(params):
    def u(zs, r, t):
        return mlp(params, jnp.concatenate([zs, r[:, None], t[:, None]], axis=1))

    return u


def times(num_examples):
    r, t = np.sort(np.random.default_rng(7).uniform(size=(2, num_examples)), axis=0)
    return r, t


@pytest.mark.usefixtures("x64")
def test_the_mean_flow_loss_is_that_of_the_dense_derivatives():
    params, zs, vs = (
        mlp_params(KEY, [5, 6, 3]),
        batch(KEY, (4, 3)),
        batch(jax.random.key(1), (4, 3)),
    )
    r, t = times(4)

    def dense_loss(params, detach):
        single = lambda z, r, t: field(params)(z[None], r[None], t[None])[0]  # noqa: E731
        dz, dt = jax.vmap(jax.jacfwd(single, argnums=(0, 2)))(zs, r, t)
        slope = jnp.einsum("nij,nj->ni", dz, vs) + dt
        target = detach(vs - (t - r)[:, None] * slope)
        return jnp.sum((field(params)(zs, r, t) - target) ** 2, axis=1)

    calls = (
        lambda p: losses.mean_flow_loss(field(p), zs, vs, r, t),
        lambda p: dense_loss(p, jax.lax.stop_gradient),
        lambda p: dense_loss(p, lambda y: y),
    )

    @jax.jit
    def run(params):
        summed = [lambda p, each=each: (each(p).sum(), each(p)) for each in calls]
        return [jax.grad(each, has_aux=True)(params) for each in summed]

    (ours, values), (truth, exact), (through, _) = run(params)
    np.testing.assert_allclose(values, exact, rtol=1e-10)
    # A gradient through the target would be seen.
    for a, b in zip(*map(jax.tree.leaves, (ours, truth)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    assert not np.allclose(ours[0][0], through[0][0], rtol=1e-2)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("velocity", "average"),
    [
        # Straight lines from a point at time 0: the velocity is its own average.
        (lambda z, t: (z - 2.0) / t, lambda z, r, t: (z - 2.0) / t),
        # dz/dt = 3 z, whose path is z exp(3 (s - t)).
        (lambda z, t: 3 * z, lambda z, r, t: z * (1 - jnp.exp(-3 * (t - r))) / (t - r)),
    ],
    ids=["straight", "exponential"],
)
def test_the_mean_flow_loss_is_zero_at_an_average_velocity(velocity, average):
    zs, (r, t) = batch(KEY, (5, 3)), times(5)
    u = lambda zs, r, t: average(zs, r[:, None], t[:, None])  # noqa: E731

    @jax.jit
    def run(zs):
        vs = velocity(zs, t[:, None])
        off = losses.mean_flow_loss(lambda *point: 1.1 * u(*point), zs, vs, r, t)
        return losses.mean_flow_loss(u, zs, vs, r, t), off

    found, off = run(zs)
    np.testing.assert_allclose(found, 0, atol=1e-20)
    assert np.all(off > 1e-4)


@pytest.mark.usefixtures("x64")
def test_equal_times_give_flow_matching_and_trees_and_numbers_are_taken():
    zs, vs = batch(KEY, (4, 3)), batch(jax.random.key(1), (4, 3))
    u = field(mlp_params(KEY, [5, 6, 3]))
    t = jnp.full(4, 0.3)
    truth = jnp.sum((u(zs, t, t) - vs) ** 2, axis=1)
    np.testing.assert_allclose(losses.mean_flow_loss(u, zs, vs, 0.3, 0.3), truth, rtol=1e-12)
    tree = lambda xs: {"a": xs[:, :1], "b": xs[:, 1:]}  # noqa: E731
    joined = lambda z, r, t: tree(u(jnp.concatenate([z["a"], z["b"]], 1), r, t))  # noqa: E731
    values = losses.mean_flow_loss(joined, tree(zs), tree(vs), 0.3, t)
    np.testing.assert_allclose(values, truth, rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"field": {}}, TypeError, "field must be a function"),
        ({"field": lambda z, r, t: z[:, :1]}, ValueError, "the field must have the shape of xs"),
        ({"velocities": jnp.ones((2, 1))}, ValueError, "velocities must have the shape of xs"),
        ({"r": jnp.ones(3)}, ValueError, r"r must be one number or one an example.*\(3,\)"),
        ({"t": jnp.ones(2, int)}, TypeError, "t must be floating point"),
        ({"xs": jnp.ones((2, 3), int)}, TypeError, "floating point"),
    ],
)
def test_bad_input_of_the_mean_flow_loss(change, error, message):
    xs = jnp.ones((2, 3))
    good = {"field": lambda z, r, t: z, "xs": xs, "velocities": xs, "r": 0.0, "t": 1.0} | change
    with pytest.raises(error, match=message):
        losses.mean_flow_loss(**good)


def all_signs(encoder, decoder, x, latents):
    """The surrogate of one example, averaged over every sign vector."""
    signs = jnp.asarray(sign_vectors(latents))
    encoded = jacreg.linearize(encoder, repeated(x, len(signs)))
    decoded = jacreg.linearize(decoder, encoded.value)
    return jnp.mean(surrogate_of_probe(encoded, decoded, signs))


@pytest.mark.usefixtures("x64")
def test_the_surrogate_has_the_gradient_of_the_log_determinant():
    matrix, x = batch(KEY, (4, 4)), batch(jax.random.key(1), (4,))
    inverse = jnp.linalg.inv(matrix)

    def loss(matrix):
        return all_signs(lambda xs: xs @ matrix.T, lambda zs: zs @ inverse.T, x, (4,))

    value, gradient = jax.jit(jax.value_and_grad(loss))(matrix)
    np.testing.assert_allclose(value, 4, rtol=1e-12)
    truth = jax.jit(jax.grad(lambda m: jnp.linalg.slogdet(m)[1]))(matrix)
    np.testing.assert_allclose(gradient, truth, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_the_surrogate_of_a_nonlinear_pair_with_fewer_latents():
    """Exact trace of dg/dz d(df/dx), at z = f(x), and nothing for the decoder."""
    params, x = mlp_params(KEY, [4, 5, 2]), batch(jax.random.key(1), (4,))
    back = mlp_params(jax.random.key(2), [2, 5, 4])

    def truth(params):
        z = mlp(params, x[None])
        outer = jax.lax.stop_gradient(dense(lambda zs: mlp(back, zs), z)[0])
        return jnp.trace(dense(lambda xs: mlp(params, xs), x[None])[0] @ outer)

    def loss(params, back):
        return all_signs(lambda xs: mlp(params, xs), lambda zs: mlp(back, zs), x, (2,))

    value, (ours, none) = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, back)
    exact, gradient = jax.jit(jax.value_and_grad(truth))(params)
    np.testing.assert_allclose(value, exact, rtol=1e-10)
    for a, b in zip(*map(jax.tree.leaves, (ours, gradient)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(none))


@pytest.mark.usefixtures("x64")
def test_probes_are_averaged_and_reverse_mode_alone_is_enough():
    xs = batch(KEY, (3, 4))

    @jax.custom_vjp
    def double(xs):
        return 2 * xs

    double.defvjp(lambda xs: (2 * xs, None), lambda _, u: (2 * u,))
    values = losses.free_form_flow_surrogate(double, lambda z: z / 2, xs, key=KEY, num_probes=3)
    np.testing.assert_allclose(values, [4.0] * 3, rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"encoder": {}}, TypeError, "encoder must be a function"),
        ({"decoder": {}}, TypeError, "decoder must be a function"),
        ({"decoder": lambda z: z[:, :1]}, ValueError, "decoder returns must have the shape of xs"),
        ({"key": None}, ValueError, "needs a key"),
        ({"num_probes": 0}, ValueError, "num_probes"),
    ],
)
def test_bad_input_of_the_surrogate(change, error, message):
    good = {"encoder": lambda x: x, "decoder": lambda z: z, "xs": jnp.ones((2, 3)), "key": KEY}
    with pytest.raises(error, match=message):
        losses.free_form_flow_surrogate(**(good | change))
