"""Errors that carry what came, what was expected and what to do."""

from __future__ import annotations

import sys
from typing import Any

import jax

from ._mode import framework_of


class DirectionError(TypeError):
    """The function has no derivative in the direction that was asked for.

    A function with a custom VJP has no forward mode, a function with a
    `while_loop` has no reverse mode. It is a TypeError so that callers who do
    not know jacreg catch it as one.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> def root(xs):
        ...     return jax.lax.while_loop(lambda x: jnp.max(x) > 2, jnp.sqrt, xs)
        >>> lin = jacreg.linearize(root, jnp.array([[16.0]]))
        >>> try:
        ...     lin.vjp(jnp.ones((1, 1)))
        ... except jacreg.DirectionError:
        ...     print(lin.directions)
        Directions(forward=True, reverse=False)
    """


def note_mistake(error: Exception, xs: Any = (), fn: Any = None) -> None:
    """Add to an error of the user's function what is behind it more often than not.

    Args:
        error: which it raised; one that this library has worded is left as it is.
        xs: the batch that it was called with.
        fn: the function, which may be a module.
    """
    framework = _framework(fn)
    if type(error).__name__ == "TraceContextError":
        error.add_note(
            "An nnx module changes its own variables when it is called, which nnx forbids under a "
            "derivative. jacreg.nnx.function(module) runs a private copy: pass that, or call it "
            "in place of the module."
        )
    elif (
        isinstance(error, TypeError | ValueError) or type(error).__module__ == "flax.errors"
    ) and not _is_worded(error):
        leaves = jax.tree.leaves(xs)
        shapes = [tuple(x.shape) for x in leaves]
        if isinstance(xs, list | tuple) and len(xs) == len(leaves) and len(set(shapes)) == 1:
            error.add_note(
                f"linearize: xs is a {type(xs).__name__} of {len(xs)} arrays, which is no batch "
                "but as many inputs of one function. If they are examples, stack them: "
                "linearize(fn, jnp.stack(xs))."
            )
            return
        # The first mistake of most users; what their function raises says nothing of it.
        shape = ", ".join(map(str, shapes))
        if framework:
            error.add_note(
                f"linearize called fn with the whole batch, xs of shape {shape}. It is a module "
                f"itself, {type(fn).__name__}: pass jacreg.{framework}.function(model), which "
                "also takes calls written (t, y, args)."
            )
            return
        error.add_note(
            f"linearize called fn with the whole batch, xs of shape {shape}. If it is written for "
            "one example, pass jax.vmap(fn), or jacreg.eqx.function(model) for an Equinox model."
        )


def _framework(fn: Any) -> str:
    """The adapter of a module of the user's, "" where it is none."""
    if type(fn).__module__.startswith("equinox._"):
        return ""  # a function that Equinox wraps
    found = framework_of(type(fn))
    return "" if found is None else found[1].removeprefix("jacreg.")


def _is_worded(error: Exception) -> bool:
    """Whether a public function of this library raised it, whose name it begins with."""
    package = sys.modules[__package__ or "jacreg"]
    text = str(error)
    who = text.split(":")[0].split("(")[0]
    return text.startswith("jacreg.") or who in (*package.__all__, *package.losses.__all__)
