"""linen modules as Flax's examples and users write them, at tiny sizes."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from public_models import batch, of_linen

import jacreg.linen

KEY = jax.random.key(0)


class CNN(nn.Module):
    """The MNIST example's, with BatchNorm and dropout under one `train`."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(features=2, kernel_size=(3, 3))(x)
        x = nn.BatchNorm(use_running_average=not train)(x)
        x = nn.avg_pool(nn.softplus(x), window_shape=(2, 2), strides=(2, 2))
        x = nn.Dense(features=4)(x.reshape((x.shape[0], -1)))
        x = nn.Dropout(rate=0.5, deterministic=not train)(nn.softplus(x))
        return nn.Dense(features=3)(x)


class EncoderBlock(nn.Module):
    @nn.compact
    def __call__(self, x, mask, deterministic):
        h = nn.LayerNorm()(x)
        attention = nn.MultiHeadDotProductAttention(num_heads=2, dropout_rate=0.1)
        x = x + attention(h, h, mask=mask, deterministic=deterministic)
        h = nn.Dropout(0.1)(nn.gelu(nn.Dense(4)(x)), deterministic=deterministic)
        return x + h


class Transformer(nn.Module):
    """Embeddings under a mask of booleans; dropout is told `deterministic`."""

    @nn.compact
    def __call__(self, embedded, padding, *, deterministic):
        mask = nn.make_attention_mask(padding, padding)
        return EncoderBlock()(embedded, mask, deterministic)


class Layer(nn.Module):
    train: bool

    @nn.compact
    def __call__(self, x, _):
        h = nn.Dropout(0.5, deterministic=not self.train)(jnp.tanh(nn.Dense(3)(x)))
        return x + h, None


class Scanned(nn.Module):
    """nn.scan over nn.remat."""

    @nn.compact
    def __call__(self, x, is_training: bool):
        layers = nn.scan(
            nn.remat(Layer),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            length=2,
        )
        return layers(is_training)(x, None)[0]


class VAE(nn.Module):
    """The VAE example's: setup, encode, reparameterise, generate."""

    def setup(self):
        self.encoder = nn.Dense(4)
        self.decoder = nn.Dense(4)

    def encode(self, x):
        return jnp.split(jnp.tanh(self.encoder(x)), 2, axis=-1)

    def generate(self, z):
        return nn.sigmoid(self.decoder(z))

    def __call__(self, x, z_rng):
        mean, logvar = self.encode(x)
        z = mean + jnp.exp(0.5 * logvar) * jax.random.normal(z_rng, logvar.shape)
        return self.generate(z), mean, logvar


class Fusion(nn.Module):
    """Dictionaries in and out."""

    @nn.compact
    def __call__(self, batch, *, use_dropout=True):
        image = nn.Dense(3)(batch["image"].reshape(len(batch["image"]), -1))
        both = jnp.tanh(jnp.concatenate([image, nn.Dense(2)(batch["table"])], axis=-1))
        both = nn.Dropout(0.5)(both, deterministic=not use_dropout)
        return {"logits": nn.Dense(2)(both), "value": nn.Dense(1)(both)[:, 0]}


class UNet(nn.Module):
    """A score network of one level, `(x, time)`."""

    @nn.compact
    def __call__(self, x, time):
        waves = nn.Dense(2)(jnp.stack([jnp.sin(time), jnp.cos(time)], axis=-1))[:, None, None]
        down = nn.silu(nn.Conv(2, (3, 3))(x) + waves)
        low = nn.silu(nn.GroupNorm(1)(nn.Conv(2, (3, 3), strides=(2, 2))(down)))
        up = nn.ConvTranspose(2, (3, 3), strides=(2, 2))(low)
        return nn.Conv(x.shape[-1], (3, 3))(jnp.concatenate([down, up], axis=-1))


class Recurrent(nn.Module):
    @nn.compact
    def __call__(self, sequence):
        return nn.Dense(2)(nn.RNN(nn.LSTMCell(3, param_dtype=jnp.float64))(sequence)[:, -1])


def made(module, *args, **options):
    return module.init({"params": KEY, "dropout": KEY}, *args, **options)


def cnn():
    module, xs = CNN(), batch(2, 4, 4, 1)
    return of_linen(
        made(module, xs, train=False),
        lambda variables: jacreg.linen.function(module, variables, train=False),
        lambda variables, x: module.apply(variables, x, train=False),
        xs,
    )


def transformer():
    module, xs = Transformer(), batch(2, 3, 4)
    padding = jnp.asarray([[True, True, True], [True, True, False]])
    return of_linen(
        made(module, xs, padding, deterministic=True),
        lambda variables: jacreg.linen.function(module, variables, deterministic=True),
        lambda variables, x, mask: module.apply(variables, x, mask, deterministic=True),
        xs,
        padding,
    )


def scanned():
    module, xs = Scanned(), batch(2, 3)

    def unrolled(variables, x):
        layers = variables["params"]["ScanCheckpointLayer_0"]["Dense_0"]
        for number in range(2):
            x = x + jnp.tanh(x @ layers["kernel"][number] + layers["bias"][number])
        return x

    line = lambda variables: jacreg.linen.function(module, variables)  # noqa: E731
    return of_linen(made(module, xs, False), line, unrolled, xs)


def bound_vae():
    module, xs = VAE(), batch(2, 2)
    return of_linen(
        made(module, batch(2, 4), KEY),
        lambda variables: jacreg.linen.function(module.bind(variables), method="generate"),
        lambda variables, z: module.apply(variables, z, method="generate"),
        xs,
    )


def sampled_vae():
    module, xs = VAE(), batch(1, 4)

    def reconstructed(model, x, z_rng):
        return model(x, z_rng)[0]

    return of_linen(
        made(module, xs, KEY),
        lambda variables: jacreg.linen.function(
            module, variables, method=reconstructed, z_rng=jax.random.key(1)
        ),
        lambda variables, x: module.apply(variables, x, jax.random.key(1))[0],
        xs,
    )


def fusion():
    module = Fusion()
    xs = {"image": batch(2, 2, 2), "table": batch(2, 3)}
    return of_linen(
        made(module, xs),
        lambda variables: jacreg.linen.function(module, variables),
        lambda variables, x: module.apply(variables, x, use_dropout=False),
        xs,
    )


def u_net():
    module, xs, time = UNet(), batch(2, 4, 4, 1), jnp.asarray([0.3, 0.8])
    return of_linen(
        made(module, xs, time),
        lambda variables: jacreg.linen.function(module, variables),
        module.apply,
        xs,
        time,
    )


def recurrent():
    module, xs = Recurrent(), batch(2, 4, 2)
    line = lambda variables: jacreg.linen.function(module, variables)  # noqa: E731
    return of_linen(made(module, xs), line, module.apply, xs)


MODELS = {
    "MNIST CNN, train= (linen)": cnn,
    "transformer, deterministic=, mask (linen)": transformer,
    "nn.scan of nn.remat (linen)": scanned,
    "bound VAE, generate (linen)": bound_vae,
    "VAE with its own z_rng (linen)": sampled_vae,
    "dictionaries in and out (linen)": fusion,
    "U-Net score (x, time) (linen)": u_net,
    "LSTM over a sequence (linen)": recurrent,
}
