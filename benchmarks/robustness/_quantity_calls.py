"""Quantities and methods of jacreg, with arguments that work."""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp

import jacreg
from benchmarks.robustness._arguments import (
    KEY,
    LIN,
    MAP,
    Call,
    D,
    W,
    at,
    field,
    picture,
    points,
    scalar,
)

QUANTITIES: Mapping[str, Call] = {
    "linearize": Call(jacreg.linearize, {**LIN, "has_aux": False, "mode": "both"}),
    "Linearization.jvp": Call(at(lambda lin, v: lin.jvp(v)), {**LIN, "v": points()}),
    "Linearization.vjp": Call(at(lambda lin, u: lin.vjp(u)), {**LIN, "u": points()}),
    "jacobian": Call(at(jacreg.jacobian), {**LIN, "method": jacreg.Exact(2)}),
    "diagonal": Call(
        at(jacreg.diagonal), {**LIN, "method": jacreg.Hutchinson(2), "key": KEY}
    ),
    "divergence": Call(
        at(jacreg.divergence), {**LIN, "method": jacreg.Hutchinson(2), "key": KEY}
    ),
    "frobenius_squared": Call(
        at(jacreg.frobenius_squared), {**LIN, "method": jacreg.Projection(2), "key": KEY}
    ),
    "gram": Call(at(jacreg.gram), {**LIN, "other": None, "method": jacreg.Exact(2)}),
    "spectral_norm": Call(at(jacreg.spectral_norm), {**LIN, **MAP, "max_steps": 4}),
    "spectral_radius": Call(at(jacreg.spectral_radius), {**LIN, **MAP, "max_products": 32}),
    "log_determinant": Call(
        at(jacreg.log_determinant),
        {**LIN, "key": KEY, "num_terms": 3, "num_probes": 1, "continuation": 0.5},
    ),
    "log_pseudo_determinant": Call(
        at(jacreg.log_pseudo_determinant), {**LIN, "method": jacreg.Exact(2)}
    ),
    "laplacian": Call(
        at(jacreg.laplacian),
        {"fn": scalar, "xs": points(), "method": jacreg.Hutchinson(1), "key": KEY, "weights": None},
    ),
    "hessian_diagonal": Call(
        at(jacreg.hessian_diagonal),
        {"fn": scalar, "xs": points(), "method": jacreg.Hutchinson(1), "key": KEY},
    ),
    "layerwise_log_frobenius": Call(
        jacreg.layerwise_log_frobenius,
        {"layers": [field, field], "xs": points(), "method": jacreg.Exact(), "key": None},
    ),
    "operator_norm": Call(
        jacreg.operator_norm,
        {"linear_map": lambda x: W @ x, "in_shape": (D,), **MAP, "max_steps": 4},
    ),
    "empirical_ntk": Call(
        jacreg.empirical_ntk,
        {"apply": lambda p, xs: jnp.tanh(xs @ p["w"]), "params": {"w": W}, "xs": points(),
         "others": None, "trace_outputs": True, "chunk_size": 2},
    ),
    "hold_statistics": Call(
        jacreg.hold_statistics,
        {"fn": lambda xs: jnp.tanh(xs - jnp.mean(xs, axis=0)), "xs": points()},
    ),
    "rows_independent": Call(jacreg.rows_independent, LIN),
    "color": Call(
        jacreg.color,
        {"fn": picture, "xs": points(2, 5, 5, 1), "quantity": "divergence"},
    ),
    "choose": Call(
        jacreg.choose, {**LIN, "quantity": "frobenius", "budget": 4, "key": KEY}
    ),
    "with_standard_error": Call(
        at(jacreg.with_standard_error(jacreg.divergence)),
        {**LIN, "method": jacreg.Hutchinson(2), "key": KEY},
    ),
    "Exact": Call(jacreg.Exact, {"chunk_size": 2}),
    "Projection": Call(
        jacreg.Projection, {"num_probes": 1, "distribution": "sphere", "mode": "reverse"}
    ),
    "Hutchinson": Call(jacreg.Hutchinson, {"num_probes": 1, "distribution": "rademacher"}),
    "HutchPlusPlus": Call(jacreg.HutchPlusPlus, {"num_products": 6}),
    "XTrace": Call(jacreg.XTrace, {"num_products": 6}),
    "Lanczos": Call(jacreg.Lanczos, {"num_probes": 1, "order": 3, "distribution": "rademacher"}),
    "NoiseInjection": Call(jacreg.NoiseInjection, {"scale": 0.1, "num_probes": 1}),
    "CoupledBatch": Call(jacreg.CoupledBatch, {"num_probes": 1}),
}  # fmt: skip
