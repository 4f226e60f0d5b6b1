"""The pictures that the reports share: bars over groups and curves with bands, every seed shown.

Each returns what a report says of its pictures: the file's name and a caption.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from train.figures import pyplot, save
from train.reproduce.timing import counted
from train.statistics import student_reach

if TYPE_CHECKING:
    from train.reproduce._results import Results

Groups = Mapping[str, Mapping[str, Any]]
Drawn = tuple[str, str]


def bars(
    groups: Groups,
    path: Path,
    caption: str,
    label: str,
    *,
    marks: Groups | None = None,
    log: bool = False,
) -> Drawn:
    """Draw `groups[group][bar]`, one value a seed: means as bars, seeds as dots.

    Args:
        marks: by group and bar, a number of the paper, drawn as a cross.
        log: a logarithmic axis, and geometric means.
    """
    plt = pyplot()
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    width = 0.8 / len(names)
    figure, axis = plt.subplots(
        figsize=(max(5.0, 1.1 * len(groups) * max(1.0, len(names) / 3)), 3.4), layout="constrained"
    )
    for number, name in enumerate(names):
        color = f"C{number}"
        for place, (group, found) in enumerate(groups.items()):
            values = np.asarray(found.get(name, ()), np.float64)
            values = values[np.isfinite(values)]
            where = place + (number - (len(names) - 1) / 2) * width
            if values.size:
                middle = np.exp(np.log(values).mean()) if log else values.mean()
                axis.bar(where, middle, 0.9 * width, color=color, alpha=0.55)
                axis.plot([where] * len(values), values, ".", color=color, markersize=4)
            if marks and name in marks.get(group, {}):
                axis.plot(where, marks[group][name], "kx", markersize=6)
        axis.bar(0, 0, color=color, alpha=0.55, label=name)
    if marks:
        axis.plot([], [], "kx", label="paper")
    if log:
        axis.set_yscale("log")
    axis.set_xticks(range(len(groups)), list(groups))
    axis.set_ylabel(label)
    axis.grid(axis="y", alpha=0.3)
    if len(names) > 1 or marks:
        axis.legend(fontsize=8)
    return save(figure, path).name, caption


def curves(
    lines: Mapping[str, tuple[Sequence[float], Any]],
    path: Path,
    caption: str,
    x_label: str,
    y_label: str,
    *,
    log_x: bool = False,
    log_y: bool = False,
    legend_below: bool = False,
    styles: Mapping[str, str] | None = None,
) -> Drawn:
    """Draw `lines[name] = (xs, values)`, values `[seeds, len(xs)]`: the mean in a band.

    The band is Student's 95 % interval of the mean over seeds; of one seed there is none.
    `styles` are colours and dashes by name, as matplotlib writes them ("C0--").
    """
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
    for name, (xs, found) in lines.items():
        values = np.atleast_2d(np.asarray(found, np.float64))
        middle = values.mean(0)
        style = (styles or {}).get(name, "-")
        marker = "o" if len(xs) < 16 else None
        (line,) = axis.plot(xs, middle, style, marker=marker, ms=3, label=name)
        if len(values) > 1:
            reach = student_reach(values)
            low, high = middle - reach, middle + reach
            if log_y:
                low = np.maximum(low, values.min(0) / 10)
            axis.fill_between(xs, low, high, color=line.get_color(), alpha=0.2, lw=0)
    _describe(axis, x_label, y_label, log_x, log_y)
    if log_x:
        places = sorted({float(x) for xs, _ in lines.values() for x in xs})
        if len(places) <= 8:
            # The labels of minor ticks would run into each other.
            axis.set_xticks(places, [f"{place:g}" for place in places])
            axis.set_xticks([], minor=True)
    if legend_below:
        figure.legend(fontsize=8, loc="outside lower center", ncols=2)
    elif len(lines) > 1:
        axis.legend(fontsize=8)
    return save(figure, path).name, caption


def costs(
    results: Results, names: Sequence[str], path: Path, caption: str, label: str = "core ms"
) -> Drawn:
    """Draw what `timing.growth` counted, in core milliseconds by dimension."""
    found = counted(results, names).items()
    times = {name: (sizes, 1000 * seconds) for name, (sizes, seconds) in found}
    return by_dimension(times, path, caption, label)


def by_dimension(
    lines: Mapping[str, tuple[Sequence[float], Any]], path: Path, caption: str, label: str
) -> Drawn:
    """Draw what grows with the number of dimensions, as `curves` does, on two logarithmic axes."""
    return curves(lines, path, caption, "dimensions", label, log_x=True, log_y=True)


def certificates(
    arms: Mapping[str, Callable[[str], Any]], radii: Sequence[str], path: Path, caption: str = ""
) -> Drawn:
    """Draw certified accuracy (dashed) and that under an l2 attack over the radius.

    Args:
        arms: by title, `name of a metric -> values by seed`.
        radii: as the metrics' names have them.
    """
    places = [0.0, *map(float, radii)]
    lines, styles = {}, {}
    kinds = (("accuracy_pgd_l2", "l2 PGD", "-"), ("certified_accuracy", "certified", "--"))
    for number, (title, metric) in enumerate(arms.items()):
        for name, kind, dash in kinds:
            names = ["test/accuracy", *(f"test/{name}_{radius}" for radius in radii)]
            values = 100 * np.stack([np.asarray(metric(each)) for each in names], axis=1)
            lines[f"{title}, {kind}"] = (places, values)
            styles[f"{title}, {kind}"] = f"C{number}{dash}"
    label = "l2 radius, pixels in [0, 1]"
    return curves(lines, path, caption, label, "accuracy, %", legend_below=True, styles=styles)


def scatter(
    groups: Mapping[str, tuple[Any, Any]],
    path: Path,
    caption: str,
    x_label: str,
    y_label: str,
    *,
    log_x: bool = False,
    log_y: bool = False,
) -> Drawn:
    """Draw points by group."""
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(5.0, 3.8), layout="constrained")
    for name, (xs, ys) in groups.items():
        axis.plot(np.ravel(xs), np.ravel(ys), ".", label=name, alpha=0.8)
    _describe(axis, x_label, y_label, log_x, log_y)
    axis.legend(fontsize=8)
    return save(figure, path).name, caption


def _describe(axis: Any, x_label: str, y_label: str, log_x: bool, log_y: bool) -> None:
    axis.set(xlabel=x_label, ylabel=y_label)
    axis.set_xscale("log" if log_x else "linear")
    axis.set_yscale("log" if log_y else "linear")
    axis.grid(alpha=0.3)
