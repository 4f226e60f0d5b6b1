"""matplotlib without a screen, and pictures that are whole or absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def save(figure: Any, path: Path) -> Path:
    """Write a figure as PNG in one move and close it; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, dpi=120, format="png", bbox_inches="tight")
    temporary.replace(path)
    pyplot().close(figure)
    return path


def pyplot() -> Any:
    """Return matplotlib's pyplot, drawing to files."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt
