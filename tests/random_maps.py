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
        matrix = jax.jacfwd(lambda x: fn(x).ravel())(jnp.zeros(in_shape))
        matrix = np.asarray(matrix).reshape(matrix.shape[0], -1)
    return float(np.linalg.svd(matrix, compute_uv=False)[0]) if matrix.size else 0.0


def unbounded_norm(convolution: Convolution, points: int) -> float:
    """The norm on an unbounded image, sampled at so many frequencies an axis: from below.

    Written for itself: the action on exp(i w x) for all w that alias to one another.
    """
    options, kernel_spec = convolution.options, convolution.spec[1]
    letters = [letter for letter in kernel_spec if letter not in "IO"]
    order = [kernel_spec.index(letter) for letter in [*letters, "O", "I"]]
    kernel = np.transpose(convolution.kernel.astype(np.float64), order)
    rank, groups = len(letters), options["feature_group_count"]
    strides, spread = options["window_strides"], options["lhs_dilation"]
    sizes = dict(
        zip([c for c in convolution.spec[0] if c != "N"], convolution.in_shape, strict=True)
    )
    dilation, padding = options["rhs_dilation"], options["padding"]
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(
            [(sizes[c] - 1) * d + 1 for c, d in zip(letters, spread, strict=True)],
            [(kernel.shape[i] - 1) * dilation[i] + 1 for i in range(rank)],
            strides,
            padding,
        )
    # One axis at a time: matrices from the image's aliases to the result's, at each frequency.
    tables = []
    for i in range(rank):
        common = np.gcd(strides[i], spread[i])
        outs, ins = spread[i] // common, strides[i] // common
        period = strides[i] * outs
        table = np.zeros((points, kernel.shape[i], outs, ins), complex)
        theta = 2 * np.pi * np.arange(points) / points
        for tap, a, b in product(range(kernel.shape[i]), range(outs), range(ins)):
            place = a * strides[i] + tap * dilation[i] - padding[i][0] - b * spread[i]
            if place % period == 0:
                table[:, tap, a, b] = np.exp(1j * theta * (place // period))
        tables.append(table)
    o, i = kernel.shape[-2] // groups, kernel.shape[-1]
    largest = 0.0
    for group in range(groups):
        part = kernel[..., group * o : (group + 1) * o, :]
        for where in product(range(points), repeat=rank):
            at = part.astype(complex)
            at = at[..., None, None]
            for axis, n in enumerate(where):
                t = tables[axis][n]
                at = np.einsum("t...oiab,tcd->...oiacbd", at, t)
                at = at.reshape(*at.shape[:-4], at.shape[-4] * at.shape[-3], -1)
            matrix = np.transpose(at, (0, 2, 1, 3)).reshape(o * at.shape[2], i * at.shape[3])
            largest = max(largest, float(np.linalg.svd(matrix, compute_uv=False)[0]))
    return largest
