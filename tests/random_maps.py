"""Random convolutions of every kind, and their norms by slow and obvious ways."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Convolution(NamedTuple):
    """A convolution without a batch axis, and what it is made of."""

    kernel: np.ndarray
    in_shape: tuple[int, ...]
    options: dict
    spec: tuple[str, str, str]

    def __call__(self, x, kernel=None):
        batch = self.spec[0].index("N")
        out = jax.lax.conv_general_dilated(
            jnp.expand_dims(x, batch),
            jnp.asarray(self.kernel if kernel is None else kernel, x.dtype),
            dimension_numbers=self.spec,
            **self.options,
        )
        return jnp.squeeze(out, self.spec[2].index("N"))


def random_convolution(seed: int, most: int = 250) -> Convolution:
    """Of one to three dimensions, any stride, padding, dilations, groups and layout."""
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 4))
    letters = "HWD"[:rank]
    groups = int(rng.choice([1, 1, 1, 2, 3]))
    into, out = (int(n) for n in groups * rng.integers(1, 4, 2))
    taps = rng.integers(1, (6, 5, 4)[rank - 1], rank)
    dilation, strides = rng.choice([1, 1, 2, 3], rank), rng.choice([1, 1, 2, 3], rank)
    spread = rng.choice([1, 1, 1, 2, 3], rank)
    reach = (taps - 1) * dilation + 1
    kind = rng.choice(["SAME", "VALID", "explicit", "full"])
    kind = "explicit" if spread.max() > 1 else kind  # lax takes no names with input dilation
    sides = rng.integers(1, {1: 20, 2: 8, 3: 5}[rank], rank)
    sides = np.maximum(sides, -(-reach // spread) + 1) if kind == "VALID" else sides
    while np.prod(sides) * into > most and sides.max() > 1:
        sides[np.argmax(sides)] -= 1
    if kind == "full":
        padding = [(int(r - 1), int(r - 1)) for r in reach]
    elif kind == "explicit":
        padding = [tuple(int(n) for n in rng.integers(0, r + 1, 2)) for r in reach]
        padding = [
            (a + max(0, int(r) - int((s - 1) * d + 1) - a - b), b)
            for (a, b), r, s, d in zip(padding, reach, sides, spread, strict=True)
        ]
    else:
        padding = str(kind)
    kernel_sizes = dict(zip(letters, taps, strict=True), I=into // groups, O=out)
    image_sizes = dict(zip(letters, sides, strict=True), C=into)
    spec = [
        "".join(rng.permutation(list(s))) for s in (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    ]
    # The numbers of each axis go with the kernel's letters, in whatever order they come.
    place = [letters.index(letter) for letter in spec[1] if letter in letters]
    kernel = rng.standard_normal([kernel_sizes[letter] for letter in spec[1]])
    if rng.random() < 0.3:
        kernel = kernel * rng.uniform(0, 1, kernel.shape) ** 8
    ordered = lambda values: tuple(int(values[i]) for i in place)  # noqa: E731
    options = {
        "window_strides": ordered(strides),
        "rhs_dilation": ordered(dilation),
        "lhs_dilation": ordered(spread),
        "padding": padding if isinstance(padding, str) else [padding[i] for i in place],
        "feature_group_count": groups,
    }
    in_shape = tuple(int(image_sizes[letter]) for letter in spec[0] if letter != "N")
    return Convolution(kernel.astype(np.float32), in_shape, options, tuple(spec))


def dense_norm(fn, in_shape) -> float:
    """The largest singular value of the map's matrix, in float64."""
    with jax.enable_x64(True):
        dense = jax.jit(jax.jacfwd(lambda x: fn(x).ravel()))
        matrix = np.asarray(dense(np.zeros(in_shape)))
    return _norm(matrix.reshape(len(matrix), int(np.prod(in_shape))))


def _norm(matrix) -> float:
    return float(np.linalg.svd(matrix, compute_uv=False)[..., 0].max()) if matrix.size else 0.0


class _Lines(NamedTuple):
    """A convolution without its layout: the kernel `[*taps, O, I]`, and numbers an axis."""

    kernel: np.ndarray
    sides: tuple[int, ...]
    padding: list[tuple[int, int]]

    @classmethod
    def of(cls, convolution: Convolution) -> _Lines:
        options, kernel_spec = convolution.options, convolution.spec[1]
        letters = [letter for letter in kernel_spec if letter not in "IO"]
        order = [kernel_spec.index(letter) for letter in [*letters, "O", "I"]]
        kernel = np.transpose(convolution.kernel.astype(np.float64), order)
        names = [letter for letter in convolution.spec[0] if letter != "N"]
        sizes = dict(zip(names, convolution.in_shape, strict=True))
        sides = tuple(sizes[letter] for letter in letters)
        padding = options["padding"]
        if isinstance(padding, str):
            padding = jax.lax.padtype_to_pads(
                [(n - 1) * d + 1 for n, d in zip(sides, options["lhs_dilation"], strict=True)],
                [(n - 1) * d + 1 for n, d in zip(kernel.shape, options["rhs_dilation"])],  # noqa: B905
                options["window_strides"],
                padding,
            )
        return cls(kernel, sides, list(padding))


def written_out_norm(convolution: Convolution) -> float:
    """The norm of the map's matrix, its entries placed one tap after the other, without JAX."""
    options, (kernel, sides, padding) = convolution.options, _Lines.of(convolution)
    numbers = [options[name] for name in ("window_strides", "lhs_dilation", "rhs_dilation")]
    tables = []  # an axis: which tap reads which pixel of the image for which of the result
    for axis, (side, (before, after)) in enumerate(zip(sides, padding, strict=True)):
        stride, spread, dilation = (each[axis] for each in numbers)
        taps = kernel.shape[axis]
        length = (side - 1) * spread + 1 + before + after - (taps - 1) * dilation
        table = np.zeros((taps, max(0, -(-length // stride)), side))
        for tap, out in product(*map(range, table.shape[:2])):
            place = out * stride + tap * dilation - before
            if place % spread == 0 and 0 <= place // spread < side:
                table[tap, out, place // spread] = 1
        tables.append(table)
    return _largest_of_groups(kernel, options["feature_group_count"], tables)


def unbounded_norm(convolution: Convolution, points: int) -> float:
    """The norm on an unbounded image, sampled at so many frequencies an axis: from below.

    The action on exp(i w x) for all w that alias to one another.
    """
    options, (kernel, _, padding) = convolution.options, _Lines.of(convolution)
    theta = 2 * np.pi * np.arange(points) / points
    phases = []  # an axis: matrices from the image's aliases to the result's, at each frequency
    for i in range(kernel.ndim - 2):
        stride, spread = options["window_strides"][i], options["lhs_dilation"][i]
        outs, ins = spread // np.gcd(stride, spread), stride // np.gcd(stride, spread)
        period = stride * outs
        table = np.zeros((points, kernel.shape[i], outs, ins), complex)
        for tap, a, b in product(range(kernel.shape[i]), range(outs), range(ins)):
            place = a * stride + tap * options["rhs_dilation"][i] - padding[i][0] - b * spread
            if place % period == 0:
                table[:, tap, a, b] = np.exp(1j * theta * (place // period))
        phases.append(table)
    # By symmetry half of the frequencies of one axis are enough.
    phases[0] = phases[0][: points // 2 + 1]
    return max(
        _largest_of_groups(kernel, options["feature_group_count"], [first, *phases[1:]])
        for first in phases[0]
    )


def _largest_of_groups(kernel, groups, tables) -> float:
    """The norm of the sum over taps of the kernel times the tables' products, by group.

    A table is `[taps, a, b]`, or `[points, taps, a, b]` for as many matrices.
    """
    out = kernel.shape[-2] // groups
    best = 0.0
    for group in range(groups):
        at = kernel[..., group * out : (group + 1) * out, :][..., None, None]
        # [taps left, ..., o, i, a, b] with the points in front of them all.
        at = at[None]
        for table in tables:
            table = table if table.ndim == 4 else table[None]
            at = np.einsum("pt...oiab,qtcd->pq...oiacbd", at, table, optimize=True)
            p, q, *taps, o, i, a, c, b, d = at.shape
            at = at.reshape(p * q, *taps, o, i, a * c, b * d)
        matrices = np.moveaxis(at, -2, -3)
        p, o, a, i, b = matrices.shape
        best = max(best, _norm(matrices.reshape(p, o * a, i * b)))
    return best
