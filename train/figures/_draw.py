"""matplotlib without a screen, and pictures that are whole or absent."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

# Told apart by the colour-blind (Okabe and Ito 2008; for up to ten classes Tol's "muted").
LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
CLASSES = (
    "#88CCEE", "#CC6677", "#117733", "#DDCC77", "#AA4499",
    "#332288", "#44AA99", "#999933", "#882255", "#BBBBBB",
)  # fmt: skip
_DOTS_PER_INCH = 120


def save(figure: Any, path: Path) -> Path:
    """Write a figure as PNG in one move and close it; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, dpi=_DOTS_PER_INCH, format="png", bbox_inches="tight")
    temporary.replace(path)
    pyplot().close(figure)
    return path


@cache
def pyplot() -> Any:
    """Return matplotlib's pyplot, drawing to files, in the one style of all figures.

    The style is set at the first call, so that a page may set its own around what it draws.
    """
    import matplotlib
    from cycler import cycler

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update(
        {
            "axes.prop_cycle": cycler(color=LINES),
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 11,
            "axes.labelsize": 10,
            "font.size": 10,
            "grid.color": "#e4e4e4",
            "grid.linewidth": 0.8,
            "image.cmap": "viridis",
            "legend.frameon": False,
            "legend.fontsize": 9,
            "lines.linewidth": 1.6,
        }
    )
    return plt
