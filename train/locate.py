"""Where a value that is not finite came from: data, parameters, a term or a primitive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import PyTree

_OWN = ("jacreg", "models", "train")
_ROOT = Path(__file__).resolve().parent.parent
# Primitives that call a program once: the search goes on inside.
_PROGRAMS = ("jaxpr", "call_jaxpr", "fun_jaxpr")


class Found(NamedTuple):
    """A primitive whose result is not finite although all that it reads is."""

    primitive: str
    where: str

    def __str__(self) -> str:
        return f"`{self.primitive}`{self.where}"


def explain(
    gradient: Callable[..., Any], params: PyTree, state: PyTree, xs: Any, targets: Any, *rest: Any
) -> str:
    """Say what is not finite first in a step, in the order in which values are made.

    Args:
        gradient: `(params, state, xs, targets, keys, step) -> ((loss, Outcome), grads)`.

    The program is run again, one primitive at a time: slow, and the reason why it takes --debug.
    """
    for name, tree in (("the batch", (xs, targets)), ("the parameters", params)):
        bad = list(_bad_leaves(tree))
        if bad:
            return f"{name} hold what is not finite: {', '.join(bad[:3])}"
    told = []
    (loss, outcome), grads = gradient(params, state, xs, targets, *rest)
    terms = [name for name, value in outcome.metrics.items() if not _finite(value)]
    if terms:
        told.append(f"not finite: {', '.join(terms)}")
    elif not _finite(loss):
        told.append("the loss is not finite, its terms are")
    else:
        bad = list(_bad_leaves(grads))
        if not bad:
            return (
                f"the loss and its gradient are finite, but its norm overflows: {_largest(grads)}"
            )
        told.append(f"the loss is finite, its gradient is not: {', '.join(bad[:3])}")
    found = first_not_finite(gradient, params, state, xs, targets, *rest)
    if found is not None:
        told.append(f"the first primitive to make it is {found}")
    return "; ".join(told)


def first_not_finite(function: Callable[..., Any], *arguments: Any) -> Found | None:
    """Return the first primitive with finite inputs and an output that is not finite.

    Loops and branches are looked at as a whole. None where everything is finite.
    """
    closed = jax.make_jaxpr(function)(*arguments)
    values = jax.tree.leaves(arguments)
    return _search(closed.jaxpr, closed.consts, values)[1]


def _search(jaxpr: Any, consts: Any, arguments: Any) -> tuple[list[Any], Found | None]:
    """Run a program; return its results and the first primitive that spoils one."""
    known: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    known.update(zip(jaxpr.invars, arguments, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, jex.Literal) else known[atom]

    first: Found | None = None
    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        inner = _inner(equation)
        if inner is not None and len(inner.jaxpr.invars) == len(inputs):
            outputs, found = _search(inner.jaxpr, inner.consts, inputs)
            first = first or found
        else:
            outputs = _run(jaxpr, equation, inputs)
            if first is None and not all(map(_finite, outputs)) and all(map(_finite, inputs)):
                first = Found(str(equation.primitive), _where(equation))
        known.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars], first


def _run(jaxpr: Any, equation: Any, inputs: list[Any]) -> list[Any]:
    """Run one equation, as a program of its own."""
    given = {
        atom: value
        for atom, value in zip(equation.invars, inputs, strict=True)
        if not isinstance(atom, jex.Literal)
    }
    alone = jaxpr.replace(
        constvars=[], invars=list(given), outvars=list(equation.outvars), eqns=[equation],
        debug_info=jaxpr.debug_info.with_unknown_names(),
    )  # fmt: skip
    return jex.jaxpr_as_fun(jex.ClosedJaxpr(alone, ()))(*given.values())


def _inner(equation: Any) -> Any:
    """Return the program that an equation calls once, None for a primitive."""
    if str(equation.primitive) in ("scan", "while", "cond"):
        return None
    for name in _PROGRAMS:
        inner = equation.params.get(name)
        if isinstance(inner, jex.ClosedJaxpr):
            return inner
        if isinstance(inner, jex.Jaxpr) and not inner.constvars:
            return jex.ClosedJaxpr(inner, ())
    return None


def _where(equation: Any) -> str:
    """Return the innermost line of this project that made an equation, as ` in FILE:LINE`."""
    traceback = getattr(equation.source_info, "traceback", None)
    frames = [] if traceback is None else traceback.frames
    for frame in frames:
        path = Path(frame.file_name)
        if path.is_relative_to(_ROOT) and path.relative_to(_ROOT).parts[0] in _OWN:
            return f" in {path.relative_to(_ROOT)}:{frame.line_num} ({frame.function_name})"
    return ""


def _largest(tree: PyTree) -> str:
    sizes = {
        jax.tree_util.keystr(path): float(jnp.max(jnp.abs(leaf)))
        for path, leaf in jax.tree.leaves_with_path(tree)
        if np.size(leaf)
    }
    name = max(sizes, key=lambda each: sizes[each])
    return f"{name} has an entry of {sizes[name]:.3g}"


def _bad_leaves(tree: PyTree) -> Iterator[str]:
    for path, leaf in jax.tree.leaves_with_path(tree):
        if not _finite(leaf):
            count = int(np.sum(~np.isfinite(np.asarray(leaf, np.float32))))
            yield f"{jax.tree_util.keystr(path) or 'values'} ({count} of {np.size(leaf)})"


def _finite(value: Any) -> bool:
    if not hasattr(value, "dtype"):
        return bool(np.all(np.isfinite(value))) if isinstance(value, float) else True
    if not jnp.issubdtype(value.dtype, jnp.inexact):
        return True
    return bool(jnp.all(jnp.isfinite(value)))
