"""What a run would do, without doing it: sizes, penalties, and what XLA says of a step."""

from __future__ import annotations

import inspect
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from train import data, records
from train.checkpoints import Checkpoints
from train.errors import WorkdirError
from train.own import framework_of
from train.pairs import without_penalty
from train.parallel import make_mesh, on_all
from train.penalties import PENALTIES
from train.precision import check_precision
from train.prepare import Prepared, prepare
from train.progress import Reporter
from train.step import init_state
from train.workdir import check_free, continued

if TYPE_CHECKING:
    from train.data import Dataset
    from train.named import Named
    from train.sections import Config, Penalty


def plan(config: Config, workdir: Path, quiet: bool = False) -> dict[str, Any]:
    """Return what the run of a config in a workdir would be, and leave the workdir alone.

    FLOPs and bytes are XLA's own count for the compiled step (a loop whose length it does not
    know counts once); `flops_without_penalties` is that of the same step with every weight 0.

    A workdir in which the run would be refused is told in `workdir_state`.

    Raises:
        UserError: what the run itself would raise before its first step.
    """
    check_precision(config)
    mesh = make_mesh(config)
    try:
        check_free(workdir)
        config, _ = continued(workdir, config)
        state = _state(workdir)
    except WorkdirError as error:
        state = f"refused: {str(error).removeprefix(f'--workdir {workdir}: ')}"
    dataset = data.load(config.data)
    reporter = Reporter(config.experiment.name, config.training.steps, quiet)
    reporter.say(f"{reporter.title}: compiling a step, which is all that takes time here")
    with tempfile.TemporaryDirectory() as unread:
        prepared, step = _compiled(config, mesh, dataset, Path(unread))
        costs = _costs(step)
        if any(penalty.weight for penalty in config.penalty):
            reporter.say(
                f"{reporter.title}: compiled in {step['seconds']:.1f} s; now the step without "
                "penalties"
            )
            _, plain_step = _compiled(without_penalty(config), mesh, dataset, Path(unread))
            plain = _costs(plain_step)
            costs["flops_without_penalties"] = plain["flops"]
    sizes = dataset.describe()
    return {
        "experiment": config.experiment.name,
        "workdir": str(workdir),
        "workdir_state": state,
        "data": sizes,
        "model": {
            "name": config.model.name,
            "framework": framework_of(config.model),
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(prepared.problem.params)),
        },
        "task": config.task.name,
        "penalties": [_penalty(penalty) for penalty in config.penalty],
        "optimizer": {"name": config.optimizer.name, "rate": config.optimizer.learning_rate},
        "training": {
            "steps": config.training.steps,
            "batch_size": prepared.loop.batch_size,
            "epochs": config.training.steps * prepared.loop.batch_size / len(dataset.train),
        },
        "step": costs,
        "evaluation": evaluation_gradients(config, dataset),
        "device": {"platform": jax.default_backend(), "count": config.parallel.data},
    }


def rows(found: Mapping[str, Any]) -> list[Sequence[str]]:
    """Return a plan as lines of a table."""
    model, training, step = found["model"], found["training"], found["step"]
    sizes = found["data"]
    lines: list[Sequence[str]] = [
        ("workdir", f"{found['workdir']} ({found['workdir_state']})"),
        ("data", f"{sizes['name']}: {sizes['train']} training, {sizes['test']} test examples"),
        ("model", f"{model['name']} in {model['framework']}, {model['parameters']:,} parameters"),
        ("task", found["task"]),
    ]
    lines += [(f"penalty {number}", _words(each)) for number, each in enumerate(found["penalties"])]
    epochs = training["epochs"]
    lines += [
        ("optimizer", f"{found['optimizer']['name']}, rate {found['optimizer']['rate']:g}"),
        (
            "training",
            f"{training['steps']} steps of {training['batch_size']} examples, {epochs:.3g} epochs"
            if epochs < 100
            else f"{epochs:,.0f} epochs",
        ),
        ("FLOPs a step", _flops(step)),
        ("memory of a step", _memory(step)),
        ("compilation", f"{step['compile_seconds']:.1f} s"),
        *_evaluation(found["evaluation"], training["steps"] * training["batch_size"]),
        ("device", f"{found['device']['count']} x {found['device']['platform']}"),
    ]
    return lines


def evaluation_gradients(config: Config, dataset: Dataset) -> dict[str, int]:
    """Return what the final evaluation of a classifier takes, in gradients of one example.

    A Jacobian counts one for each class, an attack one for each of its steps; forward passes alone
    (clean, noise) are left out. Empty for other tasks.
    """
    if config.task.name != "classification":
        return {}
    settings, size = config.evaluation, len(dataset.test)

    def first(count: int) -> int:
        return min(count, size) if count else size

    steps = settings.pgd_steps
    found = {
        "Jacobian norm": settings.jacobian * first(settings.jacobian_examples),
        "FGSM": len(settings.fgsm) * first(settings.attack_examples),
        "PGD": len(settings.pgd) * steps * first(settings.attack_examples),
        "PGD in l2": len(settings.certified) * steps * first(settings.attack_examples),
    }
    found["Jacobian norm"] *= len(dataset.classes)
    return {name: count for name, count in found.items() if count}


def _evaluation(gradients: Mapping[str, int], trained: int) -> list[Sequence[str]]:
    if not gradients:
        return []
    listed = ", ".join(f"{name} {count:,}" for name, count in gradients.items())
    text = f"{listed} gradients of one example; training takes {trained:,}"
    if sum(gradients.values()) > trained:
        text += (
            ". To shorten it: evaluation.jacobian_examples, attack_examples, pgd_steps, or "
            "evaluation.jacobian=false"
        )
    return [("final evaluation", text)]


def show(found: Mapping[str, Any], quiet: bool = False) -> None:
    """Show a plan as a table."""
    reporter = Reporter(found["experiment"], found["training"]["steps"], quiet)
    reporter.table(
        f"{found['experiment']}: the plan, nothing is run", ["", "plan"], rows(found), False
    )


def _compiled(
    config: Config, mesh: jax.sharding.Mesh | None, dataset: Dataset, unread: Path
) -> tuple[Prepared, dict[str, Any]]:
    prepared = prepare(
        config, mesh, unread, Reporter(config.experiment.name, 1, quiet=True), dataset=dataset
    )
    loop, problem = prepared.loop, prepared.problem
    state = init_state(problem.params, problem.state, loop.optimizer, loop.metric_names)
    examples = {name: jnp.asarray(array) for name, array in problem.examples.items()}
    state, examples = on_all((state, examples), loop.mesh)
    started = time.perf_counter()
    compiled = loop.compiled(state, examples)
    return prepared, {"compiled": compiled, "seconds": time.perf_counter() - started}


def _costs(step: Mapping[str, Any]) -> dict[str, Any]:
    """Return XLA's counts; None where this platform does not give one."""
    compiled = step["compiled"]
    found = compiled.cost_analysis() or {}
    memory = compiled.memory_analysis()
    costs: dict[str, Any] = {"flops": found.get("flops"), "compile_seconds": step["seconds"]}
    for name in ("argument", "output", "temp", "alias"):
        size = getattr(memory, f"{name}_size_in_bytes", None)
        costs[f"{name}_bytes"] = None if size is None else int(size)
    return costs


def _state(workdir: Path) -> str:
    summary = records.read_json(workdir / records.SUMMARY) or {}
    if summary.get("status") == "finished":
        return "finished: the command shows its result"
    steps = Checkpoints(workdir / "checkpoints").steps()
    return f"unfinished: goes on from step {steps[-1]}" if steps else "new"


def _penalty(penalty: Penalty) -> dict[str, Any]:
    parameters = inspect.signature(penalty.given or PENALTIES[penalty.name].compute).parameters
    default = parameters["method"].default if "method" in parameters else None
    method = repr(default) if default is not None else "its own"
    return {
        "name": penalty.name,
        "weight": penalty.weight,
        "method": method if penalty.method is None else _named(penalty.method),
        "schedule": _named(penalty.schedule),
        "every": penalty.every,
        "probability": penalty.probability,
        "fraction": penalty.fraction,
        "statistics": penalty.statistics,
        **penalty.options,
    }


def _named(named: Named) -> str:
    options = ", ".join(f"{name}={value}" for name, value in named.options.items())
    return f"{named.name}({options})" if options else named.name


def _words(penalty: Mapping[str, Any]) -> str:
    text = f"{penalty['name']}, weight {penalty['weight']:g}, method {penalty['method']}"
    if penalty["schedule"] != "constant":
        text += f", schedule {penalty['schedule']}"
    if penalty["every"] != 1:
        text += f", every {penalty['every']} steps"
    if penalty["probability"] != 1:
        text += f", with probability {penalty['probability']:g}"
    if penalty["fraction"] != 1:
        text += f", on {100 * penalty['fraction']:g} % of the rows"
    return text if penalty["weight"] else f"{text}: left out"


def _flops(step: Mapping[str, Any]) -> str:
    if step["flops"] is None:
        return "not known on this platform"
    text, plain = f"{step['flops']:.3g}", step.get("flops_without_penalties")
    return f"{text}, {step['flops'] / plain:.2f} times those without penalties" if plain else text


def _memory(step: Mapping[str, Any]) -> str:
    parts = [step[f"{name}_bytes"] for name in ("argument", "output", "temp", "alias")]
    if any(part is None for part in parts):
        return "not known on this platform"
    arguments, output, temporary, shared = parts
    total = arguments + output + temporary - shared
    return f"{_size(total)}, of which {_size(arguments)} data and state, {_size(temporary)} within"


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} GiB"
