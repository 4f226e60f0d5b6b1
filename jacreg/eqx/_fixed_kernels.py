"""An Equinox model whose constrained kernels are computed once, for evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import equinox as eqx
import jax

if TYPE_CHECKING:
    from jaxtyping import Array, Float

_FREE = ("weight", "scale")
M = TypeVar("M")


class OneLipschitz(eqx.Module):
    """What the layers share that are 1-Lipschitz for any parameters."""

    fixed: dict[str, Array] | None

    def lipschitz_bound(self) -> float | Float[Array, ""]:
        """1 in exact arithmetic, for any parameters; rounding adds less than 1e-5.

        With fixed kernels a bound read off these, the same up to rounding.
        """
        return 1.0 if self._has_parameters() else self._bound(self._numbers())

    def fix(self) -> OneLipschitz:
        """The layer with what calls need of the parameters instead of them."""
        if not self._has_parameters():
            return self

        def held(layer: Any) -> list[Any]:
            free = [getattr(layer, name) for name in _FREE if hasattr(layer, name)]
            return [layer.fixed, *free]

        kept = [self._computed(), *[None] * (len(held(self)) - 1)]
        return eqx.tree_at(held, self, kept, is_leaf=lambda leaf: leaf is None)

    def _has_parameters(self) -> bool:
        # Parameters put into a fixed layer decide, not what was computed from others.
        return self.fixed is None or any(getattr(self, n, None) is not None for n in _FREE)

    def _numbers(self) -> dict[str, Array]:
        if self._has_parameters():
            return self._computed()
        assert self.fixed is not None
        return self.fixed

    def _computed(self) -> dict[str, Array]:
        raise NotImplementedError

    def _bound(self, numbers: dict[str, Array]) -> Float[Array, ""]:
        raise NotImplementedError


def fixed_kernels(model: M) -> M:
    """Return a model for evaluation, its constrained kernels computed once.

    `OrthogonalDense`, `SLLDense`, `AOLConv` and `SLLConv` compute a constrained kernel from free
    parameters at every call. In what is returned they hold that kernel (`fixed`) and no free
    parameters any more (None), so it cannot fall behind them: a model that learns on is given to
    `fixed_kernels` again; where parameters are put in, they decide. `lipschitz_bound()` is read
    off the numbers that are held: where an optimiser moves them all the same, it grows with
    them. Gradients pass through to the parameters of the model, so a training step that calls
    it often (an attack within) may take a copy first.

    Args:
        model: any pytree; what is no layer of these stays as it is.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg.eqx
        >>> layer = jacreg.eqx.OrthogonalDense(2, 2, key=jax.random.key(0))
        >>> fixed = jacreg.eqx.fixed_kernels(layer)
        >>> bool(jnp.allclose(fixed(jnp.ones(2)), layer(jnp.ones(2))))
        True
    """

    def is_layer(node: Any) -> bool:
        return isinstance(node, OneLipschitz)

    return jax.tree.map(
        lambda node: node.fix() if is_layer(node) else node, model, is_leaf=is_layer
    )
