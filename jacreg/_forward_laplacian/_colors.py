"""Colours for the positions along an axis of x: no entry sees two of one colour."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

# Which entries of x, along one of its axes, each entry of an array sees: `[*dims, entries]`, where
# an axis of `dims` has length 1 if the entries along it all see the same. (A boolean ndarray; NumPy
# annotates reductions of one as perhaps a scalar.)
Seen = Any

# What more entries than this would be kept for is taken to be seen by all.
MOST_SEEN = 1 << 23


def bounded(seen: Seen) -> Seen:
    """The same, or more where it is too large to be kept."""
    seen = compact(seen)
    if seen.size <= MOST_SEEN:
        return seen
    everywhere = seen.reshape(-1, seen.shape[-1]).any(axis=0)
    return everywhere.reshape((1,) * (seen.ndim - 1) + everywhere.shape)


def compact(seen: Seen) -> Seen:
    """The same with length 1 on each axis along which nothing changes."""
    for axis in range(seen.ndim - 1):
        if seen.shape[axis] > 1:
            first = seen[(slice(None),) * axis + (slice(0, 1),)]
            if (seen == first).all():
                seen = first
    return seen


def union(seen: Sequence[tuple[Seen, ...]]) -> tuple[Seen, ...]:
    """What any of them sees."""
    if len(seen) == 1:
        return seen[0]
    found = []
    for each in zip(*seen, strict=True):
        whole = each[0]
        for other in each[1:]:
            whole = whole | other
        found.append(bounded(whole))
    return tuple(found)


def color(seen: Seen, needed: Seen | None = None) -> np.ndarray:
    """A colour for each position so that no entry sees two of one colour, greedily.

    Args:
        seen: by each entry.
        needed: what an entry is needed for, of what it sees; others may share a colour with each
            other there, though not with these. None means all.
    """
    count = seen.shape[-1]
    if needed is None:
        unique = np.unique(_packed(seen), axis=0)
        return _color(unique.tobytes(), unique.shape[1], count)
    dims = np.broadcast_shapes(seen.shape, needed.shape)
    both = np.concatenate([_packed(np.broadcast_to(each, dims)) for each in (seen, needed)], axis=1)
    unique = np.unique(both, axis=0)
    return _color_needed(unique.tobytes(), unique.shape[1] // 2, count)


def _packed(seen: Seen) -> np.ndarray:
    return np.packbits(seen.reshape(-1, seen.shape[-1]), axis=1)


def _unpacked(packed: np.ndarray, count: int) -> np.ndarray:
    return np.unpackbits(packed, axis=1, count=count).astype(np.float32)


@lru_cache(maxsize=4096)
def _color(rows: bytes, width: int, count: int) -> np.ndarray:
    seen = _unpacked(np.frombuffer(rows, np.uint8).reshape(-1, width), count)
    most = seen.sum(axis=1).max(initial=0)
    if most <= 1:
        return np.zeros(count, int)
    if most == count:
        return np.arange(count)
    return greedy(seen.T @ seen > 0)


@lru_cache(maxsize=4096)
def _color_needed(rows: bytes, width: int, count: int) -> np.ndarray:
    both = np.frombuffer(rows, np.uint8).reshape(-1, 2 * width)
    seen, needed = (_unpacked(each, count) for each in (both[:, :width], both[:, width:]))
    conflict = needed.T @ seen > 0
    return greedy(conflict | conflict.T)


def greedy(conflict: np.ndarray) -> np.ndarray:
    """A colour for each position, of those that may not share one `[positions, positions]`."""
    count = len(conflict)
    colors = np.zeros(count, int)
    for place in range(count):
        taken = set(colors[:place][conflict[place, :place]].tolist())
        colors[place] = next(c for c in range(count) if c not in taken)
    return colors if colors.max() + 1 < count else np.arange(count)


def fits(seen: Seen, colors: np.ndarray, needed: Seen | None = None) -> bool:
    """Whether no entry sees two positions of one colour; of `needed`, as for `color`."""
    slots = int(colors.max(initial=0)) + 1
    if slots == len(colors):
        return True
    onehot = np.zeros((len(colors), slots), np.float32)
    onehot[np.arange(len(colors)), colors] = 1
    together = seen.astype(np.float32) @ onehot > 1
    if needed is not None:
        together = together & (needed.astype(np.float32) @ onehot > 0)
    return not bool(together.any())


def num_colors(colors: np.ndarray) -> int:
    """Number of slots along one axis of x."""
    return int(colors.max(initial=0)) + 1


def common(
    seen: Sequence[Seen], candidates: Sequence[tuple[np.ndarray, ...]]
) -> tuple[np.ndarray, ...]:
    """Colours for what is seen: those that are there, where they fit and none are fewer."""
    found = []
    for axis, each in enumerate(seen):
        best = color(each)
        there = [c[axis] for c in candidates if num_colors(c[axis]) <= num_colors(best)]
        found.append(next((c for c in there if fits(each, c)), best))
    return tuple(found)


def shared(
    seen: Sequence[tuple[Seen, ...]], candidates: Sequence[tuple[np.ndarray, ...]]
) -> tuple[np.ndarray, ...]:
    """Colours that fit what several arrays see: those that are there, where they fit."""
    axes = zip(zip(*seen, strict=True), zip(*candidates, strict=True), strict=True)
    return tuple(_common_of_all(own, there) for own, there in axes)


def _common_of_all(seen: Sequence[Seen], candidates: Sequence[np.ndarray]) -> np.ndarray:
    """Colours of one axis of x that fit everything that is seen."""
    found = [common((each,), [(c,) for c in candidates])[0] for each in seen]
    best = max(found, key=num_colors)
    return best if all(fits(each, best) for each in seen) else np.arange(len(best))
