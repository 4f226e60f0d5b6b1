"""Which pictures some runs have, each drawn light and dark."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from train import figures
from train.view._drawings import compared_curves, perturbed_accuracy
from train.view._read import Run

Arrays = Mapping[str, Mapping[str, np.ndarray]]
DARK_PAPER, DARK_INK = "#15181d", "#d7dce3"
_INKED = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
_PAPERED = ("figure.facecolor", "axes.facecolor", "savefig.facecolor", "legend.facecolor")
# Lighter than the usual colours, in their order.
_LINES = ("#6cb2eb", "#ffa94d", "#69c97c", "#f27a7a", "#b79ae8", "#c79a86", "#ee9ad2", "#a5adba")


def _dark() -> dict[str, Any]:
    from cycler import cycler

    return {
        **dict.fromkeys(_INKED, DARK_INK),
        **dict.fromkeys(_PAPERED, DARK_PAPER),
        "grid.color": "#59616e",
        "axes.prop_cycle": cycler(color=_LINES),
    }


class Picture(NamedTuple):
    """One picture of the page.

    Attributes:
        title: its heading.
        caption: what it shows.
        light: a PNG file on white.
        dark: the same as bytes, on the dark page's paper.
    """

    title: str
    caption: str
    light: Path
    dark: bytes


class Drawing(NamedTuple):
    """A picture to be drawn: `draw(path)` gives the path, None where no run has the data."""

    name: str
    title: str
    caption: str
    draw: Callable[[Path], Path | None]


def pictures(runs: Sequence[Run], folder: Path) -> list[Picture]:
    """Draw what the runs recorded, as PNGs in a folder; what no run has is left out."""
    plt = figures.pyplot()
    made = []
    for name, title, caption, draw in drawings(runs):
        with plt.rc_context():
            light = draw(folder / f"{name}.png")
        if light is None:
            continue
        with tempfile.TemporaryDirectory() as hidden, plt.rc_context(_dark()):
            dark = draw(Path(hidden) / "dark.png")
            assert dark is not None
            made.append(Picture(title, caption, light, dark.read_bytes()))
    return made


def drawings(runs: Sequence[Run]) -> Iterator[Drawing]:
    """Yield what there is to draw, without drawing it."""
    yield Drawing(
        "curves", "Training", "Logged metrics against the step.",
        lambda path: compared_curves(runs, path),
    )  # fmt: skip
    yield Drawing(
        "perturbed_accuracy", "Accuracy under noise and attacks",
        "Test accuracy against the size of the perturbation, in units of the input.",
        lambda path: perturbed_accuracy(runs, path),
    )  # fmt: skip
    for name, group in _alike(runs, figures.CELLS, "decision_cells", _classes):
        yield Drawing(
            name, "Decision cells",
            "Predicted classes on a plane through three test examples.",
            _with(figures.decision_cells, group),
        )  # fmt: skip
    for name, group in _alike(runs, figures.SENSITIVITY, "sensitivity", _shown_examples):
        if all("maps" in arrays for arrays in group.values()):
            yield Drawing(
                name, "Sensitivity maps",
                "The Jacobian of the true class's logit as an image, all on one colour scale.",
                _with(figures.sensitivity, group),
            )  # fmt: skip
    for name, group in _alike(runs, figures.SENSITIVITY, "spectra", lambda arrays: ""):
        yield Drawing(
            name, "Singular values of the Jacobian",
            "Mean over test examples, with the middle 80 % of them.",
            _with(figures.spectra, group),
        )  # fmt: skip
    for name, group in _alike(runs, figures.EQUILIBRIUM, "equilibrium", lambda arrays: ""):
        yield Drawing(
            name, "Equilibria", "What the equilibria of test examples took.",
            _with(figures.evaluations, group),
        )  # fmt: skip
    single = {
        figures.DENSITY: ("Density", "Samples, data and learnt density."),
        figures.SAMPLES: ("Samples", "Samples beside the data."),
        figures.SCORE_FIELD: ("Score", "The learnt score over the data."),
        figures.REGRESSION: ("Fit", "What was learnt beside the truth."),
    }
    for record, (title, caption) in single.items():
        for number, run in enumerate(runs):
            arrays = run.arrays(record)
            if arrays is not None:
                yield Drawing(
                    f"{record.stem}_{number + 1}", f"{title}: {run.title}", caption,
                    _with(figures.DRAWINGS[record], arrays),
                )  # fmt: skip


def _with(draw: Callable[[Any, Path], Path], arrays: Any) -> Callable[[Path], Path]:
    return lambda path: draw(arrays, path)


def _alike(
    runs: Sequence[Run], record: Path, name: str, kind: Callable[[Mapping[str, Any]], Any]
) -> Iterator[tuple[str, Arrays]]:
    """Yield the runs' arrays in groups that one picture can show, each with a file name."""
    groups: dict[Any, dict[str, Mapping[str, np.ndarray]]] = {}
    for run in runs:
        arrays = run.arrays(record)
        if arrays is not None:
            groups.setdefault(kind(arrays), {})[run.title] = arrays
    for number, group in enumerate(groups.values(), start=1):
        yield (name if len(groups) == 1 else f"{name}_{number}"), group


def _classes(arrays: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(each) for each in arrays["names"])


def _shown_examples(arrays: Mapping[str, Any]) -> bytes:
    return np.asarray(arrays["images"]).tobytes() if "images" in arrays else b""
