"""Random signs on the classes of a partial colouring: unbiased, exact once the colours suffice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from .._basis import FlatJacobian, sum_chunked
from .._choice import Choice, product_cost
from .._dependence import LengthError
from .._linearize import Linearization
from .._methods import Probing, require_key
from .._probes import draw, mean_over_probes
from .._recent import Recent
from .._structure import accumulate_dtype, example_squared_norm
from ._check import unreadable
from ._coloring import ColoringError
from ._partial import partial_plan
from ._reading import dependence_of
from ._structural_key import structural_key

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

    from .._typing import PyTree

_FOUND: Recent[_Classes] = Recent(64)


@dataclass(frozen=True, eq=False)
class _Classes:
    """Classes of one side of a Jacobian.

    Attributes:
        of: the class of each position, `[n]`, or `[M]` where `reverse`.
        count: how many.
        reverse: whether they are those of the outputs, for J^T u.
        how: in words.
    """

    of: np.ndarray
    count: int
    reverse: bool
    how: str


def diagonal_by_probing(lin: Linearization, method: Probing, limit: float) -> Choice:
    """Way of `diagonal`: v * (J v) over the classes, v of random signs within one.

    Entry i is J_ii + sum_j s_i s_j J_ij over the j of its class: what it meets there has mean
    zero.
    """

    def once(classes: _Classes, key: Array) -> PyTree:
        return lin.outputs.unflatten(_diagonal(FlatJacobian(lin), classes, key))

    return _way(lin, method, "diagonal", once)


def trace_by_probing(lin: Linearization, method: Probing, limit: float) -> Choice:
    """Way of `divergence`: the sum of that diagonal."""

    def once(classes: _Classes, key: Array) -> Float[Array, " N"]:
        flat = FlatJacobian(lin)
        entries = _diagonal(flat, classes, key).astype(accumulate_dtype(flat.outputs.dtype))
        return jnp.sum(entries, axis=1).astype(flat.outputs.dtype)

    return _way(lin, method, "divergence", once)


def norm_by_probing(lin: Linearization, method: Probing, limit: float) -> Choice:
    """Way of `frobenius_squared`: the sum of ||J v||^2 over the classes."""

    def once(classes: _Classes, key: Array) -> Float[Array, " N"]:
        flat, signs = FlatJacobian(lin), _signs(lin, classes, key)
        return sum_chunked(
            lambda number: example_squared_norm(_product(flat, classes, signs, number)[1]),
            classes.count,
            flat.chunk(None),
        )

    return _way(lin, method, "frobenius_squared", once)


def _way(
    lin: Linearization, method: Probing, quantity: str, once: Callable[[_Classes, Array], Any]
) -> Choice:
    classes = _classes(lin, "columns" if quantity == "frobenius_squared" else "diagonal", method)
    products = classes.count * method.num_probes

    def run(key: Any) -> Any:
        return mean_over_probes(
            lambda probe_key: once(classes, probe_key),
            require_key(quantity, method, key),
            method.num_probes,
        )

    reason = f"random signs on {classes.how}"
    return Choice("partial colouring", products, reason, products * product_cost(lin), run)


def _classes(lin: Linearization, kind: str, method: Probing) -> _Classes:
    count = method.num_products // method.num_probes
    return _FOUND.get((structural_key(lin), kind, count), lambda: _find(lin, kind, count))


def _find(lin: Linearization, kind: str, count: int) -> _Classes:
    try:
        relation, _, _ = dependence_of(lin)
    except LengthError as error:
        raise ColoringError(unreadable("Probing", error)) from error
    plan = partial_plan(
        relation, kind, count, forward=lin.no_forward is None, reverse=lin.no_reverse is None
    )
    return _Classes(plan.colors, plan.num_colors, plan.reverse, plan.how)


def _signs(lin: Linearization, classes: _Classes, key: Array) -> Float[Array, "N k"]:
    side, like = (lin.outputs, lin.value) if classes.reverse else (lin.inputs, lin.xs)
    return side.flatten(draw(key, like, "rademacher"))


def _diagonal(flat: FlatJacobian, classes: _Classes, key: Array) -> Float[Array, "N n"]:
    signs = _signs(flat.lin, classes, key)

    def part(number: Int[Array, ""]) -> Float[Array, "N n"]:
        vector, product = _product(flat, classes, signs, number)
        return vector * product

    return sum_chunked(part, classes.count, flat.chunk(None))


def _product(
    flat: FlatJacobian, classes: _Classes, signs: Float[Array, "N k"], number: Int[Array, ""]
) -> tuple[Float[Array, "N k"], Float[Array, "N m"]]:
    """The signs of one class, and the product with them."""
    mask = (jnp.asarray(classes.of, number.dtype) == number).astype(signs.dtype)
    vector = signs * mask[None, :]
    return vector, (flat.vjp if classes.reverse else flat.jvp)(vector)
