"""A whole run: from a config to records, checkpoints and figures in a workdir."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from train import figures, records
from train.allocator import settle_allocator
from train.cache import cache_dir
from train.checkpoints import tree_digest
from train.choices import unmeasured
from train.errors import (
    DivergedError,
    InterruptedRun,
    OutOfMemory,
    StorageError,
    UserError,
    WorkdirError,
)
from train.interrupt import Interrupt, Stop
from train.parallel import join_hosts, make_mesh
from train.precision import check_precision
from train.prepare import Prepared, check_own_file, prepare, record
from train.progress import Reporter, shown_metric
from train.repeated import other_numbers
from train.workdir import check_free, continued, locked

if TYPE_CHECKING:
    from train.sections import Config

FINISHED = "finished"


def run(
    config: Config,
    workdir: Path,
    *,
    pictures: bool = True,
    debug: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train, evaluate and report, or go on where an earlier run of the same config stopped.

    Args:
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
    return run_for_weights(config, workdir, pictures=pictures, debug=debug, quiet=quiet).summary


class Ended(NamedTuple):
    """What a run ended with.

    Attributes:
        summary: as in `summary.json`.
        weights: the pair (params, state); None where the run had ended before.
    """

    summary: dict[str, Any]
    weights: tuple[Any, Any] | None


def run_for_weights(
    config: Config,
    workdir: Path | None,
    *,
    pictures: bool = True,
    debug: bool = False,
    quiet: bool = False,
) -> Ended:
    """As `run`, for the trained weights as well; without a workdir nothing is written."""
    check_precision(config)
    join_hosts(config)
    mesh = make_mesh(config)
    first = jax.process_index() == 0
    reporter = Reporter(config.experiment.name, config.training.steps, quiet or not first)
    if not first:
        with tempfile.TemporaryDirectory() as unread:
            return _run(config, mesh, Path(unread), reporter, False, False)
    if workdir is None:
        with _one_message("the run"):
            prepared = prepare(config, mesh, None, reporter, debug)
            ended = _train(prepared, None, reporter, Interrupt(), False, [])
        show(reporter, ended.summary)
        return ended
    return _run(config, mesh, workdir, reporter, pictures, debug)


def _run(
    config: Config,
    mesh: jax.sharding.Mesh | None,
    workdir: Path,
    reporter: Reporter,
    pictures: bool,
    debug: bool,
) -> Ended:
    check_free(workdir)
    with locked(workdir):
        try:
            config, moved = continued(workdir, config)
        except WorkdirError:
            with _one_message(workdir):
                # What is wrong with the config itself comes first, wherever it is to run.
                quietly = Reporter(config.experiment.name, 1, quiet=True)
                prepare(unmeasured(config), mesh, None, quietly)
            raise
        summary = records.read_json(workdir / records.SUMMARY)
        if summary is not None and summary.get("status") == FINISHED:
            check_own_file(config, workdir)
            reporter.say(f"{reporter.title}: finished already, in {workdir}")
            show(reporter, summary)
            return Ended(summary, None)
        if moved:
            reporter.say(f"{reporter.title}: goes on with other devices: {'; '.join(moved)}")
        with _one_message(workdir), Interrupt() as interrupt:
            prepared = prepare(config, mesh, workdir, reporter, debug)
            moved = [*moved, *record(prepared, workdir)]
            ended = _train(prepared, workdir, reporter, interrupt, pictures, moved)
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
    prepared: Prepared,
    workdir: Path | None,
    reporter: Reporter,
    interrupt: Interrupt,
    pictures: bool,
    moved: list[str],
) -> Ended:
    config, problem, loop = prepared.config, prepared.problem, prepared.loop
    base = {"experiment": config.experiment.name, "seed": config.experiment.seed}
    try:
        with reporter:
            state = loop.run(interrupt)
            reporter.say(f"{reporter.title}: evaluating")
            if notice := other_numbers(loop, state, moved):
                reporter.say(f"{reporter.title}: {notice}")
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
            "seconds": time.perf_counter() - prepared.started,
        },
    }
    if workdir is not None:
        records.write_json(workdir / records.SUMMARY, summary)
    return Ended(summary, (state.params, state.model_state))


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


def show(reporter: Reporter, summary: Mapping[str, Any]) -> None:
    """Show the final table of a summary."""
    rows = [[name, shown_metric(name, value)] for name, value in summary.get("metrics", {}).items()]
    timing = summary.get("timing", {})
    if timing.get("ms_per_step") is not None:
        rows.append(["ms a step", f"{timing['ms_per_step']:.2f}"])
    reporter.table(f"{summary['experiment']}, {summary['steps']} steps", ["metric", "value"], rows)


def use_compilation_cache() -> None:
    """Keep compiled programs in the user's cache folder, so that a second run starts at once.

    A folder that JAX was given already (`JAX_COMPILATION_CACHE_DIR`) stays, with its thresholds.
    """
    if jax.config.jax_compilation_cache_dir:  # pyright: ignore[reportAttributeAccessIssue]
        return
    jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
