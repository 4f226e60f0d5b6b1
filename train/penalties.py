"""Penalties by name. Adding one is adding a function and its row in `PENALTIES`.

A row is `(lin, key, *, options) -> [N]`: one value an example from the linearised
forward pass that the task's loss uses too. Keyword-only parameters are its config
keys; one called `method` accepts the config's `method`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import jacreg
from train.expect import integer, number

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def jacobian(
    lin: jacreg.Linearization, key: Array, *, method: Any = jacreg.Projection()
) -> Float[Array, " N"]:
    """Half the squared Frobenius norm of the Jacobian (Hoffman et al. 2019)."""
    return jacreg.losses.jacobian_penalty(lin, method, key=key)


def contractive(
    lin: jacreg.Linearization, key: Array, *, method: Any = jacreg.Exact()
) -> Float[Array, " N"]:
    """The squared Frobenius norm of the Jacobian (Rifai et al. 2011)."""
    return jacreg.losses.contractive_penalty(lin, method, key=key)


def noise_injection(
    lin: jacreg.Linearization,
    key: Array,
    *,
    scale: Annotated[float, number(above=0)],
    num_probes: Annotated[int, integer(least=1)] = 1,
) -> Float[Array, " N"]:
    """Mean of norm(f(x + e) - f(x))^2 / scale^2 with e ~ N(0, scale^2), no derivative."""
    method = jacreg.NoiseInjection(scale, num_probes)
    return jacreg.frobenius_squared(lin, method, key=key)


def spectral(
    lin: jacreg.Linearization,
    key: Array,
    *,
    num_iterations: Annotated[int, integer(least=1)] = 5,
) -> Float[Array, " N"]:
    """The largest singular value of the Jacobian, by power iteration."""
    return jacreg.losses.spectral_penalty(lin, key=key, num_iterations=num_iterations)


PENALTIES: Mapping[str, Callable[..., Any]] = {
    "jacobian": jacobian,
    "contractive": contractive,
    "noise_injection": noise_injection,
    "spectral": spectral,
}
