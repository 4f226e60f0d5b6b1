"""What a learnt score is measured by, and the records of its pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

import jacreg
from train import evaluation, figures, records
from train.data import true_score
from train.sampling import SAMPLERS
from train.step import EVALUATION_PURPOSE, purpose_key

if TYPE_CHECKING:
    from train.data import Dataset
    from train.named import Named
    from train.problem import Setting
    from train.sections import Data
    from train.tasks._score_losses import Matching

# An exact trace or norm in more products than this is left out of the evaluation.
_MOST_PRODUCTS = 128
_GRID = 25
_SHOWN = 1000


class Inputs:
    """The data as the network takes it, and back.

    Attributes:
        dataset: in the order of axes that the network takes.
        prepare: raw rows to the network's inputs, `(pixels - mean) / std`.
        axes: the order of the data's axes that the network takes, None for vectors.
    """

    def __init__(
        self,
        data: Data,
        dataset: Dataset,
        prepare: Callable[[Any], Any],
        axes: tuple[int, ...] | None,
    ) -> None:
        self.dataset = dataset
        self.prepare = prepare
        self.axes = axes
        self.mean = np.asarray(data.mean, np.float32)
        self.std = np.asarray(data.std, np.float32)

    def restore(self, xs: Any) -> np.ndarray:
        """Return inputs of the network as points or pixels, `[N, H, W, C]` for images."""
        rows = np.asarray(xs)
        if self.axes is not None:
            rows = np.transpose(rows, np.argsort(self.axes))
        return rows * self.std + self.mean


def make_evaluate(
    setting: Setting, inputs: Inputs, field: Any, matching: Matching, forward: Any
) -> Callable[[Any, Any, bool], dict[str, float]]:
    """Return the problem's evaluation: the loss, and at the end what is exact.

    `test/loss` is the training loss. `test/score_matching` is Hyvarinen's objective with its exact
    trace, at the noise of training and weighted as in training, and
    `test/jacobian_norm` the mean Frobenius norm, both where they take at most 128 products.
    `test/score_error` is the mean of ||s - grad log p||^2 at clean test points in the data's
    own coordinates, at the least noise level, and `test/true_score_squared` the mean of
    ||grad log p||^2, which is the error of the score 0; both where grad log p is known.
    """
    test, settings = inputs.dataset.test, setting.evaluation
    key = purpose_key(setting.seed, EVALUATION_PURPOSE)
    truth = true_score(setting.data)

    @jax.jit
    def loss(weights: Any, raw: Any, key: Any) -> dict[str, Any]:
        xs = inputs.prepare(raw)
        return {"loss": forward(*weights, xs, None, key, frozenset()).losses}

    @jax.jit
    def predict(weights: Any, raw: Any) -> Any:
        return field(*weights, inputs.prepare(raw), *matching.least_level(len(raw))) / inputs.std

    def exact(
        weights: Any, quantity: str, measure: Callable[..., Any], examples: Any, what: str
    ) -> Any:
        """Average a measure `(lin, method, weight)`; nothing where it takes too many products."""

        def field_of(xs: Any, *args: Any) -> Any:
            return field(*weights, xs, *args)

        # Shapes are enough: numbers would be computed one operation at a time.
        raw = examples.inputs[:2]
        points, args, _ = jax.eval_shape(
            lambda raw: matching.at_noise(inputs.prepare(raw), key), raw
        )
        method = jacreg.color(field_of, points, *args, quantity=quantity)
        if method.num_colors > _MOST_PRODUCTS:
            return {}

        @jax.jit
        def measured(weights: Any, raw: Any, key: Any) -> Any:
            points, args, weight = matching.at_noise(inputs.prepare(raw), key)
            lin = jacreg.linearize(lambda xs, *args: field(*weights, xs, *args), points, *args)
            return measure(lin, method, weight)

        return setting.batches.mean(
            lambda raw, _, number: measured(weights, raw, jax.random.fold_in(key, number)),
            examples,
            what,
        )

    def score_error(weights: Any, truth: Any) -> dict[str, float]:
        def squared(raw: Any, _targets: Any, _number: int) -> dict[str, Any]:
            target = truth(raw)
            return {
                "score_error": np.sum((predict(weights, raw) - target) ** 2, axis=1),
                "true_score_squared": np.sum(target**2, axis=1),
            }

        return setting.batches.mean(squared, test, "score error")

    def evaluate(params: Any, state: Any, final: bool) -> dict[str, float]:
        weights = (params, state)
        found = setting.batches.mean(
            lambda raw, _, number: loss(weights, raw, jax.random.fold_in(key, number)),
            test,
            "loss",
        )
        if final:
            found |= exact(weights, "divergence", _objective, test, "score matching")
        if final and truth is not None:
            found |= score_error(weights, truth)
        if final and settings.jacobian:
            subset = evaluation.first(test, settings.jacobian_examples)
            found |= exact(weights, "frobenius", _norm, subset, "Jacobian norm")
        return {f"test/{name}": value for name, value in found.items()}

    return evaluate


def _objective(lin: Any, method: Any, weight: Any) -> dict[str, Any]:
    return {"score_matching": weight * jacreg.losses.implicit_score_matching(lin, method)}


def _norm(lin: Any, method: Any, weight: Any) -> dict[str, Any]:
    return {"jacobian_norm": jnp.sqrt(jacreg.frobenius_squared(lin, method))}


def make_report(
    setting: Setting,
    inputs: Inputs,
    field: Any,
    matching: Matching,
    sampler: Named | None,
    num_samples: int,
) -> Callable[[Any, Any, Path], None]:
    """Return the problem's report: samples, and the field where the data are points in the plane.

    Samples start from Gaussian noise of the training inputs' mean and variance (one number
    each, over all entries) and of the largest noise level.
    """

    def report(params: Any, state: Any, workdir: Path) -> None:
        weights = (params, state)
        shown = inputs.dataset.test.inputs[:_SHOWN]
        drawn = {}
        if sampler is not None:
            samples = sample(field, weights, inputs, matching, sampler, num_samples, setting.seed)
            drawn = {"samples": inputs.restore(samples)}
            examples = inputs.restore(inputs.prepare(shown[: max(num_samples, 2)]))
            records.write_arrays(workdir / figures.SAMPLES, {**drawn, "examples": examples})
        if shown.shape[1:] == (2,):
            grid = _grid_over(shown)
            values = field(*weights, inputs.prepare(grid), *matching.least_level(len(grid)))
            arrays = {"points": shown, "grid": grid, "field": np.asarray(values) / inputs.std}
            truth = true_score(setting.data)
            if truth is not None:
                arrays["truth"] = truth(grid)
            records.write_arrays(workdir / figures.SCORE_FIELD, arrays | drawn)

    return report


def sample(
    field: Any,
    weights: Any,
    inputs: Inputs,
    matching: Matching,
    sampler: Named,
    count: int,
    seed: int,
) -> Any:
    """Return samples as the network's inputs, `[count, *in]`."""
    start_key, walk_key = jax.random.split(purpose_key(seed, EVALUATION_PURPOSE))
    data = np.asarray(inputs.prepare(inputs.dataset.train.inputs[:_SHOWN]))
    least, most = matching.levels
    noise = jax.random.normal(start_key, (count, *data.shape[1:]), data.dtype)
    start = data.mean() + np.sqrt(data.var() + most**2).astype(data.dtype) * noise
    walk = SAMPLERS[sampler.name](**sampler.options)

    @jax.jit
    def run(weights: Any, start: Any, key: Any) -> Any:
        def score(xs: Any, level: Any) -> Any:
            levels = () if matching.scales is None else (jnp.full(count, level, xs.dtype),)
            return field(*weights, xs, *levels)

        return walk.run(score, start, (least, most), key)

    return run(weights, start, walk_key)


def _grid_over(points: np.ndarray) -> np.ndarray:
    """Return an even grid over the points with a margin, `[_GRID^2, 2]`."""
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.1 * (high - low)
    axes = np.linspace(low - margin, high + margin, _GRID, dtype=points.dtype)
    return np.stack(np.meshgrid(*axes.T), axis=-1).reshape(-1, 2)
