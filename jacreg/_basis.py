"""Products with every basis vector, in chunks of bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from ._errors import DirectionError
from ._linearize import Linearization
from ._memory import check_fits, is_symbolic, known_size
from ._program import FORWARD, REVERSE
from ._sharding import is_spread, match_sharding
from ._structure import BatchStructure

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

    from ._typing import PyTree

# Entries of all tangents of a chunk together: 64 MiB in float32, and a network's
# activations are a small multiple of that.
AUTOMATIC_ENTRIES = 1 << 24
# Convolutions of more rows gain nothing on a CPU, where one after the other stays in its caches,
# and little where there is more to keep busy.
_CONVOLVED_ROWS = 64


class FlatJacobian:
    """A Linearization seen as one matrix an example, `[N, M, n]`, never formed."""

    def __init__(self, lin: Linearization) -> None:
        self.lin = lin
        self.inputs: BatchStructure = lin.inputs
        self.outputs: BatchStructure = lin.outputs
        self.num_examples = lin.num_examples

    @cached_property
    def one_by_one(self) -> bool:
        """Whether products must be taken one after the other.

        A vmap over tangents merges with the batch axis inside convolutions, which would gather a
        batch that is spread over devices; and checks in a derivative do not stand it.
        """
        return is_spread(self.lin.xs) or self.lin.stays_alone

    @property
    def side_by_side(self) -> bool:
        """Whether vectors may stand beside examples, of which there must be a known number."""
        return not (self.one_by_one or is_symbolic(self.num_examples))

    def jvp(self, tangent: Float[Array, "N n"]) -> Float[Array, "N M"]:
        """J v on flat vectors."""
        tree = jax.tree.map(match_sharding, self.inputs.unflatten(tangent), self.lin.xs)
        return self.outputs.flatten(self.lin.jvp(tree))

    def vjp(self, cotangent: Float[Array, "N M"]) -> Float[Array, "N n"]:
        """J^T u on flat vectors."""
        tree = jax.tree.map(match_sharding, self.outputs.unflatten(cotangent), self.lin.value)
        return self.inputs.flatten(self.lin.vjp(tree))

    def either(self, vector: Float[Array, "N n"]) -> Float[Array, "N n"]:
        """J v of a square Jacobian, or J^T v where there is no forward mode."""
        reverse = direction(self.lin, reverse_first=self.lin.mode == "reverse") == REVERSE
        return (self.vjp if reverse else self.jvp)(vector)

    def check_both_directions(self) -> None:
        """Raise the DirectionError of the direction that the function lacks, if any."""
        if self.lin.no_forward is not None:
            self.lin.jvp(self.lin.xs)
        if self.lin.no_reverse is not None:
            self.lin.vjp(self.lin.value)

    def column(self, index: Int[Array, ""]) -> Float[Array, "N M"]:
        """J e_i for every example."""
        return self.jvp(self._basis(index, self.inputs))

    def row(self, index: Int[Array, ""]) -> Float[Array, "N n"]:
        """J^T e_i for every example."""
        return self.vjp(self._basis(index, self.outputs))

    def _basis(self, index: Int[Array, ""], side: BatchStructure) -> Float[Array, "N k"]:
        vector = (jnp.arange(side.size) == index).astype(side.dtype)
        return jnp.broadcast_to(vector, (self.num_examples, side.size))

    def chunk(self, chunk_size: int | None) -> int:
        """Tangents to evaluate at once: as asked, or bounded by their own size.

        One at a time where `one_by_one` says so.
        """
        if self.one_by_one:
            return 1
        examples = known_size(self.num_examples)
        entries = max(1, examples * max(self.inputs.size, self.outputs.size))
        if not examples * self.inputs.size * self.outputs.size:
            return AUTOMATIC_ENTRIES
        if chunk_size is not None:
            count = min(chunk_size, max(self.inputs.size, self.outputs.size))
            check_fits(
                "chunk_size",
                f"{count} tangents at once",
                (count, entries),
                self.outputs.dtype,
                f"Take a smaller one, such as chunk_size={max(1, AUTOMATIC_ENTRIES // entries)}, "
                "or None, which bounds the memory by itself.",
            )
            return chunk_size
        most = max(1, AUTOMATIC_ENTRIES // entries)
        return min(most, max(1, _CONVOLVED_ROWS // examples)) if self.lin.convolves else most


def map_chunked(
    fn: Callable[[Int[Array, ""]], PyTree], indices: Int[Array, " k"], chunk: int
) -> PyTree:
    """Stack `fn(i)` over `indices`, `chunk` at a time.

    More than one chunk is rematerialised under reverse-mode differentiation:
    otherwise the saved residuals of all chunks would undo the bound on memory.
    """
    count = indices.shape[0]
    if count == 1:
        return jax.tree.map(lambda x: x[None], fn(indices[0]))
    if chunk >= count:
        return jax.vmap(fn)(indices)
    body = jax.checkpoint(fn)
    if chunk == 1:
        return jax.lax.map(body, indices)
    return jax.lax.map(body, indices, batch_size=chunk)


def sum_chunked(
    fn: Callable[[Int[Array, ""]], Float[Array, "*shape"]], count: int, chunk: int
) -> Float[Array, "*shape"]:
    """Sum `fn(i)` over `range(count)`, `chunk` at a time."""
    return jnp.sum(map_chunked(fn, jnp.arange(count), chunk), axis=0)


def prefer_reverse(lin: Linearization) -> bool:
    """Whether rows (J^T e_i) are the cheaper way to all entries; columns on a tie."""
    if lin.mode != "both":
        return lin.mode == "reverse"
    return lin.outputs.size < lin.inputs.size


def direction(lin: Linearization, *, reverse_first: bool) -> str:
    """Return "forward" or "reverse": the preferred one, or the other where it is missing.

    Raises:
        DirectionError: the function has neither.
    """
    if reverse_first and lin.no_reverse is None:
        return REVERSE
    if lin.no_forward is None:
        return FORWARD
    if lin.no_reverse is None:
        return REVERSE
    raise DirectionError(
        f"this function has no forward-mode derivative ({lin.no_forward}). And the other "
        f"direction: it has no reverse-mode derivative ({lin.no_reverse})."
    )


def first_direction(
    lin: Linearization,
    forward: Callable[[], PyTree],
    reverse: Callable[[], PyTree],
    *,
    reverse_first: bool,
) -> PyTree:
    """Run the preferred direction, or the other where the function lacks it.

    Raises:
        DirectionError: the function has neither.
    """
    return (reverse if direction(lin, reverse_first=reverse_first) == REVERSE else forward)()
