"""The networks of the dense quantities, in JAX and, with the same weights, in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Net(NamedTuple):
    """A network with its parameters and a batch.

    Attributes:
        setting: what it is, for the table.
        apply: `(params, [N, *in]) -> [N, *out]`.
        params, xs: its weights and a batch.
    """

    setting: str
    apply: Callable[[Any, Any], Any]
    params: list[Any]
    xs: Any

    def fn(self, xs: Any) -> Any:
        """Apply with the network's own weights, to a batch."""
        return self.apply(self.params, xs)

    def one(self, x: Any) -> Any:
        """Apply to one example."""
        return self.apply(self.params, x[None])[0]


def _weight(shape: tuple[int, ...], seed: int) -> Any:
    fan = float(np.prod(shape[:-1]))
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape) / fan**0.5, jnp.float32)


def mlp(sizes: tuple[int, ...], batch: int) -> Net:
    """Dense layers with tanh between them."""
    params = [_weight((a, b), i) for i, (a, b) in enumerate(zip(sizes, sizes[1:], strict=False))]  # noqa: RUF007

    def apply(params: Any, xs: Any) -> Any:
        for weight in params[:-1]:
            xs = jnp.tanh(xs @ weight)
        return xs @ params[-1]

    xs = jax.random.normal(jax.random.key(0), (batch, sizes[0]))
    return Net(f"MLP {'-'.join(map(str, sizes))}, batch {batch}", apply, params, xs)


def convolutional(batch: int, *, side: int = 28, outputs: int = 10) -> Net:
    """Two 5x5 convolutions of stride 2, 8 and 16 channels, tanh, and a dense layer."""
    last = (side + 3) // 4
    shapes = [(5, 5, 1, 8), (5, 5, 8, 16), (last * last * 16, outputs)]
    params = [_weight(shape, i) for i, shape in enumerate(shapes)]

    def apply(params: Any, xs: Any) -> Any:
        for kernel in params[:2]:
            xs = jax.lax.conv_general_dilated(
                xs, kernel, (2, 2), ((2, 2), (2, 2)), dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            xs = jnp.tanh(xs)
        return xs.reshape(xs.shape[0], -1) @ params[2]

    xs = jax.random.normal(jax.random.key(0), (batch, side, side, 1))
    name = f"two convolutions {side}x{side}x1 to {outputs}, batch {batch}"
    return Net(name, apply, params, xs)


def in_torch(torch: Any, net: Net) -> tuple[Callable[[Any], Any], Any]:
    """Return the same function of one example in PyTorch, channels first, and the batch."""
    weights = [torch.tensor(np.asarray(weight)) for weight in net.params]
    xs = torch.tensor(np.asarray(net.xs))
    if xs.ndim == 2:

        def dense(x: Any) -> Any:
            for weight in weights[:-1]:
                x = torch.tanh(x @ weight)
            return x @ weights[-1]

        return dense, xs
    kernels = [weight.permute(3, 2, 0, 1).contiguous() for weight in weights[:2]]

    def images(x: Any) -> Any:
        for kernel in kernels:
            x = torch.tanh(torch.nn.functional.conv2d(x[None], kernel, stride=2, padding=2)[0])
        return x.permute(1, 2, 0).reshape(-1) @ weights[2]

    return images, xs.permute(0, 3, 1, 2).contiguous()


def temporary_mib(compiled: Any) -> float:
    """Return the temporary memory of a compiled program in MiB, its result apart."""
    return compiled.memory_analysis().temp_size_in_bytes / 2**20
