"""What is measured after training: noise, attacks of four kinds, margins, other digits, cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from train.reproduce import Asked

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
    import jax
    import numpy as np

    from train import evaluation
    from train.batches import Batches
    from train.reproduce.papers.hoffman2019._images import other_digits
    from train.restore import restore

    trained = {row: restore(asked.runs / "table1" / row / "all" / str(asked.seed)) for row in rows}
    first = trained[rows[0]]
    test = first.dataset.test
    others = other_digits(other, np.asarray(first.dataset.train.inputs))
    attacked = evaluation.first(test, examples)
    key = jax.random.key(asked.seed)

    def settings(steps: int, scales: Mapping[str, Sequence[float]], count: int) -> Any:
        import dataclasses

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
        predict = _predict(network)
        labels = np.asarray(attacked.targets)
        found[f"{row}/transfer"] = _accuracy(predict, model.weights, plain_attack, labels)
        found[f"{row}/other"] = _accuracy(
            predict, model.weights, others.inputs / np.float32(255), np.asarray(others.targets)
        )
        distances = _distances(network, model.weights, evaluation.first(test, examples // 4))
        found[f"{row}/distances"] = distances
        # A median: an attack that fails on one image has no distance there.
        found[f"{row}/margin"] = float(np.median(distances))
        found |= {f"{row}/cells_{k}": v for k, v in _cells(network, model, test).items()}
    return found


def _predict(network: Any) -> Any:
    import jax
    import jax.numpy as jnp

    return jax.jit(
        lambda weights, pixels: jnp.argmax(network.logits(weights, network.normalize(pixels)), -1)
    )


def _accuracy(predict: Any, weights: Any, pixels: Any, labels: Any) -> float:
    import numpy as np

    right = [
        np.asarray(predict(weights, pixels[start : start + 500])) == labels[start : start + 500]
        for start in range(0, len(labels), 500)
    ]
    return float(np.mean(np.concatenate(right)))


def _attack(model: Any, examples: Any, scale: float, key: Any) -> Any:
    """Return PGD's images against one model, for the others to meet."""
    import jax.numpy as jnp
    import numpy as np
    from jax.tree_util import Partial

    from train import evaluation

    network = model.problem.network
    logits = Partial(
        lambda weights, images: network.logits(weights, network.normalize(images)), model.weights
    )
    pixels, labels = network.pixels(examples.inputs), jnp.asarray(examples.targets)
    return np.asarray(evaluation.pgd(logits, pixels, labels, scale, 20, key))


def _distances(network: Any, weights: Any, examples: Any) -> Any:
    import jax
    import numpy as np

    from train import evaluation

    pixels = network.pixels(examples.inputs)

    @jax.jit
    def search(weights: Any, pixels: Any, labels: Any) -> Any:
        return evaluation.carlini_wagner(
            lambda images: network.logits(weights, network.normalize(images)),
            pixels,
            labels,
            steps=60,
            searches=4,
        )

    return np.asarray(search(weights, pixels, np.asarray(examples.targets)))


def _cells(network: Any, model: Any, test: Any) -> Mapping[str, Any]:
    import jax
    import numpy as np

    from train import evaluation

    rows = evaluation.three_classes(np.asarray(test.targets))
    corners = np.asarray(network.pixels(test.inputs[rows]))

    @jax.jit
    def logits(points: Any) -> Any:
        return network.logits(model.weights, network.normalize(points))

    cells = evaluation.decision_cells(logits, corners, 120, 1200)
    names = np.asarray(model.dataset.classes)
    return {**cells, "labels": np.asarray(test.targets)[rows], "names": names}
