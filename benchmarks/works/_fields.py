"""Vector fields `[N, *in] -> [N, *in]` written as the tutorials of Flax and Equinox write networks.

Each returns the function of a batch that jacreg's adapter makes of the module. Weights are the
frameworks' own starts, but for biases and statistics of zero, where a derivative would be hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import linen, nnx

import jacreg.eqx
import jacreg.linen
import jacreg.nnx

Field = Callable[[Any], Any]


class _Plain(nnx.Module):
    """Convolutions with an activation between them, one padding for all."""

    def __init__(
        self, channels: int, width: int, depth: int, kernel: tuple[int, ...], padding: str,
        rngs: nnx.Rngs,
    ) -> None:  # fmt: skip
        sizes = [channels, *[width] * (depth - 1), channels]
        self.layers = nnx.List(
            nnx.Conv(a, b, kernel, padding=padding, rngs=rngs)
            for a, b in zip(sizes, sizes[1:], strict=False)  # noqa: RUF007
        )

    def __call__(self, xs: Any) -> Any:
        for layer in self.layers[:-1]:
            xs = nnx.tanh(layer(xs))
        return self.layers[-1](xs)


def padded(
    channels: int, *, width: int, depth: int, kernel: tuple[int, ...], padding: str
) -> Field:
    """`nnx.Conv` with a padding of Flax: "SAME", "CIRCULAR" (periodic) or "REFLECT"."""
    model = _Plain(channels, width, depth, kernel, padding, nnx.Rngs(0))
    return jacreg.nnx.function(model)


class _Block(nnx.Module):
    """Norm, activation, convolution, twice, beside the identity."""

    def __init__(self, width: int, norm: Any, rngs: nnx.Rngs) -> None:
        self.norms = nnx.List(norm(width, rngs=rngs) for _ in range(2))
        self.convs = nnx.List(nnx.Conv(width, width, (3, 3), rngs=rngs) for _ in range(2))

    def __call__(self, xs: Any) -> Any:
        hs = xs
        for norm, conv in zip(self.norms, self.convs, strict=True):
            hs = conv(nnx.silu(norm(hs)))
        return xs + hs


class _Residual(nnx.Module):
    def __init__(self, channels: int, width: int, blocks: int, norm: Any, rngs: nnx.Rngs) -> None:
        self.first = nnx.Conv(channels, width, (3, 3), rngs=rngs)
        self.blocks = nnx.List(_Block(width, norm, rngs) for _ in range(blocks))
        self.last = nnx.Conv(width, channels, (3, 3), rngs=rngs)

    def __call__(self, xs: Any) -> Any:
        hs = self.first(xs)
        for block in self.blocks:
            hs = block(hs)
        return self.last(nnx.silu(hs))


def residual(channels: int = 3, *, width: int = 16, blocks: int = 2) -> Field:
    """Pre-activation residual blocks in nnx with BatchNorm, running statistics."""
    model = _Residual(channels, width, blocks, nnx.BatchNorm, nnx.Rngs(0))
    for number, (_, norm) in enumerate(nnx.iter_modules(model)):
        if isinstance(norm, nnx.BatchNorm):
            keys = jax.random.split(jax.random.key(number))
            norm.mean[...] = 0.1 * jax.random.normal(keys[0], (width,))
            norm.var[...] = jax.random.uniform(keys[1], (width,), minval=0.5, maxval=2.0)
    return jacreg.nnx.function(model)


def residual_by_groups(channels: int = 3, *, width: int = 16, blocks: int = 2) -> Field:
    """The same with group norms of four groups, whose means every pixel sees."""
    norm = partial(nnx.GroupNorm, num_groups=4)
    return jacreg.nnx.function(_Residual(channels, width, blocks, norm, nnx.Rngs(0)))


class _ResidualConvolutions(linen.Module):
    """Residual convolutions, each spread out by its dilation, as WaveNet has them."""

    width: int
    dilations: Sequence[int]

    @linen.compact
    def __call__(self, xs: Any) -> Any:
        hs = linen.Conv(self.width, (1, 1))(xs)
        for dilation in self.dilations:
            hs = hs + linen.gelu(linen.Conv(self.width, (3, 3), kernel_dilation=dilation)(hs))
        return linen.Conv(xs.shape[-1], (1, 1))(hs)


def residual_convolutions(shape: tuple[int, ...], *, width: int, dilations: Sequence[int]) -> Field:
    """Residual 3x3 convolutions in linen, one a dilation, between two of 1x1."""
    module = _ResidualConvolutions(width, tuple(dilations))
    return jacreg.linen.function(module, module.init(jax.random.key(0), jnp.zeros((1, *shape))))


class _UpAndDown(linen.Module):
    """Strided convolutions down, resized by nearest neighbours and convolved on the way up."""

    width: int
    levels: int

    @linen.compact
    def __call__(self, xs: Any) -> Any:
        hs = linen.silu(linen.Conv(self.width, (3, 3))(xs))
        for _ in range(self.levels):
            hs = linen.silu(linen.Conv(self.width, (3, 3), strides=2)(hs))
        for _ in range(self.levels):
            batch, height, width, channels = hs.shape
            hs = jax.image.resize(hs, (batch, 2 * height, 2 * width, channels), "nearest")
            hs = linen.silu(linen.Conv(self.width, (3, 3))(hs))
        return linen.Conv(xs.shape[-1], (3, 3))(hs)


def up_and_down(shape: tuple[int, ...], *, width: int = 8, levels: int = 1) -> Field:
    """A convolutional autoencoder in linen, one output an input."""
    module = _UpAndDown(width, levels)
    return jacreg.linen.function(module, module.init(jax.random.key(0), jnp.zeros((1, *shape))))


class _UNet(eqx.Module):
    """Strided convolutions down, transposed ones up, what went down beside them."""

    first: eqx.nn.Conv2d
    downs: list[eqx.nn.Conv2d]
    ups: list[eqx.nn.ConvTranspose2d]
    joins: list[eqx.nn.Conv2d]
    last: eqx.nn.Conv2d

    def __init__(self, channels: int, widths: Sequence[int], key: Any) -> None:
        keys = iter(jax.random.split(key, 3 * len(widths)))
        pairs = list(zip(widths, widths[1:], strict=False))  # noqa: RUF007
        conv = partial(eqx.nn.Conv2d, kernel_size=3, padding=1)
        self.first = conv(channels, widths[0], key=next(keys))
        self.downs = [conv(a, b, stride=2, key=next(keys)) for a, b in pairs]
        self.ups = [
            eqx.nn.ConvTranspose2d(b, a, 2, stride=2, key=next(keys)) for a, b in reversed(pairs)
        ]
        self.joins = [conv(2 * a, a, key=next(keys)) for a, _ in reversed(pairs)]
        self.last = conv(widths[0], channels, key=next(keys))

    def __call__(self, x: Any) -> Any:
        h = jax.nn.silu(self.first(x))
        beside = []
        for down in self.downs:
            beside.append(h)
            h = jax.nn.silu(down(h))
        for up, join in zip(self.ups, self.joins, strict=True):
            h = jax.nn.silu(join(jnp.concatenate([up(h), beside.pop()])))
        return self.last(h)


def unet(channels: int = 3, *, widths: Sequence[int] = (16, 32)) -> Field:
    """A U-Net in Equinox, images `[N, C, H, W]`, one level less than it has widths."""
    return jacreg.eqx.function(_UNet(channels, widths, jax.random.key(0)))


class _TimedBlock(nnx.Module):
    """Two convolutions with norms beside the identity, a time added between them."""

    def __init__(self, before: int, width: int, norm: Any, rngs: nnx.Rngs) -> None:
        self.norm1, self.norm2 = norm(before, rngs=rngs), norm(width, rngs=rngs)
        self.conv1 = nnx.Conv(before, width, (3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(width, width, (3, 3), rngs=rngs)
        self.skip = nnx.Conv(before, width, (1, 1), rngs=rngs)
        self.time = nnx.Linear(16, width, rngs=rngs)

    def __call__(self, xs: Any, time: Any) -> Any:
        hs = self.conv1(nnx.silu(self.norm1(xs)))
        hs = hs + self.time(nnx.silu(time))[:, None, None]
        return self.skip(xs) + self.conv2(nnx.silu(self.norm2(hs)))


class _Attention(nnx.Module):
    def __init__(self, width: int, norm: Any, rngs: nnx.Rngs) -> None:
        self.norm = norm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(4, width, decode=False, rngs=rngs)

    def __call__(self, xs: Any) -> Any:
        tokens = self.norm(xs).reshape(xs.shape[0], -1, xs.shape[-1])
        return xs + self.attention(tokens).reshape(xs.shape)


class _DiffusionUNet(nnx.Module):
    """The U-Net of diffusion models: timed blocks, strides, attention at the bottom, skips."""

    def __init__(
        self, channels: int, widths: Sequence[int], blocks: int, norm: Any, attend: bool,
        rngs: nnx.Rngs,
    ) -> None:  # fmt: skip
        self.first = nnx.Conv(channels, widths[0], (3, 3), rngs=rngs)
        self.time = nnx.Linear(16, 16, rngs=rngs)
        downs, ups, beside = [], [], [widths[0]]
        width = widths[0]
        for level, wide in enumerate(widths):
            for _ in range(blocks):
                downs.append(_TimedBlock(width, wide, norm, rngs))
                beside.append(width := wide)
            if level < len(widths) - 1:
                downs.append(nnx.Conv(width, width, (3, 3), strides=2, rngs=rngs))
                beside.append(width)
        for level, wide in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                ups.append(_TimedBlock(width + beside.pop(), wide, norm, rngs))
                width = wide
            if level:
                ups.append(nnx.ConvTranspose(width, width, (2, 2), strides=(2, 2), rngs=rngs))
        self.downs, self.ups = nnx.List(downs), nnx.List(ups)
        self.middle = _Attention(widths[-1], norm, rngs) if attend else None
        self.last = nnx.Conv(width, channels, (3, 3), rngs=rngs)

    def __call__(self, xs: Any, times: Any) -> Any:
        angles = times[:, None] * 100.0 ** jnp.linspace(0, 1, 8)
        time = self.time(jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1))
        hs = self.first(xs)
        beside = [hs]
        for layer in self.downs:
            hs = layer(hs, time) if isinstance(layer, _TimedBlock) else layer(hs)
            beside.append(hs)
        hs = hs if self.middle is None else self.middle(hs)
        for layer in self.ups:
            if isinstance(layer, _TimedBlock):
                hs = layer(jnp.concatenate([hs, beside.pop()], -1), time)
            else:
                hs = layer(hs)
        return self.last(nnx.silu(hs))


def diffusion_unet(
    channels: int = 3, *, widths: Sequence[int] = (8, 16, 16, 16), blocks: int = 2,
    norm: str = "group", attention: bool = True,
) -> Callable[[Any, Any], Any]:  # fmt: skip
    """Of images and times, with group norms or BatchNorm's running statistics."""
    kind = partial(nnx.GroupNorm, num_groups=4) if norm == "group" else nnx.BatchNorm
    model = _DiffusionUNet(channels, widths, blocks, kind, attention, nnx.Rngs(0))
    return jacreg.nnx.function(model)
