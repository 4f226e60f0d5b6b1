"""What is static about a Linearization: the traced function and its linear program."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax
import jax.extend.core as jex

from ._batched import first_unbatched
from ._flops import count_program
from ._interpret import calls_back, mentions, without_arrays
from ._signature import Signature
from ._transposable import is_transposable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Array

    from ._typing import PyTree

FORWARD, REVERSE = "forward", "reverse"


class Directions(frozenset[str]):
    """Those of "forward" (J v) and "reverse" (J^T u) that a function has.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> jacreg.linearize(jnp.sin, jnp.ones((1, 2))).directions
        Directions(forward=True, reverse=True)
    """

    @property
    def forward(self) -> bool:
        """Whether there is J v."""
        return FORWARD in self

    @property
    def reverse(self) -> bool:
        """Whether there is J^T u."""
        return REVERSE in self

    def __repr__(self) -> str:
        return f"Directions(forward={self.forward}, reverse={self.reverse})"


class Program:
    """A traced function and its derivative, without any array.

    Two are equal where they hold the same operations, whichever trace made them, so that a
    jitted function which takes a Linearization is traced once for all batches.

    Attributes:
        jaxpr: the function, of the leaves of `(xs, *args)`.
        linear: its derivative in `xs`, of the leaves of a tangent.
        tangents: which inputs of `linear` these are; constants may be inputs too.
        out_tree: of what the function returned.
        has_aux: whether that is `(ys, aux)`.
        mode: the hint of `linearize`.
        left_out: whether a condition leaves out factors of the derivative that may not be finite.
    """

    def __init__(
        self, jaxpr: Any, linear: Any, out_tree: Any, has_aux: bool, mode: Any, left_out: bool
    ) -> None:
        self.jaxpr = without_arrays(jaxpr)
        self.linear = without_arrays(linear)
        constants = len(self.linear.invars) - len(linear.invars)
        self.tangents = [False] * constants + [True] * len(linear.invars)
        self.out_tree = out_tree
        self.has_aux = has_aux
        self.mode = mode
        self.left_out = left_out
        self._reverse: list[str | None] = []
        self._reverse_stays_alone = False

    @cached_property
    def signature(self) -> Signature:
        """What two programs are compared by."""
        static = (self.out_tree, self.has_aux, self.mode)
        return Signature(static, Signature.of(self.jaxpr, self.linear))

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Program) and self.signature == other.signature

    def __hash__(self) -> int:
        return hash(self.signature)

    @cached_property
    def operations(self) -> int:
        """Operations of one product J v."""
        return count_program(self.linear)

    @cached_property
    def convolves(self) -> bool:
        """Whether the function has a convolution."""
        return mentions(self.jaxpr, "conv_general_dilated")

    def closed(self, consts: Sequence[Array]) -> Any:
        """The function's program, whose inputs are the leaves of `(xs, *args)` and no constants."""
        return jex.ClosedJaxpr(self.jaxpr, list(consts))

    def tangent(self, residuals: Sequence[Array], tangent: PyTree, value: PyTree) -> PyTree:
        """J v as JAX wrote it, in the tree of `value`."""
        closed = jex.ClosedJaxpr(self.linear, list(residuals))
        outs = jex.jaxpr_as_fun(closed)(*jax.tree.leaves(tangent))
        return jax.tree.unflatten(jax.tree.structure(value), outs)

    def returned(self, outs: Sequence[Array]) -> PyTree:
        """What the function returned, without what it returned beside it, of its outputs."""
        found = jax.tree.unflatten(self.out_tree, outs)
        return found[0] if self.has_aux else found

    @cached_property
    def no_forward(self) -> str | None:
        """Why there is no J v, None where there is."""
        # Only reverse mode can follow it; JAX notices when it is evaluated.
        return "it has a custom VJP" if mentions(self.linear, "custom_lin") else None

    def no_reverse(self, xs: PyTree, value: PyTree, residuals: Sequence[Array]) -> str | None:
        """Why there is no J^T u, None where there is. Transposed once at most, on shapes alone."""
        if self._plainly_transposed:
            return None
        if not self._reverse:
            self._reverse.append(self._transposition_fault(xs, value, residuals))
        return self._reverse[0]

    @cached_property
    def _plainly_transposed(self) -> bool:
        return is_transposable(self.linear, self.tangents)

    def stays_alone(self, xs: PyTree, value: PyTree, residuals: Sequence[Array]) -> bool:
        """Whether a product, in either direction, cannot be taken beside another by `jax.vmap`."""
        if self.forward_stays_alone:
            return True
        # The program of a custom VJP shows when it is transposed.
        return self.no_reverse(xs, value, residuals) is None and self._reverse_stays_alone

    @cached_property
    def forward_stays_alone(self) -> bool:
        """The same of J v alone, for which nothing is traced."""
        return _stays_alone(self.linear, self.tangents)

    def _transposition_fault(
        self, xs: PyTree, value: PyTree, residuals: Sequence[Array]
    ) -> str | None:
        def transposed(xs: PyTree, value: PyTree, residuals: Sequence[Array]) -> PyTree:
            return jax.linear_transpose(lambda t: self.tangent(residuals, t, value), xs)(value)

        try:
            found = jax.make_jaxpr(transposed)(xs, value, list(residuals))
            counts = [len(jax.tree.leaves(each)) for each in (xs, value, list(residuals))]
            along = [place == 1 for place, count in enumerate(counts) for _ in range(count)]
            self._reverse_stays_alone = _stays_alone(found.jaxpr, along)
        except AssertionError:
            # JAX asserts that one factor of a product is no tangent, and where an operation carries
            # value and tangent together (a window with a function of one's own) neither is.
            return "as JAX writes its derivative, that is no linear program"
        except (TypeError, ValueError, NotImplementedError) as error:
            text = str(error).strip()
            return text.splitlines()[0][:200] if text else type(error).__name__
        return None


def _stays_alone(linear: Any, along: list[bool]) -> bool:
    """Whether it leaves JAX, or has an operation without a rule for several vectors."""
    return calls_back(linear) or first_unbatched(linear, along) is not None
