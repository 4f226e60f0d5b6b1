"""A plan for exact diagonals, norms and Jacobians in few products, as a method."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._dependence import Fingerprint
from .._methods import Method
from ._file import load_coloring, save_coloring
from ._relation import Relation

QUANTITIES = ("divergence", "frobenius", "laplacian", "jacobian")
# What a plan for one quantity may serve.
KINDS = {
    "divergence": "diagonal",
    "laplacian": "diagonal",
    "frobenius": "columns",
    "jacobian": "columns",
}


# Functions of jacreg by the quantity whose colours serve them.
_SERVED = {
    "diagonal": "divergence",
    "hessian_diagonal": "laplacian",
    "frobenius_squared": "frobenius",
    "gram": "jacobian",
}


def quantity_name(who: str, quantity: Callable[..., Any] | str, names: Sequence[str]) -> str:
    """The name that a config uses of a quantity, which may be the function.

    Raises:
        ValueError: it is none of `names`.
    """
    function = getattr(quantity, "__name__", quantity)
    name = _SERVED.get(function, function) if isinstance(function, str) else function
    if not isinstance(name, str) or name not in names:
        raise ValueError(
            f"{who}: quantity must be one of {tuple(names)} or its function (jacreg.divergence), "
            f"got {quantity!r}."
        )
    return name


class ColoringError(ValueError):
    """A colouring does not fit the function it is used with, or numeric probes refute it.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> xs = jnp.ones((1, 4))
        >>> method = jacreg.color(jnp.square, xs)
        >>> try:
        ...     jacreg.divergence(jacreg.linearize(jnp.sin, xs), method)
        ... except jacreg.ColoringError:
        ...     print("made for another function")
        made for another function
    """


@dataclass(frozen=True, eq=False, repr=False)
class Coloring(Method):
    """Exact evaluation of a local function's Jacobian in `num_colors` products.

    Made by `color`, outside jit; static and hashable inside. It belongs to one function
    and one shape an example, whatever the batch size, and refuses others.

    Attributes:
        quantity: what it was made for: "divergence" (serves `diagonal` too), "laplacian",
            "frobenius" or "jacobian" (which serve each other).
        num_colors: products that the quantity takes.
        reverse: whether the products are J^T u rather than J v.
        is_dense: whether every entry may depend on every other, so that the exact dense
            path serves.
        how: how the colours were found, in words.
        dense_because: primitives that could not be read; where all could and it is dense, what
            made it so. Empty only where it is not dense.
        place: where the first of these stands in the file of the function, empty where unknown.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> xs = jnp.array([[1.0, 2.0, 3.0]])
        >>> method = jacreg.color(lambda xs: xs**2, xs)
        >>> method.num_colors, jacreg.divergence(jacreg.linearize(lambda xs: xs**2, xs), method)
        (1, Array([12.], dtype=float32))
    """

    quantity: str
    num_colors: int
    reverse: bool
    is_dense: bool
    how: str
    dense_because: tuple[str, ...]
    place: str
    in_shapes: tuple[tuple[int, ...], ...]
    out_shapes: tuple[tuple[int, ...], ...]
    num_examples: int
    fingerprint: Fingerprint
    colors: np.ndarray = field(repr=False)
    relation: Relation = field(repr=False)
    digest: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.colors.setflags(write=False)
        parts = (
            self.quantity, self.num_colors, self.reverse, self.is_dense,
            self.in_shapes, self.out_shapes, self.num_examples, tuple(self.fingerprint),
        )  # fmt: skip
        digest = hashlib.sha256(repr(parts).encode())
        digest.update(self.colors.tobytes())
        object.__setattr__(self, "digest", digest.hexdigest())

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Coloring) and self.digest == other.digest

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan to a file, an archive of NumPy arrays, for `Coloring.load`.

        It is written whole or not at all, and belongs to the same function as the plan.
        """
        save_coloring(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Coloring:
        """Read a plan that `save` wrote; nothing in the file is executed.

        It belongs to the function that it was made for, as before: with another it is
        refused, or read again, when it is used. The function is told by its traced program,
        which another version of JAX may write otherwise.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is torn, or none that `save` wrote.

        Example:
            >>> import tempfile, jax.numpy as jnp, jacreg
            >>> path = tempfile.mkdtemp() + "/coloring.npz"
            >>> coloring = jacreg.color(jnp.sin, jnp.ones((2, 12)))
            >>> coloring.save(path)
            >>> jacreg.Coloring.load(path) == coloring
            True
        """
        return load_coloring(path, cls)

    @property
    def kind(self) -> str:
        """ "diagonal" or "columns": which entries the colours keep apart."""
        return KINDS[self.quantity]

    def __repr__(self) -> str:
        size = sum(int(np.prod(s)) for s in self.in_shapes)
        product = "J^T u" if self.reverse else "J v"
        text = (
            f"Coloring({self.quantity}: {self.num_colors} products {product} in place of {size}, "
            f"{'dense' if self.is_dense else self.how}, input {_shapes(self.in_shapes)}, "
            f"output {_shapes(self.out_shapes)}, function {self.fingerprint.structure[:8]}"
        )
        if self.dense_because:
            text += f"; dense through {', '.join(self.dense_because)}"
        return text + ")"


def _shapes(shapes: tuple[tuple[int, ...], ...]) -> str:
    return str(list(shapes[0])) if len(shapes) == 1 else str([list(s) for s in shapes])
