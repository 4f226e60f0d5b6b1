"""The table and the plots of all records."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _comparison
from benchmarks.works import WORKS
from train.records import write_bytes

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
_HEADERS = ("work", "ours", "peer", "theirs", "ratio", "aim", "floor", "verdict")
_LOG_WIDTH = 220  # columns, where no terminal says how wide it is


def title(name: str) -> str:
    """Return the first line of a work's docstring, without importing it."""
    source = (Path(__file__).parent / "works" / f"{name}.py").read_text()
    return (ast.get_docstring(ast.parse(source)) or name).splitlines()[0].rstrip(".")


def _figure(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.3g} {unit}"


def _cells(row: _comparison.Comparison) -> list[str]:
    ratio = "-"
    if row.ratio is not None:
        spread = "" if row.low == row.high else f" ({row.low:.2g} to {row.high:.2g})"
        ratio = f"{row.ratio:.2g}{spread}"
    return [
        f"{row.work}: {row.setting}",
        _figure(row.ours, row.unit),
        row.peer,
        _figure(row.theirs, row.unit),
        ratio,
        "" if row.most is None else f"at most {row.most:g}",
        row.floor,
        row.verdict if not row.note else f"{row.verdict} ({row.note})" if row.verdict else row.note,
    ]


def _found(folder: Path) -> list[tuple[str, list[_comparison.Comparison], dict[str, Any]]]:
    found = [(name, _comparison.read(name, folder)) for name in WORKS]
    return [(name, *record) for name, record in found if record is not None]


def show(folder: Path) -> None:
    """Print the table of the records in a folder."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*_HEADERS, show_lines=False)
    for _, rows, _ in _found(folder):
        for row in rows:
            table.add_row(*_cells(row))
        table.add_section()
    console = Console()
    if not console.is_terminal:
        console = Console(width=_LOG_WIDTH)
    console.print(table)


def markdown(folder: Path) -> list[str]:
    """Return the lines of the table as README shows it: what has an aim."""
    found = _found(folder)
    lines = ["| " + " | ".join(_HEADERS) + " |", "|" + "---|" * len(_HEADERS)]
    for _, rows, _ in found:
        for row in (each for each in rows if each.most is not None):
            cells = [cell.replace("|", "\\|") for cell in _cells(row)]
            cells[-1] = f"**{row.verdict}**" if row.verdict == "short" else row.verdict
            lines.append("| " + " | ".join(cells) + " |")
    machines = sorted({around["machine"] for _, _, around in found})
    rows = [row for _, each, _ in found for row in each]
    aimed = [row for row in rows if row.most is not None]
    reached = sum(row.verdict == "reached" for row in aimed)
    return [
        f"{reached} of {len(aimed)} aims reached. Measured on {'; '.join(machines)}; medians, and "
        "the quartiles of the ratio over rounds taken in turns. Less is better. Rows without an "
        "aim and notes are in the records.",
        "",
        *lines,
    ]


def renew(readme: Path, folder: Path) -> None:
    """Write the table between a file's two marks.

    Raises:
        ValueError: the file lacks a mark.
    """
    before, begin, rest = readme.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{readme} has no lines {BEGIN} and {END} to write between.")
    write_bytes(
        readme, "\n".join([before + BEGIN, "", *markdown(folder), "", END + after]).encode()
    )


def draw(folder: Path) -> list[Path]:
    """Draw each record's growth, log over log with the fitted exponent; return the pictures.

    A series is `{"title", "x", "y", "lines": {name: [[x, y], ...]}}`.
    """
    drawn = []
    for name, _, around in _found(folder):
        if around.get("series"):
            drawn.append(_draw(around["series"], folder / "plots" / f"{name}.png"))
    return drawn


def exponent(points: list[list[float]]) -> float:
    """Return b of y = a x^b by least squares over the logarithms."""
    xs, ys = np.log(np.asarray(points, float)).T
    return float(np.polyfit(xs, ys, 1)[0])


def _draw(series: list[dict[str, Any]], path: Path) -> Path:
    from matplotlib import ticker

    from train.figures import pyplot, save

    columns = min(3, len(series))
    rows = -(-len(series) // columns)
    figure, axes = pyplot().subplots(
        rows, columns, figsize=(4.2 * columns, 3.4 * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(series) :]:
        axis.set_visible(False)
    for axis, each in zip(axes.flat, series, strict=False):
        for name, points in each["lines"].items():
            xs, ys = zip(*points, strict=True)
            axis.loglog(xs, ys, "o-", markersize=3, label=f"{name}: {exponent(points):.2f}")
        ticks = sorted({float(x) for points in each["lines"].values() for x, _ in points})
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.xaxis.set_minor_locator(ticker.NullLocator())
        axis.set(title=each["title"], xlabel=each["x"], ylabel=each["y"])
        axis.legend(title="exponent", fontsize=7, title_fontsize=7)
    return save(figure, path)
