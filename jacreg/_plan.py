"""What a call would do, without doing it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import _frobenius, _gram, _jacobian, _laplacian, _pseudo_determinant, _trace
from ._choice import Quantity
from ._linearize import Linearization, check_linearization

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._methods import Method


@dataclass(frozen=True)
class Plan:
    """What a quantity does for one Linearization and one method.

    Attributes:
        path: short name of the way: "closed form", "forward Laplacian", "local directions" (no
            product), "colouring", "products", "finite differences", "empty".
        num_products: J v and J^T u of the whole network that it takes, 0 where it takes none.
        reason: what was read in the program, or the first operation that stood in the way of
            anything cheaper, with its place in the file where the function was written.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: xs**2, jnp.array([[1.0, 2.0, 3.0]]))
        >>> found = jacreg.plan(jacreg.divergence, lin, jacreg.Exact())
        >>> found.path, found.num_products
        ('products', 3)
    """

    path: str
    num_products: int
    reason: str

    def __str__(self) -> str:
        rows = {"path": self.path, "products": str(self.num_products), "reason": self.reason}
        return "\n".join(f"{name:<10}{value}" for name, value in rows.items())


def plan(quantity: Callable[..., Any], lin: Linearization, method: Method | None = None) -> Plan:
    """Return what `quantity(lin, method)` would do, without doing it.

    The call decides by the same function, so what is said here is what it does, under jit too.

    Args:
        quantity: `jacreg.divergence`, `diagonal`, `frobenius_squared`, `jacobian`, `gram` (of one
            Linearization), `laplacian`, `hessian_diagonal` or `log_pseudo_determinant`.
        lin: from `linearize`.
        method: as for the quantity; left out, the one that the quantity takes then.

    Raises:
        TypeError: no such quantity, or a method that does not give it.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> weights = jnp.ones((5, 5))
        >>> lin = jacreg.linearize(lambda xs: jnp.tanh(xs @ weights), jnp.ones((2, 5)))
        >>> jacreg.plan(jacreg.divergence, lin).num_products
        0
    """
    found = quantity_of(quantity)
    if found is None:
        names = ", ".join(each.__name__ for each in _QUANTITIES)
        name = getattr(quantity, "__name__", None) or f"an object of {type(quantity).__name__}"
        raise TypeError(
            f"plan: quantity must be one of the functions {names}; got {name}. Write "
            "jacreg.plan(jacreg.divergence, lin, method); of a loss, with the quantity in it and "
            "the loss's method: frobenius_squared and Projection() of a Jacobian penalty, "
            "divergence of score matching."
        )
    check_linearization("plan", lin)
    if method is None:
        method = inspect.signature(quantity).parameters["method"].default
    choice = found.decide(lin, method)
    return Plan(choice.path, choice.num_products, choice.why)


def quantity_of(function: Any) -> Quantity | None:
    """What a public function gives; None where it is none of the quantities."""
    # By identity: what is passed by mistake, an array for instance, may have no hash.
    return next((found for each, found in _QUANTITIES.items() if each is function), None)


_QUANTITIES: Mapping[Callable[..., Any], Quantity] = {
    _trace.divergence: _trace.DIVERGENCE,
    _trace.diagonal: _trace.DIAGONAL,
    _frobenius.frobenius_squared: _frobenius.NORM,
    _jacobian.jacobian: _jacobian.JACOBIAN,
    _gram.gram: _gram.quantity(),
    _laplacian.laplacian: _laplacian.LAPLACIAN,
    _laplacian.hessian_diagonal: _laplacian.HESSIAN_DIAGONAL,
    _pseudo_determinant.log_pseudo_determinant: _pseudo_determinant.DETERMINANT,
}
