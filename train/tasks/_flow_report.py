"""What a trained flow is measured by, and the records of its pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from train import evaluation, figures, records
from train.data import Examples, true_log_density
from train.parallel import fetch
from train.step import EVALUATION_PURPOSE, purpose_key

if TYPE_CHECKING:
    from jaxtyping import Float

    from jacreg.flow import FlowSolver
    from train.data import Dataset
    from train.problem import Setting
    from train.tasks._flow_space import FlowSpace

# The grid goes beyond the data by this share of its extent, on each side.
_MARGIN = 0.5
# The key of the samples, beyond those of the batches.
_SAMPLES = 2**31


class FlowReport:
    """Evaluation and report of a flow.

    Every evaluation gives `test/nll` in nats and in the data's own coordinates (images: in
    [0, 1], and `test/bits_per_dimension`), `test/nfe`, the mean number of evaluations of the field
    that the solve of a test example took, and `test/solver_failures`, the share of the solves
    that gave up; nll and nfe are means over the others. The final one adds `test/nfe_samples`,
    `test/kinetic_energy` (the mean integral of norm(f)^2), `test/jacobian_norm` (the root of
    the mean of norm(df/dx)_F^2 over test examples and time), `test/true_nll` where the data's
    density is known, and for points in the plane `test/integral`: the density summed over a
    grid of `grid` x `grid` cells on the data's bounding box, widened by half its extent on each
    side. For each of `step_sizes` it adds `test/rk4_error@<step>`: the mean distance in nats
    between the log densities of a test example by rk4 with that step and by the test solver.
    """

    def __init__(
        self,
        setting: Setting,
        dataset: Dataset,
        space: FlowSpace,
        field: Callable[..., Any],
        solver: FlowSolver,
        method: Any,
        *,
        num_samples: int,
        grid: int,
        always: bool = False,
        step_sizes: Sequence[float] = (),
    ) -> None:
        """Prepare; nothing is compiled before the first evaluation.

        Args:
            dataset: with its axes in the network's order.
            field: `((params, state), xs, ts) -> [N, *in]`.
            always: whether kinetic energy and Jacobian norm belong to every evaluation.
            step_sizes: of rk4, to compare with `solver`.
        """
        self.setting = setting
        self.dataset = dataset
        self.space = space
        self.grid = grid if dataset.input_shape == (2,) else 0
        self.key = purpose_key(setting.seed, EVALUATION_PURPOSE)
        self._pictures: dict[str, np.ndarray] = {}

        self.always = always
        self.coarse = {
            f"rk4_error@{size:g}": replace(solver, method="rk4", step_size=size)
            for size in step_sizes
        }

        def integrate(
            weights: Any, raw: Any, key: Any, regularize: bool, solver: FlowSolver = solver
        ) -> dict[str, Any]:
            found: Any
            found, volume = space.log_density(
                lambda xs, ts: field(weights, xs, ts),
                raw,
                key,
                solver=solver,
                method=method,
                regularize=regularize,
            )
            values = {"nfe": jnp.full(len(volume), found.num_evaluations)}
            if regularize:
                values["kinetic_energy"] = found.kinetic_energy
                values["jacobian_squares"] = found.frobenius_squared / solver.end_time
            else:
                values["log_density"] = found.log_density + volume
            return {"values": values, "converged": found.converged}

        def draw(weights: Any, key: Any) -> Any:
            from jacreg.flow import sample

            return sample(
                lambda xs, ts: field(weights, xs, ts),
                (num_samples, *space.shape),
                solver=solver,
                key=key,
            )

        self._integrate = jax.jit(integrate, static_argnums=(3, 4))
        self._draw = jax.jit(draw)

    def evaluate(self, params: Any, state: Any, final: bool) -> dict[str, float]:
        """Return the metrics of the class's description."""
        weights, failures = (params, state), []
        test, settings = self.dataset.test, self.setting.evaluation
        rows = self._integrals(weights, test, failures, "log density")
        found = {"nll": -_mean(rows["log_density"]), "nfe": _mean(rows["nfe"])}
        if self.space.levels is not None:
            from jacreg.flow import bits_per_dimension

            mean = jnp.asarray([-found["nll"]])
            bits = bits_per_dimension(mean, self.space.dimensions, levels=self.space.levels)
            found["bits_per_dimension"] = float(bits[0])
        if final:
            found |= self._coarse_errors(weights, rows["log_density"])
            found |= self._final(weights, failures)
        if (final or self.always) and settings.jacobian:
            subset = evaluation.first(test, settings.jacobian_examples)
            rows = self._integrals(weights, subset, failures, "kinetic energy", regularize=True)
            found["kinetic_energy"] = _mean(rows["kinetic_energy"])
            found["jacobian_norm"] = _mean(rows["jacobian_squares"]) ** 0.5
        found["solver_failures"] = float(np.mean(failures))
        return {f"test/{name}": value for name, value in found.items()}

    def report(self, params: Any, state: Any, workdir: Path) -> None:
        """Write samples, data and density, as the final evaluation found them."""
        if not self._pictures:
            self._final((params, state), [])
        record = figures.DENSITY if "density" in self._pictures else figures.SAMPLES
        records.write_arrays(workdir / record, self._pictures)

    def _integrals(
        self,
        weights: Any,
        examples: Examples,
        failures: list[bool],
        what: str,
        regularize: bool = False,
        solver: FlowSolver | None = None,
    ) -> dict[str, Float[np.ndarray, " N"]]:
        """Return a value an example, nan where the solver gave up; note of each solve if it did."""
        options = () if solver is None else (solver,)
        parts = []
        for number, (raw, _, mask) in enumerate(self.setting.batches.of(examples, what)):
            key = jax.random.fold_in(self.key, number)
            found = fetch(self._integrate(weights, raw, key, regularize, *options))
            failures.append(not found["converged"])
            lost = np.nan if failures[-1] else 0.0
            parts.append({name: each[mask] + lost for name, each in found["values"].items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _coarse_errors(self, weights: Any, accurate: Float[np.ndarray, " N"]) -> dict[str, float]:
        """Return how far rk4 is from the accurate log densities, by step size.

        A solve of rk4 that is not finite has no error to average: its mean is inf.
        """
        found = {}
        for name, solver in self.coarse.items():
            failures: list[bool] = []
            rows = self._integrals(weights, self.dataset.test, failures, name, solver=solver)
            error = _mean(np.abs(rows["log_density"] - accurate))
            found[name] = float("inf") if any(failures) else error
        return found

    def _final(self, weights: Any, failures: list[bool]) -> dict[str, float]:
        drawn = jax.device_get(self._draw(weights, jax.random.fold_in(self.key, _SAMPLES)))
        failures.append(not drawn.converged)
        samples = self.space.decode(drawn.values)
        examples = self.space.pictured(self.dataset.test.inputs[: len(samples)])
        self._pictures = {"samples": samples, "examples": examples}
        found = {"nfe_samples": float(drawn.num_evaluations)}
        truth = true_log_density(self.setting.data)
        if truth is not None:
            found["true_nll"] = -float(np.mean(truth(self.dataset.test.inputs)))
        if self.grid:
            points, extent = self._cells()
            cell = (extent[1] - extent[0]) * (extent[3] - extent[2]) / len(points)
            cells = Examples(points, None)
            rows = self._integrals(weights, cells, failures, "density on a grid")
            density = np.exp(rows["log_density"].astype(np.float64)).reshape(self.grid, self.grid)
            found["integral"] = float(np.sum(density) * cell)
            self._pictures |= {"density": density.astype(np.float32), "extent": extent}
        return found

    def _cells(self) -> tuple[Float[np.ndarray, "cells 2"], Float[np.ndarray, " 4"]]:
        """Return the centres of the grid's cells, row by row from below, and its extent."""
        points = np.concatenate([self.dataset.train.inputs, self.dataset.test.inputs])
        low, high = points.min(0).astype(np.float64), points.max(0).astype(np.float64)
        low, high = low - _MARGIN * (high - low), high + _MARGIN * (high - low)
        middles = (np.arange(self.grid) + 0.5) / self.grid
        across, up = np.meshgrid(*(low + middles[:, None] * (high - low)).T)
        centres = np.stack([across.ravel(), up.ravel()], 1).astype(np.float32)
        return centres, np.asarray([low[0], high[0], low[1], high[1]])


def _mean(values: np.ndarray) -> float:
    """Return the mean of what is not nan; nan where that is nothing."""
    values = values[~np.isnan(values)].astype(np.float64)
    return float(np.mean(values)) if len(values) else float("nan")
