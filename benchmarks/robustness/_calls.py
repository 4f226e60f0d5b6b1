"""Call every public function with wrong arguments: a ValueError or a TypeError, or a result."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from benchmarks.robustness._arguments import KEY, Call
from benchmarks.robustness._loss_calls import LOSSES
from benchmarks.robustness._model_calls import MODELS
from benchmarks.robustness._quantity_calls import QUANTITIES
from benchmarks.robustness._wrong import FUNCTIONS, wrong

CALLS: Mapping[str, Call] = {**QUANTITIES, **LOSSES, **MODELS}


def _keyed(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with a typed key in place of the stand-in."""
    return {name: jax.random.key(7) if value is KEY else value for name, value in arguments.items()}


def fuzz_calls(count: int, seed: int = 0, traced: float = 0.7) -> dict[str, Any]:
    """Make `count` calls with one or two wrong arguments each; return the record.

    Args:
        count: of calls.
        seed: of the choices.
        traced: share that is only traced, as under jit, with the arrays abstract.
    """
    rng = random.Random(seed)
    outcomes: Counter[str] = Counter()
    problems: list[dict[str, str]] = []
    names = sorted(CALLS)
    for number in range(count):
        name = names[number % len(names)]
        call = CALLS[name]
        arguments = dict(call.arguments)
        chosen = rng.sample(sorted(arguments), min(len(arguments), rng.choice((1, 1, 1, 2))))
        for argument in chosen:
            arguments[argument] = wrong(argument, arguments[argument], rng)
        told = ", ".join(f"{argument}={_shown(arguments[argument])}" for argument in chosen)
        abstract = rng.random() < traced
        try:
            _make(call.function, _keyed(arguments), abstract)
            outcome = "a result"
        except (ValueError, TypeError) as error:
            outcome = "ValueError" if isinstance(error, ValueError) else "TypeError"
            if not str(error).strip():
                problems.append({"call": f"{name}({told})", "error": "no message"})
        except Exception as error:
            outcome = "another exception"
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
            problems.append({"call": f"{name}({told})", "traced": str(abstract), "error": said})
        outcomes[outcome] += 1
    return {
        "seed": seed,
        "calls": count,
        "functions": len(names),
        "outcomes": dict(sorted(outcomes.items())),
        "problems": problems,
    }


def _make(function: Callable[..., Any], arguments: dict[str, Any], abstract: bool) -> Any:
    if not abstract:
        return jax.block_until_ready(function(**arguments))
    arrays = {
        name: value
        for name, value in arguments.items()
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiubc" and value.size
    }
    rest = {name: value for name, value in arguments.items() if name not in arrays}
    made = []

    def traced(arrays: dict[str, Any]) -> int:
        made.append(function(**arrays, **rest))
        return 0

    return jax.eval_shape(traced, arrays)


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    if callable(value):
        name = getattr(value, "__name__", type(value).__name__)
        return (
            name
            if name != "<lambda>"
            else f"function {FUNCTIONS.index(value)}"
            if any(value is each for each in FUNCTIONS)
            else "a function"
        )
    return " ".join(repr(value).split())[:60]
