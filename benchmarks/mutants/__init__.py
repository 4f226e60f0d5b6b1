"""Errors that `python -m benchmarks.mutants` plants in the library, one at a time."""

from __future__ import annotations

from typing import NamedTuple

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
PLANS = "tests/test_plan.py"
FORMS = "tests/test_forms.py"
PROBING = "tests/test_probing.py"
BOUNDS = "tests/test_operator_norm_bound.py"
SPECTRAL = "tests/test_spectral_norm.py tests/test_operator_norm.py"
LIPSCHITZ = "tests/test_layers_lipschitz.py"
FLOWS = "tests/test_flow.py"
EQUILIBRIA = "tests/test_equilibrium.py"
EXPORT = "tests/test_export_networks.py"
MASKS = "tests/test_dependence_masks.py"
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
    Mutant("_forward_laplacian/_seen.py", "matrix = Boolean.of_array(seen.reshape(-1, entries))",
           "matrix = Boolean.of_array(seen.reshape(-1, entries)[::-1])", FORWARD, "strided or moved"),
    Mutant("_forward_laplacian/_seen.py", "axes = tuple(sorted(factor.axes))", "axes = factor.axes",
           FORMS),
    Mutant("_forward_laplacian/_loop.py", "seen = restricted(directions, self.seen)",
           "seen = None", FORWARD, "scan or loop"),
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
    Mutant("_trace.py", "lambda v, product: v * product, probe", "lambda v, product: product, probe",
           ESTIMATORS),
    Mutant("_trace.py", "example_dot(probe, either_product(lin, probe))",
           "example_dot(probe, probe)", ESTIMATORS),
    Mutant("_trace.py", "inputs.shapes == outputs.shapes", "True", ESTIMATORS),
    Mutant("_exact.py", "dense = jnp.swapaxes(products(flat.jvp, flat.column, flat.inputs), 1, 2)",
           "dense = products(flat.jvp, flat.column, flat.inputs)", ESTIMATORS),
    Mutant("_exact.py", "flat.column)(i), i, axis=1)", "flat.column)(i), 0, axis=1)",
           "tests/test_checks_in_derivatives.py"),
    Mutant("_exact.py", "return example_squared_norm(products)[:, None]",
           "return jnp.sqrt(example_squared_norm(products))[:, None]", ESTIMATORS),
    Mutant("_basis.py", "(jnp.arange(side.size) == index)", "(jnp.arange(side.size) >= index)",
           ESTIMATORS),
    Mutant("_basis.py", "return lin.outputs.size < lin.inputs.size", "return True", ESTIMATORS,
           "cheaper"),
    Mutant("_basis.py", "if lin.no_forward is None:\n        return FORWARD", "if True:\n        return FORWARD",
           ESTIMATORS, "direction"),
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
    Mutant("_pseudo_determinant.py", "jnp.where(finite, 0, -1)", "jnp.where(finite, -1, 0)", VOLUME),
    Mutant("_lanczos_quadrature.py", "0.5 * jnp.sum(ends", "jnp.sum(ends", QUADRATURE),
    Mutant("_lanczos_quadrature.py", "length**2 * value", "value", QUADRATURE),
    Mutant("_lanczos_quadrature.py", "~(coupling > tolerance * largest)", "(coupling < 0)", QUADRATURE),
    Mutant("_lanczos_quadrature.py", "weights / safe**2", "weights / safe", QUADRATURE),
    Mutant("_lanczos_quadrature.py", "* jnp.log(scale[:, 0])", "* 0", QUADRATURE),
    Mutant("_lanczos_quadrature.py", "where(used[:, None], basis, 0)", "where(True, basis, 0)", QUADRATURE,
           "exactly"),
    Mutant("_lanczos_quadrature.py", "singular = values[-1] <=", "singular = values[-1] <", QUADRATURE),
    Mutant("_hutch_plus_plus.py", "vectors - basis @", "vectors + basis @", LOW_RANK),
    Mutant("_hutch_plus_plus.py", "rest * rest.shape[2] ** -0.5", "rest", LOW_RANK),
    Mutant("_basis.py", "return (self.vjp if reverse else self.jvp)(vector)", "return self.jvp(vector)",
           LOW_RANK, "one_direction"),
    Mutant("_log_determinant.py", "weight / max(continuation, 1e-30)", "weight", SERIES),
    Mutant("_log_determinant.py", "k >= num_terms", "k > num_terms", SERIES),
    Mutant("_log_determinant.py", "lambda q, p: -q", "lambda q, p: q", SERIES),
    Mutant("_log_determinant.py", "c + weight * p.astype", "c + p.astype", SERIES),
    Mutant("_structure.py", "ddof: int = 1", "ddof: int = 0", "tests/test_standard_error.py"),
    Mutant("_structure.py", "start += size", "start += 0", ESTIMATORS),
    Mutant("_linearize.py", "y.shape[0] != num_examples", "False", INPUTS),
    Mutant("_program.py", 'if mentions(self.linear, "custom_lin") else None', "if False else None", INPUTS,
           "direction"),
    # Colouring
    Mutant("_coloring/_plan.py", "without_diagonal(f.matrix | f.matrix.T)", "without_diagonal(f.matrix)", COLORING),
    Mutant("_coloring/_plan.py", "without_diagonal(matrix.T @ matrix)", "without_diagonal(matrix)", COLORING),
    Mutant("_coloring/_plan.py", "total * max(count, 1) + turned", "total + turned", COLORING),
    Mutant("_coloring/_plan.py", "without_diagonal(matrix | matrix.T)", "without_diagonal(matrix.T)", COLORING),
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
    Mutant("_coloring/_structural_key.py", "constants_digest(structural_values(lin))", "b\"\"",
           TABLES),
    Mutant("_signature.py", "tuple(self.value(each) for each in value.consts)", "()", TABLES,
           "inside"),
    Mutant("_coloring/_verify.py", "if outside[:count].any():", "if False:", COLORING,
           "planted"),
    Mutant("_coloring/_verify.py", "> tolerance).any()", "> 1e9).any()", COLORING,
           "planted"),
    Mutant("_coloring/_relation.py", "seen // max(height, 1) == entry // max(width, 1)",
           "seen // max(height, 1) + entry // max(width, 1) == 0", READING, "every_example"),
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
    Mutant("_dependence/_windows.py", "kron(eye(groups)", "kron(eye(groups)[::-1]",
           READING,
           "no_edge and (grouped or depthwise)"),
    Mutant("_dependence/_pattern.py", "            f = Factor(others, g.inputs, matrix)",
           "            f = Factor(others, g.inputs, g.matrix[:rest])", READING,
           "no_edge and norm"),
    Mutant("_dependence/_pattern.py", "a.matrix | b.matrix", "a.matrix", READING,
           "no_edge and residual"),
    Mutant("_dependence/_pattern.py", "joined[0].matrix | joined[1].matrix",
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
    Mutant("_dependence/_rules_index.py", "line = np.where(missing[at], -1, line)", "line = 0 * line",
           READING, "no_edge and (fill or fancy or permuted)"),
    Mutant("_dependence/_rules_index.py", "results | other[1]", "results", READING,
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
    # Forms
    Mutant("_forms/_table.py", '**_rows("max min abs rem select_n clamp", "elementwise", "piecewise"),',
           '**_rows("max min rem select_n clamp", "elementwise", "piecewise"),', FORMS),
    Mutant("_dependence/_rules_axes.py", "selection(np.arange(size)[::-1], size)",
           "selection(np.arange(size), size)", FORMS),
    Mutant("_dependence/_rules_control.py", "program = derivative(equation.source, places)",
           'program = equation.params["call_jaxpr"]\n    return [out.dependence for out in '
           "equation.reader.read(program.jaxpr, program.consts, equation.operands)]", FORWARD, "custom"),
    # Choices
    Mutant("_choice.py", "if found.cost < limit:", "if best is None:", PLANS, "paths"),
    Mutant("_exact.py", "count * product_cost(lin), run", "product_cost(lin), run", PLANS, "paths"),
    # Batches of any length
    Mutant("_dependence/_rules_control.py", " or isinstance(length, StandIn)", "", EXPORT, "chooses"),
    Mutant("_dependence/_read.py", "or not may_be_known(equation)", "", EXPORT, "chooses"),
    Mutant("_dependence/_length.py", "or not is_stand_in(shape)", "or is_stand_in(shape)", EXPORT,
           "chooses"),
    Mutant("_dependence/_length.py", 'return params["dimension"] != along', "return True", EXPORT,
           "chooses"),
    Mutant("_dependence/_length.py", 'name in ("broadcast_in_dim", "squeeze", "transpose")', "True", EXPORT, "chooses"),
    Mutant("_dependence/_length.py", "isinstance(size, StandIn) for size in known) > 1",
           "isinstance(size, StandIn) for size in known) > 2", EXPORT, "chooses"),
    # Masks
    Mutant("_dependence/_support.py", "return left | right", "return left & right", MASKS),
    Mutant("_dependence/_support.py", "bool(filler)", "False", MASKS),
    # Partial colouring
    Mutant("_coloring/_probing.py", "return vector * product", "return product", PROBING, "unbiased"),
    Mutant("_coloring/_probing.py", "count = method.num_products // method.num_probes",
           "count = method.num_products", PROBING, "several"),
    # Groups of probes
    Mutant("_probe_groups.py", "if count % length == 0)", ")", "tests/test_probes.py", "plan"),
    # Closed forms
    Mutant("_chain/_diagonal.py", "kernels[0].T * kernels[1]", "kernels[0] * kernels[1].T", PLANS, "closed_form"),
    Mutant("_chain/_diagonal.py", "total + chain.weight * _diagonal", "total + _diagonal", PLANS, "closed_form"),
    Mutant("_chain/_cycle.py", "first = (*chain.diagonals[-1], *chain.diagonals[0])",
           "first = chain.diagonals[0]", CHAINS, "matrices"),
    Mutant("_chain/_stencil.py", "start = tuple(low - count + 1 for", "start = tuple(low - count for", CHAINS,
           "local_networks"),
    Mutant("_chain/_cycle.py", "return guarded_product(left, right) if self.guarded else left * right",
           "return left * right", CHAINS, "infinite"),
    # Bounds that hold always
    Mutant("_bounds/_gram_iteration.py", "jnp.sqrt(_positive(bound + gamma))", "jnp.sqrt(_positive(bound)) * 0.99",
           BOUNDS, "linear_maps"),
    Mutant("_bounds/_gram_iteration.py", "bound = scale * bound * (1 + gamma)", "bound = scale * bound * 0.999",
           BOUNDS, "linear_maps"),
    Mutant("_bounds/_verified.py", "lambda: spectral_bound(matrix),", "lambda: jnp.sqrt(above),", BOUNDS,
           "gram_iteration"),
    Mutant("_bounds/_linear.py", "self.gains[operand.index] * sqrt(ratio)", "self.gains[operand.index]", BOUNDS,
           "linear_maps"),
    Mutant("_bounds/_nonlinear.py", "values.gain(step.operands[0]) * sqrt(times)", "values.gain(step.operands[0])",
           "tests/test_lipschitz_bound.py", "functions"),
    Mutant("_operator_norm.py", "trusted = found.converged[0] &", "trusted =", "tests/test_operator_norm.py",
           "suffice"),
    # Spectral norms
    Mutant("_spectral_norm.py", "FlatJacobian(jax.lax.stop_gradient(lin))", "FlatJacobian(lin)", SPECTRAL,
           "small_finite"),
    Mutant("_spectral_norm.py", "dense.shape[1] <= dense.shape[2]", "dense.shape[1] > dense.shape[2]", SPECTRAL,
           "small_finite"),
    Mutant("_spectral_norm.py", "max(tolerance, 4 * precision)", "max(10 * tolerance, 4 * precision)", SPECTRAL,
           "costs"),
    Mutant("_spectral_norm.py", "jnp.where(finite[:, None, None], gram, 0)", "gram", SPECTRAL, "small_finite"),
    Mutant("_lanczos.py", "(1 + 0.75 * tolerance) ** 2", "(1 + 7.5 * tolerance) ** 2", SPECTRAL, "costs"),
    Mutant("_operator_norm.py", "unit(jax.lax.stop_gradient(image))", "unit(image)", SPECTRAL, "no_gradient"),
    # 1-Lipschitz layers
    Mutant("_lipschitz/_almost_orthogonal.py", "product * (weights / weights[:, None])", "product",
           LIPSCHITZ, "weighted"),
    Mutant("_lipschitz/_almost_orthogonal.py", "jnp.sum(jnp.abs(found), axis", "jnp.abs(jnp.sum(found), axis",
           LIPSCHITZ, "strides"),
    Mutant("_lipschitz/_almost_orthogonal.py", "periods = [-(-n // s)", "periods = [n // s", LIPSCHITZ, "strides"),
    Mutant("_lipschitz/_group_sort.py", "jnp.maximum(first, second), jnp.minimum(first, second)",
           "jnp.minimum(first, second), jnp.maximum(first, second)", LIPSCHITZ, "max_min"),
    Mutant("_lipschitz/_layers.py", "return xs - 2 * (hidden / numbers[\"sums\"]) @ kernel.T",
           "return xs - 2 * hidden @ kernel.T", LIPSCHITZ, "residual"),
    # Sparse output
    Mutant("_exact.py", "dense.run(key).reshape(lin.num_examples, row.size)",
           "dense.run(key).swapaxes(1, 2).reshape(lin.num_examples, row.size)", PLANS, "sparse"),
    Mutant("_jacobian.py", "*(np.unravel_index(column, in_shape) if in_shape else ()),",
           "*(np.unravel_index(column, in_shape, order='F') if in_shape else ()),", PLANS, "sparse"),
    # Flows
    Mutant("flow/_integrate.py", "_base(base, latents) + trace", "_base(base, latents) - trace", FLOWS, "closed_form"),
    Mutant("flow/_integrate.py", "_solve(rates, state, solver, solver.end_time, 0.0)",
           "_solve(rates, state, solver, 0.0, solver.end_time)", FLOWS, "invert"),
    Mutant("flow/_integrate.py", "0.5 * dimensions * math.log(2 * math.pi)", "0.5 * math.log(2 * math.pi)", FLOWS,
           "closed_form"),
    Mutant("flow/_rates.py", "norm = jnp.sum(matrices**2, (1, 2))", "norm = jnp.sum(matrices, (1, 2))", FLOWS,
           "closed_form"),
    Mutant("flow/_runge_kutta.py", "[1 / 6, 1 / 3, 1 / 3, 1 / 6]", "[1 / 4, 1 / 4, 1 / 4, 1 / 4]", FLOWS, "order"),
    # Equilibria
    Mutant("equilibrium/_implicit.py", "jax.tree.map(jnp.subtract, vector, slope(vector))",
           "jax.tree.map(jnp.add, vector, slope(vector))", EQUILIBRIA, "affine"),
    Mutant("equilibrium/_implicit.py", "point = _where(converged, state, jax.lax.stop_gradient(start))",
           "point = state", EQUILIBRIA, "gives_up"),
    Mutant("equilibrium/_anderson.py", "moved & ~reached,", "moved,", EQUILIBRIA, "each_row"),
    Mutant("equilibrium/_anderson.py", "weights = jnp.linalg.solve(gram, given) * given", "weights = given", EQUILIBRIA),
    Mutant("equilibrium/_gmres.py", "jnp.where(taken, -sine * last, 0)", "jnp.where(taken, sine * last, 0)",
           EQUILIBRIA, "gmres"),
]  # fmt: skip
