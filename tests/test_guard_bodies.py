"""Conditions in checkpoints, loops, branches and calls, and across their borders.

Every case has its root as an argument: with `jnp.sqrt` one direction of JAX is not finite, with
`safe` both are, and that one's dense Jacobian in float64 is the truth.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg
from jacreg._guard import with_finite_factors

RNG = np.random.default_rng(0)
XS = RNG.normal(size=(2, 3))
MIX = RNG.normal(size=(3, 3))
KEY = jax.random.key(0)


def safe(xs):
    """A root that is zero, with its derivative, where there is none."""
    return jnp.where(xs > 0, jnp.sqrt(jnp.where(xs > 0, xs, 1)), 0)


def behind(root):
    """Forward finite, reverse nan in JAX."""
    return lambda xs: jnp.where(xs >= 0, xs, root(-xs))


def before(root):
    """Reverse finite, forward nan in JAX."""
    return lambda xs: root(jnp.where(xs > 0.1, xs, 0))


def behind_rows(root):
    """As `behind`, of a factor that a whole row shares."""

    def part(xs):
        sums = xs.sum(-1, keepdims=True) + 1
        return jnp.where(sums >= 0, xs, root(-sums) * xs)

    return part


def before_rows(root):
    """As `before`, of such a factor."""

    def part(xs):
        sums = xs.sum(-1, keepdims=True) + 1
        return root(jnp.where(sums > 0.1, sums, 0)) * xs

    return part


def loop(step, length=3, **options):
    return lambda xs: jax.lax.scan(lambda c, _: (step(c), None), xs, None, length, **options)[0]


def counted(step, length=3):
    return lambda xs: jax.lax.fori_loop(0, length, lambda _, c: step(c), xs)


def damped(part):
    return lambda xs: 0.8 * part(xs) - 0.1


def with_inputs(part):
    """A scan whose carry and inputs both see the part, and that leaves something each step."""

    def step(carry, row):
        carry = part(0.5 * carry + row)
        return carry, part(carry - 0.2)

    def run(xs):
        last, rows = jax.lax.scan(step, xs, jnp.stack([xs, -xs, 2 * xs]), reverse=True)
        return last + rows.sum(0)

    return run


def with_constants(part):
    """A scan that reads the same array at every step."""

    def run(xs):
        return jax.lax.scan(lambda c, row: (part(c * row + xs), None), xs, jnp.ones((3, 1, 1)))[0]

    return run


def mapped(part):
    return lambda xs: jax.lax.map(part, xs)


def branch(part):
    return lambda xs: jax.lax.cond(xs.sum() > 100, lambda xs: xs, part, xs)


def own_branch(part):
    return jax.vmap(lambda x: jax.lax.cond(x[0] > 0, lambda x: 2 * x, part, x))


def three_branches(part):
    return lambda xs: jax.lax.switch(1, [jnp.sin, lambda xs: part(xs) + xs, jnp.zeros_like], xs)


def custom(part):
    """A rule of one's own, kept as it is in a checkpoint."""

    @jax.custom_jvp
    def fn(xs):
        return part(xs)

    @fn.defjvp
    def _(primals, tangents):
        return jax.jvp(part, primals, tangents)

    return fn


def recurrence(part):
    """A loop over value and derivative side by side, as it stands in a checkpoint."""
    return jax.checkpoint(loop(damped(part)))


WHOLE = {
    "checkpoint": jax.checkpoint,
    "jit": jax.jit,
    "jit in a checkpoint": lambda part: jax.checkpoint(jax.jit(part)),
    "checkpoint in a checkpoint": lambda part: jax.checkpoint(jax.checkpoint(part)),
    "scan": lambda part: loop(damped(part)),
    "scan back": lambda part: loop(damped(part), reverse=True),
    "scan with inputs": with_inputs,
    "scan with constants": with_constants,
    "fori_loop": lambda part: counted(damped(part)),
    "map": mapped,
    "map of entries": lambda part: lambda xs: mapped(part)(xs.reshape(-1)).reshape(xs.shape),
    "cond": branch,
    "cond of each": own_branch,
    "switch": three_branches,
    "custom_jvp": custom,
    "custom_jvp in a checkpoint": lambda part: jax.checkpoint(custom(part)),
    "checkpoint in a scan": lambda part: loop(jax.checkpoint(damped(part))),
    "scan in a checkpoint": recurrence,
    "fori_loop in a checkpoint": lambda part: jax.checkpoint(counted(damped(part))),
    "cond in a scan": lambda part: loop(branch(damped(part))),
    "scan in a scan": lambda part: loop(loop(damped(part), 2), 2),
    "scan in a cond": lambda part: branch(loop(damped(part))),
}
# What maps each entry by itself, so that a mask on one side is one on the other.
BORDERS = {
    name: WHOLE[name]
    for name in (
        "checkpoint", "jit", "checkpoint in a checkpoint", "map", "map of entries", "cond",
        "custom_jvp in a checkpoint", "cond of each",
    )
}  # fmt: skip


def roots(root):
    """Stays below zero, three times; not a number elsewhere."""
    return lambda xs: -root(-xs)


def steps(root):
    """What one step leaves out has an infinite derivative in the next."""

    def step(state, _):
        last, total = state
        found = root(last)
        return (jnp.where(found > 0.8, found - 0.4, 0), total + found), None

    return lambda xs: jax.lax.scan(step, (jnp.abs(xs), xs), None, 3)[0][1]


def counted_steps(root):
    def step(_, state):
        last, total = state
        found = root(last)
        return jnp.where(found > 0.8, found - 0.4, 0), total + found

    return lambda xs: jax.lax.fori_loop(0, 3, step, (jnp.abs(xs), xs))[1]


def root_and_steps(root):
    """What one step makes infinite is left out by all later ones."""

    def step(last, _):
        return root(last - 0.4), jnp.where(last > 0.3, last, 0)

    return lambda xs: jax.lax.scan(step, jnp.abs(xs), None, 3)[1].sum(0)


CASES = {
    **{f"{name}, behind": (lambda r, w=w: w(behind(r))) for name, w in WHOLE.items()},
    **{f"{name}, before": (lambda r, w=w: w(before(r))) for name, w in WHOLE.items()},
    **{
        f"{name}, condition around it": (
            lambda r, w=w: lambda xs: jnp.where(xs >= 0, xs, w(lambda x: r(-x))(xs))
        )
        for name, w in BORDERS.items()
    },
    **{
        f"{name}, condition in it": (
            lambda r, w=w: lambda xs: r(w(lambda x: jnp.where(x > 0.1, x, 0))(xs))
        )
        for name, w in BORDERS.items()
    },
    **{
        f"{name}, condition behind all steps": (
            lambda r, w=w: lambda xs: jnp.where(xs >= 0, xs, w(roots(r))(xs))
        )
        for name, w in (("scan", loop), ("fori_loop", counted))
    },
    **{
        f"{name}, {part.__name__}": (lambda r, w=WHOLE[name], part=part: w(part(r)))
        for name in ("jit", "checkpoint", "scan", "map")
        for part in (behind_rows, before_rows)
    },
    "scan in a checkpoint, condition behind all steps": lambda r: jax.checkpoint(
        lambda xs: jnp.where(xs >= 0, xs, loop(roots(r))(xs))
    ),
    "scan, condition on its rows": lambda r: (
        lambda xs: jnp.where(
            xs > 0, jax.lax.scan(lambda c, x: (c, r(x)), 0.0, jnp.stack([xs, 2 * xs]))[1].sum(0), xs
        )
    ),
    "scan, from step to step": steps,
    "scan, from step to step back": root_and_steps,
    "scan in a checkpoint, from step to step back": lambda r: jax.checkpoint(root_and_steps(r)),
    "fori_loop, from step to step": counted_steps,
    "scan in a checkpoint, from step to step": lambda r: jax.checkpoint(steps(r)),
    "scan, condition before all steps": lambda r: lambda xs: loop(r)(jnp.where(xs > 0.1, xs, 0)),
    "scan, condition on its value": lambda r: jax.checkpoint(
        lambda xs: jnp.where(loop(jnp.tanh)(xs) > 0, r(xs), loop(jnp.sin)(xs))
    ),
}


def network(root, name, weights, xs):
    """`[N, 3] -> [N, 3]`, a case between two layers."""
    return (CASES[name](root)(xs @ jnp.asarray(MIX, xs.dtype)) * weights) @ jnp.asarray(
        MIX, xs.dtype
    )


def truth(name):
    """Dense Jacobians in float64, and the derivative of their squares' sum by the weights."""

    def one(weights, x):
        return jax.jacfwd(lambda x: network(safe, name, weights, x[None])[0])(x)

    def all_of(weights, xs):
        rows = (
            [one(weights, x) for x in xs]
            if "cond" in name
            else jax.vmap(one, (None, 0))(weights, xs)
        )
        return jnp.stack(list(rows))

    @jax.jit
    def both(weights, xs):
        squares = jax.jacfwd(lambda weights: (all_of(weights, xs) ** 2).sum())
        return all_of(weights, xs), squares(weights)

    return map(np.asarray, both(np.arange(1.0, 4.0), XS))


@pytest.mark.parametrize("name", CASES)
def test_both_directions_give_the_finite_derivative(name, x64):
    dense, grad = truth(name)
    assert np.isfinite(dense).all()

    @jax.jit
    def found(weights, xs):
        def loss(weights):
            lin = jacreg.linearize(lambda xs: network(jnp.sqrt, name, weights, xs), xs)
            return jacreg.frobenius_squared(lin, jacreg.Exact()).sum()

        lin = jacreg.linearize(lambda xs: network(jnp.sqrt, name, weights, xs), xs)
        rows, columns = (
            jacreg.jacobian(
                jacreg.linearize(lambda xs: network(jnp.sqrt, name, weights, xs), xs, mode=mode),
                jacreg.Exact(),
            )
            for mode in ("reverse", "forward")
        )
        penalty = jacreg.losses.jacobian_penalty(lin, key=KEY)
        exact = jacreg.jacobian(lin), jacreg.gram(lin)
        return rows, columns, *exact, penalty, jax.grad(loss)(weights)

    rows, columns, default, gram, penalty, slope = found(np.arange(1.0, 4.0), XS)
    for each in (rows, columns, default):
        np.testing.assert_allclose(each, dense, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(gram, dense @ dense.swapaxes(1, 2), rtol=1e-10, atol=1e-12)
    assert np.isfinite(penalty).all()
    np.testing.assert_allclose(slope, grad, rtol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_in_jax_one_direction_is_not_finite(name, x64):
    """Else a case shows nothing."""
    xs = jnp.asarray(XS)

    def plain(xs):
        return network(jnp.sqrt, name, jnp.arange(1.0, 4.0), xs)

    both = jax.jit(lambda xs: (jax.jacfwd(plain)(xs), jax.jacrev(plain)(xs)))(xs)
    assert not all(np.isfinite(each).all() for each in both)


def relu_network(xs):
    return jax.nn.relu(xs @ MIX + 1.0) @ MIX


def gated(xs):
    return xs * jax.nn.sigmoid(xs @ MIX)


def attention(xs):
    weights = jax.nn.softmax(xs[..., :, None] * xs[..., None, :])
    return jnp.sum(weights * xs[..., None], axis=-2)


# One for each way in which masks go in and out. On explicit meshes JAX has no `map` over examples.
SPREAD = (
    "scan, behind", "cond in a scan, before", "cond, condition in it",
    "scan in a checkpoint, before", "scan, condition on its rows",
    "scan, from step to step", "scan, from step to step back",
    "scan, behind_rows", "scan, before_rows",
)  # fmt: skip


@pytest.mark.skipif(jax.device_count() < 2, reason="needs two (host) devices")
@pytest.mark.parametrize("explicit", [False, True], ids=["shard_map", "explicit"])
@pytest.mark.parametrize("name", SPREAD)
def test_on_two_devices(name, explicit):
    kind = jax.sharding.AxisType.Explicit if explicit else jax.sharding.AxisType.Auto
    mesh = jax.make_mesh((2,), ("data",), axis_types=(kind,), devices=jax.devices()[:2])
    xs, weights = jnp.asarray(XS, jnp.float32), jnp.arange(1.0, 4.0)

    def found(xs):
        lin = jacreg.linearize(lambda xs: network(jnp.sqrt, name, weights, xs), xs)
        return jacreg.jacobian(lin, jacreg.Exact())

    if explicit:
        with jax.set_mesh(mesh):
            spread = jax.jit(found)(jax.device_put(xs, jax.NamedSharding(mesh, jax.P("data"))))
    else:
        spec = jax.P("data")
        spread = jax.jit(jax.shard_map(found, mesh=mesh, in_specs=spec, out_specs=spec))(xs)
    np.testing.assert_allclose(spread, jax.jit(found)(xs), rtol=1e-5, atol=1e-6)


PLAIN = {
    f"{name} of {part.__name__}": (part, name)
    for name in ("checkpoint", "scan", "scan with inputs", "scan in a checkpoint", "cond", "map")
    for part in (relu_network, gated, attention)
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_body_without_such_a_factor_keeps_its_program(name):
    part, wrapped = PLAIN[name]
    fn, xs = WHOLE[wrapped](part), jnp.asarray(XS, jnp.float32)
    linear = jax.make_jaxpr(jax.linearize(fn, xs)[1])(xs)
    assert with_finite_factors(linear, [xs]) is linear


def test_a_long_loop_by_forward_products_gives_the_finite_derivative():
    """Where the function is evaluated again beside the tangents."""
    part = before(jnp.sqrt)

    def fn(xs):
        return jax.lax.scan(lambda c, _: (0.5 * part(c) + xs, None), xs, None, length=20_000)[0]

    xs = jnp.asarray(np.tile(XS[:, :2], (8, 1)), jnp.float32)
    found, rows = jax.jit(
        lambda xs: tuple(
            jacreg.jacobian(jacreg.linearize(fn, xs, mode=mode), jacreg.Exact())
            for mode in ("forward", "reverse")
        )
    )(xs)
    assert np.isfinite(rows).all()
    np.testing.assert_allclose(found, rows, rtol=1e-5)
