"""Laplacian and diagonal of the Hessian of a scalar field, example by example."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from . import _coloring as colored
from ._chain import check_hessian_readable, convolves, trace_by_closed_form
from ._choice import Choice, Quantity, Unfit, check_worth, product_cost
from ._linearize import Linearization
from ._methods import Auto, Exact, Hutchinson, HutchPlusPlus, Method, XTrace, require_key
from ._of_gradient import (
    apart_of_gradient,
    closed_by_convolutions,
    gradient_forgets,
    of_gradient,
)
from ._scalar_field import check_scalar_field
from ._second_order import (
    diagonal_forward,
    diagonal_in_parts,
    laplacian_forward,
    laplacian_in_parts,
)
from ._structure import example_dot
from ._trace import DIAGONAL, DIVERGENCE

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from ._choice import Way
    from ._typing import PyTree


def laplacian(
    lin: Linearization,
    method: Method = Auto(),
    *,
    key: Array | None = None,
    weights: PyTree | None = None,
) -> Float[Array, " N"]:
    """Laplacian of a scalar field, the trace of each example's Hessian: div grad.

    `lin.value` is the field and `lin.vjp(jnp.ones(N))` its gradient, from the same Linearization.

    Args:
        lin: from `linearize(fn, xs, *args)` of a field `[N, *in] -> [N]`, one number an example (an
            energy, a log density); a time or a condition goes in as an argument.
        method: `Auto()` (exact, the cheapest way: as a rule a forward Laplacian, which carries
            value, directions and the sum of second derivatives through the program once; colours
            of the gradient where convolutions stand behind norms of a large image);
            `Exact()` (one Hessian-vector product an entry of x), a `Coloring` made with
            `quantity="laplacian"` (exact), `Hutchinson(...)`, `HutchPlusPlus(...)` or
            `XTrace(...)` (unbiased), as `divergence` of the gradient.
        key: for the stochastic methods.
        weights: `[*in]` or `[N, *in]` (in the tree of `xs`): sum_i w_i H_ii in place of the trace.

    Raises:
        ValueError: the function does not return one number an example, weights of another shape,
            or a key is missing.
        TypeError: no Linearization, or the method does not give a trace.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: (xs**2).sum(axis=1), jnp.ones((2, 3)))
        >>> jacreg.laplacian(lin).tolist()
        [6.0, 6.0]
    """
    check_scalar_field("laplacian", lin)
    found = LAPLACIAN if weights is None else _laplacian(_checked(weights, lin))
    return found.decide(lin, method).run(key)


def hessian_diagonal(
    lin: Linearization, method: Method = Auto(), *, key: Array | None = None
) -> Float[Array, "N *in"]:
    """Second derivatives of a scalar field by each entry of its input, the Hessian's diagonal.

    Args:
        lin: from `linearize(fn, xs, *args)` of a field `[N, *in] -> [N]`.
        method: as for `laplacian`; the stochastic ones as for `diagonal`.
        key: for the stochastic methods.

    Raises:
        ValueError: the function does not return one number an example, or a key is missing.
        TypeError: no Linearization, or the method does not give a diagonal.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: jnp.sum(xs**3, axis=1), jnp.array([[1.0, 2.0]]))
        >>> jacreg.hessian_diagonal(lin)
        Array([[ 6., 12.]], dtype=float32)
    """
    return HESSIAN_DIAGONAL.decide(lin, method).run(key)


def _checked(weights: PyTree, lin: Linearization) -> PyTree:
    """Weights of every example, `[N, *in]`."""
    if jax.tree.structure(weights) != jax.tree.structure(lin.xs):
        raise ValueError(
            f"laplacian: weights must have the tree structure of xs, "
            f"{jax.tree.structure(lin.xs)}, got {jax.tree.structure(weights)}."
        )

    def each(weight: Any, x: Array) -> Array:
        weight = jnp.asarray(weight, x.dtype)
        if weight.shape not in (x.shape, x.shape[1:]):
            raise ValueError(
                f"laplacian: weights must have shape {x.shape[1:]}, one for each entry of x, or "
                f"{x.shape}, one for each entry and example; got {weight.shape}."
            )
        return jnp.broadcast_to(weight, x.shape)

    return jax.tree.map(each, weights, lin.xs)


def _of_gradient(name: str, quantity: Quantity, weights: PyTree | None) -> Way:
    """A way of the gradient's divergence or diagonal."""

    def way(lin: Linearization, method: Any, limit: float) -> Choice:
        choice = of_gradient(lin, weights, lambda field: quantity.decide(field, method))
        if isinstance(method, Auto | Exact | colored.Coloring):
            return choice
        return replace(choice, run=lambda key: choice.run(require_key(name, method, key)))

    return way


def _by_colors(weights: PyTree | None) -> Way:
    """Colours are those of the gradient itself, so weights come after the products."""

    def way(lin: Linearization, method: Any, limit: float) -> Choice:
        quantity = DIVERGENCE if weights is None else DIAGONAL
        choice = of_gradient(lin, None, lambda field: quantity.decide(field, method))
        return choice if weights is None else _weighted(choice, weights)

    return way


def _weighted(choice: Choice, weights: PyTree) -> Choice:
    return replace(choice, run=lambda key: example_dot(weights, choice.run(key)))


def _trace_otherwise(weights: PyTree | None) -> Way:
    """What `Auto()` does with the gradient's divergence.

    Where there is a forward Laplacian, a closed form alone may take less: products with the
    gradient cost a multiple of it, for no fewer directions.
    """

    def way(lin: Linearization, method: Any, limit: float) -> Choice:
        check_worth(product_cost(lin), limit, "a closed form")
        if limit < float("inf"):
            if convolves(lin):
                raise Unfit("no closed form of convolutions")
            check_hessian_readable(lin)

        def decide(gradient: Linearization) -> Choice:
            if limit < float("inf"):
                return trace_by_closed_form(gradient, method, limit)
            return DIVERGENCE.decide(gradient, method)

        return of_gradient(lin, weights, decide)

    return way


def _laplacian(weights: PyTree | None) -> Quantity:
    def forward(lin: Linearization, method: Any, limit: float) -> Choice:
        found = closed_by_convolutions(lin, weights) or apart_of_gradient(
            lin, weights, colored.trace_by_values_apart
        )
        if found is not None:
            return found
        if weights is None:
            return laplacian_forward(lin, method, limit)
        return _weighted(diagonal_forward(lin, method, limit), weights)

    def in_parts(lin: Linearization, method: Any, limit: float) -> Choice:
        if weights is None:
            return laplacian_in_parts(lin, method, limit)
        return _weighted(diagonal_in_parts(lin, method, limit), weights)

    by_gradient = _of_gradient("laplacian", DIVERGENCE, weights)
    return Quantity(
        "laplacian",
        {
            Exact: by_gradient,
            colored.Coloring: _by_colors(weights),
            Hutchinson: by_gradient,
            HutchPlusPlus: by_gradient,
            XTrace: by_gradient,
        },
        auto=(forward, _trace_otherwise(weights), in_parts),
        check=check_scalar_field,
        empty=lambda lin: jnp.zeros((lin.num_examples,), lin.outputs.dtype),
    )


def _diagonal_otherwise(lin: Linearization, method: Any, limit: float) -> Choice:
    """What `Auto()` does with the gradient's diagonal."""
    check_worth(product_cost(lin), limit, "the gradient's derivative")
    if limit < float("inf") and gradient_forgets(lin.program.jaxpr):
        raise Unfit("JAX's gradient of a loop forgets the derivative rules of functions in it")
    return _DIAGONAL_WAY(lin, method, limit)


def _diagonal_at_once(lin: Linearization, method: Any, limit: float) -> Choice:
    found = apart_of_gradient(lin, None, colored.diagonal_by_values_apart)
    # Nothing else is weighed: it would trace the gradient once more.
    return diagonal_forward(lin, method, limit) if found is None else replace(found, cost=0.0)


LAPLACIAN = _laplacian(None)
_DIAGONAL_WAY = _of_gradient("hessian_diagonal", DIAGONAL, None)
HESSIAN_DIAGONAL = Quantity(
    "hessian_diagonal",
    dict.fromkeys((Exact, colored.Coloring, Hutchinson, HutchPlusPlus, XTrace), _DIAGONAL_WAY),
    auto=(_diagonal_at_once, _diagonal_otherwise, diagonal_in_parts),
    check=check_scalar_field,
    empty=lambda lin: jax.tree.map(jnp.zeros_like, lin.xs),
)
