"""Squared Frobenius norm of each example's Jacobian."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from . import _coloring as colored
from ._basis import first_direction, prefer_reverse
from ._choice import Quantity, from_products
from ._exact import norm_by_products
from ._interpret import collective_axes
from ._linearize import Linearization
from ._methods import (
    Auto,
    CoupledBatch,
    Exact,
    Method,
    NoiseInjection,
    Probing,
    Projection,
    XRowNorm,
    require_key,
)
from ._probes import draw, mean_over_probes
from ._sharding import fold_in_position
from ._structure import example_dot, example_squared_norm
from ._xrownorm import xrownorm, xrownorm_products

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from ._typing import PyTree


def frobenius_squared(
    lin: Linearization, method: Method = Auto(), *, key: Array | None = None
) -> Float[Array, " N"]:
    """Squared Frobenius norm ||J||_F^2 of each example: a sum over outputs and inputs.

    Args:
        lin: from `linearize`.
        method: `Auto()` (exact, the cheapest way that the program allows), `Exact()` (min(n, M)
            products), a `Coloring` (exact), `Projection(...)` (unbiased; Hoffman et al. 2019,
            algorithm 1), `NoiseInjection(...)` (finite differences), `Probing(...)` (unbiased,
            signs on a part of the colours), `XRowNorm(...)` (unbiased, every product twice),
            `CoupledBatch(...)` (unbiased for the blocks d y_n / d x_n where examples talk to
            each other).
        key: for the stochastic methods.

    Raises:
        ValueError: a stochastic method has no key.
        TypeError: the method does not give this norm, or the function has no
            derivative in the method's direction.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: xs**2, jnp.array([[1.0, 2.0, 3.0]]))
        >>> jacreg.frobenius_squared(lin)
        Array([56.], dtype=float32)
    """
    return NORM.decide(lin, method).run(key)


def _projection(lin: Linearization, method: Projection, key: Any) -> Float[Array, " N"]:
    reverse = method.mode == "reverse"

    def sample(probe_key: Array) -> Float[Array, " N"]:
        if reverse:
            return example_squared_norm(lin.vjp(draw(probe_key, lin.value, method.distribution)))
        return example_squared_norm(lin.jvp(draw(probe_key, lin.xs, method.distribution)))

    return mean_over_probes(
        sample, require_key("frobenius_squared", method, key), method.num_probes
    )


def _noise_injection(lin: Linearization, method: NoiseInjection, key: Any) -> Float[Array, " N"]:
    def sample(probe_key: Array) -> Float[Array, " N"]:
        noise = draw(probe_key, lin.xs, "gaussian")
        return injected_difference(lin, noise, method.scale)

    return mean_over_probes(
        sample, require_key("frobenius_squared", method, key), method.num_probes
    )


def injected_difference(
    lin: Linearization, noise: PyTree, scale: Float[Array, ""] | float
) -> Float[Array, " N"]:
    """||f(x + scale v) - f(x)||^2 / scale^2, with f(x) from the shared forward pass."""
    shifted = lin.evaluate(
        jax.tree.map(lambda x, v: x + jnp.asarray(scale, x.dtype) * v, lin.xs, noise)
    )
    return example_squared_norm(
        jax.tree.map(
            lambda after, before: (after - before) / jnp.asarray(scale, before.dtype),
            shifted,
            lin.value,
        )
    )


def _coupled(lin: Linearization, method: CoupledBatch, key: Any) -> Float[Array, " N"]:
    # Blocks and their transposes have the same norm; fewer dimensions to project
    # means less variance.
    names = collective_axes(lin.program.linear)

    def sample(probe_key: Array, reverse: bool) -> Float[Array, " N"]:
        probe_key, sign_key = jax.random.split(probe_key)
        # Signs that examples on two devices share would not cancel what they say to each other.
        sign_keys = jax.random.split(fold_in_position(sign_key, lin.xs, names))
        probe = draw(probe_key, lin.value if reverse else lin.xs, "rademacher")
        first, second = (_signed_product(lin, probe, k, reverse) for k in sign_keys)
        return example_dot(first, second)

    key = require_key("frobenius_squared", method, key)
    return first_direction(
        lin,
        lambda: mean_over_probes(lambda k: sample(k, False), key, method.num_probes),
        lambda: mean_over_probes(lambda k: sample(k, True), key, method.num_probes),
        reverse_first=prefer_reverse(lin),
    )


def _signed_product(lin: Linearization, probe: PyTree, key: Array, reverse: bool) -> PyTree:
    """s * J(s * v) for one sign an example: in the mean over s only block n is left."""
    signs = jax.random.rademacher(key, (lin.num_examples,), jnp.int32)

    def flip(leaf: Array) -> Array:
        return leaf * signs.reshape((-1,) + (1,) * (leaf.ndim - 1)).astype(leaf.dtype)

    product = (lin.vjp if reverse else lin.jvp)(jax.tree.map(flip, probe))
    return jax.tree.map(flip, product)


NORM = Quantity(
    "frobenius_squared",
    {
        Exact: norm_by_products,
        colored.Coloring: colored.frobenius_squared,
        Projection: from_products(
            lambda lin, method: method.num_probes, _projection, "one a projection"
        ),
        NoiseInjection: from_products(
            lambda lin, method: 0,
            _noise_injection,
            "no derivative: one more call of the function a probe",
            path="finite differences",
        ),
        Probing: colored.norm_by_probing,
        XRowNorm: from_products(
            xrownorm_products, xrownorm, "a sketch, its directions and their images"
        ),
        CoupledBatch: from_products(
            lambda lin, method: 2 * method.num_probes, _coupled, "two a probe"
        ),
    },
    auto=(norm_by_products, colored.norm_by_found_colors),
)
