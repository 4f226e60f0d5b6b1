"""Whether a value is known while a program is traced."""

from __future__ import annotations

from typing import Any

import jax


def is_traced(value: Any) -> bool:
    """Whether it stands for a value that is not known yet.

    The one place that names JAX's class of tracers: `jax.core` is not all stable, but `Tracer` is
    what JAX's own documentation tells to test for.
    """
    return isinstance(value, jax.core.Tracer)  # pyright: ignore[reportAttributeAccessIssue]
