"""Losses and schedules, with arguments that work."""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp

import jacreg
from benchmarks.robustness._arguments import (
    KEY,
    LIN,
    Call,
    D,
    N,
    at,
    field,
    points,
    scalar,
)
from jacreg import losses

LOSSES: Mapping[str, Call] = {
    "losses.jacobian_penalty": Call(
        at(losses.jacobian_penalty), {**LIN, "method": jacreg.Exact(), "key": None}
    ),
    "losses.contractive_penalty": Call(
        at(losses.contractive_penalty), {**LIN, "method": jacreg.Exact(), "key": None}
    ),
    "losses.dense_contractive_penalty": Call(
        losses.dense_contractive_penalty,
        {"hidden": points(3, 2), "kernel": points(4, 2), "activation": "tanh"},
    ),
    "losses.contractive_hessian_penalty": Call(
        losses.contractive_hessian_penalty,
        {"encoder": field, "xs": points(), "scale": 0.1, "num_probes": 1, "key": KEY,
         "method": jacreg.Projection()},
    ),
    "losses.noise_injection_penalty": Call(
        losses.noise_injection_penalty, {**LIN, "scale": 0.1, "key": KEY}
    ),
    "losses.gaussian_noise_regularizer": Call(
        lambda fn, xs, scales, loss: losses.gaussian_noise_regularizer(
            [jacreg.linearize(fn, xs)], scales, loss=loss
        ),
        {**LIN, "scales": 0.1, "loss": "mse"},
    ),
    "losses.implicit_score_matching": Call(
        at(losses.implicit_score_matching), {**LIN, "method": jacreg.Exact(), "key": None}
    ),
    "losses.sliced_score_matching": Call(
        at(losses.sliced_score_matching),
        {**LIN, "num_probes": 1, "variance_reduced": True, "key": KEY},
    ),
    "losses.denoising_score_matching": Call(
        losses.denoising_score_matching,
        {"score": field, "xs": points(), "scale": 0.1, "key": KEY},
    ),
    "losses.finite_difference_score_matching": Call(
        losses.finite_difference_score_matching,
        {"score": field, "xs": points(), "scale": 0.1, "key": KEY},
    ),
    "losses.flow_regularizers": Call(
        at(losses.flow_regularizers), {**LIN, "probes": points()}
    ),
    "losses.equilibrium_jacobian_penalty": Call(
        losses.equilibrium_jacobian_penalty,
        {"cell": field, "state": points(), "key": KEY, "num_probes": 1},
    ),
    "losses.lyapunov_penalty": Call(
        losses.lyapunov_penalty,
        {"step": field, "state": points(), "num_exponents": 2, "num_steps": 2, "key": KEY},
    ),
    "losses.lyapunov_exponents": Call(
        losses.lyapunov_exponents,
        {"step": field, "state": points(), "num_exponents": 2, "num_steps": 2, "key": KEY},
    ),
    "losses.nuclear_norm_penalty": Call(
        losses.nuclear_norm_penalty,
        {"outer": field, "inner": field, "xs": points(), "scale": 0.1, "key": KEY},
    ),
    "losses.spectral_penalty": Call(
        at(losses.spectral_penalty), {**LIN, "key": KEY, "num_iterations": 2}
    ),
    "losses.jacobian_matching": Call(
        at(losses.jacobian_matching), {**LIN, "targets": points(N, D, D)}
    ),
    "losses.layerwise_penalty": Call(
        losses.layerwise_penalty,
        {"layers": [field], "xs": points(), "method": jacreg.Exact(), "key": None},
    ),
    "losses.gradient_penalty": Call(
        losses.gradient_penalty, {"fn": scalar, "xs": points(), "target": 1.0}
    ),
    "losses.loss_gradient_penalty": Call(
        losses.loss_gradient_penalty,
        {"loss_fn": lambda xs, ys: jnp.sum((xs - ys) ** 2, 1), "xs": points(),
         "labels": points()},
    ),
    "losses.path_length_penalty": Call(
        losses.path_length_penalty,
        {"generator": lambda z: jnp.ones((1, 3, 3, 1)) * jnp.sum(z, 1)[:, None, None, None],
         "latents": points(), "key": KEY, "mean": 0.5},
    ),
    "losses.subsample": Call(losses.subsample, {"xs": points(), "fraction": 0.5, "key": KEY}),
    "losses.every": Call(lambda k, step: losses.every(k)(step), {"k": 2, "step": 4}),
    "losses.bernoulli": Call(
        lambda probability, key, step: losses.bernoulli(probability, key=key)(step),
        {"probability": 0.5, "key": KEY, "step": 4},
    ),
    "losses.ramp": Call(
        lambda start, stop, num_steps, begin, step: losses.ramp(
            start, stop, num_steps, begin=begin
        )(step),
        {"start": 0.0, "stop": 1.0, "num_steps": 5, "begin": 1, "step": 3},
    ),
}  # fmt: skip
