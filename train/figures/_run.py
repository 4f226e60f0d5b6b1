"""All figures of a run, from its records alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from train import records
from train.figures._curves import curves
from train.figures._decision_cells import decision_cells
from train.figures._equilibrium import evaluations
from train.figures._regression import regression
from train.figures._samples import density, samples, score_field
from train.figures._sensitivity import sensitivity, spectra

CELLS = Path("figures") / "decision_cells.npz"
DENSITY = Path("figures") / "density.npz"
EQUILIBRIUM = Path("figures") / "equilibrium.npz"
SAMPLES = Path("figures") / "samples.npz"
SCORE_FIELD = Path("figures") / "score_field.npz"
REGRESSION = Path("figures") / "regression.npz"
SENSITIVITY = Path("figures") / "sensitivity.npz"

# What a task's report may write, and how it is drawn: `(arrays, png) -> png`. Adding a picture
# is adding a row.
DRAWINGS: Mapping[Path, Callable[[Mapping[str, Any], Path], Path]] = {
    CELLS: lambda arrays, path: decision_cells({"": arrays}, path),
    DENSITY: density,
    EQUILIBRIUM: lambda arrays, path: evaluations({"": arrays}, path),
    SAMPLES: samples,
    SCORE_FIELD: score_field,
    REGRESSION: regression,
    SENSITIVITY: lambda arrays, path: (
        sensitivity({"": arrays}, path) if "maps" in arrays else spectra({"": arrays}, path)
    ),
}


def draw_run(workdir: Path) -> list[Path]:
    """Draw a run's figures from its records; return the files."""
    folder = workdir / "figures"
    folder.mkdir(exist_ok=True)
    drawn = []
    lines = records.MetricsLog(workdir / records.METRICS).read()
    if lines:
        drawn.append(curves(lines, folder / "curves.png"))
    for record, draw in DRAWINGS.items():
        if (workdir / record).exists():
            arrays = records.read_arrays(workdir / record)
            drawn.append(draw(arrays, (workdir / record).with_suffix(".png")))
    return drawn
