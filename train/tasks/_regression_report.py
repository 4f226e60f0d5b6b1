"""What a regression is measured by, and the record of its picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

import jacreg
from train import figures, records
from train.data import FUNCTIONS
from train.parallel import fetch
from train.tasks._regression_network import Network

if TYPE_CHECKING:
    from jaxtyping import Array

    from train.data import Dataset
    from train.problem import Setting

# Points across the picture of a known function.
_ACROSS = {1: 400, 2: 60}


def make_measures(
    setting: Setting, dataset: Dataset, network: Network, pixels: Callable[[Any], Any]
) -> tuple[Callable[[Any, Any, bool], dict[str, float]], Callable[[Any, Any, Path], None]]:
    """Return the evaluation and the report.

    The evaluation gives means over examples and entries of the squared errors: `test/mse` of the
    values; `test/jacobian_mse` where the data gives Jacobians; `test/hessian_mse` where the
    function is known; and `test/jacobian_norm`, Frobenius. The report has a known function's
    derivatives beside the network's, else the fit.
    """
    test, settings, data = dataset.test, setting.evaluation, setting.data
    known = None if data.path is not None else FUNCTIONS.get(str(data.name))

    def jacobian_at(weights: Any, xs: Any) -> Any:
        return jacreg.jacobian(jacreg.linearize(lambda xs: network(weights[0], weights[1], xs), xs))

    @jax.jit
    def derivatives(weights: Any, xs: Any) -> dict[str, Array]:
        found = {"value": network(weights[0], weights[1], xs), "jacobian": jacobian_at(weights, xs)}
        if known is not None:
            lin = jacreg.linearize(lambda xs: jacobian_at(weights, xs), xs)
            found["hessian"] = jacreg.jacobian(lin)
        return found

    values = jax.jit(lambda weights, xs: network(weights[0], weights[1], xs))

    def squared(found: Any, target: Any) -> Any:
        errors = (np.asarray(fetch(found), np.float64) - fetch(target)) ** 2
        return errors.reshape(len(errors), -1).mean(axis=1)

    def evaluate(params: Any, state: Any, final: bool) -> dict[str, float]:
        weights = (params, state)

        def measure(raw: Any, targets: Any, _: int) -> dict[str, Any]:
            named = targets if isinstance(targets, Mapping) else {"value": targets}
            xs = pixels(raw)
            if not final or not (settings.jacobian or "jacobian" in named):
                return {"mse": squared(values(weights, xs), named["value"])}
            found = derivatives(weights, xs)
            errors = {"mse": squared(found["value"], named["value"])}
            if "jacobian" in named:
                errors["jacobian_mse"] = squared(found["jacobian"], named["jacobian"])
            if known is not None:
                errors["hessian_mse"] = squared(found["hessian"], known.hessian(fetch(raw)))
            flat = np.asarray(fetch(found["jacobian"])).reshape(len(raw), -1)
            return errors | {"jacobian_norm": np.linalg.norm(flat, axis=1)}

        found = setting.batches.mean(measure, test, "errors")
        return {f"test/{name}": value for name, value in found.items()}

    def report(params: Any, state: Any, workdir: Path) -> None:
        if known is None:
            rows = test.take(np.arange(min(len(test), 2000)))
            named = rows.targets if isinstance(rows.targets, Mapping) else {"value": rows.targets}
            fitted = np.asarray(network(params, state, pixels(rows.inputs)))
            arrays = {"targets": named["value"], "values": fitted}
        else:
            inputs = test.inputs
            axes = np.linspace(inputs.min(0), inputs.max(0), _ACROSS[known.dimensions]).T
            grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
            points = grid.reshape(-1, known.dimensions).astype(np.float32)
            found = derivatives((params, state), points)
            arrays = {name: np.asarray(array) for name, array in found.items()}
            arrays |= {f"true_{name}": getattr(known, name)(points) for name in found}
            arrays["points"] = points
        records.write_arrays(workdir / figures.REGRESSION, arrays)

    return evaluate, report
