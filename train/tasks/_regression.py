"""Regression: squared error on values, and the Jacobians that the data may give as targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from train.errors import ConfigError
from train.methods import Resolver
from train.networks import build_model
from train.objective import Pass, penalised, supervised
from train.problem import Problem
from train.step import INIT_PURPOSE, purpose_key
from train.tasks._regression_network import Network
from train.tasks._regression_report import make_measures
from train.tasks._scaling import scaling
from train.terms import make_terms, statistics_note

if TYPE_CHECKING:
    from train.data import Dataset
    from train.problem import Setting


def regression(setting: Setting, dataset: Dataset) -> Problem:
    """Numbers `float[N, K]` from inputs, by the squared error.

    The loss is the squared error, a sum over outputs. Where the data gives
    Jacobians too (`{"value": [N, K], "jacobian": [N, K, D]}`) the penalty `jacobian_matching`
    fits them (Lutter et al. 2019). All Jacobians are with respect to the data's own
    coordinates, before `data.mean` and `data.std`; with BatchNorm those that are measured are
    through running statistics.

    Raises:
        ConfigError: the data has no such targets, or the network does not fit them.
    """
    targets = check_targets(dataset, dataset.train.targets)
    check_targets(dataset, dataset.test.targets)
    width = targets["value"].shape[1]
    key = purpose_key(setting.seed, INIT_PURPOSE)
    model = build_model(setting.model, dataset, width, key, setting.training.precision)
    dataset = model.arrange(dataset)
    pixels, normalize = scaling(setting.data, dataset, model.channel_axis)

    def rows(count: int) -> tuple[Any]:
        return (pixels(dataset.train.inputs[:count]),)

    (sample,) = rows(2)
    network = Network(model, normalize, setting.model.name == "differential_mlp")
    model.check_outputs(sample, width, lambda xs: network(model.params, model.state, xs))
    coupled = not network.carries_jacobian and model.is_coupled(normalize(sample))

    def start_pass(train: bool) -> Callable[..., Any]:
        return lambda xs: network.apply(model.params, model.state, xs, train=train, key=key)[0]

    resolve = Resolver(start_pass(True), rows, start_pass(False) if coupled else None)
    offers = ("lin", "jacobians") if "jacobian" in targets else ("lin",)
    terms = make_terms(
        setting.penalty, setting.training.steps, coupled, offers=offers, resolve=resolve
    )
    values_pass = supervised(
        network.apply, lambda ys, targets: jnp.sum((ys - targets["value"]) ** 2, axis=1)
    )

    def forward(
        params: Any, state: Any, xs: Any, targets: Any, key: Any, needs: frozenset[str]
    ) -> Pass:
        found = values_pass(params, state, xs, targets, key, needs)
        sources = replace(found.sources, jacobians=targets.get("jacobian"))
        return replace(found, sources=sources)

    def prepare(rows: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        return pixels(rows["inputs"]), {name: rows[name] for name in targets}

    evaluate, report = make_measures(setting, dataset, network, pixels)
    return Problem(
        params=model.params,
        state=model.state,
        examples={"inputs": dataset.train.inputs, **targets},
        prepare=prepare,
        objective=penalised(forward, terms, splits=not coupled),
        evaluate=evaluate,
        report=report,
        rows_independent=not coupled,
        choices=tuple(resolve.chosen),
        notes={
            "jacobian": "carried forward" if network.carries_jacobian else "differentiated",
            **(statistics_note(terms, coupled) if coupled else {}),
        },
    )


def check_targets(dataset: Dataset, targets: Any) -> dict[str, np.ndarray]:
    """Return the targets by name, `value` and where there are such `jacobian`.

    Raises:
        ConfigError: they are labels, absent or of another shape.
    """
    name = f"task.name: regression needs targets that are numbers, but {dataset.name}"
    if dataset.classes:
        raise ConfigError(f'{name} has class labels; use task.name="classification".')
    if targets is None:
        raise ConfigError(
            f"{name} has none; give data.target_columns of a csv table, or use function-1d."
        )
    named = dict(targets) if isinstance(targets, Mapping) else {"value": targets}
    unknown = sorted(named.keys() - {"value", "jacobian"})
    if unknown or "value" not in named:
        raise ConfigError(
            f'{name} has targets named {sorted(named)}; expected "value" and perhaps "jacobian".'
        )
    value = np.asarray(named["value"])
    if value.ndim != 2 or 0 in value.shape or value.dtype.kind != "f":
        raise ConfigError(
            f"{name} has values of shape {value.shape} and type {value.dtype}; expected floats "
            "[N, K], one row an example: reshape one number an example to [N, 1]."
        )
    if "jacobian" in named:
        jacobian = np.asarray(named["jacobian"])
        expected = (*value.shape, *dataset.input_shape)
        if jacobian.shape != expected:
            raise ConfigError(
                f"{name} has Jacobians of shape {jacobian.shape}; expected {expected}: rows, "
                "outputs, then the inputs' own axes, d value[i, j] / d input[i, k]."
            )
    return {key: np.asarray(array, np.float32) for key, array in named.items()}
