"""`train.fit`: a model and data from Python, trained as a config trains."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax

from train import data as data_sets
from train import own
from train.arrays import NAME, as_dataset, with_classes
from train.config import parse
from train.data import Dataset
from train.errors import (
    ArgumentError,
    ArgumentTypeError,
    ConfigError,
    DataError,
    Interrupted,
    InterruptedRun,
    UserError,
    reason,
    shown,
)
from train.rearranged import rearranged
from train.restore import restored
from train.run import run_for_weights
from train.sections import Config

if TYPE_CHECKING:
    from jacreg import Linearization

    Penalty = (
        Mapping[str, Any]
        | tuple[float, Callable[[Linearization, jax.Array], Any]]
        | tuple[Callable[[Linearization, jax.Array], Any], float]
    )

_RATE = 1e-3
# The keys of a config that are arguments of a call.
_ARGUMENTS = {
    "model.name": "model",
    "model.target": "model",
    "data.name": "data",
    "data.batch_size": "batch_size",
    "task.name": "task",
    "optimizer.name": "optimizer",
    "training.steps": "steps",
    "experiment.seed": "seed",
}
_KEYS = re.compile(r"(?<![\w.])(" + "|".join(map(re.escape, _ARGUMENTS)) + r")(?!\w|\.\w)")


@dataclass(frozen=True, eq=False)
class Fit:
    """A trained model and what it was measured by.

    Attributes:
        model: of the class that was given, with the trained parameters; the given one is as it was.
        metrics: as in `summary.json`: `test/accuracy`, `test/jacobian_norm`, ...
        workdir: the folder of the records, None where nothing was written.
        state: of an Equinox model with one (BatchNorm), after training; None for any other.
    """

    model: Any
    metrics: Mapping[str, float]
    workdir: Path | None
    state: Any = None

    def __repr__(self) -> str:
        shown_metrics = ", ".join(f"{name} {value:.4g}" for name, value in self.metrics.items())
        return f"Fit({type(self.model).__name__}: {shown_metrics}; workdir: {self.workdir})"


def fit(
    model: Any,
    data: Any,
    *,
    task: str = "classification",
    penalties: Sequence[Penalty] = (),
    steps: int,
    batch_size: int = 100,
    optimizer: optax.GradientTransformation | None = None,
    workdir: str | Path | None = None,
    seed: int = 0,
    quiet: bool = False,
) -> Fit:
    """Train a model of one's own, with penalties on its Jacobian.

    What `python -m train` does for a config, for a model and data from Python: the same objective,
    step, evaluation and, with a workdir, the same records, checkpoints, figures and resuming: the
    same call on an unfinished workdir goes on bit for bit as if never stopped, and on a finished
    one returns its result. Dropout and BatchNorm are in training mode while it trains.

    Args:
        model: an nnx module, called on a batch, or an Equinox module, called on one example; with
            BatchNorm the pair (model, state) of `eqx.nn.make_with_state`.
        data: a pair `(inputs [N, *in], targets [N])`, of which a fifth is held out for test; a
            dictionary `{"train": pair, "test": pair}`; or the name of a data set. `uint8` inputs
            are pixels and reach the model as floats in [0, 1].
        task: "classification" (targets are integers from 0, the model returns logits `[N, K]`),
            "regression" (targets are floats `[N]` or `[N, K]`), or another task of a config.
        penalties: tables as in a config, `{"name": "jacobian", "weight": 0.01}`; or a weight and a
            callable `(lin, key) -> [N]` on the `jacreg.Linearization` of the batch, as a pair
            `(0.01, fn)` or as `{"loss": fn, "weight": 0.01, "every": 2}`.
        steps: of the optimiser.
        batch_size: examples a step; the whole split where it has fewer.
        optimizer: an optax transformation; None: Adam with rate 1e-3.
        workdir: where the run lives; None: nothing is written.
        seed: of batches, dropout and probes. The model comes with its own initial values.
        quiet: print nothing.

    Returns:
        A `Fit`.

    Raises:
        ArgumentError, ArgumentTypeError: an argument does not fit, with what came and what to do;
            they are a ValueError and a TypeError.
        UserError: the run diverged, or the workdir is in use, another run's or no run's.
        Interrupted: a signal (Ctrl-C) came, and with a workdir the same call goes on; it is a
            KeyboardInterrupt, so `except Exception` does not catch it. Without a workdir Ctrl-C
            is Python's own KeyboardInterrupt.
    """
    try:
        config = _config(model, data, task, penalties, steps, batch_size, optimizer, seed)
        place = _place(workdir)
        if place is not None:
            name = "".join(each if each.isalnum() else "-" for each in place.resolve().name)
            config = replace(config, experiment=replace(config.experiment, name=name or "fit"))
        ended = run_for_weights(config, place, quiet=quiet)
        weights = ended.weights
        if weights is None:
            assert place is not None
            weights = restored(config, place).weights
    except UserError as error:
        told = _of_a_call(str(error))
        if isinstance(error, InterruptedRun):
            raise Interrupted(told, error.exit_code - 128) from None
        if isinstance(error, ConfigError | DataError):
            raise ArgumentError(told) from error.__cause__  # the user's own code, if it raised
        error.args = (told,)
        raise
    trained = own.taken_apart(model)[0].merge(*weights)
    trained, state = trained if isinstance(trained, tuple) else (trained, None)
    return Fit(trained, ended.summary["metrics"], place, state)


def _place(workdir: Any) -> Path | None:
    if workdir is None or isinstance(workdir, str | os.PathLike):
        return None if workdir is None else Path(workdir)
    raise ArgumentTypeError(
        f"workdir: got {shown(workdir)} ({type(workdir).__name__}), expected a path, or None to "
        "write nothing."
    )


def _check_update(optimizer: optax.GradientTransformation, params: Any) -> None:
    """Raise unless an update takes what the step gives it: gradients, state and parameters."""
    try:
        jax.eval_shape(lambda p: optimizer.update(p, optimizer.init(p), p), params)
    except Exception as error:  # whatever a transformation of the user's own raises
        raise ArgumentError(
            "optimizer: cannot take a step from gradients, its state and the parameters "
            f"({type(error).__name__}: {reason(error)}). One that needs the loss too, such as "
            "optax.lbfgs(), does not fit the step; optax.adam(1e-3) does."
        ) from error


def _of_a_call(message: str) -> str:
    """Return a message of a command in the words of a call: its arguments for keys and options.

    Keys stand in what a message says to do as well as at its head, in some forty places; so they
    are put into other words once, here.
    """
    message = message.replace("another --workdir", "another workdir")
    message = message.replace("--workdir ", "workdir=").replace("same command", "same call")
    return _KEYS.sub(lambda key: _ARGUMENTS[key[0]], message)


def _config(
    model: Any,
    data: Any,
    task: str,
    penalties: Sequence[Penalty],
    steps: int,
    batch_size: int,
    optimizer: optax.GradientTransformation | None,
    seed: int,
) -> Config:
    """Return the config of a call, with what Python gave in its place.

    Raises:
        ConfigError, DataError: an argument does not fit.
    """
    try:
        functional, _ = own.taken_apart(model)
    except ConfigError as error:
        raise ArgumentTypeError(str(error)) from None
    if optimizer is not None and not isinstance(optimizer, optax.GradientTransformation):
        raise ArgumentTypeError(
            f"optimizer: got {shown(optimizer)} ({type(optimizer).__name__}), expected an optax "
            "transformation, for instance optax.adam(1e-3)."
        )
    if optimizer is not None:
        _check_update(optimizer, functional.params)
    module = model[0] if isinstance(model, tuple) else model
    listed = _penalties(penalties)
    tables = {
        "experiment": {"name": "fit", "seed": seed},
        "data": {"name": data if isinstance(data, str) else NAME, "batch_size": batch_size},
        "model": {"target": "given:given"},
        "task": {"name": task},
        "penalty": [table for table, _ in listed],
        "optimizer": {"name": "adam", "learning_rate": _RATE},
        "training": {"steps": steps},
    }
    config = parse(tables, "train.fit")
    target = own.name_of(type(module))
    config = replace(
        config,
        model=replace(config.model, name=type(module).__name__, target=target, given=model),
        optimizer=replace(config.optimizer, given=optimizer),
        penalty=tuple(
            section if given is None else replace(section, name=_label(given), given=given)
            for section, (_, given) in zip(config.penalty, listed, strict=True)
        ),
    )
    dataset = data_sets.load(config.data) if isinstance(data, str) else _dataset(data, task)
    if not isinstance(data, str) and task == "classification":
        dataset = with_classes(dataset, _width(functional, dataset, type(module).__name__))
    return replace(config, data=replace(config.data, given=dataset))


def _dataset(data: Any, task: str) -> Dataset:
    try:
        return as_dataset(
            data,
            labels=task == "classification",
            targets=task in ("classification", "regression") or isinstance(data, tuple),
        )
    except DataError as error:
        if not isinstance(data, Mapping | tuple | list):
            raise ArgumentTypeError(str(error)) from None
        raise


def _width(functional: Any, dataset: Dataset, name: str) -> int:
    """Return how many logits a model gives."""
    raw = jnp.asarray(dataset.train.inputs[:2])
    xs = raw if dataset.pixels is None else dataset.pixels.shares(raw)
    apply = own.applied(functional)

    def call(xs: Any) -> Any:
        return apply(functional.params, functional.state, xs)[0]

    try:
        ys = jax.eval_shape(call, xs)
    except Exception as error:  # whatever the user's own code raises
        raise ConfigError(
            f"model: {name} does not take inputs of shape {xs.shape[1:]} as the data holds them "
            f"({type(error).__name__}: {reason(error)}). An nnx module is called on a batch "
            f"{xs.shape}, an Equinox module on one example {xs.shape[1:]}.{rearranged(call, xs)}"
        ) from None
    shape = getattr(ys, "shape", None)
    if shape is None or len(shape) != 2 or shape[0] != len(xs):
        raise ConfigError(
            f"model: {name} returns {'shape ' + str(shape) if shape else type(ys).__name__} for a "
            f"batch of {len(xs)}, expected logits [N, K]."
        )
    return int(shape[1])


def _penalties(penalties: Any) -> list[tuple[dict[str, Any], Callable[..., Any] | None]]:
    """Return a config's table for each penalty, and the callable where it is one."""
    if isinstance(penalties, Mapping | str) or not isinstance(penalties, Iterable):
        raise ArgumentTypeError(
            f"penalties: got {shown(penalties)}, expected a list of them: "
            '[{"name": "jacobian", "weight": 0.01}], or [(0.01, function)].'
        )
    listed = []
    for index, each in enumerate(penalties):
        if isinstance(each, Mapping):
            table = dict(each)
            given = table.pop("loss", None)
            if given is not None and "name" in table:
                raise ArgumentError(
                    f"penalty.{index}: got a name and a loss, expected one of them."
                )
        elif isinstance(each, tuple) and len(each) == 2 and any(map(callable, each)):
            given, weight = each if callable(each[0]) else (each[1], each[0])
            table = {"weight": weight}
        else:
            hint = " A callable needs its weight." if callable(each) else ""
            raise ArgumentTypeError(
                f"penalty.{index}: got {shown(each)} ({type(each).__name__}), expected a table "
                '{"name": "jacobian", "weight": 0.01}, a pair (weight, function), or '
                f'{{"loss": function, "weight": 0.01}}.{hint}'
            )
        if given is not None:
            if not callable(given):
                raise ArgumentTypeError(
                    f"penalty.{index}.loss: got {shown(given)}, expected a callable (lin, key) -> "
                    "[N]. A penalty by name goes under the key name."
                )
            table["name"] = "jacobian"  # any row that has no options: its label is put in later
        listed.append((table, given))
    return listed


def _label(given: Callable[..., Any]) -> str:
    name = getattr(given, "__name__", type(given).__name__)
    return name if name.isidentifier() else "penalty"
