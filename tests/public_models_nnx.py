"""nnx modules as Flax's documentation and users write them, at tiny sizes."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from public_models import batch, of_nnx

import jacreg.nnx


class CNN(nnx.Module):
    """The MNIST tutorial's, with `rngs` at the call for its dropout."""

    def __init__(self, rngs):
        self.conv1 = nnx.Conv(1, 2, (3, 3), rngs=rngs)
        self.norm1 = nnx.BatchNorm(2, rngs=rngs)
        self.drop = nnx.Dropout(0.2)
        self.conv2 = nnx.Conv(2, 3, (3, 3), rngs=rngs)
        self.linear = nnx.Linear(3, 3, rngs=rngs)
        self.avg_pool = partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2))

    def __call__(self, x, rngs: nnx.Rngs):
        x = self.avg_pool(nnx.softplus(self.norm1(self.drop(self.conv1(x), rngs=rngs))))
        x = self.avg_pool(nnx.softplus(self.conv2(x)))
        return self.linear(x.reshape(x.shape[0], -1))


class ResidualBlock(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(2, 2, (3, 3), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(2, rngs=rngs)
        self.short = nnx.Conv(2, 2, (1, 1), rngs=rngs)

    def __call__(self, x):
        return nnx.silu(self.norm(self.conv(x)) + self.short(x))


class Encoder(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(5, 4, rngs=rngs)
        self.mean = nnx.Linear(4, 2, rngs=rngs)
        self.std = nnx.Linear(4, 2, rngs=rngs)
        self.rngs = rngs.fork()

    def __call__(self, x):
        h = jnp.tanh(self.hidden(x))
        mean, std = self.mean(h), jnp.exp(self.std(h))
        return mean + std * self.rngs.noise.normal(mean.shape), mean, std


class VAE(nnx.Module):
    """Several methods, noise of its own, a tuple of outputs."""

    def __init__(self, rngs):
        self.encoder = Encoder(rngs)
        self.hidden = nnx.Linear(2, 4, rngs=rngs)
        self.out = nnx.Linear(4, 5, rngs=rngs)

    def decode(self, z):
        return nnx.sigmoid(self.out(jnp.tanh(self.hidden(z))))

    def __call__(self, x):
        z, mean, std = self.encoder(x)
        return self.decode(z), mean, std


class TransformerBlock(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.LayerNorm(4, rngs=rngs)
        self.qkv = nnx.LinearGeneral(4, (3, 4), rngs=rngs)  # nnx's own softmax is in float32
        self.mlp = nnx.Linear(4, 4, rngs=rngs)
        self.drop = nnx.Dropout(0.1, rngs=rngs)

    @nnx.remat
    def __call__(self, x):
        q, k, v = jnp.moveaxis(self.qkv(self.norm(x)), -2, 0)
        x = x + jax.nn.softmax(q @ k.mT / 2) @ v
        return x + self.drop(nnx.gelu(self.mlp(x)))


class ScannedTransformer(nnx.Module):
    """Blocks made by nnx.vmap, run by nnx.scan, each rematerialised."""

    def __init__(self, rngs):
        @nnx.split_rngs(splits=2)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def make(rngs):
            return TransformerBlock(rngs)

        self.blocks = make(rngs)

    def __call__(self, x):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def run(x, block):
            return block(x)

        return run(x, self.blocks)


class Tied(nnx.Module):
    """A language model whose head is its embedding; runs from embeddings or from tokens."""

    def __init__(self, rngs):
        self.embed = nnx.Embed(5, 3, param_dtype=float, rngs=rngs)
        self.mix = nnx.Linear(3, 3, rngs=rngs)

    def __call__(self, tokens):
        return self.decode(self.embed(tokens))

    @nnx.jit
    def decode(self, embedded):
        return self.embed.attend(jnp.tanh(self.mix(embedded)))


class DiT(nnx.Module):
    """A denoiser of images under a time and an integer class, by adaptive layer norm."""

    def __init__(self, rngs):
        self.embed = nnx.Linear(4, 4, rngs=rngs)
        self.times = nnx.Linear(2, 4, rngs=rngs)
        self.labels = nnx.Embed(3, 4, param_dtype=float, rngs=rngs)
        self.norm = nnx.LayerNorm(4, use_bias=False, use_scale=False, rngs=rngs)
        self.modulation = nnx.Linear(4, 8, rngs=rngs)
        self.mlp = nnx.Linear(4, 4, rngs=rngs)
        self.out = nnx.Linear(4, 4, rngs=rngs)

    def __call__(self, x, t, y, train: bool = False):
        h = self.embed(x.reshape(len(x), 4, 4))
        waves = jnp.stack([jnp.sin(t), jnp.cos(t)], 1)
        keep = jnp.where(train, 0.0, 1.0)
        condition = nnx.silu(self.times(waves) + keep * self.labels(y))
        shift, scale = jnp.split(self.modulation(condition)[:, None], 2, axis=-1)
        h = h + nnx.gelu(self.mlp(self.norm(h) * (1 + scale) + shift))
        return self.out(h).reshape(x.shape)


def cnn():
    return of_nnx(
        CNN(nnx.Rngs(0)),
        lambda model: jacreg.nnx.function(model),
        lambda model, x: model(x, nnx.Rngs(1)),
        batch(2, 4, 4, 1),
    )


def residual():
    line = lambda model: jacreg.nnx.function(model)  # noqa: E731
    model = ResidualBlock(nnx.Rngs(0))
    return of_nnx(model, line, lambda model, x: model(x), batch(2, 3, 3, 2))


def vae_decoder():
    return of_nnx(
        VAE(nnx.Rngs(0)),
        lambda model: jacreg.nnx.function(model, method="decode"),
        lambda model, z: model.decode(z),
        batch(2, 2),
    )


def vae_mean():
    return of_nnx(
        VAE(nnx.Rngs(0)),
        lambda model: jacreg.nnx.function(model, method=lambda model, x: model.encoder(x)[1]),
        lambda model, x: model.encoder.mean(jnp.tanh(model.encoder.hidden(x))),
        batch(2, 5),
    )


def transformer():
    def unrolled(model, x):
        graphdef, state = nnx.split(model.blocks)
        for number in range(2):
            block = nnx.merge(graphdef, jax.tree.map(lambda a, n=number: a[n], state))
            x = inspect.unwrap(TransformerBlock.__call__)(block, x)
        return x

    line = lambda model: jacreg.nnx.function(model)  # noqa: E731
    return of_nnx(ScannedTransformer(nnx.Rngs(0)), line, unrolled, batch(2, 2, 4))


def tied():
    def plain(model, embedded):
        return jnp.tanh(model.mix(embedded)) @ model.embed.embedding[...].T

    return of_nnx(
        Tied(nnx.Rngs(0)),
        lambda model: jacreg.nnx.function(model, method="decode"),
        plain,
        batch(2, 2, 3),
    )


def dit():
    return of_nnx(
        DiT(nnx.Rngs(0)),
        lambda model: jacreg.nnx.function(model, train=False),
        lambda model, x, t, y: model(x, t, y),
        batch(2, 4, 4, 1),
        jnp.asarray([0.3, 0.8]),
        jnp.asarray([2, 0]),
    )


MODELS = {
    "MNIST CNN that wants rngs (nnx)": cnn,
    "ResNet block (nnx)": residual,
    "VAE, decode (nnx)": vae_decoder,
    "VAE, mean of a tuple (nnx)": vae_mean,
    "scanned, remat transformer (nnx)": transformer,
    "tied weights, jitted method (nnx)": tied,
    "DiT, time and class (nnx)": dit,
}
