"""Where an operation of a program stands in the file of who wrote it."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Any

import jax

_OWN = str(Path(__file__).parent)
_INSTALLED = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {str(Path(jax.__file__).parent)}
)


def place(equation: Any) -> str:
    """ " at file:line" of the innermost frame that is nobody's library; "" where unknown.

    Where every frame belongs to an installed package, the innermost that is not JAX's.
    """
    traceback = getattr(equation.source_info, "traceback", None)
    frames = [(f.file_name, f.line_num) for f in getattr(traceback, "frames", ())]
    frames = [f for f in frames if not f[0].startswith((_OWN, "<frozen"))]
    own = [f for f in frames if not f[0].startswith(_INSTALLED)]
    others = [f for f in frames if "/jax/" not in f[0] and "site-packages" in f[0]]
    for name, line in (*own, *others):
        return f" at {Path(name).name}:{line}"
    return ""
