"""Sparse matrices of truth values: which row sees which column.

Most of a network's are small, of one axis, and there are hundreds of them: what a general library
checks and converts at each operation takes many times as long as the operation.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# Places of a result that are marked one by one, so that what is found several times is not sorted:
# so many at least, and for each that is found.
_MOST_MARKED, _MARKED_EACH = 1 << 20, 8
# Products of entries, or words of packed rows, that are held at once.
_MOST_PAIRS = 1 << 23
# Where many entries meet, rows are packed into words of 64: so many pairs at least, each of which
# takes about as long as a word; and a dense matrix of so many entries at most.
_FEW_PAIRS, _WORDS_A_PAIR, _MOST_PACKED = 1 << 16, 1, 1 << 25


class Boolean:
    """A matrix as the columns of its true entries, row after row, each row in order.

    Attributes:
        shape: numbers of rows and columns.
        indptr: `[rows + 1]`, where each row begins.
        indices: the columns.
    """

    __slots__ = ("indices", "indptr", "shape")

    def __init__(self, shape: tuple[int, int], indptr: np.ndarray, indices: np.ndarray) -> None:
        self.shape, self.indptr, self.indices = shape, indptr, indices

    @classmethod
    def of_entries(cls, rows: Any, columns: Any, shape: tuple[int, int]) -> Boolean:
        """The matrix with these entries, in any order and perhaps more than once."""
        keys = np.asarray(rows, np.int64) * shape[1] + np.asarray(columns, np.int64)
        if not (keys[1:] > keys[:-1]).all():
            places = shape[0] * shape[1]
            if places <= max(_MOST_MARKED, _MARKED_EACH * keys.size):
                marked = np.zeros(places, bool)
                marked[keys] = True
                keys = np.flatnonzero(marked)
            else:
                # numpy.unique hashes since NumPy 2.3, which takes ten times as long.
                keys = np.sort(keys)
                keys = keys[np.append(True, keys[1:] != keys[:-1])]
        rows, columns = np.divmod(keys, max(shape[1], 1))
        indptr = np.zeros(shape[0] + 1, np.int64)
        np.cumsum(np.bincount(rows, minlength=shape[0]), out=indptr[1:])
        return cls(shape, indptr, columns)

    @classmethod
    def of_array(cls, array: Any) -> Boolean:
        """The matrix of an array of two axes."""
        array = np.asarray(array, bool)
        rows, columns = np.nonzero(array)
        return cls.of_entries(rows, columns, (array.shape[0], array.shape[1]))

    @classmethod
    def of_file(cls, shape: tuple[int, int], indptr: Any, indices: Any) -> Boolean:
        """The matrix with these parts.

        Raises:
            ValueError: they are not those of one.
        """
        found = cls(shape, np.asarray(indptr, np.int64), np.asarray(indices, np.int64))
        counts = np.diff(found.indptr)
        whole = found.indptr.shape == (shape[0] + 1,) and found.indptr[0] == 0
        if not whole or found.indptr[-1] != found.indices.size or (counts < 0).any():
            raise ValueError("the rows of a matrix do not hold its entries")
        again = cls.of_entries(*found.entries, shape) if found._is_inside() else None
        if again is None or again != found:
            raise ValueError("the columns of a matrix are not in order")
        return found

    def _is_inside(self) -> bool:
        return bool(((self.indices >= 0) & (self.indices < self.shape[1])).all())

    @property
    def nnz(self) -> int:
        """Number of true entries."""
        return int(self.indices.size)

    @property
    def is_full(self) -> bool:
        """Whether every entry is true."""
        return self.nnz == self.shape[0] * self.shape[1]

    @property
    def counts(self) -> np.ndarray:
        """Number of true entries of each row."""
        return np.diff(self.indptr)

    @property
    def entries(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the true entries."""
        return np.repeat(np.arange(self.shape[0]), self.counts), self.indices

    @property
    def T(self) -> Boolean:
        """The transpose."""
        rows, columns = self.entries
        return Boolean.of_entries(columns, rows, (self.shape[1], self.shape[0]))

    def toarray(self) -> np.ndarray:
        """The dense array."""
        array = np.zeros(self.shape, bool)
        array[self.entries] = True
        return array

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Boolean)
            and self.shape == other.shape
            and np.array_equal(self.indptr, other.indptr)
            and np.array_equal(self.indices, other.indices)
        )

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __getitem__(self, rows: Any) -> Boolean:
        """Some of the rows, by a slice or an array of their numbers."""
        rows = np.arange(self.shape[0])[rows]
        starts, counts = self.indptr[rows], self.counts[rows]
        indptr = np.concatenate([[0], np.cumsum(counts)])
        places = np.arange(indptr[-1]) + np.repeat(starts - indptr[:-1], counts)
        return Boolean((rows.size, self.shape[1]), indptr, self.indices[places])

    def __or__(self, other: Boolean) -> Boolean:
        rows, columns = map(np.concatenate, zip(self.entries, other.entries, strict=True))
        return Boolean.of_entries(rows, columns, self.shape)

    def __matmul__(self, other: Boolean) -> Boolean:
        """Row i sees what any of the rows that it names in `other` does."""
        shape, total = (self.shape[0], other.shape[1]), int(other.counts[self.indices].sum())
        places = other.shape[0] * other.shape[1]
        words = (self.nnz + other.shape[0]) * (other.shape[1] // 64 + 1)
        if total > max(_FEW_PAIRS, _WORDS_A_PAIR * words) and places < _MOST_PACKED:
            return self._times_packed(other._packed(), shape)
        if total > _MOST_PAIRS and shape[0] > 1:
            half = shape[0] // 2
            return _stacked(self[:half] @ other, self[half:] @ other)
        rows, named = self.entries
        found = other[named]
        return Boolean.of_entries(np.repeat(rows, found.counts), found.indices, shape)

    def _times_packed(self, other: np.ndarray, shape: tuple[int, int]) -> Boolean:
        """The same with packed rows, which are met as wholes."""
        if self.nnz * other.shape[1] > _MOST_PAIRS and shape[0] > 1:
            half = shape[0] // 2
            sizes = (half, shape[1]), (shape[0] - half, shape[1])
            parts = self[:half], self[half:]
            return _stacked(*(a._times_packed(other, b) for a, b in zip(parts, sizes, strict=True)))
        found = np.zeros((shape[0], other.shape[1]), np.uint64)
        seeing = np.flatnonzero(self.counts)
        if seeing.size:
            found[seeing] = np.bitwise_or.reduceat(other[self.indices], self.indptr[seeing], axis=0)
        return Boolean.of_array(np.unpackbits(found.view(np.uint8), axis=1, count=shape[1]))

    def _packed(self) -> np.ndarray:
        """`[rows, words]`: 64 entries a word."""
        bits = np.packbits(self.toarray(), axis=1)
        return np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8))).view(np.uint64)

    def contains(self, other: Boolean) -> bool:
        """Whether it is true wherever the other one is."""
        return (self | other).nnz == self.nnz


def _stacked(first: Boolean, second: Boolean) -> Boolean:
    indptr = np.concatenate([first.indptr, first.nnz + second.indptr[1:]])
    shape = (first.shape[0] + second.shape[0], first.shape[1])
    return Boolean(shape, indptr, np.concatenate([first.indices, second.indices]))


def ones(rows: int, columns: int) -> Boolean:
    """A matrix of true entries alone."""
    indptr = np.arange(rows + 1) * columns
    return Boolean((rows, columns), indptr, np.tile(np.arange(columns), rows))


def eye(size: int) -> Boolean:
    """The identity."""
    return Boolean((size, size), np.arange(size + 1), np.arange(size))


def kron(left: Boolean, right: Boolean) -> Boolean:
    """The Kronecker product."""
    sides = zip(left.entries, right.entries, right.shape, strict=True)
    rows, columns = ((a[:, None] * size + b).reshape(-1) for a, b, size in sides)
    shape = (left.shape[0] * right.shape[0], left.shape[1] * right.shape[1])
    return Boolean.of_entries(rows, columns, shape)
