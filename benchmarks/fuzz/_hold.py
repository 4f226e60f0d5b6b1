"""Hold what jacreg says of a random program against its dense Jacobian in float64."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jacreg

from ._program import Program, write_program

# Relative to the largest entry; a wrong entry is far beyond.
_TOLERANCE = 1e-7
# Programs that grow beyond say more about rounding than about us.
_LARGEST = 1e4


@dataclass(frozen=True)
class Find:
    """A program of which something was not as it should be."""

    seed: int
    what: str
    text: str

    def __str__(self) -> str:
        return f"--- seed {self.seed}: {self.what}\n{self.text}\n"


class _Skip(Exception):
    """There is nothing to hold against: not finite, or the two directions of JAX disagree."""


def fuzz(seconds: float, *, first_seed: int = 0, most: int | None = None) -> dict[str, Any]:
    """Hold programs of successive seeds for some time.

    Returns:
        `programs` that were held, `skipped` by reason, `finds`, and `next_seed`.
    """
    end, seed, finds, skipped, held = time.monotonic() + seconds, first_seed, [], Counter(), 0
    while time.monotonic() < end and (most is None or held < most):
        try:
            finds.extend(hold(write_program(seed)))
            held += 1
        except _Skip as reason:
            skipped[str(reason)] += 1
        seed += 1
        if not seed % 32:
            # Each program is compiled once and never met again.
            jax.clear_caches()
    return {"programs": held, "skipped": dict(skipped), "finds": finds, "next_seed": seed}


def hold(program: Program) -> list[Find]:
    """Everything that is wrong with one program."""
    fn = program.function()
    try:
        # Tables choose entries, so that the others are tried where there are any.
        problems = [*_at_home(program, fn), *(_moved(program, fn) if program.tables else ())]
    except jacreg.DirectionError:
        raise _Skip("no derivative") from None
    return [Find(program.seed, what, program.text) for what in problems]


def _at_home(program: Program, fn: Any) -> Iterator[str]:
    """Two quantities by two methods each, and their gradients in the weights."""
    xs, weights = jnp.asarray(program.draw_inputs(0)), _arrays(program.draw_weights())
    tables = _arrays(program.draw_tables(0))
    try:
        cases = dict(_cases(program, fn, xs, weights, tables))
    except jacreg.DirectionError:
        raise
    except Exception as error:
        yield f"planning: {type(error).__name__}: {error}"
        return
    key = jax.random.key(program.seed)
    failures: list[str] = []
    # What has a value and no gradient: no find where JAX itself has none either.
    without: dict[str, str] = {}

    def weighted(quantity: Any, w: Any) -> Any:
        value = quantity(w)
        return jnp.sum(jax.random.normal(key, value.shape) * value), value

    def attempt(name: str, quantity: Any, w: Any) -> Any:
        try:
            return jax.value_and_grad(lambda w: weighted(quantity, w), has_aux=True)(w)
        except Exception as error:
            without[name] = f"{name}: {type(error).__name__}: {error}"
        try:
            return weighted(quantity, w), None
        except Exception:
            failures.append(without[name])
            return None

    @jax.jit
    def run(w: Any) -> Any:
        dense = _references(fn, xs, w, tables)
        found = {name: attempt(name, case, w) for name, (case, _) in cases.items()}
        wanted = {}
        for name, (_, of_dense) in cases.items():
            if of_dense not in wanted:
                wanted[of_dense] = _of_reference(
                    lambda w, f=of_dense: weighted(
                        lambda w: f(_references(fn, xs, w, tables)[0]), w
                    ),
                    w,
                )
            del name
        return dense, found, list(wanted.values())

    order: list[Any] = []
    for _, of_dense in cases.values():
        if of_dense not in order:
            order.append(of_dense)
    dense, found, wanted = jax.device_get(run(weights))
    truth = _agreed(dense)
    yield from failures
    for name, (_, of_dense) in cases.items():
        if found[name] is None:
            continue
        (_, value), slope = found[name]
        expected, true_slope = wanted[order.index(of_dense)]
        if value.shape != expected.shape or not _close(value, expected, truth):
            yield f"{name}: {_apart(value, expected)}"
            continue
        if slope is None and true_slope is not None:
            yield without[name]
        for number, (own, true) in enumerate(zip(slope or (), true_slope or (), strict=False)):
            if np.isfinite(true).all() and not _close(own, true, truth):
                yield f"{name}, gradient in w[{number}]: {_apart(own, true)}"


def _of_reference(weighted: Any, w: Any) -> Any:
    """Value and gradient; no gradient where JAX itself has none."""
    try:
        (_, value), slope = jax.value_and_grad(weighted, has_aux=True)(w)
        return value, slope
    except (ValueError, TypeError, NotImplementedError):
        return weighted(w)[1], None


def _cases(
    program: Program, fn: Any, xs: Any, weights: Any, tables: Any
) -> Iterator[tuple[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]]]:
    """Name, quantity of the weights, and the same of a dense Jacobian."""
    size = int(np.prod(program.in_shape))
    rng = np.random.default_rng([program.seed, 7])

    def lin(w: Any) -> Any:
        return jacreg.linearize(lambda xs: fn(xs, w, tables), xs)

    def flat(dense: Any) -> Any:
        return dense.reshape(len(dense), size, size)

    def diagonal(dense: Any) -> Any:
        return jnp.diagonal(flat(dense), axis1=1, axis2=2).reshape(xs.shape)

    quantities: dict[Any, tuple[str, Any]] = {
        jacreg.jacobian: ("jacobian", lambda d: d),
        jacreg.divergence: ("divergence", lambda d: diagonal(d).reshape(len(d), -1).sum(1)),
        jacreg.diagonal: ("divergence", diagonal),
        jacreg.frobenius_squared: ("frobenius", lambda d: (flat(d) ** 2).sum((1, 2))),
    }
    shape = xs if rng.random() < 0.2 else jax.ShapeDtypeStruct(xs.shape, xs.dtype)
    for number in rng.permutation(len(quantities))[:2]:
        quantity, (name, of_dense) = list(quantities.items())[number]
        coloring = jacreg.color(lambda xs: fn(xs, weights, tables), shape, quantity=name)
        for method in (jacreg.Auto(), (jacreg.Exact(chunk_size=3), coloring)[rng.integers(2)]):
            yield (
                f"{quantity.__name__} by {method}",
                (lambda w, q=quantity, m=method: q(lin(w), m), of_dense),
            )
    if rng.random() < 0.3:
        yield (
            "gram",
            (
                lambda w: jacreg.gram(lin(w)),
                lambda d: flat(d) @ flat(d).transpose(0, 2, 1),
            ),
        )


def _moved(program: Program, fn: Any) -> Iterator[str]:
    """A colouring at other inputs and on other tables: right, or refused."""
    weights, first = _arrays(program.draw_weights()), _arrays(program.draw_tables(0))
    xs = jnp.asarray(program.draw_inputs(1))
    quantity, measure = (
        ("jacobian", jacreg.jacobian), ("divergence", jacreg.divergence),
    )[program.seed % 2]  # fmt: skip
    coloring = jacreg.color(
        lambda xs: fn(xs, weights, first), jax.ShapeDtypeStruct(xs.shape, xs.dtype),
        quantity=quantity,
    )  # fmt: skip
    failures: list[str] = []

    def attempt(what: str, xs: Any, tables: Any) -> Any:
        lin = jacreg.linearize(lambda xs: fn(xs, weights, tables), xs)
        try:
            return measure(lin, coloring)
        except jacreg.ColoringError as error:
            if what == "other inputs":
                failures.append(f"colouring at {what}: {error}")
        except Exception as error:
            failures.append(f"colouring at {what}: {type(error).__name__}: {error}")
        return None

    taken = jax.jit(measure)

    @jax.jit
    def run(xs: Any, traced: Any) -> Any:
        other = _arrays(program.draw_tables(1))
        tried = {"other inputs": first, "other tables": other, "traced tables": traced}
        results = {
            what: (attempt(what, xs, tables), _references(fn, xs, weights, tables))
            for what, tables in tried.items()
        }
        # A jitted function that takes the Linearization belongs to one set of tables, too.
        for what, tables in (("its own", first), ("other tables", other)):
            lin = jacreg.linearize(lambda xs, t=tables: fn(xs, weights, t), xs)
            truth = results["other inputs" if tables is first else what][1]
            results[f"{what}, as an argument"] = taken(lin), truth
        return results

    results = jax.device_get(run(xs, _arrays(program.draw_tables(2))))
    yield from failures
    for what, (found, dense) in results.items():
        try:
            truth = _agreed(dense)
        except _Skip:
            continue
        expected = truth
        if quantity == "divergence":
            expected = np.trace(truth.reshape(len(truth), -1, xs[0].size), axis1=1, axis2=2)
        if found is not None and not _close(found, expected, truth):
            yield f"colouring at {what}: {_apart(found, expected)}"


def _references(fn: Any, xs: Any, weights: Any, tables: Any) -> list[Any]:
    """The dense Jacobian by each direction that exists."""

    def one(x: Any) -> Any:
        return fn(x[None], weights, tables)[0]

    found = []
    for differentiate in (jax.jacfwd, jax.jacrev):
        try:
            found.append(jax.vmap(differentiate(one))(xs))
        except (TypeError, ValueError, NotImplementedError):
            continue
    if not found:
        raise _Skip("no derivative")
    return found


def _agreed(found: list[Any]) -> Any:
    """The dense Jacobian that both directions give.

    Raises:
        _Skip: there is none to compare with.
    """
    if not all(np.isfinite(each).all() for each in found):
        raise _Skip("not finite")
    if np.abs(found[0]).max(initial=0) > _LARGEST:
        raise _Skip("large")
    if not np.allclose(found[0], found[-1], rtol=1e-9, atol=1e-9):
        raise _Skip("two derivatives")
    return found[0]


def _arrays(values: list[np.ndarray]) -> list[Any]:
    return [jnp.asarray(value) for value in values]


def _close(found: Any, expected: Any, truth: Any) -> bool:
    scale = max(np.abs(expected).max(initial=0), np.abs(truth).max(initial=0), 1.0)
    return bool(
        np.abs(np.asarray(found) - np.asarray(expected)).max(initial=0) <= _TOLERANCE * scale
    )


def _apart(found: Any, expected: Any) -> str:
    if found.shape != expected.shape:
        return f"shape {found.shape}, expected {expected.shape}"
    place = np.unravel_index(
        int(np.nanargmax(np.abs(np.nan_to_num(np.asarray(found - expected), nan=np.inf)))),
        found.shape,
    )
    return (
        f"{float(found[place]):.6g} at {tuple(map(int, place))}, expected "
        f"{float(expected[place]):.6g}"
    )
