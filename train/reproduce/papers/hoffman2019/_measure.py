"""What is measured after training: noise, attacks of four kinds, margins, other digits, cells."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from train import evaluation
from train.batches import Batches
from train.data import Examples
from train.reproduce import Asked
from train.reproduce.papers.hoffman2019._images import other_digits
from train.restore import restore

MANY = 5  # times as many steps of PGD, where more steps are tried


def robustness(
    asked: Asked,
    *,
    rows: Sequence[str],
    noise: Sequence[float],
    fgsm: Sequence[float],
    pgd: Sequence[float],
    many_steps: float,
    examples: int,
    other: str,
) -> Mapping[str, Any]:
    """Measure the models of one seed, all on the same images, noise and attack starts.

    Returns, by `row/name`: accuracies `noise_S`, `fgsm_S`, `pgd_S` (20 steps), `pgd_more`
    (100 steps at `many_steps`), `transfer` (PGD against the plain model at `many_steps`), `other`
    (the other digits); `margin`, the median distance that the L2 attack of Carlini and Wagner
    finds, and `distances`, all of them; `cells` and their plane.
    """
    trained = {row: restore(asked.runs / "table1" / row / "all" / str(asked.seed)) for row in rows}
    first = trained[rows[0]]
    test = first.dataset.test
    digits = other_digits(other, np.asarray(first.dataset.train.inputs))
    others = Examples(digits.inputs / np.float32(255), digits.targets)
    attacked = evaluation.first(test, examples)
    key = jax.random.key(asked.seed)

    def settings(steps: int, scales: Mapping[str, Sequence[float]], count: int) -> Any:
        found = {"noise": (), "fgsm": (), "pgd": (), **{k: tuple(v) for k, v in scales.items()}}
        return dataclasses.replace(
            first.config.evaluation, pgd_steps=steps, attack_examples=count, **found
        )

    found: dict[str, Any] = {}
    batches = Batches(500)
    plain_attack = _attack(first, attacked, many_steps, key)
    for row, model in trained.items():
        network = model.problem.network
        sweep = settings(20, {"noise": noise, "fgsm": fgsm, "pgd": pgd}, examples)
        accuracies = evaluation.robustness(network, model.weights, test, sweep, key, batches)
        for name, value in accuracies.items():
            found[f"{row}/{name.removeprefix('accuracy_')}"] = value
        longer = settings(20 * MANY, {"pgd": [many_steps]}, examples)
        more = evaluation.robustness(network, model.weights, attacked, longer, key, batches)
        (found[f"{row}/pgd_more"],) = more.values()
        right = jax.jit(network.right)
        for name, images in (("transfer", plain_attack), ("other", others)):
            ok = batches.mean(
                lambda pixels, labels, _, right=right, weights=model.weights: {
                    "ok": right(weights, pixels, labels)
                },
                images,
                name,
            )
            found[f"{row}/{name}"] = ok["ok"]
        distances = _distances(network, model.weights, evaluation.first(test, examples // 4))
        found[f"{row}/distances"] = distances
        # A median: an attack that fails on one image has no distance there.
        found[f"{row}/margin"] = float(np.median(distances))
        classes = model.dataset.classes
        cells = evaluation.cells_of_a_classifier(network, model.weights, test, classes, 120, 1200)
        found |= {f"{row}/cells_{name}": array for name, array in (cells or {}).items()}
    return found


def _attack(model: Any, examples: Any, scale: float, key: Any) -> Any:
    """Return PGD's images against one model, for the others to meet."""
    network = model.problem.network
    logits = Partial(network.of_pixels, model.weights)
    pixels, labels = network.pixels(examples.inputs), jnp.asarray(examples.targets)
    attacked = np.asarray(evaluation.pgd(logits, pixels, labels, scale, 20, key))
    return Examples(attacked, examples.targets)


def _distances(network: Any, weights: Any, examples: Any) -> Any:
    pixels = network.pixels(examples.inputs)

    @jax.jit
    def search(weights: Any, pixels: Any, labels: Any) -> Any:
        return evaluation.carlini_wagner(
            lambda images: network.of_pixels(weights, images),
            pixels,
            labels,
            steps=60,
            searches=4,
        )

    return np.asarray(search(weights, pixels, np.asarray(examples.targets)))
