"""Diagonal and trace of a square Jacobian."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from . import _coloring as colored
from ._basis import direction
from ._chain import diagonal_by_closed_form, trace_by_closed_form
from ._choice import Quantity, from_products
from ._exact import diagonal_by_products, trace_by_products
from ._hutch_plus_plus import diag_plus_plus, hutch_plus_plus, hutch_plus_plus_products
from ._linearize import Linearization
from ._methods import Auto, Exact, Hutchinson, HutchPlusPlus, Method, Probing, XTrace, require_key
from ._probes import draw, mean_over_probes
from ._program import REVERSE
from ._structure import example_dot
from ._xtrace import xdiag, xtrace, xtrace_products

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from ._typing import PyTree


def diagonal(
    lin: Linearization, method: Method = Auto(), *, key: Array | None = None
) -> Float[Array, "N *in"]:
    """Diagonal of each example's Jacobian, in the shape of its input.

    Args:
        lin: from `linearize`, of a function whose output has the input's shape.
        method: `Auto()` (exact, the cheapest way that the program allows), `Exact()` (n products),
            a `Coloring` (exact, as many products as colours), `Hutchinson(...)` (unbiased,
            v * J v), `HutchPlusPlus(...)` (Diag++) or `XTrace(...)` (XDiag), which take products
            in both directions, or `Probing(...)` (signs on a part of the colours).
        key: for the stochastic methods.

    Raises:
        ValueError: the Jacobian is not square, or a stochastic method has no key.
        TypeError: the method does not give a diagonal.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: xs**2, jnp.array([[1.0, 2.0, 3.0]]))
        >>> jacreg.diagonal(lin)
        Array([[2., 4., 6.]], dtype=float32)
    """
    return DIAGONAL.decide(lin, method).run(key)


def divergence(
    lin: Linearization, method: Method = Auto(), *, key: Array | None = None
) -> Float[Array, " N"]:
    """Divergence of a vector field: the trace of each example's Jacobian.

    Args:
        lin: from `linearize`, of a function whose output has the input's shape.
        method: `Auto()` (exact, the cheapest way that the program allows; networks of matrices or
            of up to four convolutions of stride 1 with elementwise functions between them take no
            product at all; a time or a condition may stand beside the channels of any layer, and
            a few layers may be concatenated; of local networks the derivatives of each layer by
            what it sees and is needed for are carried through, or they take a product a colour,
            and two for each mean of a group norm), `Exact()` (n products), a `Coloring` (exact, as
            many products as colours), `Hutchinson(...)`, `HutchPlusPlus(...)`, `XTrace(...)` or
            `Probing(...)` (unbiased).
        key: for the stochastic methods.

    Raises:
        ValueError: the Jacobian is not square, or a stochastic method has no key.
        TypeError: the method does not give a trace.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: xs**2, jnp.array([[1.0, 2.0, 3.0]]))
        >>> jacreg.divergence(lin)
        Array([12.], dtype=float32)
    """
    return DIVERGENCE.decide(lin, method).run(key)


def _check_square(quantity: str, lin: Linearization) -> None:
    inputs, outputs = lin.inputs, lin.outputs
    if inputs.treedef == outputs.treedef and inputs.shapes == outputs.shapes:
        return
    raise ValueError(
        f"{quantity}: the Jacobian must be square, with an output of the input's shape; got "
        f"{inputs.describe()} -> {outputs.describe()}. For a norm of a rectangular Jacobian use "
        f"frobenius_squared; for a scalar field use laplacian.{_swapped(lin)}"
    )


def _swapped(lin: Linearization) -> str:
    """Said where an argument, not the batch, has the output's shape."""
    shapes = [arg.shape[1:] for arg in jax.tree.leaves(lin.args) if arg.ndim]
    if lin.outputs.shapes[0] not in shapes:
        return ""
    return (
        " An argument has the output's shape: the batch to differentiate comes first and the time "
        "after it, linearize(fn, xs, ts), or linearize(lambda x, t: fn(t, x), xs, ts)."
    )


def _hutchinson_diagonal(lin: Linearization, method: Hutchinson, key: Any) -> PyTree:
    def sample(probe_key: Array) -> PyTree:
        probe = draw(probe_key, lin.xs, method.distribution)
        return jax.tree.map(lambda v, product: v * product, probe, either_product(lin, probe))

    return mean_over_probes(sample, require_key("diagonal", method, key), method.num_probes)


def either_product(lin: Linearization, probe: PyTree) -> PyTree:
    """J v, or J^T v where there is no forward mode: v^T J v is the same number."""
    reverse = direction(lin, reverse_first=lin.mode == "reverse") == REVERSE
    return (lin.vjp if reverse else lin.jvp)(probe)


def _hutchinson_trace(lin: Linearization, method: Hutchinson, key: Any) -> Float[Array, " N"]:
    def sample(probe_key: Array) -> Float[Array, " N"]:
        probe = draw(probe_key, lin.xs, method.distribution)
        return example_dot(probe, either_product(lin, probe))

    return mean_over_probes(sample, require_key("divergence", method, key), method.num_probes)


def _num_probes(lin: Linearization, method: Any) -> int:
    return method.num_probes


DIAGONAL = Quantity(
    "diagonal",
    {
        Exact: diagonal_by_products,
        colored.Coloring: colored.diagonal,
        Hutchinson: from_products(_num_probes, _hutchinson_diagonal, "one a probe"),
        HutchPlusPlus: from_products(
            hutch_plus_plus_products, diag_plus_plus, "a third each for sketch, basis and probes"
        ),
        XTrace: from_products(xtrace_products, xdiag, "half sketch, half test"),
        Probing: colored.diagonal_by_probing,
    },
    auto=(diagonal_by_closed_form, diagonal_by_products, colored.diagonal_by_found_colors),
    check=_check_square,
    empty=lambda lin: jax.tree.map(jnp.zeros_like, lin.value),
)
DIVERGENCE = Quantity(
    "divergence",
    {
        Exact: trace_by_products,
        colored.Coloring: colored.trace,
        Hutchinson: from_products(_num_probes, _hutchinson_trace, "one a probe"),
        HutchPlusPlus: from_products(
            hutch_plus_plus_products, hutch_plus_plus, "a third each for sketch, basis and probes"
        ),
        XTrace: from_products(xtrace_products, xtrace, "half sketch, half test"),
        Probing: colored.trace_by_probing,
    },
    auto=(trace_by_closed_form, trace_by_products, colored.trace_by_found_colors),
    check=_check_square,
    empty=lambda lin: jnp.zeros((lin.num_examples,), lin.outputs.dtype),
)
