"""Log-determinant of an invertible residual map, by a power series."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ._checks import check_count
from ._keys import check_key
from ._linearize import Linearization, check_linearization
from ._probes import draw, mean_over_probes
from ._sharding import match_varying
from ._structure import accumulate_dtype, example_dot
from ._trace import either_product

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

    from ._typing import PyTree


def log_determinant(
    lin: Linearization,
    *,
    key: Array,
    num_terms: int = 8,
    num_probes: int = 1,
    continuation: float = 0.75,
) -> Float[Array, " N"]:
    """Log |det(I + J)| of each example by its power series, without bias.

    For x + g(x) with a contraction g, as in residual flows:
    log det(I + J) = sum_k (-1)^(k+1) / k tr(J^k). The first `num_terms` terms are always
    computed; then each further term with probability `continuation`, and divided by the
    probability of getting there, so that the truncation has no bias (Russian roulette).
    Traces by Hutchinson's estimator with Rademacher probes; all powers of one probe share
    their products, and the whole batch shares one number of terms.

    The gradient is the Neumann series' own estimate: with w = sum_k c_k J^(k-1) v found
    without gradient, that of v^T J w. Its memory does not grow with the number of terms,
    and it is unbiased too. Differentiate once: a second derivative would leave out how
    w turns.

    Where J is no contraction: `log_pseudo_determinant` of `lambda xs: xs + g(xs)`, exactly or
    by `Lanczos(...)`.

    Source: Chen, Behrmann, Duvenaud, Jacobsen 2019, Residual Flows, equations 6 and 8.

    Args:
        lin: from `linearize` of g (not of x + g(x)), whose output has the input's shape.
            Needs the spectral radius of J below 1. One direction is enough.
        key: for the probes and the truncation.
        num_terms: terms that are always computed.
        num_probes: independent probes an example, each with a truncation of its own.
        continuation: probability of each further term, in [0, 1). The variance is finite
            where ||J||^2 is below it; 0 truncates after `num_terms`, which is biased.

    Returns:
        `[N]`, in nats. Costs `num_terms + continuation / (1 - continuation)` products a
        probe in the mean, and one more.

    Raises:
        ValueError: the Jacobian is not square, the key is missing, or an option is out
            of range.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: -0.5 * xs, jnp.ones((1, 1)))
        >>> (2 * jnp.exp(jacreg.log_determinant(lin, key=jax.random.key(0), num_terms=20))).round()
        Array([1.], dtype=float32)
    """
    check_linearization("log_determinant", lin)
    check_count("log_determinant", "num_terms", num_terms)
    check_count("log_determinant", "num_probes", num_probes)
    if isinstance(continuation, bool) or not isinstance(continuation, int | float):
        raise TypeError(f"log_determinant: continuation must be a number, got {continuation!r}.")
    if not 0 <= continuation < 1:
        raise ValueError(
            "log_determinant: continuation is a probability below 1 (at 1 the series never "
            f"ends), got {continuation}."
        )
    if key is None:
        raise ValueError(
            "log_determinant: is stochastic and needs a key; pass key=jax.random.key(seed), a "
            "new one every step."
        )
    check_key("log_determinant", "key", key)
    inputs, outputs = lin.inputs, lin.outputs
    if (inputs.treedef, inputs.shapes) != (outputs.treedef, outputs.shapes):
        raise ValueError(
            "log_determinant: I + J needs a square Jacobian, with an output of the input's "
            f"shape; got {inputs.describe()} -> {outputs.describe()}. For the volume of a "
            "rectangular one use log_pseudo_determinant."
        )

    def sample(probe_key: Array) -> Float[Array, " N"]:
        draw_key, stop_key = jax.random.split(probe_key)
        probe = draw(draw_key, lin.xs, "rademacher")
        return truncated_series(
            lin, probe, num_terms, _further_terms(stop_key, continuation), continuation
        )

    return mean_over_probes(sample, key, num_probes)


def truncated_series(
    lin: Linearization,
    probe: PyTree,
    num_terms: int,
    further: Int[Array, ""] | int,
    continuation: float,
) -> Float[Array, " N"]:
    """The estimate with one probe and `further` terms beyond `num_terms`."""
    frozen: Linearization = jax.lax.stop_gradient(lin)
    dtype = accumulate_dtype(lin.outputs.dtype)

    def term(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        k, weight, power, value, combined = carry
        # At the top, power is (-1)^(k-1) J^(k-1) v.
        combined = jax.tree.map(lambda c, p: c + weight * p.astype(c.dtype), combined, power)
        product = either_product(frozen, power)
        power = jax.tree.map(lambda q, p: -q.astype(p.dtype), product, power)
        contribution = -example_dot(probe, power).astype(dtype) / k
        value = value + weight * contribution
        weight = jnp.where(k >= num_terms, weight / max(continuation, 1e-30), weight)
        return k + 1, weight, power, value, combined

    zeros = jax.tree.map(lambda p: jnp.zeros_like(p, accumulate_dtype(p.dtype)), probe)
    value = example_dot(probe, probe).astype(dtype) * 0
    carry = (jnp.array(1), jnp.ones((), dtype), *match_varying((probe, value, zeros), lin.xs))
    last = num_terms + further
    _, _, _, value, combined = jax.lax.while_loop(lambda c: c[0] <= last, term, carry)
    value, combined = jax.lax.stop_gradient((value, combined))
    combined = jax.tree.map(lambda c, p: c.astype(p.dtype), combined, probe)
    slope = example_dot(probe, either_product(lin, combined)).astype(dtype)
    return (value + slope - jax.lax.stop_gradient(slope)).astype(lin.outputs.dtype)


def _further_terms(key: Array, continuation: float) -> Int[Array, ""]:
    """Number of terms beyond the sure ones: at least j with probability continuation^j."""
    if continuation == 0:
        return jnp.array(0)
    return jax.random.geometric(key, 1 - continuation) - 1
