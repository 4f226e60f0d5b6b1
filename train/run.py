"""A whole run: from a config to records, checkpoints and figures in a workdir."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from train import data, environment, figures, records
from train.allocator import settle_allocator
from train.cache import cache_dir
from train.checkpoints import tree_digest
from train.choices import choices_of, with_choices
from train.errors import DivergedError, InterruptedRun, StorageError, UserError, WorkdirError
from train.interrupt import Interrupt, Stop
from train.loop import Loop
from train.methods import noting_choices
from train.parallel import evaluating_on, join_hosts, make_mesh
from train.precision import check_precision
from train.progress import Reporter, shown_metric
from train.tasks import TASKS
from train.workdir import check_config, locked, record_config

if TYPE_CHECKING:
    from train.config import Config

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
    check_precision(config)
    join_hosts(config)
    make_mesh(config)
    if jax.process_index() != 0:
        with tempfile.TemporaryDirectory() as unread:
            return _run(config, Path(unread), False, False)
    return _run(config, workdir, pictures, debug)


def _run(config: Config, workdir: Path, pictures: bool, debug: bool) -> dict[str, Any]:
    reporter = Reporter(config.experiment.name, config.training.steps)
    reporter.console.quiet |= jax.process_index() != 0
    with locked(workdir):
        config = choices_of(workdir, config)
        moved = check_config(workdir, config)
        summary = records.read_json(workdir / records.SUMMARY)
        if summary is not None and summary.get("status") == FINISHED:
            reporter.say(f"{reporter.title}: finished already, in {workdir}")
            show(reporter, summary)
            return summary
        if moved:
            reporter.say(f"{reporter.title}: goes on with other devices: {'; '.join(moved)}")
        try:
            with Interrupt() as interrupt:
                summary = _train(config, workdir, reporter, interrupt, pictures, debug)
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
        show(reporter, summary)
        reporter.say(f"{reporter.title}: records, checkpoints and figures are in {workdir}")
        return summary


def _train(
    config: Config,
    workdir: Path,
    reporter: Reporter,
    interrupt: Interrupt,
    pictures: bool,
    debug: bool,
) -> dict[str, Any]:
    started = time.perf_counter()
    dataset = data.load(config.data)
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
    record_config(workdir, config)
    _record_environment(workdir, environment.describe(dataset, loop.batch_size))
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
            records.write_json(workdir / records.SUMMARY, record)
        raise
    if remark:
        reporter.say(f"{reporter.title}: {remark}")
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
    records.write_json(workdir / records.SUMMARY, summary)
    return summary


def _out_of_memory(error: Exception) -> UserError | None:
    """Return the one message for what does not fit in memory, None for another error."""
    text = " ".join(str(error).split())
    if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in text:
        return None
    return UserError(
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
    records.write_json(path, found)


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
