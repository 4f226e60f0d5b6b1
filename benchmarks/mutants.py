"""Plant one error at a time in the estimators and the colouring: do the tests see it?

`python -m benchmarks.mutants [--jobs 2] [--only TEXT]` copies the package and its tests to a
temporary folder for each mutant, changes one place, and runs the tests that answer for that file
until the first failure. It prints the share that was caught and every survivor, and exits 1 below
90 %. A mutant whose text is no longer in the source is reported as stale and counts as a survivor.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
# What a mutant of a file must be seen by: the tests of that file, quickest first.
ESTIMATORS = "tests/test_estimators.py tests/test_linearize.py"
INPUTS = "tests/test_linearize.py"
GRAM = "tests/test_gram.py"
VOLUME = "tests/test_estimators.py -k pseudo_determinant"
QUADRATURE = "tests/test_lanczos_quadrature.py"
SERIES = "tests/test_log_determinant.py"
LOW_RANK = "tests/test_low_rank_traces.py"
COLORING = "tests/test_coloring.py"
FORWARD = "tests/test_forward_laplacian.py"
TABLES = "tests/test_coloring_tables.py"
PRIMITIVES = "tests/test_dependence_primitives.py"
CHAINS = "tests/test_chain_padding.py tests/test_chain.py"
READING = "tests/test_dependence_rules.py tests/test_dependence.py tests/test_coloring.py"


class Mutant(NamedTuple):
    """One change: in `path`, the first `old` becomes `new`; `tests` must notice.

    `hint` selects the tests (`-k`) that should notice first; all of them run only if they do not.
    """

    path: str
    old: str
    new: str
    tests: str
    hint: str = ""


MUTANTS = [
    # Probes
    Mutant("_probes.py", "jnp.sqrt(size / jnp", "jnp.sqrt(1 / jnp", ESTIMATORS),
    Mutant("_probes.py", "leaf.size // max(leaf.shape[0], 1)", "leaf.size", ESTIMATORS),
    Mutant("_probes.py", "jax.random.normal(leaf_key", "jax.random.uniform(leaf_key", ESTIMATORS),
    Mutant("_probes.py", 'if distribution == "sphere":', "if False:", ESTIMATORS),
    Mutant("_probes.py", "return sample(key)", "return 2 * sample(key)", ESTIMATORS),
    Mutant("_probes.py", "list(jax.random.split(key, len(leaves)))", "[key] * len(leaves)",
           ESTIMATORS),
    # Forward Laplacian
    Mutant("_forward_laplacian/_elementwise.py", "self._known = jax.jvp(slope, (at,), (one,))",
           "self._known = slope(at), None", FORWARD, "dense"),
    Mutant("_forward_laplacian/_elementwise.py", "factor if i == j else 2 * factor", "factor",
           FORWARD, "quotients or product"),
    Mutant("_forward_laplacian/_bilinear.py", "_cross(equation, pair, seen, order), 2)",
           "_cross(equation, pair, seen, order), 1)", FORWARD, "attention"),
    Mutant("_forward_laplacian/_bilinear.py", "mask is None or mask.all()", "True", FORWARD,
           "attention"),
    Mutant("_forward_laplacian/_directions.py", "return first._replace(array=first.array * first.array)",
           "return first", FORWARD, "dense"),
    Mutant("_forward_laplacian/_colors.py", "bool((rows.astype(np.float32) @ onehot).max(initial=0) <= 1)",
           "True", FORWARD, "convolutions"),
    Mutant("_forward_laplacian/_push.py", "front = jnp.take(front, row, axis=axis)",
           "front = front", FORWARD, "moved or joined or random"),
    Mutant("_forward_laplacian/_small.py", "return total if count == 1 else total * count",
           "return total", FORWARD, "repeated"),
    Mutant("_forward_laplacian/_loop.py", "with_first(self.seen)", "self.seen", FORWARD, "scan"),
    Mutant("_forward_laplacian/_seen.py", "return tuple(each.any(axis=0) for each in seen)",
           "return tuple(each[0] for each in seen)", FORWARD, "scan"),
    Mutant("_forward_laplacian/_field.py", "(entries[:, None] == jnp.arange(size))",
           "(entries[:, None] >= jnp.arange(size))", "tests/test_laplacian.py", "memory"),
    Mutant("_forms/_windows.py", "stride + tap * dilation - padding[0]",
           "stride + tap - padding[0]", FORWARD, "strided"),
    Mutant("_forms/_axes.py", "np.flip(seen, tuple(equation.params[\"dimensions\"]))", "seen", FORWARD,
           "joined or quotients"),
    Mutant("_laplacian.py", "example_dot(weights, choice.run(key))",
           "example_dot(choice.run(key), choice.run(key))", "tests/test_laplacian.py", "weights"),
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
    Mutant("_basis.py", "return lin.outputs.size < lin.inputs.size", "return True", ESTIMATORS,
           "cheaper"),
    Mutant("_basis.py", "            return second()", "            return first()", ESTIMATORS),
    Mutant("_gram.py", "left.jvp(right.row(index))", "left.jvp(left.row(index))", GRAM),
    Mutant("_gram.py", "other is None or other is lin", "True", GRAM),
    Mutant("_gram.py", "left.row(i) * row", "left.row(i)", GRAM),
    Mutant("_gram.py", "(sum_ + part(i), None)", "(part(i), None)", GRAM),
    Mutant("_gram.py", "total if whole == count else", "total if True else", GRAM),
    Mutant("_gram.py", "first if right is left else", "first if True else", GRAM),
    Mutant("_gram.py", "jnp.swapaxes(_columns(right, left, chunk), 1, 2)",
           "_columns(right, left, chunk)", GRAM),
    Mutant("_pseudo_determinant.py", "jnp.log(jnp.abs(", "jnp.log1p(jnp.abs(", VOLUME),
    Mutant("_pseudo_determinant.py", "> threshold * singular", "> -1 * singular", VOLUME),
    Mutant("_pseudo_determinant.py", "finite, -jnp.inf, jnp.nan", "finite, jnp.nan, -jnp.inf", VOLUME),
    Mutant("_lanczos_quadrature.py", "0.5 * jnp.sum(ends", "jnp.sum(ends", QUADRATURE),
    Mutant("_lanczos_quadrature.py", "length**2 * value", "value", QUADRATURE),
    Mutant("_lanczos_quadrature.py", "~(coupling > tolerance * largest)", "(coupling < 0)", QUADRATURE),
    Mutant("_lanczos_quadrature.py", "weights / safe**2", "weights / safe", QUADRATURE),
    Mutant("_lanczos_quadrature.py", "* jnp.log(scale[:, 0])", "* 0", QUADRATURE),
    Mutant("_lanczos_quadrature.py", "where(used[:, None], basis, 0)", "where(True, basis, 0)", QUADRATURE,
           "exactly"),
    Mutant("_lanczos_quadrature.py", "singular = values[-1] <=", "singular = values[-1] <", QUADRATURE),
    Mutant("_hutch_plus_plus.py", "rest - basis @", "rest + basis @", LOW_RANK),
    Mutant("_hutch_plus_plus.py", "axis=(1, 2)) / left", "axis=(1, 2))", LOW_RANK),
    Mutant("_basis.py", "return second(vector)", "return first(vector)", LOW_RANK),
    Mutant("_log_determinant.py", "weight / max(continuation, 1e-30)", "weight", SERIES),
    Mutant("_log_determinant.py", "k >= num_terms", "k > num_terms", SERIES),
    Mutant("_log_determinant.py", "lambda q, p: -q", "lambda q, p: q", SERIES),
    Mutant("_log_determinant.py", "c + weight * p.astype", "c + p.astype", SERIES),
    Mutant("_standard_error.py", "ddof=1", "ddof=0", "tests/test_standard_error.py"),
    Mutant("_structure.py", "start += size", "start += 0", ESTIMATORS),
    Mutant("_linearize.py", "y.shape[0] != num_examples", "False", INPUTS),
    Mutant("_linearize.py", "raise TypeError(\"it has a custom VJP\")", "pass", INPUTS),
    # Colouring
    Mutant("_coloring/_plan.py", "boolean(f.matrix + f.matrix.T)", "boolean(f.matrix)", COLORING),
    Mutant("_coloring/_plan.py", "boolean(matrix.T @ matrix)", "boolean(matrix)", COLORING),
    Mutant("_coloring/_plan.py", "total * max(count, 1) + turned", "total + turned", COLORING),
    Mutant("_coloring/_plan.py", "boolean(matrix + matrix.T)", "boolean(matrix.T)", COLORING),
    Mutant("_coloring/_plan.py", "turned.num_colors < plan.num_colors", "False", COLORING),
    Mutant("_coloring/_greedy.py", "colors[node] = np.argmax(taken[:most] != step)",
           "colors[node] = np.argmax(taken[:most] != step) % 5", COLORING),
    Mutant("_coloring/_greedy.py", "for round_number in range(_ROUNDS)",
           "for round_number in range(0)", COLORING,
           "counts"),
    Mutant("_coloring/_apply.py", "== color).astype", "!= color).astype", COLORING,
           "diagonal_and and conv_net"),
    Mutant("_coloring/_apply.py", "return mask[None] * product", "return product", COLORING,
           "diagonal_and and conv_net"),
    Mutant("_coloring/_apply.py", "jnp.where(allowed, spread", "jnp.where(True, spread", COLORING,
           "norm_and_jacobian and depthwise"),
    Mutant("_coloring/_apply.py", "spread = jnp.swapaxes(spread, 1, 2)", "pass", COLORING,
           "norm_and_jacobian and depthwise or reverse_only"),
    Mutant("_coloring/_check.py", "    raise ColoringError(\n        f\"{quantity}: this colouring",
           "    str(\n        f\"{quantity}: this colouring", COLORING,
           "another_function"),
    Mutant("_coloring/_check.py", "        if fits(coloring, relation):", "        if True:", COLORING,
           "other_indices"),
    Mutant("_coloring/_check.py", "            return relation\n", "            return coloring.relation\n",
           TABLES, "closed_over"),
    Mutant("_coloring/_check.py", "key = (coloring.digest, structural_key(lin))",
           "key = (coloring.digest, lin.program)", TABLES),
    Mutant("_recent.py", "return hashlib.sha256(np.asarray(leaf).tobytes()).digest()", "return b\"\"",
           TABLES),
    Mutant("_signature.py", "tuple(self.value(each) for each in value.consts)", "()", TABLES,
           "inside"),
    Mutant("_coloring/_verify.py", "if outside[:count].any():", "if False:", COLORING,
           "planted"),
    Mutant("_coloring/_verify.py", "> tolerance).any()", "> 1e9).any()", COLORING,
           "planted"),
    Mutant("_coloring/_relation.py", "total = boolean(total + block)", "total = block", READING,
           "every_example"),
    # Dependence
    Mutant("_dependence/_windows.py", "tap * tap_dilation - low", "tap * tap_dilation", READING,
           "no_edge and conv"),
    Mutant("_dependence/_windows.py", "tap * tap_dilation", "tap", READING,
           "no_edge and dilated"),
    Mutant("_dependence/_windows.py", "out * stride", "out", READING,
           "no_edge and strided"),
    Mutant("_dependence/_windows.py", "np.divmod(position, input_dilation)",
           "np.divmod(position, 1)", READING,
           "no_edge and strided"),
    Mutant("_dependence/_windows.py", "sp.eye_array(groups, dtype=bool)", "sp.eye_array(groups, k=1, dtype=bool)",
           READING,
           "no_edge and (grouped or depthwise)"),
    Mutant("_dependence/_pattern.py", "boolean(collect @ g.matrix)",
           "boolean(g.matrix[: rest])", READING,
           "no_edge and norm"),
    Mutant("_dependence/_pattern.py", "boolean(a.matrix + b.matrix)", "a.matrix", READING,
           "no_edge and residual"),
    Mutant("_dependence/_pattern.py", "boolean(joined[0].matrix + joined[1].matrix)",
           "joined[0].matrix", READING,
           "no_edge and (coupling or unet)"),
    Mutant("_dependence/_rules_linear.py", "for axis in reversed(range(len(batch) + len(free)",
           "for axis in reversed(range(len(batch) + len(free) + 1", READING,
           "no_edge and (attention or einsum or merged)"),
    Mutant("_dependence/_rules_linear.py", "apply_axis(pattern, axis, forward.T)",
           "apply_axis(pattern, axis, forward.T * 0)", READING,
           "no_edge and (cumulative or gradient or fourier)"),
    Mutant("_dependence/_rules_elementwise.py", "which.value.astype(int) == number",
           "which.value.astype(int) != number", READING,
           "no_edge and (masked or branch)"),
    Mutant("_dependence/_rules_index.py", "if (read < 0).any():", "if False:", READING,
           "no_edge and (fill or fancy or permuted)"),
    Mutant("_dependence/_rules_index.py", "pattern = reduce_axis(pattern, axis)\n    places",
           "pattern = pattern\n    places", READING,
           "no_edge and (sorted or top_k or gather)"),
    Mutant("_dependence/_rules_control.py", "for position in order:",
           "for position in list(order)[:1]:", READING,
           "no_edge and scan"),
    Mutant("_dependence/_rules_control.py", "for branch in branches]", "for branch in branches[:1]]",
           READING,
           "no_edge and branch"),
    Mutant("_dependence/_reshape.py", "!= factor.matrix.nnz:", "< 0:", READING,
           "no_edge and (merged or pool_by)"),
    Mutant("_dependence/_program.py", 'in "iub"', 'in "iubf"', READING,
           "parameters or masked"),
    Mutant("_dependence/_rules_axes.py", "place = placement(np.array([number]), count)",
           "place = placement(np.array([0]), count)", PRIMITIVES),
    Mutant("_dependence/_rules_axes.py", "np.arange(size * count) % max(size, 1)",
           "np.arange(size * count) // count", PRIMITIVES),
    Mutant("_dependence/_rules_linear.py", '-2 if equation.params["left_side"] else -1', "-1",
           PRIMITIVES),
    Mutant("_dependence/_rules_control.py", "return [solution.dependence for solution in settled]",
           "return [solution.dependence for solution in right]", PRIMITIVES),
    Mutant("_dependence/_on_numpy.py", "line = np.arange(shape[axis])", "line = np.arange(shape[-1])",
           READING, "program_alone"),
    # Chains
    Mutant("_chain/_twins.py", "in_order and set(params)", "set(params)", CHAINS, "left_out"),
    Mutant("_chain/_mapped.py", "places == np.arange(sizes[1])[:, None, None]", "places >= 0", CHAINS,
           "layers"),
    Mutant("_chain/_mapped.py", "np.maximum(places, 0)", "np.maximum(places - 1, 0)", CHAINS,
           "layers"),
    Mutant("_chain/_chain.py", "return low if np.array_equal(padded, inside) else None", "return low",
           CHAINS, "zeros_around or layers"),
]  # fmt: skip


def run_tests(tests: str, mutant: Mutant | None, cache: str) -> bool:
    """Whether the tests pass on a copy of the package with the mutant in it, or with none."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("jacreg", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        if mutant is not None:
            target = copy / "jacreg" / mutant.path
            target.write_text(target.read_text().replace(mutant.old, mutant.new, 1))
        environment = {
            **os.environ,
            "PYTHONPATH": str(copy),
            "PYTHONDONTWRITEBYTECODE": "1",
            # Most of a test's time is compilation, of programs that run once, and most of them
            # are the same for every mutant.
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not slow",
                   "-p", "no:cacheprovider", *shlex.split(tests)]  # fmt: skip
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, check=False)
    # 1: a test failed; 2: the mutant broke an import; 5: no test selected.
    if done.returncode not in (0, 1, 2, 5):
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout.decode()}")
    return done.returncode in (0, 5)


def run(mutant: Mutant, cache: str) -> str:
    """Return "caught", "survived" or "stale" for one mutant."""
    if mutant.old not in (ROOT / "jacreg" / mutant.path).read_text():
        return "stale"
    stages = [f"{mutant.tests} -k '{mutant.hint}'"] if mutant.hint else []
    passed = all(run_tests(tests, mutant, cache) for tests in [*stages, mutant.tests])
    return "survived" if passed else "caught"


def main() -> int:
    """Run the mutants and print what happened to each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="run the mutants whose file holds this text")
    parser.add_argument("--first", type=int, default=0, help="number of the first one to run")
    parser.add_argument("--last", type=int, default=len(MUTANTS), help="number after the last one")
    parser.add_argument("--no-baseline", action="store_true", help="do not run the tests unchanged")
    chosen = parser.parse_args()
    mutants = [m for m in MUTANTS[chosen.first : chosen.last] if chosen.only in m.path]
    results = []
    with ThreadPoolExecutor(chosen.jobs) as pool, tempfile.TemporaryDirectory() as cache:
        if not chosen.no_baseline:
            groups = sorted({m.tests for m in mutants})
            for tests, passed in zip(
                groups, pool.map(lambda t: run_tests(t, None, cache), groups), strict=True
            ):
                print(f"{'passes' if passed else 'FAILS':9} without a mutant: {tests}", flush=True)
                if not passed:
                    return 2
        for mutant, result in zip(mutants, pool.map(lambda m: run(m, cache), mutants), strict=True):
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
