"""Every public call in bfloat16 and float16 against float64, of the same rounded weights and draws.

A dtype that is compared or promoted wrongly changes a number by much more than rounding does.
"""

import call_nets
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_call import CALLS, Net, batch, prepare

MIX = np.random.default_rng(2).normal(size=(8, 8)) / 3
TAPS = np.random.default_rng(3).normal(size=(3, 1, 2)) / 2
HALVES = {"bfloat16": jnp.bfloat16, "float16": jnp.float16}
KEY = jax.random.key(0)
# Those that draw whole rows or give no number of the network.
OTHERS = ("every", "bernoulli", "ramp", "subsample")


def like(weights, xs):
    return jnp.asarray(weights, xs.dtype)


def mix(xs):
    """Of 4 or 8 entries."""
    return xs @ like(MIX[: xs.shape[1], : xs.shape[1]], xs)


def strided(xs):
    found = jax.lax.conv_general_dilated(
        xs[:, :, None], like(TAPS, xs), (2,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
    )
    return found.reshape(xs.shape)


def attention(xs):
    tokens = xs.reshape(len(xs), -1, 2)
    queries, keys = mix(xs).reshape(tokens.shape), jnp.sin(tokens)
    weights = jax.nn.softmax(jnp.einsum("nti,nsi->nts", queries, keys), axis=-1)
    return (tokens + jnp.einsum("nts,nsi->nti", weights, tokens)).reshape(xs.shape)


def layer_norm(xs):
    centred = xs - xs.mean(1, keepdims=True)
    return 1.5 * centred / jnp.sqrt((centred**2).mean(1, keepdims=True) + 0.1)


def gather_and_scatter(xs):
    order = jnp.arange(xs.shape[1] - 1, -1, -1)
    found = jnp.zeros_like(xs).at[:, order // 2].add(jnp.sin(xs)[:, order])
    return found.at[:, 1].multiply(2 * xs[:, 0]) + xs


def recurrence(xs):
    return jax.lax.scan(lambda h, _: (jnp.tanh(mix(h) / 2 + xs), None), xs, None, length=3)[0]


def products(xs):
    a, b = jnp.sin(xs), jnp.cos(mix(xs))
    return 2 * a * b / (2 + b) + a**3 - jax.nn.sigmoid(3 * b)


KINDS = {
    "MLP": lambda xs: xs,
    "strided": strided,
    "attention": attention,
    "layer norm": layer_norm,
    "gather and scatter": gather_and_scatter,
    "scan": recurrence,
    "products": products,
}


class Mixed(Net):
    """The networks of `call_nets` with something before them."""

    def __init__(self, kind):
        super().__init__()
        object.__setattr__(self, "first", KINDS[kind])

    def field(self, xs):
        return super().field(self.first(xs))

    def eight(self, xs):
        return super().eight(self.first(xs))

    def classifier(self, xs):
        return super().classifier(self.first(xs))

    def images(self, xs):
        return super().images(self.first(xs.reshape(len(xs), -1)).reshape(xs.shape))

    def energy(self, xs):
        return super().energy(self.first(xs))


def equal_draws(monkeypatch, dtype):
    """Probes of every precision are those of the lowest, and which examples are drawn is fixed."""
    plain = jax.random.normal

    def normal(key, shape=(), wide=jnp.float32, **options):
        return plain(key, shape, jnp.float32).astype(dtype).astype(wide)

    def rademacher(key, shape=(), wide=jnp.int32, **options):
        return jnp.where(plain(key, shape, jnp.float32) > 0, 1, -1).astype(wide)

    monkeypatch.setattr(jax.random, "normal", normal)
    monkeypatch.setattr(jax.random, "rademacher", rademacher)


def rounded_weights(monkeypatch, dtype):
    def rounded(array):
        return np.asarray(np.asarray(array).astype(dtype), np.float64)

    for name in ("SQUARE", "WIDE", "LARGE", "KERNEL"):
        monkeypatch.setattr(call_nets, name, rounded(getattr(call_nets, name)))
    for name in ("MIX", "TAPS"):
        monkeypatch.setitem(globals(), name, rounded(globals()[name]))


def evaluated(name, kind, xs):
    prepare(xs.dtype)
    run = jax.jit(lambda xs: CALLS[name](Mixed(kind), xs, KEY))
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(run(xs))]


def errors(name, kind, dtype):
    """The largest, in units of the precision and of the largest entry."""
    xs = batch(2, dtype)
    found = evaluated(name, kind, xs)
    with jax.enable_x64(True):
        truths = evaluated(name, kind, jnp.asarray(np.asarray(xs, np.float64)))
    eps = float(jnp.finfo(dtype).eps)
    return [
        np.abs(a - b).max(initial=0) / max(np.abs(b).max(initial=0), 1e-9) / eps
        for a, b in zip(found, truths, strict=True)
    ]


# Those whose network is a map of its own, or must be one that bounds are known of.
ALONE = ("operator_norm", "operator_norm_bound", "lipschitz_bound")
KINDS_OF = {name: ["MLP"] if name in ALONE else list(KINDS) for name in CALLS if name not in OTHERS}
# Exactly singular: what is left is rounding.
KINDS_OF["least_stretch"].remove("layer norm")


def sampled():
    """One call of each public function, each on another network, in turn in both precisions."""
    first = {name.split()[0]: name for name in reversed(KINDS_OF)}
    for i, name in enumerate(sorted(first.values())):
        kinds = KINDS_OF[name]
        yield name, kinds[i % len(kinds)], list(HALVES)[i % 2]


def check(name, kind, half, monkeypatch):
    dtype = HALVES[half]
    equal_draws(monkeypatch, dtype)
    rounded_weights(monkeypatch, dtype)
    # The largest are differences that cancel: a trace of 0.02, an average change of 0.0005.
    assert np.max(errors(name, kind, dtype)) < 48


@pytest.mark.parametrize(("name", "kind", "half"), sampled())
def test_one_call_of_each_function(name, kind, half, monkeypatch):
    check(name, kind, half, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, kinds in KINDS_OF.items() for kind in kinds]
)
def test_every_call_on_every_network(name, kind, half, monkeypatch):
    check(name, kind, half, monkeypatch)
