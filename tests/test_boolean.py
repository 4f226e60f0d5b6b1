"""Sparse truth values against dense ones."""

import numpy as np
import pytest

from jacreg._dependence import _boolean
from jacreg._dependence._boolean import Boolean, eye, kron, ones

RNG = np.random.default_rng(0)
SHAPES = [
    ((3, 4), (4, 5)), ((1, 4), (4, 1)), ((0, 4), (4, 2)), ((3, 0), (0, 2)), ((6, 6), (6, 6)),
    ((9, 5), (5, 150)),
]  # fmt: skip


def draw(shape, share=0.4):
    return RNG.uniform(size=shape) < share


@pytest.mark.parametrize(("first", "second"), SHAPES)
@pytest.mark.parametrize("bound", ["marked", "sorted", "halved", "packed", "packed and halved"])
def test_every_operation_gives_what_dense_arrays_give(first, second, bound, monkeypatch):
    if bound == "sorted":
        monkeypatch.setattr(_boolean, "_MOST_MARKED", -1)
        monkeypatch.setattr(_boolean, "_MARKED_EACH", 0)
    if "halved" in bound:
        monkeypatch.setattr(_boolean, "_MOST_PAIRS", 2)
    if "packed" in bound:
        monkeypatch.setattr(_boolean, "_FEW_PAIRS", -1)
        monkeypatch.setattr(_boolean, "_WORDS_A_PAIR", 0)
    a, b, c = draw(first), draw(second), draw(first)
    left, right, other = map(Boolean.of_array, (a, b, c))
    same = np.testing.assert_array_equal
    same(left.toarray(), a)
    same(left.T.toarray(), a.T)
    same((left @ right).toarray(), a.astype(int) @ b > 0)
    same((left | other).toarray(), a | c)
    same(kron(left, right).toarray(), np.kron(a, b))
    rows = RNG.permutation(first[0])[: first[0] // 2 + 1]
    same(left[rows].toarray(), a[rows])
    same(left[1:].toarray(), a[1:])
    same(left.counts, a.sum(1))
    assert left.nnz == a.sum()
    assert left.contains(other) == (a | ~c).all()
    assert (left | other).contains(other)
    assert (left == other) == (a == c).all()
    assert left == Boolean.of_entries(*(each[::-1] for each in np.nonzero(a)), first)
    assert left == Boolean.of_entries(*(np.tile(each, 2) for each in np.nonzero(a)), first)
    assert left == Boolean.of_file(first, left.indptr, left.indices)


def test_entries_that_meet_often_are_met_in_packed_rows(monkeypatch):
    """A long receptive field: 60 times 60 pairs a row, or 60 rows of four words."""
    band = Boolean.of_array(np.tri(250, k=0, dtype=bool) & ~np.tri(250, k=-60, dtype=bool))
    found = band @ band.T
    monkeypatch.setattr(_boolean, "_MOST_PACKED", 0)
    assert found == band @ band.T
    monkeypatch.setattr(_boolean, "_MOST_PACKED", 1 << 25)
    monkeypatch.setattr(Boolean, "of_array", lambda array: array)
    assert isinstance(band @ band, np.ndarray)


def test_plain_matrices():
    np.testing.assert_array_equal(ones(2, 3).toarray(), np.ones((2, 3), bool))
    np.testing.assert_array_equal(eye(3).toarray(), np.eye(3, dtype=bool))
    assert ones(2, 3).is_full
    assert not eye(2).is_full


@pytest.mark.parametrize(
    ("indptr", "indices"),
    [([0, 1], [0]), ([0, 2, 1], [0, 1]), ([0, 1, 2], [0, 5]), ([0, 2, 2], [1, 0]),
     ([0, 1, 3], [0, 1]), ([1, 1, 2], [0, 1]), ([0, 2, 2], [1, 1]), ([0, 1, 2], [0, -1])],
)  # fmt: skip
def test_parts_of_no_matrix_are_refused(indptr, indices):
    with pytest.raises(ValueError, match="of a matrix"):
        Boolean.of_file((2, 3), indptr, indices)
