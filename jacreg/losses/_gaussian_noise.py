"""The explicit form of training with Gaussian noise on the activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp

from .._basis import FlatJacobian, first_direction, prefer_reverse, sum_chunked
from .._frobenius import frobenius_squared
from .._linearize import Linearization
from .._methods import Auto
from .._structure import accumulate_dtype, example_squared_norm
from ._checks import check_scale

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

_LOSSES = ("mse", "cross_entropy")


def gaussian_noise_regularizer(
    lins: Sequence[Linearization],
    scales: Sequence[Float[Array, ""] | float] | Float[Array, ""] | float,
    *,
    loss: Literal["mse", "cross_entropy"] = "mse",
) -> Float[Array, " N"]:
    """What Gaussian noise on the layers adds to the loss: 1/2 sum_k scale_k^2 Tr(J_k^T H J_k).

    J_k is the Jacobian of the network's output in the k-th noised activation, H the
    Hessian of the loss in the output: the identity for `loss="mse"`, which means
    1/2 ||y - t||^2 summed over outputs, and diag(p) - p p^T with p = softmax(logits) for
    `loss="cross_entropy"`. The traces are exact, by rows or columns of J_k in
    chunks; no label is needed, since neither Hessian depends on it.

    Source: Camuto et al. 2020 (Explicit Regularisation in Gaussian Noise Injections),
    the main term R of the expected regulariser; our weight is 1 to reproduce it. For
    a squared error without the 1/2 multiply by 2, for one averaged over M outputs
    divide by M.

    Args:
        lins: one Linearization a noised layer: of the rest of the network, at that
            layer's activation, `linearize(rest_k, h_k)`. All give the same output,
            `lins[k].value` (for the cross-entropy: logits `[N, C]`).
        scales: standard deviation of each layer's noise, as many as `lins`, or one
            for all; may be traced.
        loss: "mse" or "cross_entropy".

    Returns:
        `[N]`, sums over layers, outputs and activations.

    Raises:
        ValueError: the loss is unknown, there are no layers, the numbers or the outputs'
            shapes of the layers disagree, logits are not `[N, C]` with C > 1, or a scale
            is negative or not finite.
        TypeError: `lins` holds something else.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> xs, first, last = jnp.zeros((4, 3)), jnp.ones((3, 2)), jnp.ones((2, 1))
        >>> lins = [jacreg.linearize(lambda x: x @ first @ last, xs),
        ...         jacreg.linearize(lambda h: h @ last, xs @ first)]
        >>> jacreg.losses.gaussian_noise_regularizer(lins, [0.1, 1.0]).round(2)
        Array([1.06, 1.06, 1.06, 1.06], dtype=float32)
    """
    who = "gaussian_noise_regularizer"
    if loss not in _LOSSES:
        raise ValueError(f"{who}: loss must be one of {_LOSSES}, got {loss!r}.")
    lins = _check_layers(who, lins)
    weights = [0.5 * jnp.square(scale) for scale in _check_scales(who, scales, len(lins))]
    if loss == "cross_entropy":
        _check_logits(who, lins[0])
    trace = _cross_entropy_trace if loss == "cross_entropy" else _mse_trace
    terms = [w.astype(t.dtype) * t for w, t in zip(weights, map(trace, lins), strict=True)]
    return sum(terms[1:], terms[0])


def _mse_trace(lin: Linearization) -> Float[Array, " N"]:
    return frobenius_squared(lin, Auto())


def _cross_entropy_trace(lin: Linearization) -> Float[Array, " N"]:
    """sum_c p_c ||J_c - p^T J||^2: diag(p) - p p^T is the covariance of one draw from p."""
    flat = FlatJacobian(lin)
    logits = lin.value.astype(accumulate_dtype(lin.value.dtype))
    probabilities = jax.nn.softmax(logits, axis=1)
    num_classes = flat.outputs.size

    def centred_row(index: Int[Array, ""]) -> Float[Array, " N"]:
        one = (jnp.arange(num_classes) == index).astype(probabilities.dtype)
        cotangent = one[None] - probabilities
        squared = example_squared_norm(flat.vjp(cotangent))
        return jnp.take(probabilities, index, axis=1) * squared.astype(probabilities.dtype)

    def column(index: Int[Array, ""]) -> Float[Array, " N"]:
        entries = flat.column(index).astype(probabilities.dtype)
        mean = jnp.sum(probabilities * entries, axis=1, keepdims=True)
        return jnp.sum(probabilities * jnp.square(entries - mean), axis=1)

    chunk = flat.chunk(None)
    return first_direction(
        lin,
        lambda: sum_chunked(column, flat.inputs.size, chunk),
        lambda: sum_chunked(centred_row, num_classes, chunk),
        reverse_first=prefer_reverse(lin),
    ).astype(lin.value.dtype)


def _check_layers(who: str, lins: Any) -> list[Linearization]:
    if isinstance(lins, Linearization) or not isinstance(lins, Sequence):
        raise TypeError(
            f"{who}: lins must be a list of Linearizations, one a noised layer, got "
            f"{type(lins).__name__}; write [lin] for a single one."
        )
    if not lins:
        raise ValueError(f"{who}: lins is empty; pass one Linearization a noised layer.")
    for lin in lins:
        if not isinstance(lin, Linearization):
            raise TypeError(
                f"{who}: lins must hold Linearizations (jacreg.linearize(rest, activation)), "
                f"got {type(lin).__name__}."
            )
        if len(lin.outputs.shapes) != 1:
            raise TypeError(
                f"{who}: every Linearization must end at one array, got {lin.outputs.describe()}."
            )
    shapes = [jax.tree.map(jnp.shape, lin.value) for lin in lins]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(
            f"{who}: every layer's Linearization must end at the same output, got shapes {shapes}."
        )
    return list(lins)


def _check_scales(who: str, scales: Any, num_layers: int) -> list[Array]:
    if not isinstance(scales, Sequence) and jnp.ndim(scales) == 0:
        scales = [scales] * num_layers
    if isinstance(scales, str) or len(scales) != num_layers:
        raise ValueError(
            f"{who}: scales must be one number a layer ({num_layers}) or one for all, got {scales}."
        )
    return [check_scale(who, scale, name="every scale", zero=True) for scale in scales]


def _check_logits(who: str, lin: Linearization) -> None:
    shapes = lin.outputs.shapes
    if len(shapes) != 1 or len(shapes[0]) != 1 or shapes[0][0] < 2:
        raise ValueError(
            f'{who}: loss="cross_entropy" needs logits [N, C] with at least two classes as the '
            f"output, got {lin.outputs.describe()}."
        )
