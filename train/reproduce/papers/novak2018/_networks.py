"""A family of small networks: trained until their losses are the same, then measured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax

import jacreg
from train.reproduce import dense

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

# Between two looks at the training loss.
_LOOK = 10


@dataclass(frozen=True)
class Recipe:
    """How every network of a family is trained.

    Attributes:
        sizes: widths, from the input to the classes.
        activation: after every layer but the last.
        batch: rows a step, drawn anew; None for all of them.
        weight: of 1/2 norm(J)_F^2 of the logits, one projection an example.
        rate: of gradient descent with momentum 0.9.
        target: the training loss at which to stop, so that all fit their labels equally well.
        steps: at most.
    """

    sizes: tuple[int, ...]
    activation: str
    batch: int | None
    weight: float
    rate: float = 0.02
    target: float = 0.01
    steps: int = 4000


@partial(jax.jit, static_argnames="recipe")
def fit(
    keys: Array,
    gains: Float[Array, " nets"],
    views: Float[Array, "V N D"],
    labels: Int[Array, " N"],
    *,
    recipe: Recipe,
) -> tuple[Any, Int[Array, " nets"]]:
    """Return the layers and the steps taken, each with a leading axis of networks.

    Args:
        keys: one a network.
        gains: of the initial kernels.
        views: the training inputs, then what augmentation may show in their place.
        labels: of the inputs.
    """
    return jax.vmap(lambda key, gain: _one(key, gain, views, labels, recipe))(keys, gains)


def _one(key: Array, gain: Array, views: Array, labels: Array, recipe: Recipe) -> tuple[Any, Array]:
    optimizer = optax.sgd(recipe.rate, momentum=0.9)
    rows = views.shape[1]

    def loss(layers: Any, xs: Array, targets: Array, key: Array) -> Array:
        def logits(xs: Array) -> Array:
            return dense.outputs(layers, xs, recipe.activation)

        if not recipe.weight:
            return _cross_entropy(logits(xs), targets)
        lin = jacreg.linearize(logits, xs)
        penalty = jacreg.losses.jacobian_penalty(lin, jacreg.Projection(), key=key)
        return _cross_entropy(lin.value, targets) + recipe.weight * jnp.mean(penalty)

    def step(_: Any, carry: Any) -> Any:
        layers, state, count = carry
        row_key, view_key, probe_key = jax.random.split(jax.random.fold_in(key, count), 3)
        if recipe.batch is None:
            picked = jnp.arange(rows)
        else:
            picked = jax.random.choice(row_key, rows, (recipe.batch,), replace=False)
        view = jax.random.randint(view_key, picked.shape, 0, len(views))
        gradient = jax.grad(loss)(layers, views[view, picked], labels[picked], probe_key)
        change, state = optimizer.update(gradient, state)
        return optax.apply_updates(layers, change), state, count + 1

    def unfinished(carry: Any) -> Array:
        layers, _, count = carry
        now = _cross_entropy(dense.outputs(layers, views[0], recipe.activation), labels)
        return (now > recipe.target) & (count < recipe.steps)

    layers = dense.initial(jax.random.fold_in(key, recipe.steps), recipe.sizes, gain)
    start = (layers, optimizer.init(layers), jnp.int32(0))
    layers, _, count = jax.lax.while_loop(
        unfinished, lambda carry: jax.lax.fori_loop(0, _LOOK, step, carry), start
    )
    return layers, count


@partial(jax.jit, static_argnames="activation")
def measured(
    layers: Any, train: Any, test: Any, paths: Any, *, activation: str
) -> dict[str, Array]:
    """Return each network's norms, accuracies and, where there are paths, transitions.

    Args:
        layers: with a leading axis of networks.
        train, test: inputs `[N, D]` and labels.
        paths: `[P, T, D]` or None.
    """
    return jax.vmap(lambda one: _of_one(one, train, test, paths, activation))(layers)


def _of_one(layers: Any, train: Any, test: Any, paths: Any, activation: str) -> dict[str, Array]:
    def logits(xs: Array) -> Array:
        return dense.outputs(layers, xs, activation)

    xs, ys = test
    lin = jacreg.linearize(lambda xs: jax.nn.softmax(logits(xs)), xs)
    norms = jnp.sqrt(jacreg.frobenius_squared(lin))
    of_logits = jacreg.frobenius_squared(jacreg.linearize(logits, xs))
    right = jnp.argmax(lin.value, 1) == ys
    found = {
        "norms": norms,
        "right": right,
        "norm": jnp.mean(norms),
        "logit_norm": jnp.mean(jnp.sqrt(of_logits)),
        "test_accuracy": jnp.mean(right),
        "train_accuracy": jnp.mean(jnp.argmax(logits(train[0]), 1) == train[1]),
    }
    if paths is not None:
        found["transitions"] = transitions(layers, paths)
    return found


def transitions(layers: Any, paths: Float[Array, "P T D"]) -> Array:
    """Return how often a relu turns on or off along closed paths, the mean over paths."""
    count, steps, width = paths.shape
    hs = dense.hidden(layers, paths.reshape(-1, width), "relu")[1:]
    on = jnp.concatenate(hs, 1).reshape(count, steps, -1) > 0
    return jnp.mean(jnp.sum(on != jnp.roll(on, 1, axis=1), axis=(1, 2)))


def _cross_entropy(logits: Array, labels: Array) -> Array:
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))
