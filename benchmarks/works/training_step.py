"""A training step of LeNet', plain and with one projection.

Ours is the compiled step of `python -m train configs/quickstart.toml`, data on the device; the
peer is PyTorch with equal weights, the same batch and the same optimiser. Loss and gradient are
compared first, with the same probes. Both use the threads that they take by default.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks._clock import in_turns
from benchmarks._comparison import Comparison, assert_equal, counted, peer, timed
from benchmarks.works._lenet_step import BATCH, PLAIN, Step, named
from train.allocator import settle_allocator
from train.run import use_compilation_cache

_TOLERANCE = 1e-3  # float32, two derivatives
_STEPS = 8  # of a call where a step in eight has the penalty


def compare() -> list[Comparison]:
    """Return the rows."""
    torch, version = peer("torch")
    from benchmarks.works import _torch_lenet

    use_compilation_cache()
    settle_allocator()  # for all, as the command does
    plain, penalised = Step(PLAIN), Step()
    sparse, subsampled = Step(f"penalty.0.every={_STEPS}"), Step(fraction=1 / 8)
    some_rows = Step("penalty.0.fraction=0.125")
    weights = named(penalised.problem.params)
    batch = np.asarray(penalised.xs), np.asarray(penalised.labels)
    their_plain = _torch_lenet.Step(weights, *batch, 0.0)
    theirs = _torch_lenet.Step(weights, *batch, penalised.weight)
    agreed = _agreement(plain, their_plain), _agreement(penalised, theirs)
    calls: dict[str, Any] = {
        "plain": plain,
        "penalised": penalised,
        "their plain": their_plain,
        "theirs": theirs,
        "plain, several": plain.several(_STEPS),
        "every": sparse.several(_STEPS),
        "subsampled": subsampled,
        "fraction": some_rows,
    }
    compiled = _compiled(torch, _torch_lenet.Step(weights, *batch, 0.0, compiled=True))
    if compiled is not None:
        calls["their compiled"] = compiled
    times = in_turns(calls, rounds=11, rest=0.3)
    setting = f"LeNet', batch {BATCH}"
    one = "training step with one projection"
    plain_work = "training step without penalty"
    rows = [
        timed(times, "penalised", "theirs", work=one, setting=setting, most=0.6,
              peer=f"{version}, {theirs.name}", agreement=agreed[1]),
        timed(times, "penalised", "plain", work=one, setting=setting, most=2.1,
              peer="our step without penalty", floor="2.11 by FLOPs"),
        timed(times, "plain", "their plain", work=plain_work, setting=setting, most=1.0,
              peer=version, agreement=agreed[0]),
    ]  # fmt: skip
    if compiled is not None:
        rows.append(
            timed(times, "plain", "their compiled", work=plain_work, setting=setting,
                  peer=f"{version}, torch.compile", agreement=agreed[0])
        )  # fmt: skip
    rows += [
        timed(times, "every", "plain, several", setting=setting, most=1.2,
              work=f"{_STEPS} steps, one of them with the projection, every({_STEPS})",
              peer="our steps without penalty", floor="1.14 by FLOPs"),
        timed(times, "subsampled", "plain", setting=setting, most=1.2,
              work="training step with one projection of subsample(1/8)",
              peer="our step without penalty", floor="1.20 by FLOPs"),
        timed(times, "fraction", "plain", setting=setting, most=1.2,
              work="the same by penalty.fraction = 1/8, which shares the forward pass",
              peer="our step without penalty", floor="1.14 by FLOPs"),
        _flops(setting),
    ]  # fmt: skip
    return rows


def _agreement(ours: Step, theirs: Any) -> float:
    """Return the largest relative difference of the losses and gradients."""
    from benchmarks.works._torch_lenet import as_torch

    loss, grads = ours.gradient()
    their_loss, their_grads = theirs.gradient(ours.probe())
    converted = as_torch(named(grads))
    differences = [assert_equal(loss, their_loss, _TOLERANCE)]
    for name, grad in their_grads.items():
        differences.append(assert_equal(converted[name], grad, _TOLERANCE))
    return max(differences)


def _compiled(torch: Any, step: Any) -> Any:
    """Return the step where `torch.compile` works on this machine, else None.

    It cannot be differentiated twice, so there is none with the penalty.
    """
    try:
        step()
    except (RuntimeError, OSError, torch._dynamo.exc.TorchDynamoException) as error:
        print(f"        torch.compile: {type(error).__name__}, left out")
        return None
    return step


def _flops(setting: str) -> Comparison:
    """Return XLA's count of both steps by the definition of the convolutions, as a ratio."""
    definition = 'model.lowering="definition"'
    plain, penalised = Step(PLAIN, definition), Step(definition)
    return counted(
        penalised.flops / plain.flops, 2.0, "x",
        work="FLOPs of a step with one projection over those without", setting=setting,
        peer="what two products with the Jacobian need",
        note="XLA's count, convolutions as defined",
    )  # fmt: skip


def growth() -> list[dict[str, Any]]:
    """Return the time of a step against batch, projections, width and depth."""
    mlp = 'model.name="mlp"'
    settle_allocator()
    return [
        _series("A training step of LeNet'", "batch", (25, 100, 400), lambda n: ((), {"batch": n})),
        _series(
            "LeNet', batch 100",
            "projections",
            (1, 2, 4, 8),
            lambda n: ((f"penalty.0.method={{name='projection',num_probes={n}}}",), {}),
            plain=False,
        ),
        _series(
            "MLP 784-n-n-10, batch 100",
            "width",
            (64, 128, 256, 512),
            lambda n: ((mlp, f"model.hidden=[{n},{n}]"), {}),
        ),
        _series(
            "MLP of width 128, batch 100",
            "depth",
            (1, 2, 4, 8),
            lambda n: ((mlp, f"model.hidden=[{','.join(['128'] * n)}]"), {}),
        ),
    ]


def _series(
    title: str,
    label: str,
    points: tuple[int, ...],
    step: Callable[[int], tuple[tuple[str, ...], dict[str, Any]]],
    plain: bool = True,
) -> dict[str, Any]:
    lines: dict[str, list[list[float]]] = {}
    for point in points:
        overrides, others = step(point)
        steps = {"penalised": Step(*overrides, **others)}
        if plain:
            steps["plain"] = Step(PLAIN, *overrides, **others)
        times = in_turns(steps, rounds=5)
        for name in steps:
            lines.setdefault(name, []).append([point, 1000 * times.median(name)])
    return {"title": title, "x": label, "y": "ms", "lines": lines}
