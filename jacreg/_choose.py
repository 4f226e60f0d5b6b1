"""Choose a method by measuring: cost against variance, on this platform, for this function."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ._checks import check_count
from ._coloring import Coloring, color, quantity_name
from ._errors import DirectionError
from ._frobenius import NORM, frobenius_squared
from ._linearize import Linearization, linearize
from ._methods import (
    Auto,
    Exact,
    Hutchinson,
    HutchPlusPlus,
    Method,
    Probing,
    Projection,
    XRowNorm,
    XTrace,
)
from ._probes import sample_probes
from ._scalar_field import linearize_gradient
from ._trace import DIVERGENCE, divergence

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from ._typing import PyTree

_QUANTITIES = ("divergence", "frobenius", "laplacian")
_SAMPLES = 24
_REPEATS = 3


@dataclass(frozen=True)
class Candidate:
    """One method as `choose` saw it.

    Attributes:
        method: what would be returned.
        products: J v and J^T u that one evaluation takes.
        seconds: one jitted evaluation on the batch, the best of a few.
        relative_deviation: standard deviation of the batch mean over its size; 0 if exact, and
            of an estimate where it has none at this point (a last layer of zeros).
    """

    method: Method
    products: int
    seconds: float
    relative_deviation: float

    @property
    def is_exact(self) -> bool:
        """Whether the method is exact for every function, not on this batch alone."""
        return isinstance(self.method, Auto | Exact | Coloring)


def choose(
    fn: Callable[..., Any],
    xs: Float[Array, "N *in"],
    *args: PyTree,
    quantity: Callable[..., Any] | str,
    budget: int,
    key: Array | None = None,
) -> Method:
    """Return the method that gives a quantity best for at most `budget` products an evaluation.

    Runs once, outside jit, on a batch like those to come: it compiles and times every method
    that fits and samples the deviation of the stochastic ones. An exact method within the budget
    wins, the fastest of them; otherwise the stochastic method with the least variance in the time
    that it takes (variance times seconds, since independent probes trade one for the other).

    Args:
        fn: as for `linearize`; for "laplacian" a field `[N, *in] -> [N]`.
        xs: `[N, *in]`, concrete values.
        *args: further inputs of `fn`.
        quantity: the function, `jacreg.divergence`, `frobenius_squared` or `laplacian`; or the name
            that a config uses, "divergence", "frobenius" or "laplacian".
        budget: the most products (J v or J^T u of the whole batch) that one evaluation may take.
        key: for the samples; a fixed one by default.

    Returns:
        A method for `divergence`, `frobenius_squared` or `laplacian`. `print(method.report)`
        shows what was weighed and why it won.

    Raises:
        ValueError: unknown quantity, a budget below one, or a Jacobian that does not fit.
        TypeError: called on traced arrays, so inside jit, vmap or grad.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> fn, xs = (lambda xs: xs**2), jnp.array([[1.0, 2.0, 3.0]])
        >>> method = jacreg.choose(fn, xs, quantity=jacreg.divergence, budget=3)
        >>> jacreg.divergence(jacreg.linearize(fn, xs), method, key=jax.random.key(0))
        Array([12.], dtype=float32)
    """
    quantity = quantity_name("choose", quantity, _QUANTITIES)
    check_count("choose", "budget", budget)
    key = jax.random.key(0) if key is None else key
    try:
        jax.tree.map(np.asarray, xs)  # without any array linearize says what is missing
    except jax.errors.TracerArrayConversionError:
        raise TypeError(
            "choose: got traced arrays, expected concrete ones: it compiles and times calls. Call "
            "it once outside jit, vmap and grad, and pass the method that it returns."
        ) from None
    make = partial(linearize_gradient, "choose") if quantity == "laplacian" else linearize
    make = partial(make, fn)
    lin = make(xs, *args)
    coloring = color(fn, xs, *args, quantity=quantity)
    candidates, beyond = [], []
    for number, (method, products) in enumerate(_methods(lin, quantity, budget, coloring)):
        if products > budget:
            beyond.append((method, products))
            continue
        try:
            own = jax.random.fold_in(key, number)
            candidates.append(_measure(make, xs, args, quantity, method, products, own))
        except DirectionError:
            continue
    best = min(candidates, key=_merit)
    (device, *_) = jnp.asarray(jax.tree.leaves(xs)[0]).devices()
    heading = f"choose: {quantity}, at most {budget} products, on {device.platform}"
    return with_report(best.method, _report(heading, candidates, beyond, best))


def with_report(method: Method, report: str) -> Method:
    """Attach the reasons to a method; they are no part of its value or hash."""
    object.__setattr__(method, "report", report)
    return method


def _methods(
    lin: Linearization, quantity: str, budget: int, coloring: Coloring
) -> list[tuple[Method, int]]:
    inputs, outputs = lin.inputs.size, lin.outputs.size
    if quantity == "frobenius":
        found: list[tuple[Method, int]] = [
            (Exact(), min(inputs, outputs)),
            *(
                (Projection(budget, distribution, mode), budget)
                for mode in ("reverse", "forward")
                for distribution in ("sphere", "rademacher")
            ),
        ]
        if budget >= 6:
            found.append((XRowNorm(budget - budget % 3), budget - budget % 3))
    else:
        found = [(Exact(), inputs), (Hutchinson(budget), budget)]
        if budget >= 3:
            found.append((HutchPlusPlus(budget), budget))
        if budget >= 4:
            found.append((XTrace(budget - budget % 2), budget - budget % 2))
    if not coloring.is_dense:
        found.insert(0, (coloring, coloring.num_colors))
        if budget < coloring.num_colors:
            found.append((Probing(budget), budget))
    planned = (NORM if quantity == "frobenius" else DIVERGENCE).decide(lin, Auto())
    if all(products != planned.num_products for _, products in found):
        found.insert(0, (Auto(), planned.num_products))
    return found


def evaluate(quantity: str, lin: Linearization, method: Any, key: Any) -> Float[Array, " N"]:
    """The quantity of a linearised function (its gradient, for a Laplacian)."""
    if quantity == "frobenius":
        return frobenius_squared(lin, method, key=key)
    return divergence(lin, method, key=key)


def _measure(
    make: Callable[..., Linearization], xs: Any, args: Any, quantity: str, method: Any,
    products: int, key: Any,
) -> Candidate:  # fmt: skip
    def once(xs: Any, args: Any, key: Any) -> Any:
        return evaluate(quantity, make(xs, *args), method, key)

    # Timing means nothing without jit; nothing that is returned depends on it.
    compiled = jax.jit(once)
    first, last, *others = jax.random.split(key, _REPEATS + 2)
    jax.block_until_ready(compiled(xs, args, first))
    seconds = []
    for each in others:
        start = time.perf_counter()
        jax.block_until_ready(compiled(xs, args, each))
        seconds.append(time.perf_counter() - start)
    if isinstance(method, Auto | Exact | Coloring):
        return Candidate(method, products, min(seconds), 0.0)
    draws = np.asarray(sample_probes(lambda k: compiled(xs, args, k), last, _SAMPLES))
    deviation = draws.std(axis=0, ddof=1)
    scale = max(abs(float(draws.mean())) if draws.size else 0.0, float(jnp.finfo(draws.dtype).tiny))
    count = max(draws.shape[1], 1)
    relative = float(np.sqrt((deviation**2).sum()) / count) / scale
    return Candidate(method, products, min(seconds), relative)


def _merit(candidate: Candidate) -> tuple[bool, float]:
    worth = 1.0 if candidate.is_exact else candidate.relative_deviation**2
    return (not candidate.is_exact, worth * candidate.seconds)


def _report(
    heading: str,
    candidates: list[Candidate],
    beyond: list[tuple[Method, int]],
    best: Candidate,
) -> str:
    lines = [
        heading,
        f"  {'products':>8}  {'ms':>9}  {'rel. std':>9}  method",
    ]
    for c in sorted(candidates, key=_merit):
        mark = "*" if c is best else " "
        deviation = "exact" if c.is_exact else f"{c.relative_deviation:.3g}"
        lines.append(
            f"{mark} {c.products:>8}  {1e3 * c.seconds:>9.3g}  {deviation:>9}  {_short(c.method)}"
        )
    for method, products in beyond:
        lines.append(f"  {products:>8}  {'':>9}  {'':>9}  {_short(method)}: beyond the budget")
    why = (
        "exact within the budget, and the fastest of these"
        if best.is_exact
        else "no exact method within the budget; least variance for its time"
        if best.relative_deviation
        else "no exact method within the budget; it has no variance at this point, where the "
        "Jacobian may be zero: choose again once the network has trained"
    )
    return "\n".join([*lines, f"  chosen: {_short(best.method)}, {why}"])


def _short(method: Method) -> str:
    if isinstance(method, Coloring):
        return f"Coloring({method.num_colors} colours)"
    return repr(method)
