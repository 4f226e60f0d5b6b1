"""Equinox models as its documentation and users write them, at tiny sizes."""

import equinox as eqx
import jax
import jax.numpy as jnp
from public_models import batch, of_eqx

import jacreg.eqx

KEY = jax.random.key(0)


def keys(number):
    return jax.random.split(KEY, number)


class Attention(eqx.Module):
    norm: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    drop: eqx.nn.Dropout
    mlp: eqx.nn.Linear

    def __init__(self, size, key):
        one, two = jax.random.split(key)
        self.norm = eqx.nn.LayerNorm(size)
        self.attention = eqx.nn.MultiheadAttention(2, size, key=one)
        self.drop = eqx.nn.Dropout(0.3)
        self.mlp = eqx.nn.Linear(size, size, key=two)

    def __call__(self, x, enable_dropout, key):
        h = jax.vmap(self.norm)(x)
        x = x + self.attention(h, h, h)
        h = jax.nn.gelu(jax.vmap(self.mlp)(x))
        return x + self.drop(h, inference=not enable_dropout, key=key)


class VisionTransformer(eqx.Module):
    """Patches, a class token, blocks that are told `enable_dropout`."""

    patches: eqx.nn.Linear
    token: jax.Array
    blocks: list
    head: eqx.nn.Linear

    def __init__(self):
        first, second, third, last = keys(4)
        self.patches = eqx.nn.Linear(4, 4, key=first)
        self.token = jax.random.normal(second, (1, 4))
        self.blocks = [Attention(4, key) for key in jax.random.split(third, 2)]
        self.head = eqx.nn.Linear(4, 3, key=last)

    def __call__(self, x, enable_dropout, key):
        cut = x.reshape(1, 2, 2, 2, 2).transpose(1, 3, 0, 2, 4).reshape(4, 4)
        h = jnp.concatenate([self.token, jax.vmap(self.patches)(cut)])
        for block, own in zip(self.blocks, jax.random.split(key, 2), strict=True):
            h = block(h, enable_dropout, own)
        return self.head(h[0])


class ResNetBlock(eqx.Module):
    conv1: eqx.nn.Conv2d
    norm1: eqx.nn.BatchNorm
    conv2: eqx.nn.Conv2d
    norm2: eqx.nn.BatchNorm

    def __init__(self, channels, key):
        one, two = jax.random.split(key)
        self.conv1 = eqx.nn.Conv2d(channels, channels, 3, padding=1, key=one)
        self.norm1 = eqx.nn.BatchNorm(channels, "batch", mode="batch")
        self.conv2 = eqx.nn.Conv2d(channels, channels, 3, padding=1, key=two)
        self.norm2 = eqx.nn.BatchNorm(channels, "batch", mode="batch")

    def __call__(self, x, state):
        h, state = self.norm1(self.conv1(x), state)
        h, state = self.norm2(self.conv2(jax.nn.softplus(h)), state)
        return jax.nn.softplus(x + h), state


class Mixer(eqx.Module):
    """The score model of Equinox's tutorial: `(t, y)`, the time as a further channel."""

    embed: eqx.nn.Conv2d
    tokens: eqx.nn.MLP
    channels: eqx.nn.MLP
    out: eqx.nn.ConvTranspose2d
    t1: float

    def __init__(self):
        first, second, third, last = keys(4)
        self.embed = eqx.nn.Conv2d(2, 3, 2, stride=2, key=first)
        self.tokens = eqx.nn.MLP(4, 4, 4, 1, key=second)
        self.channels = eqx.nn.MLP(3, 3, 4, 1, key=third)
        self.out = eqx.nn.ConvTranspose2d(3, 1, 2, stride=2, key=last)
        self.t1 = 10.0

    def __call__(self, t, y, *, key=None):
        del key
        t = jnp.broadcast_to(t / self.t1, (1, *y.shape[1:]))
        h = self.embed(jnp.concatenate([y, t]))
        flat = h.reshape(3, 4)
        flat = flat + jax.vmap(self.tokens)(flat)
        flat = flat + jax.vmap(self.channels, in_axes=1, out_axes=1)(flat)
        return self.out(flat.reshape(h.shape))


class Field(eqx.Module):
    """A neural ODE's vector field, in the order of diffrax."""

    mlp: eqx.nn.MLP

    def __call__(self, t, y, args):
        return t * self.mlp(y)


class Recurrent(eqx.Module):
    cell: eqx.nn.GRUCell
    out: eqx.nn.Linear

    def __call__(self, input):
        start = jnp.zeros(self.cell.hidden_size)
        last, _ = jax.lax.scan(lambda h, x: (self.cell(x, h), None), start, input)
        return self.out(last)


class Layer(eqx.Module):
    linear: eqx.nn.Linear
    drop: eqx.nn.Dropout

    def __call__(self, x, *, key=None):
        return x + self.drop(jnp.tanh(self.linear(x)), key=key)


class Scanned(eqx.Module):
    """Layers stacked by filter_vmap, run by a scan, rematerialised."""

    layers: Layer

    def __init__(self):
        make = lambda key: Layer(eqx.nn.Linear(3, 3, key=key), eqx.nn.Dropout(0.5))  # noqa: E731
        self.layers = eqx.filter_vmap(make)(keys(3))

    def __call__(self, x, *, key=None):
        arrays, static = eqx.partition(self.layers, eqx.is_array)
        own = None if key is None else jax.random.split(key, 3)

        @eqx.filter_checkpoint
        def step(x, each):
            layer, key = each
            return eqx.combine(layer, static)(x, key=key), None

        return jax.lax.scan(step, x, (arrays, own))[0]


class Critic(eqx.Module):
    """A discriminator under Equinox's own spectral normalisation."""

    first: eqx.nn.SpectralNorm
    second: eqx.nn.SpectralNorm

    def __init__(self):
        one, two, three, four = keys(4)
        self.first = eqx.nn.SpectralNorm(eqx.nn.Linear(4, 5, key=one), "weight", key=two)
        self.second = eqx.nn.SpectralNorm(eqx.nn.Linear(5, 1, key=three), "weight", key=four)

    def __call__(self, x, state):
        h, state = self.first(x, state)
        return self.second(jax.nn.softplus(h), state)


class Tied(eqx.Module):
    """Embedding and read-out share their weights; runs from embeddings."""

    shared: eqx.nn.Shared

    def __init__(self):
        one, two, three = keys(3)
        layers = eqx.nn.Embedding(5, 3, key=one), eqx.nn.Linear(3, 5, key=two)
        layers = (*layers, eqx.nn.Linear(3, 3, key=three))
        self.shared = eqx.nn.Shared(layers, lambda m: m[1].weight, lambda m: m[0].weight)

    def __call__(self, tokens):
        return self.decode(jax.vmap(self.shared()[0])(tokens))

    def decode(self, embedded):
        _, head, mix = self.shared()
        return jax.vmap(head)(jnp.tanh(jax.vmap(mix)(embedded)))


def vision_transformer():
    return of_eqx(
        VisionTransformer(),
        lambda model: jacreg.eqx.function(model, enable_dropout=False),
        lambda model, x: model(x, False, KEY),
        batch(2, 1, 4, 4),
    )


def res_net():
    model, state = eqx.nn.make_with_state(lambda: ResNetBlock(2, KEY))()
    return of_eqx(
        model,
        lambda model: jacreg.eqx.function(model, state),
        lambda model, x: model(x, state)[0],
        batch(2, 2, 3, 3),
    )


def mixer():
    return of_eqx(
        Mixer(),
        lambda model: jacreg.eqx.function(model),
        lambda model, y, t: model(t, y),
        batch(2, 1, 4, 4),
        jnp.asarray([0.3, 4.0]),
    )


def field():
    return of_eqx(
        Field(eqx.nn.MLP(3, 3, 5, 2, activation=jnp.tanh, key=KEY)),
        lambda model: jacreg.eqx.function(model),
        lambda model, y, t: model(t, y, None),
        batch(2, 3),
        jnp.asarray([0.3, 4.0]),
    )


def recurrent():
    one, two = keys(2)
    model = Recurrent(eqx.nn.GRUCell(2, 4, key=one), eqx.nn.Linear(4, 2, key=two))
    line = lambda model: jacreg.eqx.function(model)  # noqa: E731
    return of_eqx(model, line, lambda model, x: model(x), batch(2, 5, 2))


def scanned():
    line = lambda model: jacreg.eqx.function(model)  # noqa: E731
    return of_eqx(Scanned(), line, lambda model, x: model(x), batch(2, 3))


def critic():
    model, state = eqx.nn.make_with_state(Critic)()
    return of_eqx(
        model,
        lambda model: jacreg.eqx.function(model, state),
        lambda model, x: model(x, state)[0],
        batch(2, 4),
    )


def tied():
    return of_eqx(
        Tied(),
        lambda model: jacreg.eqx.function(model, method="decode"),
        lambda model, embedded: model.decode(embedded),
        batch(2, 2, 3),
    )


MODELS = {
    "ViT, enable_dropout (eqx)": vision_transformer,
    "ResNet, BatchNorm state (eqx)": res_net,
    "MLP-mixer score (t, y) (eqx)": mixer,
    "neural ODE field (t, y, args) (eqx)": field,
    "GRU over a sequence (eqx)": recurrent,
    "scanned, checkpointed layers (eqx)": scanned,
    "spectral-norm critic (eqx)": critic,
    "tied embeddings, tokens (eqx)": tied,
}
