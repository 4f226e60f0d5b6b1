"""Models in the shapes in which public tutorials have them, and how a case of them is checked."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


class Public(NamedTuple):
    """A model: its parameters, what a user writes for jacreg, and its own call on a batch.

    Attributes:
        params: a pytree in float64.
        ours: `params -> fn`, the line of docs/tutorials/your-model.md.
        plain: `(params, xs, *args) -> ys`, by the framework alone.
        xs: the batch.
        args: what follows it.
    """

    params: Any
    ours: Callable[..., Any]
    plain: Callable[..., Any]
    xs: Any
    args: tuple = ()


def wide(tree: Any) -> Any:
    """The floating arrays of a pytree in float64."""
    return jax.tree.map(lambda x: x.astype(float) if jnp.issubdtype(x.dtype, float) else x, tree)


def batch(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=shape))


def of_nnx(model, line, plain, xs, *args) -> Public:
    """A case of an nnx module: `line(model)` is a function, `plain(model, xs)` its own call."""
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def merged(params):
        return nnx.merge(graphdef, params, rest, copy=True)

    def call(params, *inputs):
        model = merged(params)
        model.eval()
        return plain(model, *inputs)

    return Public(wide(params), lambda params: line(merged(params)), call, xs, args)


def of_linen(variables, line, plain, xs, *args) -> Public:
    """A case of a linen module: `line(variables)`, `plain(variables, xs)`."""

    def whole(params):
        return {**variables, "params": params}

    return Public(
        wide(variables["params"]),
        lambda params: line(whole(params)),
        lambda params, *inputs: plain(whole(params), *inputs),
        xs,
        args,
    )


def of_eqx(model, line, plain, xs, *args) -> Public:
    """A case of an Equinox model: `line(model)`, `plain(model, x)` of one example."""
    params, static = eqx.partition(model, eqx.is_inexact_array)

    def whole(params):
        return eqx.combine(params, static)

    def call(params, *inputs):
        model = eqx.nn.inference_mode(whole(params))
        return jax.vmap(lambda *inputs: plain(model, *inputs))(*inputs)

    return Public(wide(params), lambda params: line(whole(params)), call, xs, args)
