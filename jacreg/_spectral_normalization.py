"""What the spectral normalisation layers of every framework share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp

from ._basis import FlatJacobian
from ._bounds._operator_norm_bound import operator_norm_bound
from ._checks import check_count
from ._lanczos import beside
from ._linearize import Linearization, linearize
from ._operator_norm import leading_triple
from ._structure import accumulate_dtype, common_dtype, norm, shape_of_argument, unit

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PRNGKeyArray


def converged_vector(
    layer: Callable[[Array], Array],
    in_shape: Sequence[int],
    parameters: Sequence[Any],
    *,
    key: PRNGKeyArray,
) -> Float[Array, " *in"]:
    """Right singular vector of an affine layer, iterated to convergence.

    Raises:
        ValueError: the layer is not affine, or its linear part is zero.
    """
    floating = [p.dtype for p in parameters if jnp.issubdtype(p.dtype, jnp.floating)]
    dtype = common_dtype(floating) if floating else None
    triple = leading_triple(layer, in_shape, key=key, dtype=dtype)
    try:
        vanishes = not bool(triple.value > 0)
    except jax.errors.ConcretizationTypeError:
        vanishes = False
    if vanishes:
        raise ValueError(
            f"SpectralNormalized: the layer's operator norm on inputs of shape {tuple(in_shape)} "
            f"is {triple.value}; it must be positive. Initialise its kernel at random."
        )
    return triple.right


def check_spectral(
    layer: Any, in_shape: SupportsIndex | Sequence[SupportsIndex], num_steps: int
) -> tuple[int, ...]:
    """Return `in_shape` as a tuple, or raise on what cannot be normalised."""
    if not callable(layer):
        raise TypeError(f"SpectralNormalized: layer must be callable, got {type(layer).__name__}.")
    check_count("SpectralNormalized", "num_steps", num_steps)
    return shape_of_argument("SpectralNormalized", in_shape)


def check_example(shape: tuple[int, ...], in_shape: tuple[int, ...]) -> None:
    """Raise unless an example has the shape for which the norm was found."""
    if shape != in_shape:
        raise ValueError(
            f"SpectralNormalized: made for examples of shape {in_shape}, got {shape}. The "
            "operator norm depends on the shape: make one with that in_shape."
        )


class Tracked(NamedTuple):
    """Norm (with gradient into the parameters), the layer at zero, and the new vector."""

    norm: Float[Array, ""]
    offset: Float[Array, "*out"]
    vector: Float[Array, "*in"]


def tracked_or_bounded(
    layer: Callable[[Array], Array], vector: Float[Array, "*in"], num_steps: int, bound: bool
) -> Tracked:
    """`track`, or with `bound` the same with a norm that is never too small."""
    if not bound:
        return track(layer, vector, num_steps)
    zero = jnp.zeros_like(vector)
    # Without a gradient of its own in the vector, which stays as it is.
    return Tracked(_bound(layer, vector), layer(zero), jax.lax.stop_gradient(vector))


def _bound(layer: Callable[[Array], Array], vector: Float[Array, "*in"]) -> Float[Array, ""]:
    return operator_norm_bound(layer, vector.shape, dtype=vector.dtype)


def normalized_bound(
    layer: Callable[[Array], Array], vector: Float[Array, "*in"], bound: bool
) -> Float[Array, ""]:
    """An upper bound of the normalised map's norm: that of the map over what it divides by."""
    if bound:
        return jnp.ones((), accumulate_dtype(vector.dtype))
    norm = track(layer, vector, 0).norm
    return _bound(layer, vector) / jnp.where(norm > 0, norm, 1)


def track(layer: Callable[[Array], Array], vector: Float[Array, "*in"], num_steps: int) -> Tracked:
    """Operator norm of an affine layer, following its leading singular vector.

    By Lanczos steps (Golub and Kahan 1965) from the vector of last time, which cost what
    as many power steps do. Those stay on a singular vector that another has overtaken:
    on 3x3 convolutions whose kernels moved 0.2 % a step, one power step was up to 3 %
    behind, three Lanczos steps 0.4 %.
    """
    vector = jax.lax.stop_gradient(vector)
    lin = linearize(lambda xs: layer(xs[0])[None], jnp.zeros_like(vector)[None])
    wide = accumulate_dtype(vector.dtype)
    flat = unit(vector.reshape(1, -1).astype(wide))
    if num_steps > 0:
        flat = _lanczos(jax.lax.stop_gradient(lin), flat, num_steps)
    image = FlatJacobian(lin).jvp(flat).astype(wide)
    return Tracked(norm(image)[0], lin.value[0], lin.inputs.unflatten(flat)[0])


def _lanczos(lin: Linearization, start: Float[Array, "1 n"], num_steps: int) -> Float[Array, "1 n"]:
    """Leading Ritz vector of J^T J on the Krylov space of so many steps."""
    flat, wide = FlatJacobian(lin), start.dtype

    def step(index: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        basis, images = carry
        image = flat.jvp(basis[index][None]).astype(wide)
        following = beside(basis, flat.vjp(image)[0].astype(wide))
        return basis.at[index + 1].set(following), images.at[index].set(image[0])

    basis = jnp.zeros((num_steps + 2, start.shape[1]), wide).at[0].set(start[0])
    images = jnp.zeros((num_steps + 1, flat.outputs.size), wide)
    basis, images = jax.lax.fori_loop(0, num_steps + 1, step, (basis, images))
    leading = jnp.linalg.eigh(images @ images.T)[1][:, -1]
    return unit(leading[None] @ basis[:-1])


def normalized(ys: Float[Array, " N *out"], tracked: Tracked) -> Float[Array, " N *out"]:
    """Return A x / s + b from A x + b, and b and s as tracked."""
    inverse = (1 / jnp.where(tracked.norm > 0, tracked.norm, 1)).astype(ys.dtype)
    return ys * inverse + tracked.offset.astype(ys.dtype) * (1 - inverse)
