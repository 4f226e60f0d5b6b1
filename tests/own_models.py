"""Models as users write them, for `train.fit` and `model.target`."""

import equinox as eqx
import jax
from flax import nnx


class Normed(nnx.Module):
    """A dense network with BatchNorm and dropout."""

    def __init__(self, inputs: int, outputs: int, width: int = 8, *, rngs: nnx.Rngs):
        self.first = nnx.Linear(inputs, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.last = nnx.Linear(width, outputs, rngs=rngs)

    def __call__(self, xs):
        hidden = nnx.relu(self.norm(self.first(xs.reshape(len(xs), -1))))
        return self.last(self.dropout(hidden))


class Stateful(eqx.Module):
    """The same for one example, in Equinox."""

    first: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    dropout: eqx.nn.Dropout
    last: eqx.nn.Linear

    def __init__(self, inputs: int, outputs: int, width: int = 8, *, key):
        one, two = jax.random.split(key)
        self.first = eqx.nn.Linear(inputs, width, key=one)
        self.norm = eqx.nn.BatchNorm(width, "batch", mode="batch")
        self.dropout = eqx.nn.Dropout(0.1)
        self.last = eqx.nn.Linear(width, outputs, key=two)

    def __call__(self, x, state, *, key=None):
        hidden, state = self.norm(self.first(x.ravel()), state)
        return self.last(self.dropout(jax.nn.relu(hidden), key=key)), state


class ChannelsFirst(eqx.Module):
    """A convolutional network of one image, channels first as Equinox has them."""

    convolution: eqx.nn.Conv2d
    last: eqx.nn.Linear

    def __init__(self, outputs: int, width: int = 3, *, key):
        one, two = jax.random.split(key)
        self.convolution = eqx.nn.Conv2d(1, width, 3, stride=2, padding=1, key=one)
        self.last = eqx.nn.Linear(width * 16, outputs, key=two)

    def __call__(self, x):
        return self.last(jax.nn.relu(self.convolution(x)).ravel())


class ChannelsLast(nnx.Module):
    """A convolutional network of images, channels last as Flax has them."""

    def __init__(self, outputs: int, width: int = 3, *, rngs: nnx.Rngs):
        self.convolution = nnx.Conv(1, width, (3, 3), rngs=rngs)
        self.last = nnx.Linear(width, outputs, rngs=rngs)

    def __call__(self, xs):
        return self.last(nnx.relu(self.convolution(xs)).mean((1, 2)))


class OfBatches(eqx.Module):
    """An Equinox module that is written for a batch, which is a mistake."""

    last: eqx.nn.Linear

    def __init__(self, *, key):
        self.last = eqx.nn.Linear(64, 10, key=key)

    def __call__(self, xs):
        return jax.vmap(self.last)(xs.reshape(len(xs), -1))


class Centred(nnx.Module):
    """A network that takes the mean of its batch in evaluation as well, which is a mistake."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.last = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, xs):
        xs = xs.reshape(len(xs), -1)
        return self.last(xs - xs.mean(0))


def made_by_a_function(width: int, *, rngs: nnx.Rngs) -> nnx.Module:
    """Return a network of digits."""
    return Normed(64, 10, width, rngs=rngs)


WIDTH = 3
