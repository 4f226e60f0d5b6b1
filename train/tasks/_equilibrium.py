"""Equilibrium models: networks whose output is read from a fixed point z* = f(z*; x).

Classification where the data has classes, otherwise regression with the squared error. What a
solve took (NFE, the evaluations of the cell) and whether it got there is recorded throughout.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from train import evaluation, figures, records
from train.errors import ConfigError, DivergedError
from train.expect import integer, number
from train.networks import BuiltModel, build_model
from train.objective import Pass, penalised
from train.own import keyed
from train.penalties import EquilibriumPoint, Sources
from train.problem import Problem
from train.step import EVALUATION_PURPOSE, INIT_PURPOSE, purpose_key
from train.tasks._equilibrium_report import Measured, make_measure
from train.tasks._scaling import scaling
from train.terms import make_terms

if TYPE_CHECKING:
    from train.data import Dataset
    from train.problem import Setting

# What the task calls on a model, one example at a time.
_INTERFACE = ("inject", "cell", "start", "readout")


def equilibrium(
    setting: Setting,
    dataset: Dataset,
    *,
    on_failure: Literal["stop", "continue"] = "stop",
    evaluation_tolerance: Annotated[float | None, number(above=0)] = None,
    evaluation_max_steps: Annotated[int | None, integer(least=1)] = None,
    quick_examples: Annotated[int, integer(least=1)] = 500,
    spectral_examples: Annotated[int, integer(least=0)] = 16,
) -> Problem:
    """Classes or numbers read from the rest point of a cell, found by a solver.

    Args:
        setting: of the run; `model.tolerance` and `model.max_steps` are those of training.
        dataset: with class labels, or with one array of targets `[N, K]`.
        on_failure: "stop" ends training at the first log line whose steps had an example that
            did not reach the tolerance; "continue" records their share and tells of it. Such an
            example counts 0 in the means of loss and penalties, and adds nothing to a gradient.
        evaluation_tolerance, evaluation_max_steps: of the solves on test examples; training's
            where they are left out.
        quick_examples: during training the first so many test examples are measured, at the end
            all of them.
        spectral_examples: the spectral radius is measured on the first so many test examples.

    Raises:
        ConfigError: the model is no equilibrium model, or does not fit the data.
    """
    width = _width(dataset)
    key = purpose_key(setting.seed, INIT_PURPOSE)
    built = build_model(setting.model, dataset, width, key)
    _check_interface(built)
    dataset = built.arrange(dataset)
    pixels, normalize = scaling(setting.data, dataset, built.channel_axis)
    built.check_outputs(normalize(pixels(dataset.train.inputs[:2])), width)
    terms = make_terms(setting.penalty, setting.training.steps, offers=("equilibrium",))
    solver = built.merge(built.params, built.state).spec.equilibrium_solver()
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels
    loss = cross_entropy if dataset.classes else _squared_error

    def forward(params: Any, state: Any, xs: Any, targets: Any, key: Any, needs: Any) -> Pass:
        outputs, result, point = solved(built.merge(params, state), xs, solver, training=True)
        metrics = {
            "nfe": jnp.mean(result.num_evaluations.astype(jnp.float32)),
            "residual": jnp.mean(result.residual),
            "unconverged": jnp.mean(1.0 - result.converged),
        }
        losses = jnp.where(result.converged, loss(outputs, targets), 0)
        return Pass(losses, state, Sources(equilibrium=point), metrics)

    changes = {"tolerance": evaluation_tolerance, "max_steps": evaluation_max_steps}
    tester = dataclasses.replace(
        solver, **{name: value for name, value in changes.items() if value is not None}
    )
    score = evaluation.scores if dataset.classes else _squared_errors

    @jax.jit
    def test(weights: Any, raw: Any, targets: Any) -> dict[str, Any]:
        outputs, result, _ = solved(built.merge(*weights), normalize(pixels(raw)), tester)
        return {
            **score(outputs, targets),
            "nfe": result.num_evaluations,
            "residual": result.residual,
            "unconverged": ~result.converged,
        }

    def point(weights: Any, raw: Any) -> EquilibriumPoint:
        return solved(built.merge(*weights), normalize(pixels(raw)), tester)[2]

    nearby = evaluation.first(dataset.test, spectral_examples) if spectral_examples else None
    measure = make_measure(
        test,
        point,
        batches=setting.batches,
        key=purpose_key(setting.seed, EVALUATION_PURPOSE),
    )
    last: list[Measured] = []

    def evaluate(params: Any, state: Any, final: bool) -> dict[str, float]:
        examples = evaluation.first(dataset.test, 0 if final else quick_examples)
        found = measure((params, state), examples, nearby)
        if final:
            last[:] = [found]
        return found.metrics()

    def report(params: Any, state: Any, workdir: Path) -> None:
        if not last:
            evaluate(params, state, True)
        arrays = last[0].arrays()
        limits = {"tolerance": tester.tolerance, "max_steps": tester.max_steps}
        arrays |= {name: np.asarray(value) for name, value in limits.items()}
        records.write_arrays(workdir / figures.EQUILIBRIUM, arrays)

    return Problem(
        params=built.params,
        state=built.state,
        examples={"inputs": dataset.train.inputs, "targets": np.asarray(dataset.train.targets)},
        prepare=lambda rows: (normalize(pixels(rows["inputs"])), rows["targets"]),
        objective=penalised(forward, terms),
        evaluate=evaluate,
        report=report,
        check=_failures(solver, tester, stop=on_failure == "stop"),
        notes={
            "solver": dataclasses.asdict(solver),
            "test_solver": dataclasses.asdict(tester),
            "on_failure": on_failure,
        },
    )


def solved(
    model: Any, xs: Any, solver: Any, *, training: bool = False
) -> tuple[Any, Any, EquilibriumPoint]:
    """Return the outputs of a batch, its `EquilibriumResult`, and the cell where it is at rest.

    The cell closes over what it was injected with, so that the gradient of a penalty on it
    reaches all parameters but never goes through the solver. In training the examples whose
    solver gave up stand at the start: where they went to, what is masked may not be finite.
    """
    from jacreg.equilibrium import solve

    injected = jax.vmap(model.inject)(xs)
    start = jax.vmap(model.start)(injected)

    def cell(states: Any) -> Any:
        return jax.vmap(model.cell)(states, injected)

    result = solve(cell, start, solver=solver)
    states = result.state
    if training:
        states = jax.tree.map(partial(_chosen, result.converged), states, start)
    point = EquilibriumPoint(cell, states, result.converged)
    return jax.vmap(model.readout)(states), result, point


def _chosen(rows: Any, here: Any, there: Any) -> Any:
    return jnp.where(rows.reshape(-1, *[1] * (here.ndim - 1)), here, there)


def _width(dataset: Dataset) -> int:
    """Return how many numbers the model must give for one example."""
    if dataset.classes:
        return len(dataset.classes)
    targets = dataset.train.targets
    if not isinstance(targets, np.ndarray) or targets.ndim != 2:
        came = "none" if targets is None else "several arrays or no vectors"
        raise ConfigError(
            f'task.name: got "equilibrium" with {dataset.name}, whose targets are {came}; expected '
            "class labels or one vector an example, such as those of synthetic-equilibrium."
        )
    return targets.shape[1]


def _check_interface(built: BuiltModel) -> None:
    model = built.merge(built.params, built.state)
    if not all(hasattr(model, name) for name in _INTERFACE):
        raise ConfigError(
            f'{keyed(built.name, "got ")}, but the task "equilibrium" needs a model with '
            'a cell to solve: "equilibrium" or "mdeq".'
        )


def _squared_error(outputs: Any, targets: Any) -> Any:
    return jnp.sum((outputs - targets) ** 2, -1)


def _squared_errors(outputs: Any, targets: Any) -> dict[str, Any]:
    return {"mse": jnp.mean((outputs - targets) ** 2, -1)}


def _failures(solver: Any, tester: Any, *, stop: bool) -> Callable[[int, Any], str | None]:
    """Return what stops at, or tells of, examples whose solve did not converge."""

    def told(metrics: Any, split: str, used: Any) -> str:
        return (
            f"{metrics[f'{split}/unconverged']:.2%} of the {split} examples did not reach the "
            f"tolerance {used.tolerance:g} in {used.max_steps} evaluations of the cell (mean "
            f"residual {metrics[f'{split}/residual']:.3g}, mean NFE {metrics[f'{split}/nfe']:.1f})"
        )

    def check(step: int, metrics: Any) -> str | None:
        # The parameters that a failed test solve saw are still those of a good training step:
        # only training stops.
        if stop and metrics.get("train/unconverged", 0.0) > 0:
            raise DivergedError(
                f"by step {step} {told(metrics, 'train', solver)} since the last log line. Raise "
                "model.max_steps or model.tolerance, add the penalty "
                '"equilibrium_jacobian", lower optimizer.learning_rate, or set '
                'task.on_failure = "continue" to train on and be told.'
            )
        failed = [
            told(metrics, split, used)
            for split, used in (("train", solver), ("test", tester))
            if metrics.get(f"{split}/unconverged", 0.0) > 0
        ]
        return "; ".join(failed) or None

    return check
