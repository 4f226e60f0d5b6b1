"""An nnx model whose constrained kernels are computed once, for evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from flax import nnx

if TYPE_CHECKING:
    from jaxtyping import Array, Float

_FREE = ("kernel", "scale")
M = TypeVar("M", bound=nnx.Module)


class FixedKernel(nnx.Variable):
    """What a layer of `fixed_kernels` keeps instead of its free parameters; no `nnx.Param`."""


class OneLipschitz(nnx.Module):
    """What the layers share that are 1-Lipschitz for any parameters."""

    fixed: nnx.Dict | None = None

    def lipschitz_bound(self) -> float | Float[Array, ""]:
        """1 in exact arithmetic, for any parameters; rounding adds less than 1e-5.

        With fixed kernels a bound read off these, the same up to rounding.
        """
        return 1.0 if self._has_parameters() else self._bound(self._numbers())

    def fix(self) -> None:
        """Compute what calls need of the parameters, and keep that instead of them."""
        if self._has_parameters():
            computed = {name: FixedKernel(value) for name, value in self._computed().items()}
            for name in _FREE:
                if hasattr(self, name):
                    delattr(self, name)
            self.fixed = nnx.Dict(computed)

    def _has_parameters(self) -> bool:
        # Where nnx.update has written parameters into a fixed copy these decide, not what is old.
        return self.fixed is None or any(hasattr(self, name) for name in _FREE)

    def _numbers(self) -> dict[str, Array]:
        if self._has_parameters():
            return self._computed()
        assert self.fixed is not None
        return {name: variable[...] for name, variable in self.fixed.items()}

    def _computed(self) -> dict[str, Array]:
        raise NotImplementedError

    def _bound(self, numbers: dict[str, Array]) -> Float[Array, ""]:
        raise NotImplementedError


def fixed_kernels(model: M) -> M:
    """Return a copy of a model for evaluation, its constrained kernels computed once.

    `OrthogonalDense`, `SLLDense`, `AOLConv` and `SLLConv` compute a constrained kernel from free
    parameters at every call. In the copy they hold that kernel, in variables of their own that
    are no `nnx.Param`, and no free parameters: no optimiser of `nnx.Param` sees the kernels, and
    `lipschitz_bound()` is read off the numbers that are held. The model itself stays as it is;
    what it learns later is in the next copy, or in this one after `nnx.update` with its
    parameters, which then decide again, call by call. Gradients pass through to the parameters
    of the model, so a training step that calls it often (an attack within) may take a copy first.

    Args:
        model: an nnx module; other layers are copied.

    Raises:
        TypeError: `model` is no nnx module.

    Example:
        >>> import jax.numpy as jnp, jacreg.nnx
        >>> from flax import nnx
        >>> layer = jacreg.nnx.OrthogonalDense(2, 2, rngs=nnx.Rngs(0))
        >>> fixed = jacreg.nnx.fixed_kernels(layer)
        >>> xs = jnp.ones((1, 2))
        >>> bool(jnp.allclose(fixed(xs), layer(xs)))
        True
    """
    if not isinstance(model, nnx.Module):
        raise TypeError(f"fixed_kernels: model must be an nnx.Module, got {type(model).__name__}.")
    copy = nnx.clone(model)
    for _, module in nnx.iter_modules(copy):
        if isinstance(module, OneLipschitz):
            module.fix()
    return copy
