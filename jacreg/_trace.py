"""Diagonal and trace of a square Jacobian."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from . import _coloring as colored
from ._chain import chain_trace
from ._errors import DirectionError
from ._exact import exact_diagonal, exact_trace
from ._hutch_plus_plus import diag_plus_plus, hutch_plus_plus
from ._linearize import Linearization
from ._methods import Exact, Hutchinson, HutchPlusPlus, XTrace, require_key, select
from ._probes import draw, mean_over_probes
from ._structure import example_dot
from ._xtrace import xdiag, xtrace

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from ._typing import PyTree


def diagonal(
    lin: Linearization, method: Any = Exact(), *, key: Array | None = None
) -> Float[Array, "N *in"]:
    """Diagonal of each example's Jacobian, in the shape of its input.

    Args:
        lin: from `linearize`, of a function whose output has the input's shape.
        method: `Exact()` (n products), a `Coloring` (exact, as many products as
            colours), `Hutchinson(...)` (unbiased, v * J v), `HutchPlusPlus(...)` (Diag++) or
            `XTrace(...)` (XDiag), which take products in both directions.
        key: for the stochastic methods.

    Raises:
        ValueError: the Jacobian is not square, or a stochastic method has no key.
        TypeError: the method does not give a diagonal.
    """
    _check_square("diagonal", lin)
    found = select("diagonal", method, _DIAGONAL)
    return jax.tree.map(jnp.zeros_like, lin.value) if _is_empty(lin) else found(lin, method, key)


def divergence(
    lin: Linearization, method: Any = Exact(), *, key: Array | None = None
) -> Float[Array, " N"]:
    """Divergence of a vector field: the trace of each example's Jacobian.

    Args:
        lin: from `linearize`, of a function whose output has the input's shape.
        method: `Exact()` (n products), a `Coloring` (exact, as many products as
            colours), `Hutchinson(...)`, `HutchPlusPlus(...)` or `XTrace(...)`
            (unbiased). Networks of matrices or of up to four convolutions of stride 1 with
            elementwise functions between them take no product at all with the first two, unless
            a `chunk_size` asks for products; a time or a condition may stand beside the channels
            of any layer, and a few layers may be concatenated.
        key: for the stochastic methods.

    Raises:
        ValueError: the Jacobian is not square, or a stochastic method has no key.
        TypeError: the method does not give a trace.
    """
    _check_square("divergence", lin)
    found = select("divergence", method, _TRACE)
    if _is_empty(lin):
        return jnp.zeros((lin.num_examples,), lin.outputs.dtype)
    return found(lin, method, key)


def _is_empty(lin: Linearization) -> bool:
    """No example, or none with an entry: a sum of nothing."""
    return 0 in (lin.num_examples, lin.inputs.size)


def _check_square(quantity: str, lin: Linearization) -> None:
    inputs, outputs = lin.inputs, lin.outputs
    if inputs.treedef == outputs.treedef and inputs.shapes == outputs.shapes:
        return
    raise ValueError(
        f"{quantity}: the Jacobian must be square, with an output of the input's shape; got "
        f"{inputs.describe()} -> {outputs.describe()}. For a norm of a rectangular Jacobian use "
        "frobenius_squared; for a scalar field use laplacian."
    )


def _hutchinson_diagonal(lin: Linearization, method: Hutchinson, key: Any) -> PyTree:
    def sample(probe_key: Array) -> PyTree:
        probe = draw(probe_key, lin.xs, method.distribution)
        return jax.tree.map(lambda v, product: v * product, probe, either_product(lin, probe))

    return mean_over_probes(sample, require_key("diagonal", method, key), method.num_probes)


def either_product(lin: Linearization, probe: PyTree) -> PyTree:
    """J v, or J^T v where there is no forward mode: v^T J v is the same number."""
    first, second = (lin.vjp, lin.jvp) if lin.mode == "reverse" else (lin.jvp, lin.vjp)
    try:
        return first(probe)
    except DirectionError:
        return second(probe)


def _hutchinson_trace(lin: Linearization, method: Hutchinson, key: Any) -> Float[Array, " N"]:
    def sample(probe_key: Array) -> Float[Array, " N"]:
        probe = draw(probe_key, lin.xs, method.distribution)
        return example_dot(probe, either_product(lin, probe))

    return mean_over_probes(sample, require_key("divergence", method, key), method.num_probes)


def _exact_trace(lin: Linearization, method: Exact, key: Any) -> Float[Array, " N"]:
    found = chain_trace(lin, method.chunk_size)
    return exact_trace(lin, method, key) if found is None else found


_DIAGONAL: dict[type, Any] = {
    Exact: exact_diagonal,
    colored.Coloring: colored.diagonal,
    Hutchinson: _hutchinson_diagonal,
    HutchPlusPlus: diag_plus_plus,
    XTrace: xdiag,
}
_TRACE: dict[type, Any] = {
    Exact: _exact_trace,
    colored.Coloring: colored.trace,
    Hutchinson: _hutchinson_trace,
    HutchPlusPlus: hutch_plus_plus,
    XTrace: xtrace,
}
