"""A small multiscale deep equilibrium classifier."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp

from .._equilibrium import MDEQSpec
from ..conv import ConvLayout, by_layout, he_normal
from ..eqx import Conv, GroupNorm, dense
from ._solve import solve

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from jacreg.equilibrium import EquilibriumResult

State = tuple[jax.Array, ...]


class MDEQ(eqx.Module):
    """An equilibrium of several resolutions (see `MDEQSpec`): one image -> logits `[K]`.

    The interface is that of `Equilibrium`: `inject`, `cell`, `solve`, `readout`. A state is a
    tuple of one array a scale, with the axes of the layout's outputs.
    """

    stem: tuple[Conv, ...]
    stem_norms: tuple[GroupNorm, ...]
    blocks: tuple[Block, ...]
    downs: tuple[Conv, ...]
    ups: tuple[Conv, ...]
    norms: tuple[GroupNorm, ...]
    head: eqx.nn.Linear
    spec: MDEQSpec = eqx.field(static=True)

    def __init__(self, spec: MDEQSpec, *, key: jax.Array):
        self.spec = spec
        inner, widths = spec.layout.following, spec.widths
        keys = iter(jax.random.split(key, 3 * len(widths) + spec.stem_depth - 1))
        axes = inner.example_axes()

        def convolution(inputs, outputs, window, init, strides=1):
            return Conv(
                inputs,
                outputs,
                window,
                layout=inner,
                strides=strides,
                kernel_init=init(inner),
                key=next(keys),
            )

        first = Conv(
            spec.input_shape[-1],
            widths[0],
            3,
            layout=spec.layout,
            strides=2,
            kernel_init=he_normal(spec.layout),
            key=next(keys),
        )
        self.stem = (
            first,
            *(
                convolution(widths[0], widths[0], 3, he_normal, strides=2)
                for _ in range(spec.stem_depth - 1)
            ),
        )
        self.stem_norms = tuple(GroupNorm(widths[0], spec.groups, axes) for _ in self.stem)
        self.blocks = tuple(Block(width, spec.groups, inner, key=next(keys)) for width in widths)
        pairs = list(itertools.pairwise(widths))
        self.downs = tuple(
            convolution(fine, coarse, 3, he_normal, strides=2) for fine, coarse in pairs
        )
        self.ups = tuple(convolution(coarse, fine, 1, _small) for fine, coarse in pairs)
        self.norms = tuple(GroupNorm(width, spec.groups, axes) for width in widths)
        self.head = dense((sum(widths), spec.num_classes), "lecun_normal", key=next(keys))

    def inject(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """What the cell needs of one image: the normalised stem, at the finest scale."""
        self.spec.check(x)
        first, *others = zip(self.stem, self.stem_norms, strict=True)
        injected = first[1](first[0](x))
        for convolution, norm in others:
            injected = norm(convolution(jax.nn.relu(injected)))
        return injected

    def cell(self, state: State, injected: Float[Array, "..."]) -> State:
        """f(z; x) for one example."""
        hidden = [block(z) for block, z in zip(self.blocks, state, strict=True)]
        hidden[0] = hidden[0] + injected
        mixed = list(hidden)
        axes = self.spec.layout.following.example_axes()
        for fine, (down, up) in enumerate(zip(self.downs, self.ups, strict=True)):
            mixed[fine + 1] = mixed[fine + 1] + down(jax.nn.relu(hidden[fine]))
            mixed[fine] = mixed[fine] + _doubled(up(state[fine + 1]), axes)
        return tuple(norm(jax.nn.relu(h)) for norm, h in zip(self.norms, mixed, strict=True))

    def solve(self, x: Float[Array, "..."]) -> EquilibriumResult:
        """The equilibrium of one image, with residual and number of evaluations."""
        injected = self.inject(x)
        cell = lambda state: self.cell(state, injected)  # noqa: E731
        return solve(cell, self.start(injected), solver=self.spec.equilibrium_solver())

    def start(self, injected: Float[Array, "..."]) -> State:
        """A state of zeros."""
        axes = self.spec.layout.following.example_axes()
        sizes = dict(zip(axes, injected.shape, strict=True))
        return tuple(
            jnp.zeros([width if a == "C" else sizes[a] >> scale for a in axes], injected.dtype)
            for scale, width in enumerate(self.spec.widths)
        )

    def readout(self, state: State) -> Float[Array, " K"]:
        """The logits of one state: every scale pooled, then a dense layer."""
        axes = self.spec.layout.following.example_axes()
        space = tuple(axis for axis, letter in enumerate(axes) if letter != "C")
        return self.head(jnp.concatenate([jnp.mean(z, space) for z in state]))

    def __call__(
        self, x: Float[Array, "..."], *, key: jax.Array | None = None
    ) -> Float[Array, " K"]:
        """The logits of one image; `solve` tells whether the equilibrium was reached."""
        return self.readout(self.solve(x).state)


class Block(eqx.Module):
    """Convolution, normalisation, relu, convolution at one scale of the cell."""

    first: Conv
    second: Conv
    norm: GroupNorm

    def __init__(self, width: int, groups: int, layout: ConvLayout, *, key: jax.Array):
        first, second = jax.random.split(key)
        self.first = Conv(width, width, 3, layout=layout, kernel_init=he_normal(layout), key=first)
        self.second = Conv(width, width, 3, layout=layout, kernel_init=_small(layout), key=second)
        self.norm = GroupNorm(width, groups, layout.example_axes())

    def __call__(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        """The block's output for one example."""
        return self.second(jax.nn.relu(self.norm(self.first(z))))


def _small(layout: ConvLayout):
    # Small weights wherever the state feeds back: at first the injected image outweighs it, so
    # that the cell contracts.
    return by_layout(jax.nn.initializers.normal(0.01), layout)


def _doubled(x: Float[Array, "..."], axes: str) -> Float[Array, "..."]:
    for axis, letter in enumerate(axes):
        if letter != "C":
            x = jnp.repeat(x, 2, axis)
    return x
