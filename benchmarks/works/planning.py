"""How long it takes to plan: `color` of U-Nets, and `plan` of every quantity.

`color` is measured against compiling one product of the same network with XLA, its tracing and
lowering included; `plan` against one trace of the function. Every reading is of a program that was
not seen before: the same network times a constant of its own.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxprs_in_params

import jacreg
from benchmarks._clock import Times
from benchmarks._comparison import Comparison, counted
from benchmarks.works._fields import (
    Field,
    diffusion_unet,
    residual,
    residual_by_groups,
    residual_convolutions,
    unet,
)

_ROUNDS = 3
_MOST = 3.0
_NUMBERS = itertools.count(time.time_ns() % 2**21)
_FIELDS = (
    jacreg.divergence,
    jacreg.diagonal,
    jacreg.frobenius_squared,
    jacreg.jacobian,
    jacreg.gram,
)
_ENERGIES = (jacreg.laplacian, jacreg.hessian_diagonal)


def compare() -> list[Comparison]:
    """Return a row a U-Net, and a row a network and quantity."""
    image = (1, 32, 32, 3)
    timed_image = (_like(*image), _like(1))
    return [
        _color("U-Net of diffusion models, attention and group norms (nnx)",
               diffusion_unet(blocks=3), timed_image),
        _color("U-Net of diffusion models, BatchNorm (nnx)",
               diffusion_unet(blocks=3, norm="batch", attention=False), timed_image),
        _color("U-Net with strides (Equinox)", unet(), (_like(1, 3, 64, 64),)),
        *_plans("U-Net with strides (Equinox), 3x32x32", unet(), (1, 3, 32, 32)),
        *_plans("residual blocks with BatchNorm (nnx), 32x32x3", residual(), image),
        *_plans("residual blocks with group norms (nnx), 32x32x3", residual_by_groups(), image),
        *_plans("dilated residual convolutions (linen), 32x32x2",
                residual_convolutions((32, 32, 2), width=8, dilations=(1, 2, 4)), (1, 32, 32, 2)),
    ]  # fmt: skip


def _color(name: str, field: Callable[..., Any], inputs: tuple[Any, ...]) -> Comparison:
    xs, *args = inputs
    field = _unseen(field)
    equations = _count(jax.make_jaxpr(field)(*inputs).jaxpr)

    def product(xs: Any, tangent: Any, *args: Any) -> Any:
        return jax.jvp(lambda xs: field(xs, *args), (xs,), (tangent,))[1]

    compiling = _seconds(lambda: jax.jit(product).lower(xs, xs, *args).compile())[0]
    planning, coloring = _seconds(lambda: jacreg.color(field, xs, *args))
    size = "x".join(map(str, xs.shape[1:]))
    found = "dense" if coloring.is_dense else f"{coloring.num_colors} colours"
    return counted(
        planning, compiling, "s", work="color", peer="compiling one product", most=_MOST,
        setting=f"{name}, {size}, {equations} equations", note=f"{found}: {coloring.how}",
    )  # fmt: skip


def _plans(name: str, field: Field, shape: tuple[int, ...]) -> list[Comparison]:
    """Each quantity, medians of a few readings."""
    xs = jnp.zeros(shape)

    def energy(xs: Any) -> Any:
        return jnp.sum(field(xs) ** 2, axis=tuple(range(1, xs.ndim)))

    # What is imported or compiled at the first use is no part of planning.
    jacreg.plan(jacreg.divergence, jacreg.linearize(field, xs))
    rows = []
    for quantity in (*_FIELDS, *_ENERGIES):
        function = energy if quantity in _ENERGIES else field
        readings: dict[str, list[float]] = {"plan": [], "trace": []}
        for _ in range(_ROUNDS):
            new = _unseen(function)
            readings["trace"].append(_seconds(lambda new=new: jax.make_jaxpr(new)(xs))[0])
            lin = jacreg.linearize(_unseen(function), xs)
            seconds, plan = _seconds(lambda lin=lin, q=quantity: jacreg.plan(q, lin))
            readings["plan"].append(seconds)
        times = Times({each: np.asarray(found) for each, found in readings.items()})
        ratio, low, high = times.ratio("plan", "trace")
        rows.append(
            Comparison(
                f"plan of {quantity.__name__}", name, "one trace of the function",
                times.median("plan"), times.median("trace"), "s", ratio, low, high, most=_MOST,
                note=f"{plan.path}, {plan.num_products} products",
            )
        )  # fmt: skip
    return rows


def _unseen(field: Callable[..., Any]) -> Callable[..., Any]:
    """The same network, as a program that is in no cache, in memory or on disk."""
    scale = 1 + next(_NUMBERS) / 2**23  # another float32 each time
    return lambda *inputs: scale * field(*inputs)


def _seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    found = call()
    return time.perf_counter() - started, found


def _like(*shape: int) -> Any:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _count(jaxpr: Any) -> int:
    """Equations of a program, with those of what it calls."""
    inner = [each for equation in jaxpr.eqns for each in jaxprs_in_params(equation.params)]
    return len(jaxpr.eqns) + sum(map(_count, inner))
