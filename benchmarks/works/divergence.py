"""Exact divergence of networks on images.

Fields as users write them: 3, 6 and 12 convolutions in plain JAX, 3x3 SAME with tanh, a U-Net with
strides in Equinox, residual blocks with BatchNorm and with group norms in nnx. asdex gives the
sparse Jacobian, its colouring made outside the timing; the trace is taken from its stored entries
at places found beforehand, over the batch by vmap or `lax.map`, whichever is faster. Colours one by
one are what one would write with a colouring and `jax.linearize`; the `Coloring` by name is ours
without a choice. jacfwd gives the dense Jacobian of one image. Hutchinson's one probe is no exact
method and is shown for what an estimate costs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jacreg
from benchmarks import _clock, _comparison
from benchmarks._comparison import Comparison, assert_equal, timed
from benchmarks.methods import _convolutions
from benchmarks.works._fields import Field, residual, residual_by_groups, unet

_WORK = "exact divergence"
_ONE_CONVOLUTION = "one convolution 16 to 16 a pixel, 2304 multiplications, as one layer"


class _Row(NamedTuple):
    """A field and a batch.

    Attributes:
        floor: what bounds the work from below, for the table.
        dense: whether `jax.jacfwd` is run as well; it takes a product an entry of the input.
        sparse: whether asdex is; where all entries meet it holds a product an entry at once.
    """

    setting: str
    field: Field
    shape: tuple[int, ...]
    floor: str
    dense: bool = False
    sparse: bool = True


def _rows() -> list[_Row]:
    image = (32, 32, 3)
    return [
        _Row("3 convolutions 3x3, 32x32x3, batch 1", _convolutions(3), (1, *image),
             _ONE_CONVOLUTION, dense=True),
        _Row("3 convolutions 3x3, 32x32x3, batch 8", _convolutions(3), (8, *image),
             _ONE_CONVOLUTION),
        _Row("6 convolutions 3x3, 32x32x3, batch 1", _convolutions(6), (1, *image),
             "7 x 7 positions see each other, of 3 channels: 147 products"),
        _Row("6 convolutions 3x3, 32x32x3, batch 4", _convolutions(6), (4, *image),
             "7 x 7 positions see each other, of 3 channels: 147 products"),
        _Row("12 convolutions 3x3, 32x32x1, batch 1", _convolutions(12, channels=1),
             (1, 32, 32, 1), "13 x 13 positions see each other: 169 products"),
        _Row("U-Net with strides (Equinox), 3x32x32, batch 4", unet(), (4, 3, 32, 32), ""),
        _Row("residual blocks with BatchNorm, 6 convolutions (nnx), 32x32x3, batch 4", residual(),
             (4, *image), "7 x 7 positions see each other, of 3 channels: 147 products"),
        _Row("residual blocks with group norms, 6 convolutions (nnx), 24x24x3, batch 4",
             residual_by_groups(), (4, 24, 24, 3), "147 products, and 64 through the norms' means",
             sparse=False),
    ]  # fmt: skip


def compare() -> list[Comparison]:
    """Each field."""
    return [line for row in _rows() for line in _compare(row)]


def _compare(row: _Row) -> list[Comparison]:
    xs = jax.random.normal(jax.random.key(0), row.shape)
    coloring = jacreg.color(row.field, jax.ShapeDtypeStruct(xs.shape, xs.dtype))
    theirs, version = _asdex(row.field, row.shape) if row.sparse else ({}, "")
    key = jax.random.key(1)
    calls = {
        "ours": jax.jit(_by(row.field, jacreg.Auto())),
        "coloring": jax.jit(_by(row.field, coloring)),
        "one by one": jax.jit(_one_by_one(row.field, coloring)),
        **theirs,
    }
    if row.dense:
        calls["jacfwd"] = jax.jit(_dense(row.field))
    found = calls["ours"](xs)
    agreement = {name: assert_equal(found, call(xs), 1e-4) for name, call in calls.items()}
    calls["Hutchinson"] = jax.jit(_by(row.field, jacreg.Hutchinson(), key))
    times = _clock.in_turns(
        {name: (lambda call=call: call(xs)) for name, call in calls.items()}, rounds=5
    )
    quickest = sorted(theirs, key=times.median)[:1]
    plan = jacreg.plan(jacreg.divergence, jacreg.linearize(row.field, xs))
    ours = f"ours: {plan.path}, {plan.num_products} products"
    colors = f"{coloring.num_colors} colours"
    peers: list[tuple[str, str, float | None]] = [
        *((best, f"{version}, {best.removeprefix('asdex ')}", 0.25) for best in quickest),
        ("one by one", f"jax.linearize, {colors} one by one", 0.6),
        ("coloring", f"jacreg's Coloring by name, {colors}", None),
        ("Hutchinson", "one Hutchinson probe (an estimate)", None),
    ]
    if row.dense:
        peers.append(("jacfwd", "jax.jacfwd and trace", 0.01))
    return [
        timed(times, "ours", name, work=_WORK, setting=row.setting, peer=peer, most=most,
              floor=row.floor, agreement=agreement.get(name), note=ours)
        for name, peer, most in peers
    ]  # fmt: skip


def growth() -> list[dict[str, Any]]:
    """Milliseconds a pixel against the image, and an image against depth."""
    sides = (8, 16, 32, 64)
    pixels: dict[str, list[list[float]]] = {}
    depths: dict[str, list[list[float]]] = {"default": [], "by colours": []}
    for depth in (2, 3, 4, 5):
        field = _convolutions(depth)
        coloring = jacreg.color(field, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))
        for name, method in (("default", jacreg.Auto()), ("by colours", coloring)):
            depths[name].append([depth, _milliseconds(field, method, 32)])
        if depth in (3, 4):
            pixels[f"{depth} convolutions"] = [
                [side, _milliseconds(field, jacreg.Auto(), side) / side**2] for side in sides
            ]
    return [
        {"title": "Divergence, batch 4", "x": "image side", "y": "ms a pixel", "lines": pixels},
        {"title": "Divergence, 32x32x3, batch 4", "x": "convolutions", "y": "ms", "lines": depths},
    ]


def _milliseconds(field: Field, method: Any, side: int) -> float:
    xs = jax.random.normal(jax.random.key(0), (4, side, side, 3))
    call = jax.jit(_by(field, method))
    return 1000 * _clock.in_turns({"ours": lambda: call(xs)}, rounds=5).median("ours")


def _by(field: Field, method: Any, key: Any = None) -> Callable[[Any], Any]:
    return lambda xs: jacreg.divergence(jacreg.linearize(field, xs), method, key=key)


def _one_by_one(field: Field, coloring: jacreg.Coloring) -> Callable[[Any], Any]:
    """A product with the mask of each colour, as one writes it by hand."""
    colors = jnp.asarray(coloring.colors)

    def trace(xs: Any) -> Any:
        _, push = jax.linearize(field, xs)

        def part(color: Any) -> Any:
            mask = jnp.broadcast_to((colors == color).astype(xs.dtype), (len(xs), colors.size))
            return jnp.sum(mask * push(mask.reshape(xs.shape)).reshape(mask.shape), axis=1)

        return jnp.sum(jax.lax.map(part, jnp.arange(coloring.num_colors)), axis=0)

    return trace


def _dense(field: Field) -> Callable[[Any], Any]:
    def trace(xs: Any) -> Any:
        jacobian = jax.jacfwd(lambda x: field(x[None])[0])(xs[0])
        return jnp.trace(jacobian.reshape(xs[0].size, xs[0].size))[None]

    return trace


def _asdex(field: Field, shape: tuple[int, ...]) -> tuple[dict[str, Any], str]:
    asdex, version = _comparison.peer("asdex")
    batch, *example = shape

    def one(x: Any) -> Any:
        return field(x.reshape(1, *example)).reshape(-1)

    x = jnp.zeros(int(np.prod(example)))
    sparse = asdex.jacobian_from_coloring(one, asdex.jacobian_coloring(one, x))
    indices = np.asarray(sparse(x).indices)
    (diagonal,) = np.nonzero(indices[:, 0] == indices[:, 1])

    def trace(x: Any) -> Any:
        return jnp.sum(sparse(x.reshape(-1)).data[diagonal])

    found = {"asdex vmap": jax.jit(jax.vmap(trace))}
    if batch > 1:
        found["asdex lax.map"] = jax.jit(lambda xs: jax.lax.map(trace, xs))
    return found, version
