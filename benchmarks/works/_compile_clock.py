"""`python -m benchmarks.works._compile_clock REPORT ARGUMENT...`: the quickstart, with its times.

Runs `train.quickstart` with the arguments and writes `{"seconds", "compile", ...}` to REPORT:
its wall time, that in JAX's compiler (loading from the persistent cache included), and how many
programs came from the cache. Starting the interpreter and importing JAX are not in it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

# Lowering to StableHLO, and XLA; tracing is Python's own time.
_COMPILE = {
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
}
_BACKEND = "/jax/core/compile/backend_compile_duration"
_HIT = "/jax/compilation_cache/cache_hits"


def main(report: Path, arguments: list[str]) -> int:
    """Run the quickstart; return its exit code."""
    from jax import monitoring

    from train import quickstart

    spent, programs, hits = [], [], []

    def on_duration(event: str, seconds: float, **_: object) -> None:
        if event in _COMPILE:
            spent.append(seconds)
        if event == _BACKEND:
            programs.append(event)

    def on_event(event: str, **_: object) -> None:
        if event == _HIT:
            hits.append(event)

    monitoring.register_event_duration_secs_listener(on_duration)
    monitoring.register_event_listener(on_event)
    started = time.perf_counter()
    code = quickstart.main(arguments)
    seconds = time.perf_counter() - started
    report.write_text(
        json.dumps(
            {
                "seconds": seconds,
                "compile": sum(spent),
                "programs": len(programs),
                "stored": len(hits),
            }
        )
    )
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
