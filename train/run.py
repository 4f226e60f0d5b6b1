"""A whole run: from a config to records, checkpoints and figures in a workdir."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from train import data, environment, figures, records
from train.allocator import settle_allocator
from train.cache import cache_dir
from train.checkpoints import tree_digest
from train.choices import choices_of, with_choices
from train.errors import (
    DivergedError,
    InterruptedRun,
    OutOfMemory,
    StorageError,
    UserError,
    WorkdirError,
)
from train.interrupt import Interrupt, Stop
from train.loop import Loop
from train.methods import noting_choices
from train.optimizers import first_steps
from train.own import described
from train.parallel import evaluating_on, join_hosts, make_mesh
from train.precision import check_precision
from train.progress import Reporter, shown_metric
from train.tasks import TASKS
from train.workdir import check_config, locked, record_config

if TYPE_CHECKING:
    from train.problem import Problem
    from train.sections import Config

FINISHED = "finished"


def run(
    config: Config, workdir: Path, *, pictures: bool = True, debug: bool = False
) -> dict[str, Any]:
    """Train, evaluate and report, or go on where an earlier run of the same config stopped.

    Args:
        config: of the run.
        workdir: its folder. With several hosts the first one's; the others write nothing.
        debug: where a loss or gradient is not finite, say what made it.
        pictures: draw the figures; without, their arrays are there all the same.

    Returns:
        The summary, as in `summary.json`.

    Raises:
        UserError: bad input, a workdir in use or of another config, a diverged or an
            interrupted run; each with its exit code.
    """
    settle_allocator()
    return run_for_weights(config, workdir, pictures=pictures, debug=debug).summary


class Ended(NamedTuple):
    """What a run ended with.

    Attributes:
        summary: as in `summary.json`.
        weights: the pair (params, state); None where the run had ended before.
    """

    summary: dict[str, Any]
    weights: tuple[Any, Any] | None


def run_for_weights(
    config: Config, workdir: Path | None, *, pictures: bool = True, debug: bool = False
) -> Ended:
    """As `run`, for the trained weights as well; without a workdir nothing is written."""
    check_precision(config)
    join_hosts(config)
    make_mesh(config)
    if jax.process_index() != 0:
        with tempfile.TemporaryDirectory() as unread:
            return _run(config, Path(unread), False, False)
    if workdir is None:
        reporter = Reporter(config.experiment.name, config.training.steps)
        with _one_message("the run"):
            ended = _train(config, None, reporter, Interrupt(), False, debug)
        show(reporter, ended.summary)
        return ended
    return _run(config, workdir, pictures, debug)


def _run(config: Config, workdir: Path, pictures: bool, debug: bool) -> Ended:
    reporter = Reporter(config.experiment.name, config.training.steps)
    reporter.console.quiet |= jax.process_index() != 0
    with locked(workdir):
        config = choices_of(workdir, config)
        moved = check_config(workdir, config)
        summary = records.read_json(workdir / records.SUMMARY)
        if summary is not None and summary.get("status") == FINISHED:
            reporter.say(f"{reporter.title}: finished already, in {workdir}")
            show(reporter, summary)
            return Ended(summary, None)
        if moved:
            reporter.say(f"{reporter.title}: goes on with other devices: {'; '.join(moved)}")
        with _one_message(workdir), Interrupt() as interrupt:
            ended = _train(config, workdir, reporter, interrupt, pictures, debug)
        show(reporter, ended.summary)
        reporter.say(f"{reporter.title}: records, checkpoints and figures are in {workdir}")
        return ended


@contextmanager
def _one_message(workdir: Path | str) -> Iterator[None]:
    """Word what ends a run from outside it: a signal, a full disk, no memory."""
    try:
        yield
    except Stop as stop:
        raise InterruptedRun(
            "stopped by a signal outside the steps of training, where nothing is lost. The "
            f"same command goes on with what is in {workdir}.",
            stop.signal_number,
        ) from None
    except OSError as error:
        raise StorageError(
            f"{error.filename or workdir}: cannot be written ({error.strerror or error}); the "
            "records and checkpoints before that are kept. Make room, then the same command "
            "goes on."
        ) from None
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if (told := _out_of_memory(error)) is None:
            raise
        raise told from None


def _train(
    config: Config,
    workdir: Path | None,
    reporter: Reporter,
    interrupt: Interrupt,
    pictures: bool,
    debug: bool,
) -> Ended:
    started = time.perf_counter()
    dataset = data.load(config.data)
    if config.model.target is not None and config.model.given is None:
        own = described(config.model)
        reporter.say(
            f"{reporter.title}: model.target {config.model.target} is imported from "
            f"{own.get('file', 'no file')}"
        )
    with noting_choices() as found:
        problem = TASKS[config.task.name](config, dataset, **config.task.options)
    for path, chosen in found.items():
        reporter.say(f"{reporter.title}: {path}:\n{chosen.report}")
    config = with_choices(config, found)
    loop = Loop(config, problem, workdir, reporter, debug)
    if loop.batch_size < config.data.batch_size:
        reporter.say(
            f"{reporter.title}: the training split has {loop.batch_size} examples, fewer than "
            f"data.batch_size={config.data.batch_size}: every batch is the whole split"
        )
    if workdir is not None:
        found = environment.describe(dataset, loop.batch_size) | _origins(config, problem)
        _record_environment(workdir, found)
        record_config(workdir, config)
    base = {"experiment": config.experiment.name, "seed": config.experiment.seed}
    try:
        with reporter, evaluating_on(loop.mesh):
            state = loop.run(interrupt)
        reporter.say(f"{reporter.title}: evaluating")
        with evaluating_on(loop.mesh):
            final = problem.evaluate(state.params, state.model_state, True)
        metrics = loop.phase_metrics() | final
        remark = problem.check(loop.step, metrics)
    except (DivergedError, InterruptedRun) as error:
        status = "diverged" if isinstance(error, DivergedError) else "interrupted"
        record = {**base, "status": status, "steps": loop.step, "reason": str(error)}
        with suppress(OSError):  # a full disk must not hide why the run ended
            if workdir is not None:
                records.write_json(workdir / records.SUMMARY, record)
        raise
    if remark:
        reporter.say(f"{reporter.title}: {remark}")
    if workdir is not None:
        problem.report(state.params, state.model_state, workdir)
        if pictures:
            figures.draw_run(workdir)
    summary = {
        **base,
        "status": FINISHED,
        "steps": config.training.steps,
        "params_sha256": tree_digest(state.params),
        "metrics": metrics,
        **problem.notes,
        "timing": {
            "ms_per_step": loop.timing.ms_per_step(),
            "compile_seconds": loop.timing.compile_seconds,
            "seconds": time.perf_counter() - started,
        },
    }
    if workdir is not None:
        records.write_json(workdir / records.SUMMARY, summary)
    return Ended(summary, (state.params, state.model_state))


def _origins(config: Config, problem: Problem) -> dict[str, Any]:
    """Return what tells a model, and an optimiser, of the user's own from another."""
    found: dict[str, Any] = {}
    if config.model.target is not None:
        start = tree_digest((problem.params, problem.state))
        found["model"] = {**described(config.model), "start_sha256": start}
    if config.optimizer.given is not None:
        found["optimizer"] = first_steps(config.optimizer.given, problem.params)
    return found


def _out_of_memory(error: Exception) -> UserError | None:
    """Return the one message for what does not fit in memory, None for another error."""
    text = " ".join(str(error).split())
    if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in text:
        return None
    return OutOfMemory(
        f"the run does not fit in memory ({text[:200] or 'MemoryError'}). Lower data.batch_size "
        "or evaluation.batch_size, set training.accumulate or training.remat, or make the network "
        "smaller."
    )


def _record_environment(workdir: Path, found: Mapping[str, Any]) -> None:
    """Write `environment.json`; a resumed run must meet the data that it began with."""
    path = workdir / records.ENVIRONMENT
    old = records.read_json(path)
    if old is not None and old.get("data", {}).get("sha256") not in (None, found["data"]["sha256"]):
        raise WorkdirError(
            f"--workdir {workdir}: was begun on other data (sha256 "
            f"{old['data']['sha256'][:12]}..., now {found['data']['sha256'][:12]}...). "
            "Restore the data, or use another --workdir."
        )
    for part, keys in (("model", ("sha256", "start_sha256")), ("optimizer", ("first_steps",))):
        before, now = (old or {}).get(part, {}), found.get(part, {})
        changed = [key for key in keys if not _alike(before.get(key), now.get(key))]
        if changed:
            what = {"sha256": f"another version of {now.get('file', 'its file')}"}.get(
                changed[0], f"another {part} ({', '.join(changed)} differ)"
            )
            raise WorkdirError(
                f"--workdir {workdir}: was begun with {what}. Restore it, or use another workdir."
            )
    records.write_json(path, found)


def _alike(before: Any, now: Any) -> bool:
    """Return whether two records agree, numbers to what another machine may round; None does."""
    if before is None or now is None:
        return True
    if isinstance(before, list):
        return len(before) == len(now) and bool(np.allclose(before, now, rtol=1e-3))
    return before == now


def show(reporter: Reporter, summary: Mapping[str, Any]) -> None:
    """Show the final table of a summary."""
    rows = [[name, shown_metric(name, value)] for name, value in summary.get("metrics", {}).items()]
    timing = summary.get("timing", {})
    if timing.get("ms_per_step") is not None:
        rows.append(["ms a step", f"{timing['ms_per_step']:.2f}"])
    reporter.table(f"{summary['experiment']}, {summary['steps']} steps", ["metric", "value"], rows)


def use_compilation_cache() -> None:
    """Keep compiled programs in the user's cache folder, so that a second run starts at once."""
    jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
