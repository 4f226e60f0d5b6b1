"""Leading eigenvector of J^T J, example by example, in bounded memory.

While the vectors of all steps are few enough they are kept, and the Ritz vector is their sum.
Otherwise the three-term Lanczos recurrence is run twice: once for its coefficients alpha and
beta, once more to add up the Ritz vector, in memory of a few vectors whatever the number of
steps. Both runs are the same compiled loop, for rounding that differs would be amplified
until the second run's vectors are not the first run's.

When to stop is not judged by two estimates that agree, nor by a residual, which only
says that some eigenvalue is near. With v_1 uniform on the sphere of R^n its part along
the leading eigenvector is at least delta = epsilon sqrt(pi / (2 n)) with probability
1 - epsilon. The vector v_{k+1} = p_k(A) v_1 has length one, so |p_k(lambda_max)| is at
most 1 / delta; and p_k grows beyond its largest root. Hence lambda_max is below every t
with p_k(t) >= 1 / delta that lies beyond the roots, and the largest Ritz value, a lower
bound, is as near as asked once such a t is (Hochstenbach 2013, Probabilistic upper
bounds for the matrix two-norm, for Lanczos bidiagonalisation). This needs no gap.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, log, pi, prod, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from ._memory import known_size
from ._sharding import match_sharding, match_varying
from ._structure import norm, unit

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int

Product = Callable[["Float[Array, 'N n']"], "Float[Array, 'N m']"]
# Probability, an example, that the bound misses a singular value outside the tolerance.
_FAILURE = 1e-4
# Entries of all steps' vectors together up to which they are kept: 16 MiB in float32.
_KEPT_ENTRIES = 1 << 22
# Products with J^T J at most that take out what rounding left in a vector.
_POLISHING = 16
# Steps between two looks at the bound, and points of one look along the spectrum.
_STRIDE = 8
_GRID = 64


class Leading(NamedTuple):
    """Leading right singular vector: unit `vector [N, n]`, its `value [N]`, `converged [N]`."""

    vector: Float[Array, "N n"]
    value: Float[Array, " N"]
    converged: Bool[Array, " N"]


class _State(NamedTuple):
    step: Int[Array, ""]
    previous: Float[Array, "N n"]
    vector: Float[Array, "N n"]
    # The sum of the vectors by weights, or [K, N, n], the vectors themselves.
    total: Float[Array, "*K N n"]
    alphas: Float[Array, "N K"]
    betas: Float[Array, "N K"]
    steps: Int[Array, " N"]
    lower: Float[Array, " N"]
    done: Bool[Array, " N"]


def leading_singular_vector(
    forward: Product,
    backward: Product,
    start: Float[Array, "N n"],
    *,
    tolerance: float,
    max_steps: int | None = None,
) -> Leading:
    """Unit vector v of each example with ||J v|| within `tolerance` of the largest.

    Args:
        forward: J, `[N, n] -> [N, m]`; nothing here is differentiated.
        backward: J^T.
        start: `[N, n]`, Gaussian, not all zero.
        tolerance: relative, of the singular value.
        max_steps: products with J^T J before giving up; None means as many as the
            tolerance can need.
    """
    size = start.shape[1]
    log_target = log(sqrt(2 * size / pi) / _FAILURE)
    # Three quarters of the tolerance for the bound, the rest for the vector.
    growth = (1 + 0.75 * tolerance) ** 2
    resolution = max(tolerance / 128, 16 * float(jnp.finfo(start.dtype).eps))
    # A small space is exhausted sooner, whatever the tolerance.
    limit = max_steps or min(_steps_needed(log_target, growth), 8 * size + 8 * _STRIDE)
    start = unit(start)
    scale = norm(forward(start))
    scale = jnp.where((scale > 0) & jnp.isfinite(scale), scale, 1)[:, None]

    def gram(v: Array) -> Array:
        return backward(forward(v) / scale) / scale

    # A multiple of the stride: the loop looks at the bound between strides only.
    limit = _STRIDE * ceil(limit / _STRIDE)

    if limit * prod(map(known_size, start.shape)) <= _KEPT_ENTRIES:
        state = _recur(gram, start, None, limit, growth, log_target, resolution)
        weights = _ritz_weights(state, resolution)
        vector = jnp.einsum("nk,knd->nd", weights, state.total, precision="highest")
    else:

        def run(carry: tuple[Array, Any], _: None) -> tuple[tuple[Array, _State], None]:
            state = _recur(gram, start, carry[0], limit, growth, log_target, resolution)
            return (_ritz_weights(state, resolution), state), None

        begin = _begin(start, limit)
        (_, state), _ = jax.lax.scan(run, (begin.alphas, begin), None, length=2)
        vector = state.total
    # The vector is another sum of the same terms: whatever rounding did, it must
    # reach what the coefficients promise.
    promised = scale[:, 0] * jnp.sqrt(state.lower) * (1 - tolerance / 4)
    vector, value = _polished(forward, backward, unit(vector), promised)
    return Leading(vector, value, state.done & (value >= promised))


def _polished(
    forward: Product, backward: Product, vector: Float[Array, "N n"], promised: Float[Array, " N"]
) -> tuple[Float[Array, "N n"], Float[Array, " N"]]:
    """Power steps from the vectors that are not stretched as promised: each stretches them more."""

    def lacking(carry: tuple[Array, Array, Array]) -> Array:
        return (carry[0] < _POLISHING) & jnp.any(norm(carry[2]) < promised)

    def step(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        count, vector, image = carry
        lacks = (norm(image) < promised)[:, None]
        vector = jnp.where(lacks, unit(backward(unit(image))), vector)
        return count + 1, vector, jnp.where(lacks, forward(vector), image)

    start = (jnp.array(0), vector, forward(vector))
    _, vector, image = jax.lax.while_loop(lacking, step, start)
    return vector, norm(image)


def beside(basis: Float[Array, "K n"], vector: Float[Array, " n"]) -> Float[Array, " n"]:
    """What a vector has beside orthonormal rows, of length 1: the next row; 0 where it has nothing.

    Of a space that is used up rounding alone is left, which may lie within it: a row that counts
    twice would seem to be stretched by the root of two, and win over the leading one.
    """
    for _ in range(2):  # once leaves what rounding brought back
        vector = vector - (basis @ vector) @ basis
    vector = unit(vector[None])[0]
    new = (vector - (basis @ vector) @ basis)[None]
    return jnp.where(norm(new)[:, None] > 0.5, unit(new), 0)[0]


def _steps_needed(log_target: float, growth: float) -> int:
    """Twice what a spectrum without any gap needs: p_k grows as a Chebyshev polynomial."""
    return 2 * ceil((log_target + log(2)) / (2 * sqrt(growth - 1))) + 4 * _STRIDE


def _begin(start: Float[Array, "N n"], limit: int, *, keep: bool = False) -> _State:
    # Built from `start`, so that everything is sharded along the examples as it is.
    zero = jnp.zeros_like(start[:, 0])
    coefficients = zero[:, None] + jnp.zeros((1, limit), start.dtype)
    state = _State(
        step=jnp.array(0),
        previous=jnp.zeros_like(start),
        vector=start,
        total=jnp.zeros((limit, 1, 1), start.dtype) + jnp.zeros_like(start)[None]
        if keep
        else jnp.zeros_like(start),
        alphas=coefficients,
        betas=coefficients,
        steps=zero.astype(jnp.int32),
        lower=zero,
        done=zero.astype(bool),
    )
    return match_varying(state, start)._replace(step=state.step)


def _recur(
    gram: Callable[[Array], Array],
    start: Float[Array, "N n"],
    weights: Float[Array, "N K"] | None,
    limit: int,
    growth: float,
    log_target: float,
    resolution: float,
) -> _State:
    """Run the recurrence until every example's bound is tight.

    Sums the vectors by `weights`, or keeps them all where there are none yet.
    """

    def keep(total: Array, step: Array, vector: Array) -> Array:
        if weights is None:
            return jax.lax.dynamic_update_index_in_dim(total, vector, step, axis=0)
        return total + _column(weights, step)[:, None] * vector

    def advance(_: int, state: _State) -> _State:
        last = jnp.where(state.step > 0, _column(state.betas, state.step - 1), 0)
        product = gram(state.vector) - last[:, None] * state.previous
        alpha = jnp.sum(product * state.vector, axis=1)
        product = product - alpha[:, None] * state.vector
        beta = norm(product)
        running = ~state.done
        following = product / jnp.where(beta > 0, beta, 1)[:, None]
        return state._replace(
            step=state.step + 1,
            previous=jnp.where(running[:, None], state.vector, state.previous),
            vector=jnp.where(running[:, None], following, state.vector),
            total=keep(state.total, state.step, state.vector),
            alphas=_store(state.alphas, state.step, jnp.where(running, alpha, 0)),
            betas=_store(state.betas, state.step, jnp.where(running, beta, 0)),
            steps=state.steps + running.astype(state.steps.dtype),
        )

    def body(state: _State) -> _State:
        state = jax.lax.fori_loop(0, _STRIDE, advance, state)
        lower = _largest_root(state, resolution)
        crossed, log_p = _log_polynomial(state, growth * lower[:, None])
        tight = (crossed[:, 0] == 0) & (log_p[:, 0] >= log_target)
        nothing = state.alphas[:, 0] + state.betas[:, 0] == 0
        broken = ~jnp.isfinite(lower)
        return state._replace(lower=lower, done=state.done | tight | nothing | broken)

    begin = _begin(start, limit, keep=weights is None)
    return jax.lax.while_loop(lambda s: (s.step < limit) & ~jnp.all(s.done), body, begin)


def _column(table: Float[Array, "N K"], index: Array) -> Float[Array, " N"]:
    return jax.lax.dynamic_index_in_dim(table, index, axis=1, keepdims=False)


def _store(table: Float[Array, "N K"], index: Array, column: Array) -> Float[Array, "N K"]:
    return jax.lax.dynamic_update_index_in_dim(table, column, index, axis=1)


def _log_polynomial(
    state: _State, points: Float[Array, "N G"]
) -> tuple[Int[Array, "N G"], Float[Array, "N G"]]:
    """Steps after which a point is no longer above the roots (0: it is), and log p_k there.

    The ratios d_j = det(t - T_j) / det(t - T_{j-1}) are all positive exactly where t is
    above every eigenvalue of T_k (Sturm); then p_k(t) is the product of d_j / beta_j.
    """
    tiny = jnp.finfo(points.dtype).tiny

    def ratio(j: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        before, crossed, log_p = carry
        beta = jnp.where(j > 0, _column(state.betas, j - 1), 0)[:, None]
        here = points - _column(state.alphas, j)[:, None] - beta * (beta / before)
        j = jnp.asarray(j)  # a Python integer under `disable_jit`
        used = (j.astype(state.steps.dtype) < state.steps)[:, None]
        now = (j + 1).astype(crossed.dtype)
        crossed = jnp.where(used & (here <= 0) & (crossed == 0), now, crossed)
        safe = jnp.where(here > 0, here, 1)
        term = jnp.log(safe) - jnp.log(jnp.maximum(_column(state.betas, j), tiny))[:, None]
        return safe, crossed, log_p + jnp.where(used, term, 0)

    none = match_sharding(jnp.zeros_like(points, jnp.int32), points)
    carry = (match_sharding(jnp.ones_like(points), points), none, none.astype(points.dtype))
    _, crossed, log_p = jax.lax.fori_loop(0, state.step, ratio, carry)
    return crossed, log_p


def _largest_root(state: _State, resolution: float) -> Float[Array, " N"]:
    """Largest eigenvalue of T_k from below, by section into many parts at once."""
    passes = ceil(log(4 / resolution) / log(_GRID))
    # The last beta couples to the next step and is no entry of T_k.
    column, steps = (
        jnp.arange(state.betas.shape[1], dtype=state.steps.dtype)[None],
        state.steps[:, None],
    )
    inner = jnp.where(column < steps - 1, state.betas, 0)
    radius = inner + jnp.pad(inner, ((0, 0), (1, 0)))[:, :-1]
    alphas = jnp.where(column < steps, state.alphas, 0)
    lower = jnp.maximum(state.lower, jnp.max(alphas, axis=1))
    upper = jnp.max(alphas + radius, axis=1)
    fractions = jnp.arange(1, _GRID + 1, dtype=state.alphas.dtype)[None] / _GRID

    def narrow(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        lower, upper = bracket
        step = (upper - lower) / _GRID
        points = lower[:, None] + (upper - lower)[:, None] * fractions
        crossed = _log_polynomial(state, points)[0]
        count = jnp.sum(crossed > 0, axis=1)
        count = count.astype(step.dtype)
        return lower + count * step, lower + (count + 1) * step

    return jax.lax.fori_loop(0, passes, narrow, (lower, upper))[0]


def _ritz_weights(state: _State, resolution: float) -> Float[Array, "N K"]:
    """Leading eigenvector of T_m, for the first m whose eigenvalue is as good as the last.

    Later steps would add copies of what has converged (Lanczos without
    reorthogonalisation), and a mixture of copies is no eigenvector. By inverse
    iteration just above the eigenvalue.
    """
    target = (1 - 2 * resolution) * state.lower
    crossed = _log_polynomial(state, target[:, None])[0][:, 0]
    steps = jnp.where(crossed > 0, crossed, state.steps)
    root = _largest_root(state._replace(steps=steps, lower=target), resolution)
    shift = root * (1 + 2 * resolution) + jnp.finfo(root.dtype).tiny
    column = jnp.arange(state.alphas.shape[1], dtype=state.steps.dtype)[None]
    used = column < steps[:, None]
    inner = jnp.where(column < steps[:, None] - 1, state.betas, 0)
    below = jnp.pad(inner, ((0, 0), (1, 0)))[:, :-1]
    # Positive betas make the leading vector positive, so that ones are a safe start.
    middle = jnp.where(used, shift[:, None] - state.alphas, 1)

    def solve(_: int, vector: Array) -> Array:
        solved = jax.lax.linalg.tridiagonal_solve(-below, middle, -inner, vector[..., None])
        return unit(solved[..., 0])

    return jax.lax.fori_loop(0, 3, solve, used.astype(state.alphas.dtype))
