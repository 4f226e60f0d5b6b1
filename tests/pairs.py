"""Every quantity by every method: how to evaluate it, and what dense float64 Jacobians say.

Stochastic ones are averaged over planted probes, for which the mean is the quantity itself.
"""

import functools
import itertools

import numpy as np
from derived import (
    colored_laplacian,
    energy,
    has_laplacian,
    hessian_diagonal,
    hessian_diagonal_truth,
    kernel,
    kernel_truth,
    laplacian_coloring,
    laplacian_truth,
    log_determinant,
    log_frobenius,
    operator_norms,
    sampled_laplacian,
    series,
    weighted_laplacian,
    weighted_laplacian_truth,
)
from planted import average
from quantities import BOTH, FORWARD, KEY, REVERSE, N, Pair, problem

import jacreg


def _is_square(p):
    return p.square


def _is_square_and_full(p):
    return p.square and not p.empty


def _is_full(p):
    return not p.empty


def _frobenius(p, xs, dense):
    return (dense**2).sum((1, 2))


def _diagonal(p, xs, dense):
    return np.einsum("nii->ni", dense)


def _trace(p, xs, dense):
    return np.einsum("nii->n", dense)


def _gram(p, xs, dense):
    return np.einsum("nai,nbi->nab", dense, dense)


def _log_pseudo(p, xs, dense):
    if p.empty:
        return np.zeros(N)
    values = np.linalg.svd(dense, compute_uv=False)
    deficient = values[:, -1] <= max(dense.shape[1:]) * np.finfo(float).eps * values[:, 0]
    logs = np.log(np.where(values > 0, values, 1)).sum(1)
    return np.where(deficient, -np.inf, logs)


def _norm(p, xs, dense):
    return np.zeros(N) if p.empty else np.linalg.norm(dense, 2, axis=(1, 2))


def _least(p, xs, dense):
    return np.zeros(N) if p.empty else np.linalg.norm(dense, -2, axis=(1, 2))


def _radius(p, xs, dense):
    return np.zeros(N) if p.empty else np.abs(np.linalg.eigvals(dense)).max(1)


@functools.cache
def _coloring(name, quantity):
    p = problem(name)
    return jacreg.color(p.case.fn, p.batches[0], quantity=quantity)


def _colored(quantity, kind):
    return lambda p, lin: quantity(lin, _coloring(p.case.name, kind))


def _exact_pairs():
    for name, method in (("Exact", jacreg.Exact()), ("Exact in chunks", jacreg.Exact(2))):
        yield Pair("jacobian", name, lambda p, lin, m=method: jacreg.jacobian(lin, m), _blocks)
        yield Pair(
            "diagonal",
            name,
            lambda p, lin, m=method: jacreg.diagonal(lin, m),
            _diagonal,
            _is_square,
        )
        yield Pair(
            "divergence",
            name,
            lambda p, lin, m=method: jacreg.divergence(lin, m),
            _trace,
            _is_square,
        )
        yield Pair(
            "frobenius_squared",
            name,
            lambda p, lin, m=method: jacreg.frobenius_squared(lin, m),
            _frobenius,
        )
        yield Pair(
            "log_pseudo_determinant",
            name,
            lambda p, lin, m=method: jacreg.log_pseudo_determinant(lin, m),
            _log_pseudo,
            atol=1e-7,
        )
    for chunk in (None, 3):
        yield Pair(
            "gram",
            f"chunks of {chunk}",
            lambda p, lin, c=chunk: jacreg.gram(lin, chunk_size=c),
            _gram,
        )
    yield Pair("spectral_norm", "Lanczos", lambda p, lin: jacreg.spectral_norm(lin, key=KEY), _norm)
    yield Pair(
        "least_stretch", "dense", lambda p, lin: jacreg.least_stretch(lin, key=KEY).value, _least
    )
    yield Pair("spectral_radius", "eigenvalues",
               lambda p, lin: jacreg.spectral_radius(lin, key=KEY), _radius, _is_square,
               rtol=1e-6, atol=1e-7)  # fmt: skip


def _blocks(p, xs, dense):
    """The blocks of a pytree of a pytree, flattened in the order of `jacreg.jacobian`."""
    rows = np.cumsum([0, *p.outputs.sizes])
    columns = np.cumsum([0, *p.inputs.sizes])
    parts = [
        dense[:, a:b, c:d].reshape(N, -1)
        for a, b in itertools.pairwise(rows)
        for c, d in itertools.pairwise(columns)
    ]
    return np.concatenate(parts, axis=1)


def _coupled(p, lin):
    """Rows are independent here, so that every draw of signs gives the same."""
    reverse = (lin.outputs.size < lin.inputs.size and p.case.reverse) or not p.case.forward
    side = "outputs" if reverse else "inputs"
    return average(jacreg.frobenius_squared, jacreg.CoupledBatch(), side)(p, lin)


def _stochastic_pairs():
    frobenius, trace, diagonal = jacreg.frobenius_squared, jacreg.divergence, jacreg.diagonal
    for mode, side, needs in (("reverse", "outputs", REVERSE), ("forward", "inputs", FORWARD)):
        method = jacreg.Projection(mode=mode)
        yield Pair(
            "frobenius_squared",
            f"Projection, {mode}",
            average(frobenius, method, side),
            _frobenius,
            _is_full,
            needs,
        )
    yield Pair("frobenius_squared", "CoupledBatch", _coupled, _frobenius, _is_full)
    # The probes come with both signs, so that only the square of the scale is left.
    yield Pair(
        "frobenius_squared",
        "NoiseInjection",
        average(frobenius, jacreg.NoiseInjection(1e-4), "inputs"),
        _frobenius,
        _is_full,
        rtol=1e-5,
        atol=1e-5,
    )
    yield Pair(
        "divergence",
        "Hutchinson",
        average(trace, jacreg.Hutchinson(), "inputs"),
        _trace,
        _is_square_and_full,
    )
    yield Pair(
        "diagonal",
        "Hutchinson",
        average(diagonal, jacreg.Hutchinson(), "inputs"),
        _diagonal,
        _is_square_and_full,
    )
    for quantity, truth in ((trace, _trace), (diagonal, _diagonal)):
        yield Pair(
            quantity.__name__,
            "HutchPlusPlus",
            lambda p, lin, q=quantity: q(lin, jacreg.HutchPlusPlus(3 * p.inputs.size), key=KEY),
            truth,
            _is_square_and_full,
            frozenset() if quantity is trace else BOTH,
        )
    for quantity, truth in ((trace, _trace), (diagonal, _diagonal)):
        yield Pair(
            quantity.__name__,
            "XTrace",
            lambda p, lin, q=quantity: q(
                lin, jacreg.XTrace(max(4, p.inputs.size + p.inputs.size % 2)), key=KEY
            ),
            truth,
            _is_square_and_full,
        )
    for quantity, truth in ((trace, _trace), (diagonal, _diagonal)):
        yield Pair(
            "divergence" if quantity is trace else "diagonal",
            "Probing",
            lambda p, lin, q=quantity: q(lin, jacreg.Probing(p.inputs.size), key=KEY),
            truth,
            _is_square_and_full,
        )
    yield Pair(
        "frobenius_squared",
        "Probing",
        lambda p, lin: jacreg.frobenius_squared(
            lin, jacreg.Probing(max(p.inputs.size, p.outputs.size)), key=KEY
        ),
        _frobenius,
        _is_full,
    )
    yield Pair(
        "frobenius_squared",
        "XRowNorm",
        lambda p, lin: jacreg.frobenius_squared(
            lin, jacreg.XRowNorm(3 * max(2, p.inputs.size, p.outputs.size)), key=KEY
        ),
        _frobenius,
        _is_full,
    )
    yield Pair(
        "log_pseudo_determinant",
        "Lanczos",
        _lanczos,
        _log_pseudo,
        _is_well_conditioned,
        BOTH,
        rtol=1e-7,
        atol=1e-7,
    )
    yield Pair(
        "log_determinant",
        "power series",
        series,
        log_determinant,
        _is_square_and_full,
        prepare=lambda p: p.denses,
    )


def _lanczos(p, lin):
    wide = lin.outputs.size <= lin.inputs.size
    method = jacreg.Lanczos(order=lin.outputs.size if wide else lin.inputs.size)
    side = "outputs" if wide else "inputs"
    return average(jacreg.log_pseudo_determinant, method, side)(p, lin)


def _is_well_conditioned(p):
    if p.empty or min(p.inputs.size, p.outputs.size) > 16:
        return False
    values = np.stack([np.linalg.svd(d, compute_uv=False) for d in p.denses])
    return bool((values[..., -1] > 1e-4 * values[..., 0]).all())


def _other_pairs():
    for quantity, kind, truth, fits in (
        (jacreg.jacobian, "jacobian", _blocks, lambda p: True),
        (jacreg.frobenius_squared, "frobenius", _frobenius, lambda p: True),
        (jacreg.divergence, "divergence", _trace, _is_square),
        (jacreg.diagonal, "divergence", _diagonal, _is_square),
    ):
        yield Pair(
            quantity.__name__,
            "Coloring",
            _colored(quantity, kind),
            truth,
            fits,
            prepare=lambda p, k=kind: _coloring(p.case.name, k),
        )
    for name, method in (("Auto", jacreg.Auto()), ("Exact", jacreg.Exact())):
        yield Pair(
            "laplacian",
            name,
            lambda p, lin, m=method: jacreg.laplacian(energy(p, lin), m),
            laplacian_truth,
            has_laplacian,
        )
        yield Pair(
            "laplacian",
            f"{name}, weighted",
            weighted_laplacian(method),
            weighted_laplacian_truth,
            has_laplacian,
        )
        yield Pair(
            "hessian_diagonal",
            name,
            hessian_diagonal(method),
            hessian_diagonal_truth,
            has_laplacian,
        )
    yield Pair(
        "laplacian",
        "Coloring, weighted",
        weighted_laplacian("Coloring"),
        weighted_laplacian_truth,
        has_laplacian,
        prepare=lambda p: laplacian_coloring(p.case.name),
    )
    yield Pair(
        "laplacian",
        "Coloring",
        colored_laplacian,
        laplacian_truth,
        has_laplacian,
        prepare=lambda p: laplacian_coloring(p.case.name),
    )
    yield Pair("laplacian", "Hutchinson", sampled_laplacian, laplacian_truth, has_laplacian)
    for traced in (True, False):
        yield Pair(
            "empirical_ntk",
            "trace" if traced else "full kernel",
            kernel(traced),
            kernel_truth(traced),
        )
    yield Pair(
        "operator_norm",
        "Lanczos",
        operator_norms,
        _norm,
        lambda p: p.is_array and {"forward", "reverse"} <= p.directions(),
        rtol=1e-3,
    )
    yield Pair(
        "layerwise_log_frobenius",
        "Exact",
        lambda p, lin: jacreg.layerwise_log_frobenius([p.case.fn], lin.xs).total,
        log_frobenius,
    )


PAIRS = {pair.name: pair for pair in (*_exact_pairs(), *_stochastic_pairs(), *_other_pairs())}
