"""Laplacian and diagonal of the Hessian of a scalar field, example by example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from . import _coloring as colored
from ._chain import check_hessian_readable, convolves, trace_by_closed_form
from ._choice import Choice, Quantity, Unfit, check_worth, product_cost
from ._errors import DirectionError
from ._interpret import contains, mentions
from ._linearize import Linearization
from ._methods import Auto, Exact, Hutchinson, HutchPlusPlus, Method, XTrace, require_key
from ._scalar_field import check_scalar_field, gradient_field
from ._second_order import (
    diagonal_forward,
    diagonal_in_parts,
    laplacian_forward,
    laplacian_in_parts,
)
from ._structure import example_dot
from ._trace import DIAGONAL, DIVERGENCE
from ._traced import is_traced

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
            value, directions and the sum of second derivatives through the program once);
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


def _of_gradient_found(
    lin: Linearization, weights: PyTree | None, decide: Callable[[Linearization], Choice]
) -> Choice:
    """What is decided for the gradient.

    Outside of a trace the gradient's derivative would be computed, operation by operation, for a
    choice that reads its program alone; so that is traced, and computed once the choice is run.
    """

    def of_gradient() -> Choice:
        return decide(gradient_field(lin, weights))

    if any(map(is_traced, jax.tree.leaves(lin))):
        return of_gradient()
    found: list[Choice | Exception] = []

    def attempt() -> tuple[()]:
        # Nothing that was traced leaves: neither in what runs the choice nor in an error's frames.
        try:
            found.append(replace(of_gradient(), run=lambda key: of_gradient().run(key)))
        except (Unfit, TypeError, ValueError) as error:
            found.append(type(error)(*error.args))
        return ()

    jax.make_jaxpr(attempt)()
    (outcome,) = found
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _of_gradient(name: str, quantity: Quantity, weights: PyTree | None) -> Way:
    """A way of the gradient's divergence or diagonal."""

    def way(lin: Linearization, method: Any, limit: float) -> Choice:
        choice = _of_gradient_found(lin, weights, lambda field: quantity.decide(field, method))
        if isinstance(method, Auto | Exact | colored.Coloring):
            return choice
        return replace(choice, run=lambda key: choice.run(require_key(name, method, key)))

    return way


def _by_colors(weights: PyTree | None) -> Way:
    """Colours are those of the gradient itself, so weights come after the products."""

    def way(lin: Linearization, method: Any, limit: float) -> Choice:
        quantity = DIVERGENCE if weights is None else DIAGONAL
        choice = _of_gradient_found(lin, None, lambda field: quantity.decide(field, method))
        return choice if weights is None else _weighted(choice, weights)

    return way


def _weighted(choice: Choice, weights: PyTree) -> Choice:
    return replace(choice, run=lambda key: example_dot(weights, choice.run(key)))


def _closed_by_convolutions(lin: Linearization, weights: PyTree | None) -> Choice | None:
    """The closed trace of a field of few convolutions, None where there is none.

    The ranking of `Auto()` cannot say this, as it counts operations: of two layers the closed form
    has 1.04 to 1.35 times as many as all directions carried forward, and takes at most 0.6 of
    their time (images of 8 to 16 pixels; of 6, 1.2 times), as those pass through memory.
    """
    if not convolves(lin):
        return None
    try:
        check_hessian_readable(lin)
        return _of_gradient_found(
            lin, weights, lambda gradient: trace_by_closed_form(gradient, Auto(), float("inf"))
        )
    except (Unfit, DirectionError):
        return None


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

        return _of_gradient_found(lin, weights, decide)

    return way


def _laplacian(weights: PyTree | None) -> Quantity:
    def forward(lin: Linearization, method: Any, limit: float) -> Choice:
        closed = _closed_by_convolutions(lin, weights)
        if closed is not None:
            return closed
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
    if limit < float("inf") and _gradient_forgets(lin.program.jaxpr):
        raise Unfit("JAX's gradient of a loop forgets the derivative rules of functions in it")
    return _DIAGONAL_WAY(lin, method, limit)


def _gradient_forgets(jaxpr: Any) -> bool:
    """Whether the derivative of JAX's gradient may not be the second derivative.

    Where JAX before 0.12 takes a loop apart for reverse mode, what it evaluates first has the
    functions with a rule of their own (`jax.custom_jvp`) as they are, without it.
    """

    def with_rule(equation: Any) -> bool:
        return equation.primitive.name == "scan" and mentions(
            equation.params["jaxpr"].jaxpr, "custom_jvp_call"
        )

    return contains(jaxpr, with_rule)


LAPLACIAN = _laplacian(None)
_DIAGONAL_WAY = _of_gradient("hessian_diagonal", DIAGONAL, None)
HESSIAN_DIAGONAL = Quantity(
    "hessian_diagonal",
    dict.fromkeys((Exact, colored.Coloring, Hutchinson, HutchPlusPlus, XTrace), _DIAGONAL_WAY),
    auto=(diagonal_forward, _diagonal_otherwise, diagonal_in_parts),
    check=check_scalar_field,
    empty=lambda lin: jax.tree.map(jnp.zeros_like, lin.xs),
)
