"""Which entries see which where axes are moved, cut, joined or summed."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ._form import Seen, everything, spread

# Index maps of larger arrays are not computed.
_MOST_ENTRIES = 2_000_000


def _shape(equation: Any, which: int) -> tuple[int, ...]:
    return equation.invars[which].aval.shape


def transpose(equation: Any, which: int, seen: Seen) -> list[Seen]:
    """Axes in another order."""
    del which
    return [seen.transpose((*equation.params["permutation"], seen.ndim - 1))]


def broadcast(equation: Any, which: int, seen: Seen) -> list[Seen]:
    """New axes, and axes of one entry made longer."""
    del which
    shape = [1] * equation.outvars[0].aval.ndim
    for axis, place in enumerate(equation.params["broadcast_dimensions"]):
        shape[place] = seen.shape[axis]
    return [seen.reshape((*shape, seen.shape[-1]))]


def reshape(equation: Any, which: int, seen: Seen) -> list[Seen]:
    """Axes split and merged: those of each smallest group that fits are written out together."""
    old, new = _shape(equation, which), equation.outvars[0].aval.shape
    if 0 in old:
        return everything(equation, which, seen)
    order = equation.params["dimensions"]
    if order is not None:
        seen = seen.transpose((*order, seen.ndim - 1))
        old = tuple(old[axis] for axis in order)
    found: list[int] = []
    for before, after in groups(old, new):
        if all(seen.shape[axis] == 1 for axis in before):
            found += [1] * len(after)
            continue
        for axis in before:
            seen = spread(seen, axis, old[axis])
        found += [new[axis] for axis in after]
    return [seen.reshape((*found, seen.shape[-1]))]


def groups(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Smallest runs of axes of two shapes of one size that hold equally many entries."""
    found, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        before, after, a, b = [], [], 1, 1
        if i < len(old):
            before, a, i = [i], old[i], i + 1
        if j < len(new) and (a != 1 or not before or new[j] == 1):
            after, b, j = [j], new[j], j + 1
        while a != b:
            if (a < b and i < len(old)) or j == len(new):
                before.append(i)
                a, i = a * old[i], i + 1
            else:
                after.append(j)
                b, j = b * new[j], j + 1
        found.append((before, after))
    return found


def squeeze(equation: Any, which: int, seen: Seen) -> list[Seen]:
    """Axes of one entry left out."""
    del which
    return [seen.squeeze(tuple(equation.params["dimensions"]))]


def reverse(equation: Any, which: int, seen: Seen) -> list[Seen]:
    """Axes turned round."""
    del which
    return [np.flip(seen, tuple(equation.params["dimensions"]))]


def cut(equation: Any, which: int, seen: Seen) -> list[Seen]:
    """A part of each axis."""
    del which
    params = equation.params
    steps = params["strides"] or (1,) * len(params["start_indices"])
    parts = zip(params["start_indices"], params["limit_indices"], steps, strict=True)
    taken = [
        slice(*part) if size > 1 else slice(None)
        for part, size in zip(parts, seen.shape, strict=False)
    ]
    return [seen[tuple(taken)]]


def split(equation: Any, which: int, seen: Seen) -> list[Seen]:
    """One axis cut into an output a part."""
    del which
    axis, sizes = equation.params["axis"], equation.params["sizes"]
    if seen.shape[axis] == 1:
        return [seen] * len(sizes)
    return np.split(seen, np.cumsum(sizes)[:-1], axis)


def unstack(equation: Any, which: int, seen: Seen) -> list[Seen]:
    """One axis given away, an output an entry."""
    del which
    axis, count = equation.params["axis"], len(equation.outvars)
    return [seen.take(i if seen.shape[axis] > 1 else 0, axis) for i in range(count)]


def concatenate(equation: Any, which: int, seen: Seen) -> list[Seen]:
    """One operand after the other along an axis."""
    axis = equation.params["dimension"]
    sizes = [atom.aval.shape[axis] for atom in equation.invars]
    return [_placed(seen, axis, sizes[which], sum(sizes[:which]), sum(sizes))]


def stack(equation: Any, which: int, seen: Seen) -> list[Seen]:
    """One operand after the other along a new axis."""
    axis = equation.params["axis"]
    return [_placed(np.expand_dims(seen, axis), axis, 1, which, len(equation.invars))]


def _placed(seen: Seen, axis: int, size: int, start: int, whole: int) -> Seen:
    seen = spread(seen, axis, size)
    out = np.zeros((*seen.shape[:axis], whole, *seen.shape[axis + 1 :]), bool)
    out[(slice(None),) * axis + (slice(start, start + size),)] = seen
    return out


def tile(equation: Any, which: int, seen: Seen) -> list[Seen]:
    """The array again and again."""
    del which
    reps = [n if seen.shape[axis] > 1 else 1 for axis, n in enumerate(equation.params["reps"])]
    return [np.tile(seen, (*reps, 1))]


def pad(equation: Any, which: int, seen: Seen) -> list[Seen]:
    """Entries put between and around, or taken away."""
    if which != 0:
        return everything(equation, which, seen)
    shape = _shape(equation, which)
    for axis, (low, high, inner) in enumerate(equation.params["padding_config"]):
        if (low, high, inner) == (0, 0, 0):
            continue
        seen = spread(seen, axis, shape[axis])
        places = np.arange(shape[axis]) * (inner + 1) + low
        size = equation.outvars[0].aval.shape[axis]
        real = (places >= 0) & (places < size)
        out = np.zeros((*seen.shape[:axis], size, *seen.shape[axis + 1 :]), bool)
        before = (slice(None),) * axis
        out[(*before, places[real])] = seen[(*before, real)]
        seen = out
    return [seen]


def dynamic_cut(equation: Any, which: int, seen: Seen) -> list[Seen]:
    """A part of each axis that is known when it runs."""
    taken = equation.params["slice_sizes"]
    mixed = tuple(a for a, (n, k) in enumerate(zip(_shape(equation, which), taken, strict=True))
                  if n != k)  # fmt: skip
    return [seen.any(axis=mixed, keepdims=True)]


def along(name: str) -> Any:
    """Every entry of one axis may see every other one: sorted, accumulated."""

    def reach(equation: Any, which: int, seen: Seen) -> list[Seen]:
        del which
        axis = equation.params[name] if name else equation.invars[0].aval.ndim - 1
        mixed = seen.any(axis=axis, keepdims=True)
        return [mixed for _ in equation.outvars]

    return reach


def summed(equation: Any, which: int, seen: Seen) -> list[Seen]:
    """Axes summed over, or of which one entry is chosen."""
    del which
    return [seen.any(axis=tuple(equation.params["axes"]))]


def dot(equation: Any, which: int, seen: Seen) -> list[Seen]:
    """Batch axes, the left operand's free axes, the right one's."""
    contracted, batch = equation.params["dimension_numbers"]
    own = [a for a in range(seen.ndim - 1) if a not in (*contracted[which], *batch[which])]
    rank = len(batch[0]) + sum(
        len(_shape(equation, j)) - len(contracted[j]) - len(batch[j]) for j in (0, 1)
    )
    kept = seen.any(axis=tuple(contracted[which]), keepdims=True)
    kept = kept.transpose((*batch[which], *own, *contracted[which], seen.ndim - 1))
    sizes = kept.shape[: len(batch[which]) + len(own)]
    others = (1,) * (rank - len(sizes))
    first, free = sizes[: len(batch[which])], sizes[len(batch[which]) :]
    axes = (*first, *free, *others) if which == 0 else (*first, *others, *free)
    return [kept.reshape((*axes, seen.shape[-1]))]


def gathered(equation: Any, which: int, seen: Seen, index: np.ndarray | None) -> list[Seen]:
    """Entries by an index that is known to the reader, as `[*out]` places in the operand."""
    shape = _shape(equation, which)
    if index is None or index.size * seen.shape[-1] > 2 * _MOST_ENTRIES:
        return everything(equation, which, seen)
    full = np.broadcast_to(seen, (*shape, seen.shape[-1])).reshape(-1, seen.shape[-1])
    return [np.where((index >= 0)[..., None], full[np.maximum(index, 0)], False)]


def gather_index(equation: Any, indices: np.ndarray) -> np.ndarray | None:
    """For each entry of a gather's output its place in the operand; -1 where there is none."""
    shape = _shape(equation, 0)
    sizes = (np.prod(shape), equation.outvars[0].aval.size)
    if max(sizes) > _MOST_ENTRIES:
        return None
    params = {**equation.params, "fill_value": -1}
    with jax.ensure_compile_time_eval():
        places = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
        return np.asarray(equation.primitive.bind(places, indices, **params))
