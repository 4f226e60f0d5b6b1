"""Classification of images: cross-entropy plus any penalties."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import jax
import numpy as np
import optax

import jacreg
from train import evaluation, figures, records
from train.errors import ConfigError
from train.expect import number
from train.methods import Resolver
from train.networks import build_model
from train.objective import penalised, supervised
from train.problem import Problem
from train.step import EVALUATION_PURPOSE, INIT_PURPOSE, purpose_key
from train.tasks._scaling import scaling
from train.terms import make_terms, statistics_note

if TYPE_CHECKING:
    from train.data import Dataset
    from train.problem import Setting

_CELL_RESOLUTION = 160


def classification(
    setting: Setting,
    dataset: Dataset,
    *,
    label_smoothing: Annotated[float, number(least=0, most=0.99)] = 0.0,
    loss: Literal["cross_entropy", "lipschitz_margin"] = "cross_entropy",
    margin: Annotated[float, number(least=0)] = 0.0,
    temperature: Annotated[float, number(above=0)] = 1.0,
) -> Problem:
    """Classes from inputs, then their share under noise and attacks; `network` is a Classifier.

    `loss = "lipschitz_margin"` is cross-entropy with a `margin` and a `temperature`, for networks
    whose Lipschitz constant is known (`jacreg.losses.lipschitz_margin_loss`).

    Raises:
        ConfigError: the data set has no classes, or model, method and data do not fit.
    """
    if not dataset.classes:
        raise ConfigError(
            f'task.name: got "classification", but {dataset.name} has no class labels.'
        )
    key = purpose_key(setting.seed, INIT_PURPOSE)
    model = build_model(
        setting.model, dataset, len(dataset.classes), key, setting.training.precision
    )
    dataset = model.arrange(dataset)
    pixels, normalize = scaling(setting.data, dataset, model.channel_axis)

    def rows(count: int) -> tuple[Any]:
        return (normalize(pixels(dataset.train.inputs[:count])),)

    (sample,) = rows(2)
    model.check_outputs(sample, len(dataset.classes))
    coupled = model.is_coupled(sample)

    def start_pass(train: bool) -> Callable[..., Any]:
        return lambda xs: model.apply(model.params, model.state, xs, train=train, key=key)[0]

    resolve = Resolver(start_pass(True), rows, start_pass(False) if coupled else None)
    terms = make_terms(
        setting.penalty,
        setting.training.steps,
        coupled,
        offers=("lin",) if coupled else ("lin", "task_loss"),
        resolve=resolve,
    )

    def task_loss(logits: Any, labels: Any) -> Any:
        if loss == "lipschitz_margin":
            return jacreg.losses.lipschitz_margin_loss(
                logits, labels, margin=margin, temperature=temperature
            )
        if label_smoothing == 0:
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing)
        return optax.softmax_cross_entropy(logits, targets)

    classifier = evaluation.Classifier(
        lambda weights, xs: model.apply(*weights, xs)[0],
        pixels,
        normalize,
        evaluation.PIXELS if dataset.is_image else (-np.inf, np.inf),
    )
    clean = evaluation.make_clean(classifier)
    test, settings, batches = dataset.test, setting.evaluation, setting.batches
    order = model.picture_axes(dataset)

    def lipschitz(params: Any, state: Any) -> float:
        """A bound from pixels to logits: the network's own word, or what its program shows."""
        network = model.merge(params, state)
        own: Callable[[], Any] | None = getattr(network, "lipschitz_bound", None)
        if own is not None:
            bound = own()
        else:
            try:
                bound = jacreg.lipschitz_bound(lambda xs: model.apply(params, state, xs)[0], sample)
            except ValueError as error:
                raise ConfigError(f"evaluation.certified: {error}") from None
        return float(bound) * float(np.max(1 / np.asarray(setting.data.std)))

    def evaluate(params: Any, state: Any, final: bool) -> dict[str, float]:
        weights = (params, state)
        found = batches.mean(
            lambda inputs, labels, _: clean(weights, inputs, labels), test, "accuracy"
        )
        if final and settings.jacobian:
            subset = evaluation.first(test, settings.jacobian_examples)
            found["jacobian_norm"] = evaluation.jacobian_norm(classifier, weights, subset, batches)
        if final:
            key = purpose_key(setting.seed, EVALUATION_PURPOSE)
            found |= evaluation.robustness(classifier, weights, test, settings, key, batches)
        if final and settings.certified:
            bound = lipschitz(params, state)
            found |= evaluation.certified(classifier, weights, bound, test, settings, key, batches)
        return {f"test/{name}": value for name, value in found.items()}

    def report(params: Any, state: Any, workdir: Path) -> None:
        if settings.jacobian:
            seen = evaluation.sensitivity(classifier, (params, state), test, order)
            seen["names"] = np.asarray(dataset.classes)
            records.write_arrays(workdir / figures.SENSITIVITY, seen)
        if settings.decision_cells:
            cells = evaluation.cells_of_a_classifier(
                classifier, (params, state), test, dataset.classes, _CELL_RESOLUTION, 1000, order
            )
            if cells is not None:
                records.write_arrays(workdir / figures.CELLS, cells)

    return Problem(
        params=model.params,
        state=model.state,
        examples={"inputs": dataset.train.inputs, "targets": np.asarray(dataset.train.targets)},
        prepare=lambda rows: (normalize(pixels(rows["inputs"])), rows["targets"]),
        objective=penalised(supervised(model.apply, task_loss), terms, splits=not coupled),
        evaluate=evaluate,
        report=report,
        rows_independent=not coupled,
        choices=tuple(resolve.chosen),
        notes=statistics_note(terms, coupled),
        network=classifier,
    )
