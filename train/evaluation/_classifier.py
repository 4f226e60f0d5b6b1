"""Measuring a classifier: accuracy, Jacobian norm, accuracy under noise and attacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

import jacreg
from train.data import Examples
from train.evaluation._attacks import PIXELS, Bounds, fgsm, pgd, white_noise

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, PyTree

    from train.batches import Batches
    from train.sections import Evaluation


@dataclass(frozen=True)
class Classifier:
    """A model as the evaluation sees it.

    Attributes:
        logits: `(weights, xs) -> [N, classes]`, deterministic; xs as the model takes them.
        pixels: raw rows of images to pixels in [0, 1]; other inputs as they are.
        normalize: such values to what the model takes.
        bounds: the least and the largest of such values, infinite where there is none.
    """

    logits: Callable[[Any, Any], Any]
    pixels: Callable[[Any], Any]
    normalize: Callable[[Any], Any]
    bounds: Bounds = PIXELS

    def of_pixels(self, weights: PyTree, pixels: Array) -> Array:
        """Return the logits `[N, classes]` of what `pixels` gives."""
        return self.logits(weights, self.normalize(pixels))

    def right(self, weights: PyTree, pixels: Array, labels: Array) -> Bool[Array, " N"]:
        """Return which labels are predicted."""
        return jnp.argmax(self.of_pixels(weights, pixels), -1) == labels


def make_clean(model: Classifier) -> Callable[..., dict[str, Array]]:
    """Return the jitted `(weights, raw, labels) -> {accuracy, loss}`, a value an example."""

    @jax.jit
    def clean(weights: PyTree, raw: Array, labels: Array) -> dict[str, Array]:
        return scores(model.of_pixels(weights, model.pixels(raw)), labels)

    return clean


def scores(logits: Float[Array, "N K"], labels: Array) -> dict[str, Array]:
    """Return accuracy and cross-entropy of each example."""
    return {
        "accuracy": jnp.argmax(logits, -1) == labels,
        "loss": optax.softmax_cross_entropy_with_integer_labels(logits, labels),
    }


def jacobian_norm(
    model: Classifier,
    weights: PyTree,
    examples: Examples,
    batches: Batches,
) -> float:
    """Return the mean Frobenius norm of d logits / d model input, exact."""

    @jax.jit
    def norms(weights: PyTree, raw: Array) -> dict[str, Array]:
        xs = model.normalize(model.pixels(raw))
        lin = jacreg.linearize(partial(model.logits, weights), xs, mode="reverse")
        return {"norm": jnp.sqrt(jacreg.frobenius_squared(lin))}

    values = batches.mean(
        lambda inputs, _targets, _number: norms(weights, inputs), examples, "Jacobian norm"
    )
    return values["norm"]


def robustness(
    model: Classifier,
    weights: PyTree,
    examples: Examples,
    config: Evaluation,
    key: Array,
    batches: Batches,
) -> dict[str, float]:
    """Return accuracies under white noise (all examples), FGSM and PGD (`attack_examples`).

    Scales are in pixel units [0, 1], or in those of inputs that are no pixels; what is
    perturbed is clipped to the bounds. The noise depends on the key alone, so models that are
    compared meet the same.
    """

    @jax.jit
    def noisy(weights: PyTree, raw: Array, labels: Array, scale: Any, key: Array) -> Array:
        noised = white_noise(model.pixels(raw), scale, key, model.bounds)
        return model.right(weights, noised, labels)

    @jax.jit
    def one_step(weights: PyTree, raw: Array, labels: Array, scale: Any, key: Array) -> Array:
        logits = partial(model.of_pixels, weights)
        attacked = fgsm(logits, model.pixels(raw), labels, scale, model.bounds)
        return model.right(weights, attacked, labels)

    many_steps = right_under(model, pgd, config.pgd_steps)
    attacked = first(examples, config.attack_examples)
    plan = [
        ("noise", noisy, config.noise, examples),
        ("fgsm", one_step, config.fgsm, attacked),
        ("pgd", many_steps, config.pgd, attacked),
    ]
    found: dict[str, float] = {}
    for kind, (name, accuracy, scales, subset) in enumerate(plan):
        for scale in scales:
            base = jax.random.fold_in(key, kind)

            def measure(inputs: Any, labels: Any, number: int) -> dict[str, Array]:
                batch_key = jax.random.fold_in(base, number)  # noqa: B023
                return {"ok": accuracy(weights, inputs, labels, scale, batch_key)}  # noqa: B023

            metric = f"accuracy_{name}_{scale:g}"
            found[metric] = batches.mean(measure, subset, metric)["ok"]
    return found


def right_under(
    model: Classifier, attack: Callable[..., Array], steps: int
) -> Callable[..., Bool[Array, " N"]]:
    """Return `(weights, raw, labels, epsilon, key) -> [N]`: which labels `pgd` or its like leaves.

    Not to be called under jit, as the attack.
    """
    pixels_of, right = jax.jit(model.pixels), jax.jit(model.right)

    def measured(weights: PyTree, raw: Array, labels: Array, epsilon: Any, key: Array) -> Array:
        logits = Partial(model.of_pixels, weights)
        attacked = attack(logits, pixels_of(raw), labels, epsilon, steps, key, model.bounds)
        return right(weights, attacked, labels)

    return measured


def first(examples: Examples, count: int) -> Examples:
    """Return the first `count` examples, all where it is 0."""
    if count == 0 or count >= len(examples):
        return examples
    return examples.take(np.arange(count))
