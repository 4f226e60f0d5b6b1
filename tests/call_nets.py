"""A small network and its functions, and what a public call on it is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np

import jacreg

SIZE = 4
RNG = np.random.default_rng(0)
SQUARE = RNG.normal(size=(SIZE, SIZE)) / SIZE**0.5
WIDE = RNG.normal(size=(SIZE, 3)) / SIZE**0.5
LARGE = RNG.normal(size=(2 * SIZE, 2 * SIZE)) / SIZE**0.5
KERNEL = RNG.normal(size=(3, 1, 1))


@dataclass(frozen=True)
class Net:
    """Functions of a batch `[N, 4]`, each multiplied by `scale`, in the precision of the batch."""

    scale: Any = None

    def times(self, ys):
        if self.scale is None:
            return ys
        # An array of one entry: a scalar that is known would be a literal of the program.
        return ys * jnp.asarray(self.scale, ys.dtype).reshape((1,) * ys.ndim)

    def field(self, xs):
        return self.times(jnp.tanh(xs @ jnp.asarray(SQUARE, xs.dtype)))

    def eight(self, xs):
        return self.times(jnp.tanh(xs @ jnp.asarray(LARGE, xs.dtype)))

    def local(self, xs):
        images, kernel = xs[:, :, None], jnp.asarray(KERNEL, xs.dtype)
        found = jax.lax.conv_general_dilated(
            images, kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
        )
        return self.times(jnp.tanh(found)[:, :, 0])

    def classifier(self, xs):
        return self.times(jnp.tanh(xs @ jnp.asarray(WIDE, xs.dtype)))

    def images(self, xs):
        return self.times(jnp.tanh(2 * xs))

    def energy(self, xs):
        return self.times(jnp.sum(jnp.square(jnp.tanh(xs @ jnp.asarray(SQUARE, xs.dtype))), 1))

    def gradient(self, xs):
        return jax.grad(lambda xs: jnp.sum(self.energy(xs)))(xs)


@dataclass(frozen=True)
class Call:
    """One public call.

    Attributes:
        run: `(net, xs, key)` to a pytree; rows are examples unless `rows` says otherwise.
        degree: of the result in the scale of the net; "log of k" where the result is k times its
            logarithm more; None where it is neither.
        rows: whether each row of the result depends on the same row of the batch alone.
        small_ways: sizes at which jacreg changes its way, to be made small.
    """

    run: Callable[[Net, Any, Any], Any]
    degree: Any = None
    rows: bool = True
    small_ways: tuple[str, ...] = field(default=())

    def __call__(self, net, xs, key):
        """Run it."""
        with _SmallWays(self.small_ways):
            return self.run(net, xs, key)


class _SmallWays:
    """Sizes of modules (`"_spectral_norm._DENSE_SIDE"`) set to one while it is entered."""

    def __init__(self, names):
        self.patches = [patch(f"jacreg.{name}", 1) for name in names]

    def __enter__(self):
        for each in self.patches:
            each.start()

    def __exit__(self, *_):
        for each in self.patches:
            each.stop()


def linearized(name):
    return lambda net, xs: jacreg.linearize(getattr(net, name), xs)


FIELD, LOCAL, CLASSIFIER = linearized("field"), linearized("local"), linearized("classifier")


def IMAGES(net, xs):
    """From images to images."""
    return jacreg.linearize(net.images, xs.reshape(-1, 2, 2))


def EIGHT(net, xs):
    """More dimensions than the products of XTrace, which else takes the trace itself."""
    return jacreg.linearize(net.eight, jnp.concatenate([xs, 0.5 * xs], axis=1))


def of(lin, quantity, *args, keyed=False, degree=None, **how):
    """A call of a quantity on one Linearization."""

    def run(net, xs, key):
        options = {"key": key} if keyed else {}
        return quantity(lin(net, xs), *args, **options)

    return Call(run, degree, **how)
