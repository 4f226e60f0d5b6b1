"""Random programs as text: functions of a batch, of weights and of tables."""

from __future__ import annotations

import random
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from . import _operations

NUM_EXAMPLES = 2
_INPUTS = ((5,), (6,), (8,), (4, 3), (6, 2), (3, 4, 2), (4, 4, 1), (2, 3, 2))
_MOST_ENTRIES = 40
_NAMESPACE = {"jax": jax, "jnp": jnp, "lax": lax, **_operations.HELPERS}


@dataclass
class Program:
    """A function `fn(xs, w, t)` and how to draw its weights and tables.

    Attributes:
        seed: draws it again.
        in_shape: of one example.
        lines: of the function's body; the last one's value has the input's shape.
        weights: shapes.
        tables: `(shape, low, high)` of integers in `[low, high)`, `(shape, None, None)` of truth
            values.
    """

    seed: int
    in_shape: tuple[int, ...]
    lines: list[str] = field(default_factory=list)
    weights: list[tuple[int, ...]] = field(default_factory=list)
    tables: list[tuple[tuple[int, ...], int | None, int | None]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The function in Python."""
        return "def fn(xs, w, t):\n" + textwrap.indent("\n".join(self.lines), "    ")

    def function(self) -> Callable[..., Any]:
        """The function itself."""
        scope: dict[str, Any] = dict(_NAMESPACE)
        exec(self.text, scope)
        return scope["fn"]

    def draw_inputs(self, seed: int) -> np.ndarray:
        """Inputs `[N, *in]`, some of them equal and some zero."""
        generator = np.random.default_rng([self.seed, seed])
        xs = np.round(generator.normal(size=(NUM_EXAMPLES, *self.in_shape)), 1)
        if seed % 3 == 0:
            return xs + generator.normal(size=xs.shape) / 100
        return xs * (generator.random(xs.shape) > 0.15)

    def draw_weights(self) -> list[np.ndarray]:
        """Weights, some of which are zero."""
        generator = np.random.default_rng([self.seed, 101])
        return [
            generator.normal(size=s) * (generator.random(s) > 0.1) / max(s[-1], 1) ** 0.5
            for s in self.weights
        ]

    def draw_tables(self, seed: int) -> list[np.ndarray]:
        """Tables of integers and truth values."""
        generator = np.random.default_rng([self.seed, 202, seed])
        return [
            generator.random(shape) < 0.6 if low is None
            else generator.integers(low, high, shape).astype(np.int32)
            for shape, low, high in self.tables
        ]  # fmt: skip


class Writer:
    """Adds lines to a program, each of which is known to run."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.program = Program(seed, self.rng.choice(_INPUTS))
        self.shapes = {"xs": (NUM_EXAMPLES, *self.program.in_shape)}

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one example of a value."""
        return self.shapes[name][1:]

    def weight(self, *shape: int) -> str:
        """A new weight, or one that is there already."""
        same = [i for i, other in enumerate(self.program.weights) if other == shape]
        if same and self.rng.random() < 0.5:
            return f"w[{self.rng.choice(same)}]"
        self.program.weights.append(shape)
        return f"w[{len(self.program.weights) - 1}]"

    def table(self, shape: tuple[int, ...], low: int | None = None, high: int | None = None) -> str:
        """A new table."""
        self.program.tables.append((shape, low, high))
        return f"t[{len(self.program.tables) - 1}]"

    def write(self, expression: str) -> str | None:
        """Add a line; the name of its value, or None where it does not run or is too large."""
        shape = self._shape_of(expression)
        entries = int(np.prod(shape[1:])) if shape else 0
        if not shape or shape[0] != NUM_EXAMPLES or not 0 < entries <= _MOST_ENTRIES:
            return None
        if len(shape) > 5:
            return None
        name = f"a{len(self.program.lines)}"
        self.program.lines.append(f"{name} = {expression}")
        self.shapes[name] = shape
        return name

    def _shape_of(self, expression: str) -> tuple[int, ...] | None:
        def run(values: Any, w: Any, t: Any) -> Any:
            return eval(expression, {**_NAMESPACE, **values, "w": w, "t": t})

        values = {n: jax.ShapeDtypeStruct(s, jnp.float64) for n, s in self.shapes.items()}
        weights = [jax.ShapeDtypeStruct(s, jnp.float64) for s in self.program.weights]
        tables = self.program.draw_tables(0)
        try:
            out = jax.eval_shape(lambda v, w: run(v, w, tables), values, weights)
        except (TypeError, ValueError, IndexError, ZeroDivisionError, NotImplementedError):
            return None
        return tuple(out.shape) if getattr(out, "dtype", None) == jnp.float64 else None


def write_program(seed: int, length: int = 4) -> Program:
    """Return the program of a seed."""
    writer = Writer(seed)
    rng, names = writer.rng, ["xs"]
    attempts = 0
    while len(names) <= length and attempts < 12 * length:
        attempts += 1
        recent = names[-1] if rng.random() < 0.7 else rng.choice(names)
        before = len(writer.program.weights), len(writer.program.tables)
        make = rng.choice(_operations.OPERATIONS)
        expression = make(writer, recent, rng.choice(names))
        name = None if expression is None else writer.write(expression)
        if name is None:
            del writer.program.weights[before[0] :], writer.program.tables[before[1] :]
        else:
            names.append(name)
    last = f"fit({names[-1]}, xs.shape)"
    closing = rng.choice((last, last, f"{last} + xs * fit({names[-2:][0]}, xs.shape)"))
    writer.program.lines.append(f"return {closing}")
    return writer.program
