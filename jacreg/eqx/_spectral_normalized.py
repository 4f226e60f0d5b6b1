"""An Equinox layer at spectral norm one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex

import equinox as eqx
import jax

from .._spectral_normalization import (
    check_example,
    check_spectral,
    converged_vector,
    normalized,
    normalized_bound,
    tracked_or_bounded,
)

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PRNGKeyArray


class SpectralNormalized(eqx.nn.StatefulLayer):
    """A layer y = A x + b as y = A x / s + b, with s the true operator norm of A.

    Any affine layer: Linear, Conv, ConvTranspose, `models.eqx.Conv`, in one to three
    dimensions, with any stride, dilation, padding and groups. The norm is that of the
    map itself on inputs of `in_shape`, by its products with vectors;
    `eqx.nn.SpectralNorm` (Miyato et al. 2018) normalises the kernel as a matrix, which leaves
    a 3x3 convolution at a norm near 2.

    The constructor iterates to convergence. In training each call takes a few Lanczos
    steps from the vector of the last one, which follow the parameters as they move;
    with `inference=True` nothing is updated. No gradient goes through the vector, the
    norm's own goes into the parameters. A stateful layer, made with
    `eqx.nn.make_with_state` and called as BatchNorm is; it needs no axis name.

    With `bound=True` it divides by `jacreg.operator_norm_bound` instead, anew at each call: never
    too small, so the norm is at most 1, and above 0.99 on the inputs that bound is close for.
    Without, s is a value from below, behind by as much as the parameters moved since the last
    steps reached: `lipschitz_bound()` says by how much the norm may be above 1.

    Attributes:
        layer: the wrapped layer, with its parameters as they are.
        vector: where the state holds the right singular vector of A.
        inference: True stops the updates.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg.eqx
        >>> from equinox import nn
        >>> layer, key = nn.Linear(3, 4, key=jax.random.key(0)), jax.random.key(1)
        >>> make = nn.make_with_state(jacreg.eqx.SpectralNormalized)
        >>> fn = jacreg.eqx.function(*make(layer, in_shape=3, key=key))
        >>> jacreg.spectral_norm(jacreg.linearize(fn, jnp.ones((1, 3))), key=key).round()
        Array([1.], dtype=float32)
    """

    layer: Callable[..., Any]
    vector: eqx.nn.StateIndex
    inference: bool
    in_shape: tuple[int, ...] = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    bound: bool = eqx.field(static=True)

    def __init__(
        self,
        layer: Callable[..., Any],
        *,
        in_shape: SupportsIndex | Sequence[SupportsIndex],
        key: PRNGKeyArray,
        num_steps: int = 4,
        bound: bool = False,
        inference: bool = False,
    ) -> None:
        """Wrap a layer.

        Args:
            layer: called as `layer(x)` on one example.
            in_shape: shape of one example.
            key: for the random start of the iteration.
            num_steps: Lanczos steps a call in training; they cost that many products with
                A and its transpose, of one example.
            bound: whether to divide by an upper bound of the norm.
            inference: True stops the updates.

        Raises:
            ValueError: the layer is not affine, does not take `in_shape`, or its norm is 0.
            TypeError: `layer` is not callable.
        """
        self.layer = layer
        self.inference = inference
        self.in_shape = check_spectral(layer, in_shape, num_steps)
        self.num_steps = num_steps
        self.bound = bound
        leaves = jax.tree.leaves(eqx.filter(layer, eqx.is_inexact_array))
        self.vector = eqx.nn.StateIndex(converged_vector(layer, self.in_shape, leaves, key=key))

    def __call__(
        self,
        x: Float[Array, "*in"],
        state: eqx.nn.State,
        *,
        key: PRNGKeyArray | None = None,
        inference: bool | None = None,
    ) -> tuple[Float[Array, "*out"], eqx.nn.State]:
        """Return A x / s + b and the state with the new vector; `key` is not used.

        Raises:
            ValueError: the example is not of `in_shape`, on which the norm depends.
        """
        del key
        if inference is None:
            inference = self.inference
        check_example(x.shape, self.in_shape)
        steps = 0 if inference else self.num_steps
        tracked = tracked_or_bounded(self.layer, state.get(self.vector), steps, self.bound)
        if not inference and not self.bound:
            state = state.set(self.vector, tracked.vector)
        return normalized(self.layer(x), tracked), state

    def lipschitz_bound(self, state: eqx.nn.State) -> Float[Array, ""]:
        """An upper bound of the layer's norm at this state: 1 where `bound` is set."""
        return normalized_bound(self.layer, state.get(self.vector), self.bound)
