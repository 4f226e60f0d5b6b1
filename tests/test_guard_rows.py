"""Conditions of whole rows, before and behind what mixes the entries of a row.

Every case has its root as an argument: with `jnp.sqrt` a direction of JAX is not finite, with
`safe` both are, and its dense Jacobian in float64 is the truth.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jacreg
from jacreg._guard import with_finite_factors, with_own_conditions

RNG = np.random.default_rng(0)
VALID = np.asarray([True, False, True])
XS = (np.abs(RNG.normal(size=(3, 3))) + 0.2) * np.where(VALID, 1, -1)[:, None]
MIX, BACK = RNG.normal(size=(3, 3)), RNG.normal(size=(3, 3))
KERNEL = RNG.normal(size=(3, 1, 1))
CUBE = np.random.default_rng(1).normal(size=(3, 3, 3))
TOKENS = np.concatenate([XS[None], -XS[None, :, ::-1]])
KEY = jax.random.key(0)


def safe(xs):
    """A root that is zero, with its derivative, where there is none."""
    return jnp.where(xs > 0, jnp.sqrt(jnp.where(xs > 0, xs, 1)), 0)


def good(xs):
    """Which rows have a root."""
    return xs.sum(-1, keepdims=True) > 0


def behind(part):
    """A condition on rows behind what only some rows have."""
    return lambda root: lambda xs: jnp.where(good(xs), part(root(xs), xs), xs)


def convolved(h, _):
    numbers = ("NHC", "HIO", "NHC")
    return jax.lax.conv_general_dilated(
        h[..., None], KERNEL, (1,), "SAME", dimension_numbers=numbers
    )[..., 0]


def normalised(h, xs):
    centred = h - h.mean(-1, keepdims=True)
    return centred / jnp.sqrt(h.var(-1, keepdims=True) + 1) @ MIX


def selected(root):
    """A function of one example: JAX makes a selection of it and repeats the condition."""
    return jax.vmap(
        lambda x: jax.lax.select(jnp.broadcast_to(x.sum() > 0, x.shape), root(x) @ MIX, x)
    )


def attention(root):
    """Padded tokens have no root: neither as queries nor as keys nor as values."""

    def fn(xs):
        real = good(xs)
        found = root(xs)
        queries, keys = found @ MIX, found @ BACK
        values = jnp.where(real, found, 0) @ MIX
        both = real & real.swapaxes(-1, -2)
        scores = jnp.where(both, queries @ keys.swapaxes(-1, -2), -1e9)
        return jnp.where(real, jax.nn.softmax(scores) @ values, xs)

    return fn


def steps(root):
    """Each step of a loop for the rows that go on."""

    def fn(xs):
        def step(state, weights):
            state = jnp.where(good(xs), jnp.abs(root(state) @ weights) + 0.1, state)
            return state, state

        last, each = jax.lax.scan(step, xs, jnp.stack([MIX, BACK]))
        return last + each.sum(0)

    return fn


def example_by_example(root):
    return lambda xs: jax.lax.map(lambda x: jnp.where(x.sum() > 0, root(x) @ MIX, x), xs)


def energies(root):
    """A condition on one number an example."""
    return lambda xs: jnp.where(good(xs)[:, 0], root(xs) @ MIX[0], 0)[:, None] * np.arange(3.0)


def length(root):
    """A norm whose argument is left out, not its value."""

    def fn(xs):
        kept = jnp.where(good(xs), xs, 0) @ MIX
        return root((kept**2).sum(-1, keepdims=True)) * BACK[0] + xs

    return fn


MAPS = {
    "matrix": behind(lambda h, _: h @ MIX),
    "nested conditions": behind(lambda h, xs: jnp.where(xs @ BACK > 0, h @ MIX, xs) @ BACK),
    "softmax": behind(lambda h, _: jax.nn.softmax(h) @ MIX),
    "convolution": behind(convolved),
    "layer norm": behind(normalised),
    "log-sum-exp": behind(lambda h, xs: jax.nn.logsumexp(h @ MIX, -1, keepdims=True) * xs),
    "select of each": selected,
    "attention": attention,
    "loop": steps,
    "length": length,
}
NEIGHBOURS = {
    "relu": behind(lambda h, _: jax.nn.relu(h @ MIX) @ BACK),
    "sum": behind(lambda h, xs: (h @ MIX).sum(-1, keepdims=True) * xs),
    "mean": behind(lambda h, xs: (h @ MIX).mean(-1, keepdims=True) * xs),
    "running sum": behind(lambda h, _: jnp.cumsum(h, -1) @ MIX),
    "Fourier": behind(lambda h, _: jnp.fft.rfft(h).real @ MIX[:2]),
    "triangular solve": behind(
        lambda h, _: jax.scipy.linalg.solve_triangular(np.tril(MIX) + 3 * np.eye(3), h.T).T
    ),
    "reshaped": behind(lambda h, _: (jnp.repeat(h, 2, 0).reshape(-1, 3) @ MIX)[::2]),
    "checkpoint": behind(lambda h, _: jax.checkpoint(lambda h: jnp.tanh(h @ MIX) @ BACK)(h)),
    "counted loop": behind(
        lambda h, _: jax.lax.fori_loop(0, 2, lambda _, h: jnp.abs(h @ MIX) + 0.1, h)
    ),
    "energies": energies,
    "map": example_by_example,
    "entries too": lambda root: lambda xs: jnp.where(good(xs) & (xs < 1), root(xs) @ MIX, xs),
    "entries too, convolved": lambda root: (
        lambda xs: jnp.where(good(xs) & (xs < 0.7), convolved(root(xs), xs), xs)
    ),
    "negated": lambda root: lambda xs: jnp.where(~good(xs), xs, root(xs) @ MIX),
    "before": lambda root: (
        lambda xs: root(jnp.where(good(xs), xs, 0) @ np.abs(MIX)) @ BACK
    ),
    "in a checkpoint": lambda root: jax.checkpoint(
        lambda xs: jnp.where(good(xs), root(xs) @ MIX, xs)
    ),
    # The three axes of the result that are not mixed stand in another order.
    "matrix of each token": behind(lambda h, _: jnp.einsum("natf,tfg->natg", h, CUBE)),
    # Where rows are left out the other operand is not.
    "updated": lambda root: lambda xs: jnp.sin(
        jax.lax.dynamic_update_slice(
            jnp.where(good(xs), root(xs), 0), jnp.where(xs < 1, xs, 0)[:, :2], (0, 1)
        )
    ),
}  # fmt: skip


def inputs(name):
    if name == "matrix of each token":
        return jnp.asarray(np.stack([TOKENS, TOKENS[::-1]], axis=1))
    return jnp.asarray(TOKENS if name == "attention" else XS)


def truth(fn, xs):
    """Dense Jacobians, `[N, n, n]`."""
    one = jax.jit(jax.vmap(jax.jacfwd(lambda x: fn(x[None])[0].reshape(-1))))
    return np.asarray(one(xs)).reshape(len(xs), xs[0].size, xs[0].size)


@pytest.mark.parametrize("name", MAPS)
def test_every_quantity_gives_the_finite_derivative(name, x64):
    xs = inputs(name)
    dense = truth(MAPS[name](safe), xs)
    assert np.isfinite(dense).all()
    fn = MAPS[name](jnp.sqrt)

    @jax.jit
    def found(xs):
        lin = jacreg.linearize(fn, xs)
        columns, rows = (
            jacreg.jacobian(jacreg.linearize(fn, xs, mode=mode), jacreg.Exact())
            for mode in ("forward", "reverse")
        )
        many = {
            "columns": columns, "rows": rows, "jacobian": jacreg.jacobian(lin),
            "gram": jacreg.gram(lin), "diagonal": jacreg.diagonal(lin),
            "divergence": jacreg.divergence(lin),
            "frobenius": jacreg.frobenius_squared(lin, jacreg.Exact()),
            "spectral": jacreg.spectral_norm(lin, key=KEY),
        }  # fmt: skip
        drawn = [jacreg.frobenius_squared(lin, key=KEY)]
        return many, [*drawn, jacreg.losses.jacobian_penalty(lin, key=KEY)]

    many, drawn = found(xs)
    square = {
        **dict.fromkeys(("columns", "rows", "jacobian"), dense),
        "gram": dense @ dense.swapaxes(1, 2),
        "diagonal": np.diagonal(dense, axis1=1, axis2=2),
        "divergence": np.trace(dense, axis1=1, axis2=2),
        "frobenius": (dense**2).sum((1, 2)),
        "spectral": np.linalg.norm(dense, 2, axis=(1, 2)),
    }
    for quantity, expected in square.items():
        each = np.asarray(many[quantity]).reshape(expected.shape)
        np.testing.assert_allclose(
            each, expected, rtol=1e-3 if quantity == "spectral" else 1e-9, atol=1e-12
        )
    assert np.isfinite(drawn).all()


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_both_directions_give_the_finite_derivative(name, x64):
    xs, fn = inputs(name), NEIGHBOURS[name](jnp.sqrt)

    @jax.jit
    def found(xs):
        return [
            jacreg.jacobian(jacreg.linearize(fn, xs, mode=mode), jacreg.Exact())
            for mode in ("forward", "reverse")
        ]

    dense = truth(NEIGHBOURS[name](safe), xs)
    for each in found(xs):
        np.testing.assert_allclose(each.reshape(dense.shape), dense, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", {**MAPS, **NEIGHBOURS})
def test_in_jax_one_direction_is_not_finite(name, x64):
    """Else a case shows nothing."""
    fn, xs = {**MAPS, **NEIGHBOURS}[name](jnp.sqrt), inputs(name)
    both = jax.jit(lambda xs: (jax.jacfwd(fn)(xs), jax.jacrev(fn)(xs)))(xs)
    assert not all(np.isfinite(each).all() for each in both)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_what_a_selected_row_yields_stays(mode, x64):
    """A row that the condition takes and that has no root."""
    fn = behind(lambda h, _: h @ MIX)(jnp.sqrt)
    xs = jnp.asarray(XS).at[0, 0].set(-0.1)
    assert good(xs)[0]
    found = jacreg.jacobian(jacreg.linearize(fn, xs, mode=mode), jacreg.Exact())
    assert np.isnan(found[0, :, 0]).all()
    assert np.isfinite(found[1:]).all()


@pytest.mark.parametrize("name", ["matrix", "softmax"])
def test_batches_of_a_length_that_is_a_symbol(name, x64):
    fn = MAPS[name](jnp.sqrt)
    (length,) = export.symbolic_shape("b")
    like = jax.ShapeDtypeStruct((length, 3), jnp.float64)

    @jax.jit
    def rows(xs):
        return jacreg.jacobian(jacreg.linearize(fn, xs, mode="reverse"), jacreg.Exact())

    found = export.export(rows)(like).call(jnp.asarray(XS))
    np.testing.assert_allclose(found, truth(MAPS[name](safe), jnp.asarray(XS)), rtol=1e-9)


def test_gradients_by_weights_are_those_of_the_safe_function(x64):
    def loss(weights, root):
        lin = jacreg.linearize(lambda xs: jnp.where(good(xs), root(xs) @ weights, xs), XS)
        return jacreg.frobenius_squared(lin, jacreg.Exact()).sum()

    found = jax.jit(jax.grad(loss), static_argnums=1)
    np.testing.assert_allclose(found(MIX, jnp.sqrt), found(MIX, safe), rtol=1e-9)


def relu_network(xs):
    return jax.nn.relu(xs @ MIX + 1.0) @ MIX * jax.nn.sigmoid(xs @ BACK)


def leaky_network(xs):
    return jax.nn.leaky_relu(jnp.tanh(xs @ MIX) @ MIX) @ BACK


def masked_attention(xs):
    """Later tokens are hidden: nothing but their scores is left out."""
    tokens = jnp.tanh(xs)[:, None, :] * np.arange(1.0, 4.0)[:, None]
    scores = jnp.einsum("nqf,nkf->nqk", tokens @ MIX, tokens @ BACK)
    hidden = jnp.where(np.tril(np.ones((3, 3), bool))[None], scores, -1e9)
    return (jax.nn.softmax(hidden) @ tokens).sum(1)


@pytest.mark.parametrize("fn", [relu_network, leaky_network], ids=lambda fn: fn.__name__)
def test_conditions_on_entries_leave_programs_alone(fn, x64):
    xs = jnp.asarray(XS)
    closed = jax.make_jaxpr(fn)(xs)
    assert with_own_conditions(closed) is closed
    linear = jax.make_jaxpr(jax.linearize(fn, xs)[1])(xs)
    assert with_finite_factors(linear, [xs]) is linear


def test_a_condition_on_pairs_stays_at_the_pairs(x64):
    """A triangle of scores leaves out neither queries nor keys."""
    xs = jnp.asarray(XS)
    linear = jax.make_jaxpr(jax.linearize(masked_attention, xs)[1])(xs)
    found = jacreg.linearize(masked_attention, xs).program.linear
    assert str(found).count("reduce_or") == 0
    assert str(found).count("dot_general") == str(linear).count("dot_general")
