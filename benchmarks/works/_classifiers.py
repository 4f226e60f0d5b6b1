"""Classifiers as tutorials write them, with a batch and the same network in PyTorch.

The CNN is that of Flax's MNIST tutorial, in nnx; LeNet' comes from `models.build`; the strided one
is an Equinox module of one example; the MLP is the list of pairs of JAX's own tutorial.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jacreg.eqx
import jacreg.nnx
import models

CLASSES = 10

Fn = Callable[[Any], Any]


class Classifier(NamedTuple):
    """A network with its weights and a batch.

    Attributes:
        setting: what it is, for the table.
        params: its weights, a pytree that `jax.grad` takes.
        plain: from weights to the function of a batch, as its framework calls it.
        ours: the same by jacreg's adapter; a plain function needs none.
        xs, labels: the batch.
        layers: from weights, or their gradient, to kernels and biases in PyTorch's axes and order.
        modules: from `torch.nn` to the layers, which follow one another.
        channels_first: whether the images are.
    """

    setting: str
    params: Any
    plain: Callable[[Any], Fn]
    ours: Callable[[Any], Fn]
    xs: Any
    labels: Any
    layers: Callable[[Any], list[np.ndarray]]
    modules: Callable[[Any], Sequence[Any]]
    channels_first: bool = False


class _CNN(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.conv1 = nnx.Conv(1, 32, kernel_size=(3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(32, 64, kernel_size=(3, 3), rngs=rngs)
        self.linear1 = nnx.Linear(3136, 256, rngs=rngs)
        self.linear2 = nnx.Linear(256, CLASSES, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = nnx.avg_pool(nnx.relu(self.conv1(x)), window_shape=(2, 2), strides=(2, 2))
        x = nnx.avg_pool(nnx.relu(self.conv2(x)), window_shape=(2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        return self.linear2(nnx.relu(self.linear1(x)))


def flax_cnn(batch: int) -> Classifier:
    """Two 3x3 convolutions with average pooling and two dense layers, in nnx."""
    model = _CNN(rngs=nnx.Rngs(0))
    kernels = (("conv1", None), ("conv2", None), ("linear1", (7, 7, 64)), ("linear2", None))
    return _of_nnx(
        f"CNN of Flax's MNIST tutorial (nnx), batch {batch}",
        model,
        _images(batch, (28, 28, 1)),
        kernels,
        lambda nn: [
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)),
            *(nn.Flatten(), nn.Linear(3136, 256), nn.ReLU(), nn.Linear(256, CLASSES)),
        ],
    )


def lenet(batch: int) -> Classifier:
    """LeNet' of Hoffman et al. 2019 by `models.build`."""
    model = models.build("lenet", framework="nnx", key=jax.random.key(0))
    kernels = (
        *(("conv_1", None), ("conv_2", None), ("dense_1", (5, 5, 16))),
        *(("dense_2", None), ("dense_3", None)),
    )
    return _of_nnx(
        f"LeNet', batch {batch}",
        model,
        _images(batch, (28, 28, 1)),
        kernels,
        lambda nn: [
            *(nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 16, 5), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh()),
            nn.Linear(84, CLASSES),
        ],
    )


class _Strided(eqx.Module):
    conv1: eqx.nn.Conv2d
    conv2: eqx.nn.Conv2d
    linear: eqx.nn.Linear

    def __init__(self, key: Any) -> None:
        keys = jax.random.split(key, 3)
        self.conv1 = eqx.nn.Conv2d(1, 16, kernel_size=3, stride=2, padding=1, key=keys[0])
        self.conv2 = eqx.nn.Conv2d(16, 32, kernel_size=3, stride=2, padding=1, key=keys[1])
        self.linear = eqx.nn.Linear(32 * 7 * 7, CLASSES, key=keys[2])

    def __call__(self, x: Any) -> Any:
        x = jax.nn.gelu(self.conv1(x))
        x = jax.nn.gelu(self.conv2(x))
        return self.linear(jnp.ravel(x))


def strided(batch: int) -> Classifier:
    """Two strided 3x3 convolutions with GELU and a dense layer, in Equinox."""
    params, static = eqx.partition(_Strided(jax.random.key(0)), eqx.is_inexact_array)

    def layers(params: Any) -> list[np.ndarray]:
        model = eqx.combine(params, static)
        each = (model.conv1, model.conv2, model.linear)
        # Equinox keeps a convolution's bias as [O, 1, 1].
        return [np.asarray(a) for x in each for a in (x.weight, jnp.ravel(x.bias))]

    return Classifier(
        f"two strided 3x3 convolutions with GELU (Equinox), batch {batch}",
        params,
        lambda params: jax.vmap(eqx.combine(params, static)),
        lambda params: jacreg.eqx.function(eqx.combine(params, static)),
        *_images(batch, (1, 28, 28)),
        layers,
        lambda nn: [
            *(nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.GELU(approximate="tanh")),
            *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.GELU(approximate="tanh")),
            *(nn.Flatten(), nn.Linear(32 * 7 * 7, CLASSES)),
        ],
        channels_first=True,
    )


def mlp(batch: int, sizes: Sequence[int] = (784, 256, 256, CLASSES)) -> Classifier:
    """Dense layers with relu between them, as JAX's tutorial writes them."""
    params = []
    for number, (a, b) in enumerate(zip(sizes, sizes[1:], strict=False)):  # noqa: RUF007
        w_key, b_key = jax.random.split(jax.random.key(number))
        params.append(
            (jax.random.normal(w_key, (a, b)) / a**0.5, 0.01 * jax.random.normal(b_key, (b,)))
        )

    def function(params: Any) -> Fn:
        def predict(xs: Any) -> Any:
            for w, b in params[:-1]:
                xs = jax.nn.relu(jnp.dot(xs, w) + b)
            w, b = params[-1]
            return jnp.dot(xs, w) + b

        return predict

    def modules(nn: Any) -> list[Any]:
        pairs = zip(sizes, sizes[1:], strict=False)  # noqa: RUF007
        return [each for pair in pairs for each in (nn.Linear(*pair), nn.ReLU())][:-1]

    return Classifier(
        f"MLP {'-'.join(map(str, sizes))} (plain JAX), batch {batch}",
        params,
        function,
        function,
        *_images(batch, (sizes[0],)),
        lambda params: [np.asarray(each) for w, b in params for each in (w.T, b)],
        modules,
    )


def _of_nnx(
    setting: str,
    model: nnx.Module,
    batch: tuple[Any, Any],
    kernels: Sequence[tuple[str, tuple[int, ...] | None]],
    modules: Callable[[Any], Sequence[Any]],
) -> Classifier:
    """A classifier of an nnx module; each layer with the shape that was flattened before it."""
    definition, params, rest = nnx.split(model, nnx.Param, ...)

    def plain(params: Any) -> Any:
        return nnx.merge(definition, params, rest)

    def layers(params: Any) -> list[np.ndarray]:
        model, found = plain(params), []
        for name, flattened in kernels:
            layer = getattr(model, name)
            found += [_as_torch(np.asarray(layer.kernel), flattened), np.asarray(layer.bias)]
        return found

    return Classifier(
        setting, params, plain, lambda params: jacreg.nnx.function(plain(params)), *batch, layers,
        modules,
    )  # fmt: skip


def _as_torch(kernel: np.ndarray, flattened: tuple[int, ...] | None) -> np.ndarray:
    """A kernel `[H, W, I, O]` or `[I, O]` in PyTorch's axes, which flatten channels first."""
    if kernel.ndim == 4:
        return kernel.transpose(3, 2, 0, 1)
    if flattened is not None:
        kernel = kernel.reshape(*flattened, -1).transpose(2, 0, 1, 3).reshape(len(kernel), -1)
    return kernel.T


def _images(batch: int, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Noise, in which no two entries of a pooling window are equal, and labels."""
    xs = jax.random.normal(jax.random.key(1), (batch, *shape))
    return xs, jax.random.randint(jax.random.key(2), (batch,), 0, CLASSES)
