"""Plant one error at a time in the estimators and the colouring: do the tests see it?

`python -m benchmarks.mutants [--jobs 2] [--only TEXT]` copies the package and its tests to a
temporary folder for each mutant, changes one place, and runs the tests that answer for that file
until the first failure. It prints the share that was caught and every survivor, and exits 1 below
90 %. A mutant whose text is no longer in the source is reported as stale and counts as a survivor.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
ESTIMATORS = "tests/test_estimators.py tests/test_linearize.py"
COLORING = "tests/test_dependence.py tests/test_coloring.py"


class Mutant(NamedTuple):
    """One change: in `path`, the first `old` becomes `new`; `tests` must notice."""

    path: str
    old: str
    new: str
    tests: str


MUTANTS = [
    # Probes
    Mutant("_probes.py", "jnp.sqrt(size / jnp", "jnp.sqrt(1 / jnp", ESTIMATORS),
    Mutant("_probes.py", "leaf.size // max(leaf.shape[0], 1)", "leaf.size", ESTIMATORS),
    Mutant("_probes.py", "jax.random.normal(leaf_key", "jax.random.uniform(leaf_key", ESTIMATORS),
    Mutant("_probes.py", 'if distribution == "sphere":', "if False:", ESTIMATORS),
    Mutant("_probes.py", "return sample(key)", "return 2 * sample(key)", ESTIMATORS),
    Mutant("_probes.py", "list(jax.random.split(key, len(leaves)))", "[key] * len(leaves)",
           ESTIMATORS),
    # Frobenius norm
    Mutant("_frobenius.py", 'method.mode == "reverse"', 'method.mode != "reverse"', ESTIMATORS),
    Mutant("_frobenius.py", "x + jnp.asarray(scale, x.dtype) * v", "x + v", ESTIMATORS),
    Mutant("_frobenius.py", "(after - before) / jnp", "(after + before) / jnp", ESTIMATORS),
    Mutant("_frobenius.py", "example_dot(first, second)", "example_dot(first, first)", ESTIMATORS),
    Mutant("_frobenius.py", "return jax.tree.map(flip, product)", "return product", ESTIMATORS),
    Mutant("_frobenius.py", "(lin.vjp if reverse else lin.jvp)(jax.tree.map(flip, probe))",
           "(lin.vjp if reverse else lin.jvp)(probe)", ESTIMATORS),
    Mutant("losses/_jacobian.py", "return 0.5 * frob", "return frob", "tests/test_losses_jacobian.py"),
    # Trace, dense paths, basis
    Mutant("_trace.py", "            p * q\n", "            q\n", ESTIMATORS),
    Mutant("_trace.py", "example_dot(probe, either_product(lin, probe))",
           "example_dot(probe, probe)", ESTIMATORS),
    Mutant("_trace.py", "inputs.shapes == outputs.shapes", "True", ESTIMATORS),
    Mutant("_exact.py", "(1, 2, 0)", "(1, 0, 2)", ESTIMATORS),
    Mutant("_exact.py", "jnp.take(product(i), i, axis=1)", "jnp.take(product(i), 0, axis=1)",
           ESTIMATORS),
    Mutant("_exact.py", "example_squared_norm(flat.column(i))",
           "jnp.sqrt(example_squared_norm(flat.column(i)))", ESTIMATORS),
    Mutant("_basis.py", "(jnp.arange(side.size) == index)", "(jnp.arange(side.size) >= index)",
           ESTIMATORS),
    Mutant("_basis.py", "return lin.outputs.size < lin.inputs.size", "return True", ESTIMATORS),
    Mutant("_basis.py", "            return second()", "            return first()", ESTIMATORS),
    Mutant("_gram.py", "left.jvp(right.row(index))", "left.jvp(left.row(index))", ESTIMATORS),
    Mutant("_gram.py", "other = lin if other is None else other", "other = lin", ESTIMATORS),
    Mutant("_gram.py", "left.row(i) * cotangent_row", "left.row(i)", ESTIMATORS),
    Mutant("_pseudo_determinant.py", "jnp.log(jnp.abs(", "jnp.log1p(jnp.abs(", ESTIMATORS),
    Mutant("_pseudo_determinant.py", "> threshold * singular", "> -1 * singular", ESTIMATORS),
    Mutant("_structure.py", "start += size", "start += 0", ESTIMATORS),
    Mutant("_linearize.py", "y.shape[0] != num_examples", "False", ESTIMATORS),
    Mutant("_linearize.py", "raise TypeError(\"it has a custom VJP\")", "pass", ESTIMATORS),
    # Colouring
    Mutant("_coloring/_plan.py", "boolean(f.matrix + f.matrix.T)", "boolean(f.matrix)", COLORING),
    Mutant("_coloring/_plan.py", "boolean(matrix.T @ matrix)", "boolean(matrix)", COLORING),
    Mutant("_coloring/_plan.py", "total * max(count, 1) + local", "total + local", COLORING),
    Mutant("_coloring/_plan.py", "boolean(matrix + matrix.T)", "boolean(matrix.T)", COLORING),
    Mutant("_coloring/_plan.py", "key=lambda plan: plan.num_colors", "key=lambda plan: 0", COLORING),
    Mutant("_coloring/_greedy.py", "colors[node] = np.argmax(taken[:most] != step)",
           "colors[node] = np.argmax(taken[:most] != step) % 5", COLORING),
    Mutant("_coloring/_greedy.py", "for round_number in range(_ROUNDS)",
           "for round_number in range(0)", COLORING),
    Mutant("_coloring/_apply.py", "== color).astype", "!= color).astype", COLORING),
    Mutant("_coloring/_apply.py", "        return mask * product", "        return product", COLORING),
    Mutant("_coloring/_apply.py", "jnp.where(allowed, spread", "jnp.where(True, spread", COLORING),
    Mutant("_coloring/_apply.py", "spread = jnp.swapaxes(spread, 1, 2)", "pass", COLORING),
    Mutant("_coloring/_check.py", "    raise ColoringError(\n        f\"{quantity}: this colouring",
           "    str(\n        f\"{quantity}: this colouring", COLORING),
    Mutant("_coloring/_check.py", "        if fits(coloring, lin):", "        if True:", COLORING),
    Mutant("_coloring/_verify.py", "if outside.any():", "if False:", COLORING),
    Mutant("_coloring/_verify.py", "> tolerance:", "> 1e9:", COLORING),
    Mutant("_coloring/_relation.py", "total = boolean(total + block)", "total = block", COLORING),
    # Dependence
    Mutant("_dependence/_windows.py", "tap * tap_dilation - low", "tap * tap_dilation", COLORING),
    Mutant("_dependence/_windows.py", "tap * tap_dilation", "tap", COLORING),
    Mutant("_dependence/_windows.py", "out * stride", "out", COLORING),
    Mutant("_dependence/_windows.py", "np.divmod(position, input_dilation)",
           "np.divmod(position, 1)", COLORING),
    Mutant("_dependence/_windows.py", "[one] * groups", "[one.any(keepdims=True)] * groups",
           COLORING),
    Mutant("_dependence/_pattern.py", "boolean(collect @ g.matrix)",
           "boolean(g.matrix[: rest])", COLORING),
    Mutant("_dependence/_pattern.py", "boolean(a.matrix + b.matrix)", "a.matrix", COLORING),
    Mutant("_dependence/_pattern.py", "boolean(joined[0].matrix + joined[1].matrix)",
           "joined[0].matrix", COLORING),
    Mutant("_dependence/_rules_linear.py", "for axis in reversed(range(len(batch) + len(free)",
           "for axis in reversed(range(len(batch) + len(free) + 1", COLORING),
    Mutant("_dependence/_rules_linear.py", "apply_axis(pattern, axis, forward.T)",
           "apply_axis(pattern, axis, forward.T * 0)", COLORING),
    Mutant("_dependence/_rules_elementwise.py", "which.value.astype(int) == number",
           "which.value.astype(int) != number", COLORING),
    Mutant("_dependence/_rules_index.py", "if (read < 0).any():", "if False:", COLORING),
    Mutant("_dependence/_rules_index.py", "pattern = reduce_axis(pattern, axis)\n    places",
           "pattern = pattern\n    places", COLORING),
    Mutant("_dependence/_rules_control.py", "for position in order:",
           "for position in list(order)[:1]:", COLORING),
    Mutant("_dependence/_rules_control.py", "for branch in branches]", "for branch in branches[:1]]",
           COLORING),
    Mutant("_dependence/_reshape.py", "!= factor.matrix.nnz:", "< 0:", COLORING),
    Mutant("_dependence/_read.py", 'not in "iub"', 'not in "iubf"', COLORING),
]  # fmt: skip


def run(mutant: Mutant) -> str:
    """Return "caught", "survived" or "stale" for one mutant."""
    source = (ROOT / "jacreg" / mutant.path).read_text()
    if mutant.old not in source:
        return "stale"
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("jacreg", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        changed = source.replace(mutant.old, mutant.new, 1)
        (copy / "jacreg" / mutant.path).write_text(changed)
        environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider",
                   *mutant.tests.split()]  # fmt: skip
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, check=False)
    return "survived" if done.returncode == 0 else "caught"


def main() -> int:
    """Run the mutants and print what happened to each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="run the mutants whose file holds this text")
    chosen = parser.parse_args()
    mutants = [m for m in MUTANTS if chosen.only in m.path]
    results = []
    with ThreadPoolExecutor(chosen.jobs) as pool:
        for mutant, result in zip(mutants, pool.map(run, mutants), strict=True):
            results.append(result)
            change = f"{mutant.old!r} -> {mutant.new!r}"
            print(f"{result:9} {mutant.path}: {change}", flush=True)
    caught = results.count("caught")
    print(f"\n{caught} of {len(results)} mutants caught ({caught / len(results):.0%}); survivors:")
    for mutant, result in zip(mutants, results, strict=True):
        if result != "caught":
            print(f"  {result}: {mutant.path}: {mutant.old!r}")
    return 0 if caught >= 0.9 * len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
