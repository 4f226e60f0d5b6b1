"""One small convolutional network with BatchNorm and dropout, three times, equal weights.

`reference` is the same network in plain JAX, the oracle for all three.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

import jacreg.eqx
import jacreg.linen
import jacreg.nnx

FRAMEWORKS = ("nnx", "linen", "equinox")
SIZE, CHANNELS, WIDTH, CLASSES = 4, 2, 3, 5
MOMENTUM, EPSILON = 0.9, 1e-3


def weights(dtype: Any = np.float64) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)

    # Added before the cast: NumPy 2.0 takes a number of Python and a bfloat16 to float32.
    def draw(*shape, mean=0):
        return (mean + rng.normal(size=shape) / 2).astype(dtype)

    return {
        "kernel": draw(3, 3, CHANNELS, WIDTH),
        "kernel_bias": draw(WIDTH),
        "scale": draw(WIDTH, mean=1),
        "shift": draw(WIDTH),
        "dense": draw(SIZE * SIZE * WIDTH, CLASSES),
        "dense_bias": draw(CLASSES),
    }


def running(dtype: Any = np.float64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.normal(size=WIDTH).astype(dtype), rng.uniform(0.5, 2, size=WIDTH).astype(dtype)


def images(num: int = 6, dtype: Any = np.float64) -> jax.Array:
    rng = np.random.default_rng(2)
    return jnp.asarray(rng.normal(size=(num, SIZE, SIZE, CHANNELS)), dtype)


def reference(w: dict, stats: tuple, xs: jax.Array, *, batch: bool = False):
    """The network without dropout: (logits, new statistics)."""
    h = jax.lax.conv_general_dilated(
        xs, w["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    h = h + w["kernel_bias"]
    mean, var = stats
    if batch:
        mean, var = h.mean((0, 1, 2)), h.var((0, 1, 2))
        stats = tuple(
            MOMENTUM * old + (1 - MOMENTUM) * new
            for old, new in zip(stats, (mean, var), strict=True)
        )
    h = (h - mean) / jnp.sqrt(var + EPSILON) * w["scale"] + w["shift"]
    h = jnp.tanh(h).reshape(len(xs), -1)
    return h @ w["dense"] + w["dense_bias"], stats


class NnxNet(nnx.Module):
    def __init__(self, dtype, rate):
        rngs = nnx.Rngs(params=0, dropout=1)
        self.conv = nnx.Conv(CHANNELS, WIDTH, (3, 3), param_dtype=dtype, rngs=rngs)
        self.norm = nnx.BatchNorm(
            WIDTH, momentum=MOMENTUM, epsilon=EPSILON, param_dtype=dtype, rngs=rngs
        )
        self.dropout = nnx.Dropout(rate, rngs=rngs)
        self.dense = nnx.Linear(SIZE * SIZE * WIDTH, CLASSES, param_dtype=dtype, rngs=rngs)

    def __call__(self, xs):
        h = jnp.tanh(self.norm(self.conv(xs)))
        return self.dense(self.dropout(h).reshape(len(xs), -1))


class LinenNet(nn.Module):
    dtype: Any
    rate: float

    @nn.compact
    def __call__(self, xs, train: bool):
        h = nn.Conv(WIDTH, (3, 3), param_dtype=self.dtype, name="conv")(xs)
        h = nn.BatchNorm(momentum=MOMENTUM, epsilon=EPSILON, param_dtype=self.dtype, name="norm")(
            h, use_running_average=not train
        )
        h = nn.Dropout(self.rate)(jnp.tanh(h), deterministic=not train)
        return nn.Dense(CLASSES, param_dtype=self.dtype, name="dense")(h.reshape(len(xs), -1))


class EquinoxNet(eqx.Module):
    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm
    dropout: eqx.nn.Dropout
    dense: eqx.nn.Linear

    def __init__(self, dtype, rate):
        key = jax.random.key(0)
        self.conv = eqx.nn.Conv2d(CHANNELS, WIDTH, 3, padding="SAME", dtype=dtype, key=key)
        self.norm = eqx.nn.BatchNorm(
            WIDTH, "examples", eps=EPSILON, momentum=MOMENTUM, dtype=dtype, mode="batch"
        )
        self.dropout = eqx.nn.Dropout(rate)
        self.dense = eqx.nn.Linear(SIZE * SIZE * WIDTH, CLASSES, dtype=dtype, key=key)

    def __call__(self, x, state, *, key=None):
        h, state = self.norm(self.conv(x.transpose(2, 0, 1)), state)
        h = self.dropout(jnp.tanh(h), key=key)
        return self.dense(h.transpose(1, 2, 0).reshape(-1)), state


class Net(NamedTuple):
    """A network with its adapter: `adapter.function(*parts)`, and how to read its trees."""

    adapter: Any
    parts: tuple

    def function(self, **options):
        return self.adapter.function(*self.parts, **options)

    def functional(self, **options):
        return self.adapter.functional(*self.parts, **options)


def build(framework: str, dtype: Any = np.float64, rate: float = 0.5) -> Net:
    w = {name: jnp.asarray(value) for name, value in weights(dtype).items()}
    mean, var = map(jnp.asarray, running(dtype))
    if framework == "nnx":
        module = NnxNet(dtype, rate)
        nnx.update(module, _nested(w))
        nnx.update(module, {"norm": {"mean": mean, "var": var}})
        return Net(jacreg.nnx, (module,))
    if framework == "linen":
        variables = {"params": _nested(w), "batch_stats": {"norm": {"mean": mean, "var": var}}}
        return Net(jacreg.linen, (LinenNet(dtype, rate), variables))
    model, state = eqx.nn.make_with_state(EquinoxNet)(dtype, rate)
    model = eqx.tree_at(_equinox_leaves, model, _equinox_weights(w))
    state = state.set(model.norm.batch_state_index, (mean, var))
    return Net(jacreg.eqx, (model, state))


def _nested(w: dict) -> dict:
    return {
        "conv": {"kernel": w["kernel"], "bias": w["kernel_bias"]},
        "norm": {"scale": w["scale"], "bias": w["shift"]},
        "dense": {"kernel": w["dense"], "bias": w["dense_bias"]},
    }


def _equinox_leaves(model):
    conv, norm, dense = model.conv, model.norm, model.dense
    return conv.weight, conv.bias, norm.weight, norm.bias, dense.weight, dense.bias


def _equinox_weights(w: dict) -> tuple:
    conv_bias = w["kernel_bias"].reshape(-1, 1, 1)
    conv = w["kernel"].transpose(3, 2, 0, 1)
    return conv, conv_bias, w["scale"], w["shift"], w["dense"].T, w["dense_bias"]


def as_weights(framework: str, params: Any) -> dict[str, np.ndarray]:
    """Parameters (or their gradients) of any framework as the dict of `weights`."""
    if framework == "equinox":
        kernel, bias, scale, shift, dense, dense_bias = _equinox_leaves(params)
        flat = (kernel.transpose(2, 3, 1, 0), bias.reshape(-1), scale, shift, dense.T, dense_bias)
    else:
        tree = nnx.to_pure_dict(params) if framework == "nnx" else params
        flat = tuple(
            tree[layer][name]
            for layer, name in (
                ("conv", "kernel"),
                ("conv", "bias"),
                ("norm", "scale"),
                ("norm", "bias"),
                ("dense", "kernel"),
                ("dense", "bias"),
            )
        )
    return dict(zip(weights(), map(np.asarray, flat), strict=True))


def as_statistics(framework: str, state: Any) -> tuple[np.ndarray, np.ndarray]:
    """The running mean and variance in the state of any framework."""
    if framework == "nnx":
        return np.asarray(state["norm"]["mean"][...]), np.asarray(state["norm"]["var"][...])
    if framework == "linen":
        norm = state["batch_stats"]["norm"]
        return np.asarray(norm["mean"]), np.asarray(norm["var"])
    mean, var = jax.tree.leaves(state)[1:]
    return np.asarray(mean), np.asarray(var)
