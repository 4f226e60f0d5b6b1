"""Steps where the penalty sees some steps or some rows alone, beside those without it.

The step is that of `python -m train configs/quickstart.toml` (LeNet', SGD with momentum), compiled
as the loop compiles it, data on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks._clock import in_turns
from benchmarks._comparison import Comparison, timed
from benchmarks.works._lenet_step import BATCH, PLAIN, Step
from train.allocator import settle_allocator
from train.run import use_compilation_cache

_STEPS = 8  # of a call where a step in eight has the penalty


def compare() -> list[Comparison]:
    """Return the rows."""
    use_compilation_cache()
    settle_allocator()  # as the command does
    plain = Step(PLAIN)
    calls: dict[str, Any] = {
        "plain": plain,
        "plain, several": plain.several(_STEPS),
        "every": Step(f"penalty.0.every={_STEPS}").several(_STEPS),
        "subsampled": Step(fraction=1 / 8),
        "fraction": Step("penalty.0.fraction=0.125"),
    }
    times = in_turns(calls, rounds=11)
    same: dict[str, Any] = {"setting": f"LeNet', batch {BATCH}", "most": 1.2}
    return [
        timed(times, "every", "plain, several",
              work=f"{_STEPS} steps, one of them with the projection, every({_STEPS})",
              peer="our steps without penalty", floor="1.14 by FLOPs", **same),
        timed(times, "subsampled", "plain",
              work="training step with one projection of subsample(1/8)",
              peer="our step without penalty", floor="1.20 by FLOPs", **same),
        timed(times, "fraction", "plain",
              work="the same by penalty.fraction = 1/8, which shares the forward pass",
              peer="our step without penalty", floor="1.14 by FLOPs", **same),
    ]  # fmt: skip


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
