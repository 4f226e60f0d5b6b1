"""The training loop: chunks of steps on the device, records and checkpoints between them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from train import records
from train.checkpoints import Checkpoints, NoCheckpoints
from train.errors import ConfigError, DivergedError, InterruptedRun, WorkdirError, reason
from train.interrupt import Interrupt, Stop
from train.objective import Objective
from train.optimizers import make_optimizer
from train.parallel import fetch, first_signal, on_all
from train.step import (
    BatchOrder,
    StepKeys,
    TrainState,
    init_state,
    make_step,
    make_training_step,
    zero_sums,
)

if TYPE_CHECKING:
    from train.problem import Problem
    from train.progress import Reporter
    from train.sections import Config

# Between chunks the loop moves the bar and asks the device whether all is well.
_LONGEST_CHUNK = 100
# A signal waits for the steps that are under way, so a chunk of slow steps is short.
_CHUNK_SECONDS = 2.0
_FIRST_CHUNK = 4
_REMEMBERED = 1000  # chunks, for the time of a step


@dataclass
class Timing:
    """Seconds spent, apart from the records that a resumed run must repeat bit for bit."""

    compile_seconds: float = 0.0
    chunks: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def ms_per_step(self) -> float | None:
        """Return the median over the last chunks, without compilation."""
        rates = [1000 * seconds / steps for steps, seconds in self.chunks]
        return float(np.median(rates)) if rates else None


class Loop:
    """One run of a problem in a workdir.

    Args:
        config, problem, reporter: of the run.
        workdir: its folder; None keeps records in memory and writes no checkpoint.
        mesh: the devices that share the rows of a batch; None for one.
        debug: where a loss or gradient is not finite, look for the primitive that made it.
    """

    def __init__(
        self,
        config: Config,
        problem: Problem,
        workdir: Path | None,
        reporter: Reporter,
        mesh: jax.sharding.Mesh | None = None,
        debug: bool = False,
    ) -> None:
        self.config = config
        self.debug = debug
        self.problem = problem
        self.reporter = reporter
        self.workdir = workdir
        self.checkpoints: Checkpoints | NoCheckpoints = NoCheckpoints()
        self.log: records.MetricsLog | records.MemoryLog = records.MemoryLog()
        if workdir is not None:
            self.checkpoints = Checkpoints(workdir / "checkpoints")
            self.log = records.MetricsLog(workdir / records.METRICS)
        self.timing = Timing()
        self.step = 0
        size = len(next(iter(problem.examples.values())))
        self.batch_size = min(config.data.batch_size, size)
        self.mesh = mesh
        self.keys = on_all(StepKeys.of(config.experiment.seed), self.mesh)
        self.order = BatchOrder(size, self.batch_size, config.experiment.seed)
        self.optimizer = make_optimizer(config.optimizer, config.training.steps)
        self._check_parts()
        self.metric_names = self._metric_names()

    def run(self, interrupt: Interrupt) -> TrainState:
        """Take all steps that are left; return the last state.

        Raises:
            DivergedError: a loss or gradient is not finite; the last checkpoint is kept.
            InterruptedRun: a signal came; a checkpoint is written.
            StorageError: the disk is full or cannot be written.
            Stop: a signal came before the first step.
        """
        state = self._start()
        self.step = int(state.step)
        self.reporter.advance(self.step)
        examples = {name: jnp.asarray(array) for name, array in self.problem.examples.items()}
        state, examples = on_all((state, examples), self.mesh)
        with interrupt.deferred():
            return self._steps(interrupt, state, examples)

    def _steps(self, interrupt: Interrupt, state: TrainState, examples: Any) -> TrainState:
        """Take the steps that are left; a signal is acted on between them."""
        steps, step = self.config.training.steps, self.step
        cuttable = interrupt.at_once if jax.process_count() == 1 else nullcontext
        programs: dict[Any, Any] = {}
        while step < steps:
            end = self._next_stop(step)
            objectives = [self._objective(taken) for taken in range(step, end)]
            for taken, objective in enumerate(objectives, step):
                if objective not in programs:
                    with cuttable():  # this step has its checkpoint, or is the first
                        programs[objective] = self.compiled(state, examples, taken)
            started = time.perf_counter()
            order, first = on_all(
                jax.device_put((self._rows(step, end), np.int32(step))), self.mesh
            )
            begun = jax.tree.map(jnp.copy, state) if self.debug else None
            try:
                for taken, objective in enumerate(objectives, step):
                    state = programs[objective](state, examples, order, first, self.keys)
                    if interrupt.received is not None and jax.process_count() == 1:
                        end = taken + 1
                        break
                first_bad = int(state.first_bad)
            except jax.errors.JaxRuntimeError as error:
                raise self._raised(step, end, error) from None
            self.timing.chunks.append((end - step, time.perf_counter() - started))
            if first_bad >= 0:
                arguments = (examples, order, first, self.keys)
                found = begun and self._explained(begun, first_bad, programs, arguments)
                raise self._diverged(first_bad, found)
            self.step = step = end
            self.reporter.advance(step, self._mean_loss(state) if self.reporter.has_bar else None)
            # All processes stop at one step.
            received = first_signal(interrupt.received) if step < steps else None
            recorded = True
            try:
                state = self._record(step, state, cuttable)
            except Stop as stop:  # an evaluation may take minutes: it is done again
                received, recorded = stop.signal_number, False
            if received is not None or self._due(step, self.config.training.checkpoint_every):
                self.log.sync()
                self.checkpoints.save(step, state, recorded)
            if received is not None:
                raise InterruptedRun(
                    f"stopped by a signal after step {step} of {steps}; a checkpoint is in "
                    f"{self.checkpoints.folder}. The same command goes on from there.",
                    received,
                )
        return state

    def _start(self) -> TrainState:
        problem = self.problem
        state = init_state(problem.params, problem.state, self.optimizer, self.metric_names)
        found = self.checkpoints.restore(
            state, lambda text: self.reporter.say(f"{self.reporter.title}: {text}")
        )
        if found is None:
            if not self.checkpoints.is_empty():
                self.reporter.say(
                    f"{self.reporter.title}: no checkpoint is whole, so it starts at step 0 again"
                )
            self.log.truncate(0)
            return state
        step, state, recorded = found
        if step > self.config.training.steps:
            raise WorkdirError(
                f"{self.checkpoints.folder}: holds a checkpoint of step {step}, but training.steps "
                f"is {self.config.training.steps}: it is another run's. Use another workdir."
            )
        self.log.truncate(step if recorded else step - 1)
        self.reporter.say(f"{self.reporter.title}: goes on from the checkpoint of step {step}")
        self._tell_missing_lines(step if recorded else step - 1)
        return state if recorded else self._record(step, on_all(state, self.mesh))

    def _tell_missing_lines(self, step: int) -> None:
        """Say which lines up to a step are gone, since no step is taken again to write them."""
        every = self.config.training.log_every
        missing = set(range(every, step + 1, every)) - {line["step"] for line in self.log.read()}
        if missing:
            lines = f"{len(missing)} line{'s' if len(missing) > 1 else ''}"
            self.reporter.say(
                f"{self.reporter.title}: {records.METRICS} lacks {lines} of training up to the "
                f"checkpoint, the first of step {min(missing)}"
            )

    def _check_parts(self) -> None:
        parts = self.config.training.accumulate
        if parts == 1:
            return
        if not self.problem.rows_independent:
            raise ConfigError(
                f"training.accumulate: got {parts}, but the network's BatchNorm takes its "
                "statistics over a whole batch, so parts of it would be another run; expected 1, "
                "with a smaller data.batch_size or training.remat=true."
            )
        if self.batch_size % parts:
            raise ConfigError(
                f"training.accumulate: got {parts}, but every batch is the whole split of "
                f"{self.batch_size} examples, which does not divide into so many parts."
            )

    def _metric_names(self) -> list[str]:
        problem = self.problem
        rows = {name: array[: self.batch_size] for name, array in problem.examples.items()}

        def metrics(params: Any, state: Any, rows: Any) -> Any:
            xs, targets = problem.prepare(rows)
            return problem.objective(params, state, xs, targets, self.keys, jnp.int32(0))[1].metrics

        try:
            found = jax.eval_shape(metrics, problem.params, problem.state, rows)
        except (TypeError, ValueError) as error:
            why = reason(error, 800)
            raise ConfigError(f"model, task and penalties do not fit together: {why}") from None
        return [*found, "gradient_norm"]

    def compiled(self, state: TrainState, examples: Any, step: int = 0) -> Any:
        """Return the compiled program of the step after `step`: of its phase and its penalties."""
        started = time.perf_counter()
        training = self.config.training
        taken = make_step(
            self._objective(step),
            self.optimizer,
            accumulate=training.accumulate,
            remat=training.remat,
            mesh=self.mesh,
        )
        training_step = make_training_step(taken, self.problem.prepare, self.mesh)
        order, first = on_all((jnp.asarray(self._rows(0, 1)), jnp.int32(0)), self.mesh)
        compiled = training_step.lower(state, examples, order, first, self.keys).compile()
        self.timing.compile_seconds += time.perf_counter() - started
        return compiled

    def _objective(self, step: int) -> Callable[..., Any]:
        """Return the objective of the program that takes the step after `step`."""
        phases = (phase.objective for phase in self.problem.earlier if step < phase.end)
        objective = next(phases, self.problem.objective)
        return objective.at(step) if isinstance(objective, Objective) else objective

    def _rows(self, step: int, end: int) -> np.ndarray:
        """Return the row numbers of a chunk's batches, padded to the longest chunk."""
        rows = np.zeros((self._longest(), self.batch_size), np.int32)
        rows[: end - step] = self.order.rows(step, end - step)
        return rows

    def _longest(self) -> int:
        return min(_LONGEST_CHUNK, self.config.training.log_every, self.config.training.steps)

    def _next_stop(self, step: int) -> int:
        """Return where the chunk that starts at `step` ends."""
        training = self.config.training
        stops = [training.steps, step + self._pace()]
        stops += [phase.end for phase in self.problem.earlier if phase.end > step]
        for every in (training.log_every, training.eval_every, training.checkpoint_every):
            if every:
                stops.append((step // every + 1) * every)
        return min(stops)

    def _pace(self) -> int:
        """Return how many steps to take before looking up."""
        if jax.process_count() > 1:  # all processes take the same
            return self._longest()
        if not self.timing.chunks:
            return min(_FIRST_CHUNK, self._longest())
        count, seconds = self.timing.chunks[-1]
        return max(1, min(self._longest(), int(_CHUNK_SECONDS * count / max(seconds, 1e-9))))

    def _due(self, step: int, every: int) -> bool:
        """Return whether a line is due: at each `every`, and where a phase or training ends."""
        last = step in (self.config.training.steps, *(each.end for each in self.problem.earlier))
        return last or (every > 0 and step % every == 0)

    def _mean_loss(self, state: TrainState) -> float:
        """Return the mean loss since the last line, for the bar."""
        return float(fetch(state.sums["loss"])) / (self.step - self._last_line(self.step))

    def _last_line(self, step: int) -> int:
        """Return the step of the training line before that of `step`, 0 before the first."""
        every = self.config.training.log_every
        ends = [phase.end for phase in self.problem.earlier if phase.end < step]
        return max([(step - 1) // every * every, *ends])

    def phase_metrics(self) -> dict[str, float]:
        """Return what the ends of the earlier phases recorded, before or after a restart."""
        ends = {phase.end for phase in self.problem.earlier}
        return {
            name: value
            for line in self.log.read()
            if line["step"] in ends
            for name, value in line.items()
            if name != "step" and not name.startswith(("train/", "test/"))
        }

    def _record(
        self,
        step: int,
        state: TrainState,
        evaluating: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> TrainState:
        """Write a line where one is due; return the state with its sums started anew.

        Raises:
            Stop: a signal came during an evaluation; nothing is written.
        """
        training = self.config.training
        metrics: dict[str, float] = {}
        if self._due(step, training.log_every):
            since = self._last_line(step)
            sums = fetch(state.sums)
            metrics |= {
                f"train/{name}": float(value) / (step - since) for name, value in sums.items()
            }
            sums = on_all(zero_sums(self.metric_names), self.mesh)
            state = state._replace(sums=sums)
        if training.eval_every and self._due(step, training.eval_every):
            with evaluating():
                metrics |= self.problem.evaluate(state.params, state.model_state, False)
        for phase in self.problem.earlier:
            if step == phase.end:
                with evaluating():
                    metrics |= phase.evaluate(state.params, state.model_state)
        if metrics:
            self.log.append(step, metrics)
            self.reporter.metrics(step, metrics)
            remark = self.problem.check(step, metrics)
            if remark:
                self.reporter.say(f"{self.reporter.title}: {remark}")
        return state

    def _explained(
        self,
        state: TrainState,
        step: int,
        programs: Mapping[Any, Callable[..., TrainState]],
        arguments: tuple[Any, ...],
    ) -> str:
        """Say what the step that went wrong met first, from the state before its chunk."""
        from train.locate import explain

        for taken in range(int(state.step), step - 1):
            state = programs[self._objective(taken)](state, *arguments)
        examples, order, first, keys = arguments
        chosen = order[state.step - first]
        rows = jax.tree.map(lambda array: array[chosen], examples)
        keys = StepKeys(*(jax.random.fold_in(key, state.step) for key in keys))
        gradient = jax.value_and_grad(self._objective(step - 1), has_aux=True)
        xs, targets = self.problem.prepare(rows)
        return explain(gradient, state.params, state.model_state, xs, targets, keys, state.step)

    def _raised(self, step: int, end: int, error: Exception) -> Exception:
        """Return what ends a run whose compiled step raised, a check of a solver for instance."""
        text = str(error)
        if "RESOURCE_EXHAUSTED" in text:
            return error
        # A callback's traceback ends with what was raised.
        said = [line for line in text.splitlines() if line.strip()][-1:]
        return DivergedError(
            f"a step from {step + 1} to {end} raised ({' '.join(said)[:300]}): training stopped, "
            f"{self._kept()}."
        )

    def _kept(self) -> str:
        kept = self.checkpoints.steps()
        if not kept:
            return "no checkpoint was due"
        return f"the checkpoint of step {kept[-1]} is kept in {self.checkpoints.folder}"

    def _diverged(self, step: int, found: str | None = None) -> DivergedError:
        why = f" ({found})" if found else ""
        rate, clip = "optimizer.learning_rate", "set optimizer.clip_norm"
        hint = "" if self.debug else " There, --debug finds what made it."
        if self.config.data.given is not None:  # a call, which has no options of the command
            rate, clip = (
                "the optimizer's rate",
                "chain optax.clip_by_global_norm before the optimizer",
            )
            hint = ""
        return DivergedError(
            f"the loss or its gradient is not finite at step {step}{why}: training stopped, "
            f"{self._kept()}. Lower {rate} or the penalty's weight, or {clip}, and give the "
            f"changed config another --workdir.{hint}"
        )
