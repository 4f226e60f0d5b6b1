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
HEADLINES_BEGIN, HEADLINES_END = "<!-- headlines: begin -->", "<!-- headlines: end -->"

# What README shows: the record, how its row's work, setting and peer begin, and how a reader who
# does not know the benchmark would say it. One row a kind of work, chosen for what users do first.
HEADLINES = (
    ("training_step", "training step with one projection", "LeNet'", "torch",
     "training step of LeNet' with the Jacobian penalty", "PyTorch"),
    ("penalty_gradient", "gradient of the penalty", "two convolutions", "jax.vjp",
     "gradient of a penalty of 8 projections, two convolutions", "`jax.vjp` in a loop by hand"),
    ("divergence", "exact divergence", "3 convolutions 3x3, 32x32x3, batch 8", "asdex",
     "exact divergence of three convolutions on 32x32x3", "asdex, a sparse Jacobian"),
    ("divergence", "exact divergence", "3 convolutions 3x3, 32x32x3, batch 1", "jax.jacfwd",
     "the same", "`jax.jacfwd` and a trace"),
    ("laplacian", "exact Laplacian", "squares of 2 convolutions", "folx",
     "exact Laplacian of a convolutional energy on 32x32x3", "folx"),
    ("flow_and_score", "flow training step", "2-D, batch 256, rk4", "the form",
     "training step of a continuous flow, exact trace", "the form of diffrax's example"),
    ("gram", "empirical NTK", "MLP 784-256-256-10", "materialised",
     "empirical tangent kernel of an MLP", "Jacobians formed and contracted"),
)  # fmt: skip
_EIGHT = "8 projections"
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
    """Return the lines of the whole table: what has an aim."""
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


def headlines(folder: Path) -> list[str]:
    """Return README's short table: the ratio of each of `HEADLINES`, with its quartiles.

    Raises:
        ValueError: a record has no such row.
    """
    lines = ["| what | beside | time | aim |", "|---|---|---|---|"]
    for name, work, setting, peer, words, beside in HEADLINES:
        record = _comparison.read(name, folder)
        fitting = [
            row
            for row in (record[0] if record else [])
            if row.work.startswith(work)
            and row.setting.startswith(setting)
            and row.peer.startswith(peer)
            and row.ratio is not None
            and (_EIGHT in words) == (_EIGHT in row.setting)
        ]
        if not fitting:
            raise ValueError(f"{folder}/{name}.json has no row {work}: {setting} beside {peer}.")
        row = fitting[0]
        spread = "" if row.low == row.high else f" ({row.low:.2g} to {row.high:.2g})"
        aim = "" if row.most is None else f"at most {row.most:g}"
        lines.append(f"| {words} | {beside} | {row.ratio:.2g}{spread} | {aim} |")
    return lines


def renew(page: Path, folder: Path) -> None:
    """Write what stands between a page's marks: the whole table, the headlines, or both.

    Raises:
        ValueError: the page has neither pair of marks.
    """
    text = page.read_text()
    found = False
    for begin, end, make in (
        (BEGIN, END, markdown),
        (HEADLINES_BEGIN, HEADLINES_END, headlines),
    ):
        before, opened, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if opened and closed:
            text = "\n".join([before + begin, "", *make(folder), "", end + after])
            found = True
    if not found:
        raise ValueError(
            f"{page} has no lines {BEGIN} and {END}, or {HEADLINES_BEGIN} and {HEADLINES_END}, "
            "to write between."
        )
    write_bytes(page, text.encode())


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
