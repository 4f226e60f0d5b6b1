"""The kernel by inputs and cotangents is that of the dense parameter Jacobian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg
from jacreg._empirical_ntk._blocks import by_blocks
from jacreg._empirical_ntk._plan import make_plan
from jacreg._empirical_ntk._read import read_uses

KEYS = iter(jax.random.split(jax.random.key(0), 100))
IMAGES = ("NHWC", "HWIO", "NHWC")


def _normal(*shape):
    # In double precision from the start, whatever the mode in which the file is read.
    return np.asarray(jax.random.normal(next(KEYS), shape), np.float64) / 2


def _conv(xs, kernel, strides=(1, 1), padding="SAME", numbers=IMAGES, **options):
    return jax.lax.conv_general_dilated(
        xs, kernel, strides, padding, dimension_numbers=numbers, **options
    )


def _mlp(p, xs):
    return jax.nn.relu(xs @ p["a"] + p["b"]) @ (p["c"] / 3**0.5)


def _convolutions(p, xs):
    xs = jnp.tanh(_conv(xs, p["a"], (2, 1), rhs_dilation=(1, 2)) + p["b"])
    xs = jnp.swapaxes(_conv(xs, p["c"], padding=((1, -1), (2, 0)), lhs_dilation=(2, 1)), 1, 3)
    xs = _conv(xs, p["d"][::-1], numbers=("NCHW", "HWIO", "NHWC"), feature_group_count=2)
    return xs.mean((1, 2))


def _deep_convolution(p, xs):
    return _conv(jnp.sin(xs), p).mean((1, 2))[:, :2]


def _attention(p, xs):
    query, key, value = (jnp.einsum("btc,chd->bthd", xs, p[name]) for name in "qkv")
    weights = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", query, key))
    mixed = jnp.einsum("bhts,bshd->bthd", weights, value)
    return jnp.einsum("bthd,hdc->btc", mixed, p["o"])[:, 0]


def _batch_norm(p, xs):
    xs = xs @ p["a"]
    return p["scale"] * (xs - p["mean"]) / jnp.sqrt(p["variance"] ** 2 + 1) + p["shift"]


def _residual(p, xs):
    # A checkpoint, a jitted block, and one matrix in two places of the program.
    block = jax.checkpoint(lambda a, xs: xs + jax.jit(jnp.tanh)(xs @ (2 * a)))
    return block(p, xs + block(-p, xs))


def _stacked(p, xs):
    return jnp.tanh(xs @ p["a"][0]) @ p["a"][1] + p["s"] * (xs @ p["a"][2])


def _elsewhere(p, xs):
    return jnp.tanh(xs @ p) @ p + p[0] + xs @ (p / jnp.linalg.norm(p))


@jax.custom_jvp
def _straight(w, xs):
    return jnp.sign(xs @ w)


_straight.defjvp(lambda primals, tangents: (_straight(*primals), tangents[1] @ primals[0]))

# Function, parameters, an example's shape, and how many leaves are general.
NETWORKS = {
    "mlp, a bias, one unused": (
        _mlp, {"a": _normal(4, 6), "b": _normal(6), "c": _normal(6, 3), "u": _normal(7)}, (4,), 1,
    ),
    "convolutions of any form": (
        _convolutions,
        {
            "a": _normal(3, 3, 2, 4), "b": _normal(4),
            "c": _normal(2, 2, 4, 2), "d": _normal(2, 1, 1, 4),
        },
        (5, 6, 2), 1,
    ),
    "factors of many positions": (_deep_convolution, _normal(3, 3, 5, 16), (2, 2, 5), 0),
    "attention": (
        _attention,
        {n: _normal(4, 2, 2) for n in "qkv"} | {"o": _normal(2, 2, 4)}, (3, 4), 0,
    ),
    "batch norm by its statistics": (
        _batch_norm,
        {"a": _normal(4, 3)} | {n: _normal(3) for n in ("scale", "shift", "mean", "variance")},
        (4,), 4,
    ),
    "residual, shared, remat": (_residual, _normal(4, 4), (4,), 0),
    "layers in one leaf": (_stacked, {"a": _normal(3, 3, 3), "s": _normal(3)}, (3,), 1),
    "transposed": (lambda p, xs: jnp.tanh(xs @ p) @ p.T, _normal(4, 3), (4,), 1),
    "as weight and elsewhere": (_elsewhere, _normal(4, 4), (4,), 1),
    "heads": (lambda p, xs: jnp.einsum("bhi,hji->bhj", xs, p).sum(1), _normal(3, 2, 4), (3, 4), 0),
    "custom derivative": (lambda p, xs: _straight(p, xs) + xs @ p, _normal(3, 3), (3,), 1),
}  # fmt: skip


def _dense(apply, params, xs):
    leaves, treedef = jax.tree.flatten(params)

    def of_one(x):
        def call(leaves):
            return apply(jax.tree.unflatten(treedef, leaves), x[None])[0].reshape(-1)

        return [j.reshape(j.shape[0], -1) for j in jax.jacrev(call)(leaves)]

    return jnp.concatenate(jax.vmap(of_one)(xs), axis=-1)


@pytest.mark.parametrize("name", NETWORKS)
def test_dense_truth(x64, name):
    apply, params, shape, general = NETWORKS[name]
    xs, others = _normal(5, *shape), _normal(3, *shape)

    @jax.jit
    def both(params):
        full = jnp.einsum("iap,jbp->ijab", _dense(apply, params, xs), _dense(apply, params, others))
        own = _dense(apply, params, xs)
        return (
            jacreg.empirical_ntk(apply, params, xs, others, trace_outputs=False, chunk_size=2),
            jacreg.empirical_ntk(apply, params, xs),
        ), (full, jnp.einsum("iap,jap->ij", own, own))

    for found, truth in zip(*both(params), strict=True):
        np.testing.assert_allclose(found, truth, rtol=1e-10, atol=1e-12)
    leaves, treedef = jax.tree.flatten(params)
    closed = jax.make_jaxpr(lambda leaves, xs: apply(jax.tree.unflatten(treedef, leaves), xs))(
        leaves, xs[:1]
    )
    assert len(read_uses(closed, len(leaves)).general) == general


@pytest.mark.parametrize("count", [5, 6])
@pytest.mark.parametrize("block", [1, 2, 3])
def test_blocks_around_the_circle(count, block):
    """An odd and an even number of blocks, the last one not full; no pair is missing or doubled."""
    xs = jnp.asarray(_normal(count, 4), jnp.float32)

    def contract(one, other):
        return jnp.einsum("ia,jb->ijab", one, other)

    found = by_blocks(lambda batch: batch, contract, xs, None, block)
    np.testing.assert_allclose(found, contract(xs, xs), rtol=1e-6)


def test_gradient_through_the_kernel(x64):
    apply, params, shape, _ = NETWORKS["mlp, a bias, one unused"]
    xs = _normal(2, *shape)

    def own(params):
        return jnp.sum(jnp.sin(jacreg.empirical_ntk(apply, params, xs)))

    def truth(params):
        dense = _dense(apply, params, xs)
        return jnp.sum(jnp.sin(jnp.einsum("iap,jap->ij", dense, dense)))

    found, wanted = jax.jit(lambda p: (jax.grad(own)(p), jax.grad(truth)(p)))(params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12), found, wanted
    )


def test_dead_units_give_zeros():
    params = {"a": jnp.full((4, 6), -1.0), "b": jnp.zeros(6), "c": jnp.ones((6, 3))}
    xs = jnp.ones((2, 4))
    np.testing.assert_array_equal(jacreg.empirical_ntk(_mlp, params, xs), 0)


def test_no_parameter_has_an_effect():
    for traced, shape in ((True, (2, 2)), (False, (2, 2, 3, 3))):
        found = jacreg.empirical_ntk(
            lambda w, xs: xs, jnp.ones((3, 3)), jnp.ones((2, 3)), trace_outputs=traced
        )
        np.testing.assert_array_equal(found, np.zeros(shape))


def test_several_precisions():
    """Weights in float32 that are used in bfloat16 too."""
    params = {"a": jnp.asarray(_normal(4, 8), jnp.float32), "b": jnp.ones((8, 3), jnp.bfloat16)}
    xs = jnp.asarray(_normal(2, 2, 4), jnp.bfloat16)

    def apply(p, xs):
        hidden = jnp.tanh(xs @ p["a"].astype(jnp.bfloat16))
        found = jnp.einsum("btc,cd->btd", hidden, p["b"], preferred_element_type=jnp.float32)
        return found.mean(1) + xs[:, 0].astype(jnp.float32) @ p["a"][:, :3]

    found = jax.jit(lambda p: jacreg.empirical_ntk(apply, p, xs))(params)
    truth = jnp.einsum("iap,jap->ij", *[_dense(apply, params, xs).astype(jnp.float32)] * 2)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, truth, rtol=0.05)


def test_low_precision_adds_up_in_float32():
    """A long sum of ones in bfloat16 would stop at 256."""
    xs = jnp.ones((2, 3000), jnp.bfloat16)
    found = jacreg.empirical_ntk(lambda w, x: x @ w, jnp.zeros((3000, 2), jnp.bfloat16), xs)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), 6000, rtol=0.01)


def test_what_is_held():
    """Of a wide layer its factors, of an early convolution the Jacobian: the fewer numbers."""
    wide = [jnp.ones((300, 200))]
    closed = jax.make_jaxpr(lambda w, x: x @ w)(wide[0], jnp.ones((1, 300)))
    plan = make_plan(read_uses(closed, 1), wide, 200, 64, True)
    assert plan.groups[0].factored
    assert plan.held == 300 + 200 * 200
    early = [jnp.ones((3, 3, 1, 4))]
    closed = jax.make_jaxpr(lambda k, x: _conv(x, k).mean((1, 2)))(*early, jnp.ones((1, 16, 16, 1)))
    plan = make_plan(read_uses(closed, 1), early, 4, 64, True)
    assert not plan.groups[0].factored
    assert plan.held == 4 * 36
