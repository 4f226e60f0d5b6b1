"""Margins of classifiers of known Lipschitz constant: the loss that widens them, and the radius."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ._checks import check_scale

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


def lipschitz_margin_loss(
    logits: Float[Array, "N classes"],
    labels: Int[Array, " N"],
    *,
    margin: float | Float[Array, ""],
    temperature: float | Float[Array, ""],
) -> Float[Array, " N"]:
    """Cross-entropy of logits from whose true class a margin was taken away.

    temperature * cross_entropy((z - margin e_y) / temperature, y). A network of Lipschitz
    constant 1 cannot scale its logits up: without a margin the plain cross-entropy never stops to
    ask for it, and with one it asks for the wanted distance. A margin of sqrt(2) eps
    pays for a certificate at radius eps.

    Args:
        logits: `[N, classes]`.
        labels: `[N]`, integers.
        margin: in units of the logits, at least 0; may be traced, as a ramp's.
        temperature: positive; small ones care for the examples near the margin alone.

    Returns:
        `[N]`.

    Raises:
        ValueError: shapes, margin or temperature do not fit.
        TypeError: logits are not floating point, or labels no integers.

    Source:
        Prach and Lampert 2022, Almost-Orthogonal Layers for Efficient General-Purpose Lipschitz
        Networks (arXiv:2208.03160), the loss of their experiments.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> logits = jnp.array([[2.0, 0.0], [0.0, 2.0]])
        >>> labels = jnp.array([0, 0])
        >>> loss = jacreg.losses.lipschitz_margin_loss(logits, labels, margin=1.0, temperature=1.0)
        >>> loss.round(2)
        Array([0.31, 3.05], dtype=float32)
    """
    who = "lipschitz_margin_loss"
    logits, labels = _checked(who, logits, labels)
    units = "in units of the logits"
    margin = check_scale(who, margin, name="margin", zero=True, what=units).astype(logits.dtype)
    temperature = check_scale(who, temperature, name="temperature", what=units).astype(logits.dtype)
    true = jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype)
    scaled = (logits - margin * true) / temperature
    return temperature * (jax.nn.logsumexp(scaled, axis=1) - jnp.sum(scaled * true, axis=1))


def certified_radius(
    logits: Float[Array, "N classes"],
    labels: Int[Array, " N"],
    *,
    lipschitz: float | Float[Array, ""],
) -> Float[Array, " N"]:
    """The l2 radius around each input within which the predicted class cannot change.

    (z_y - max of the others) / (sqrt(2) L), and 0 where the predicted class is not the label:
    a difference of two logits has Lipschitz constant at most sqrt(2) L.

    Args:
        logits: `[N, classes]`, at least two classes.
        labels: `[N]`, integers.
        lipschitz: an upper bound of the network's constant in the l2 norm, from the inputs in
            whose units the radius is to be; `jacreg.lipschitz_bound` or a model's own.

    Returns:
        `[N]`, at least 0.

    Raises:
        ValueError: shapes do not fit, or a known `lipschitz` is not positive.
        TypeError: logits are not floating point, or labels no integers.

    Source:
        Tsuzuku, Sato, Sugiyama 2018, Lipschitz-Margin Training (arXiv:1802.04034), proposition 1.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> logits = jnp.array([[2.0, 0.0], [0.0, 2.0]])
        >>> jacreg.losses.certified_radius(logits, jnp.array([0, 0]), lipschitz=1.0).round(3)
        Array([1.414, 0.   ], dtype=float32)
    """
    logits, labels = _checked("certified_radius", logits, labels)
    if logits.shape[1] < 2:
        raise ValueError("certified_radius: logits must have at least two classes, got one.")
    if isinstance(lipschitz, int | float) and not lipschitz > 0:
        raise ValueError(f"certified_radius: lipschitz must be positive, got {lipschitz}.")
    true = jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
    # Finite, for who looks for infinities: the lowest logit is never above what it stands for.
    low = logits.min(axis=1, keepdims=True)
    own = jnp.max(jnp.where(true, logits, low), axis=1)
    others = jnp.max(jnp.where(true, low, logits), axis=1)
    return jnp.maximum(own - others, 0) / (2**0.5 * lipschitz)


def _checked(who: str, logits: Any, labels: Any) -> tuple[Array, Array]:
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise TypeError(f"{who}: logits must be floating point, got {logits.dtype}.")
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"{who}: labels must be integers, got {labels.dtype}.")
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"{who}: needs logits [N, classes] and labels [N], got shapes {logits.shape} and "
            f"{labels.shape}."
        )
    return logits, labels
