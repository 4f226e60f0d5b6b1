"""Tables and figures, from the records alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from train import figures as records_of
from train.figures import pyplot, save
from train.reproduce import Results, Table, uci
from train.reproduce.figures import costs
from train.reproduce.papers.ffjord2019._claims import closed, gaussian_nll
from train.reproduce.papers.ffjord2019._measure import DIVERGENCES
from train.reproduce.papers.ffjord2019._plan import KNOWN, OTHERS
from train.statistics import shown_interval


def tables(results: Results) -> Sequence[Table]:
    """Return likelihoods by density and on tables."""
    rows = []
    for name in (*KNOWN, *OTHERS):
        arm = f"plane/{name}"
        truth = f"{results.metric(arm, 'test/true_nll').mean():.3f}" if name in KNOWN else ""
        start = np.mean([gaussian_nll(results, arm, seed) for seed in results.seeds[arm]])
        rows.append(
            [
                name,
                f"{start:.3f}",
                shown_interval(results.metric(arm, "test/nll"), ".3f"),
                truth,
                shown_interval(closed(results, arm), ".2f") if name in KNOWN else "",
                shown_interval(results.metric(arm, "test/integral"), ".4f"),
                shown_interval(results.metric(arm, "test/nfe"), ".0f"),
            ]
        )
    columns = ["density", "Gaussian", "flow", "truth", "of the way", "integral", "evaluations"]
    note = "Test nll in nats. Evaluations of the field in a test solve, dopri5 at 1e-5."
    found = [Table("Densities in the plane", columns, rows, note)]
    if results.settings.data:
        rows = [
            [
                name,
                f"{uci.FEATURES[name] * 0.5 * np.log(2 * np.pi * np.e):.2f}",
                shown_interval(results.metric(f"table/{name}", "test/nll"), ".2f"),
            ]
            for name in results.settings.data
        ]
        found.append(Table("Tables", ["table", "Gaussian", "flow"], rows, "Test nll in nats."))
    return found


def figures(results: Results, folder: Path) -> Sequence[tuple[str, str]]:
    """Draw the paper's picture of densities, and the cost of a divergence."""
    first = results.settings.first_seed
    found = {
        name: results.arrays(f"plane/{name}", first, str(records_of.DENSITY))
        for name in (*KNOWN, *OTHERS)
    }
    caption = f"Data, learnt density and samples of the flow, seed {first}."
    return [
        (densities(found, folder / "densities.png").name, caption),
        costs(
            results,
            DIVERGENCES,
            folder / "cost.png",
            "What the cores spend on a field and its divergence, by dimension: plain is the field "
            "alone, exact takes a product a dimension, automatic is exact by jacreg's own choice.",
        ),
    ]


def densities(found: Mapping[str, Mapping[str, np.ndarray]], path: Path) -> Path:
    """Draw a column a density: data, density and samples, on the data's extent."""
    plt = pyplot()
    figure, axes = plt.subplots(
        3, len(found), figsize=(1.7 * len(found), 5.2), layout="constrained", squeeze=False
    )
    for column, (name, arrays) in zip(axes.T, found.items(), strict=True):
        low, high = arrays["examples"].min(0), arrays["examples"].max(0)
        for axis, which in ((column[0], "examples"), (column[2], "samples")):
            axis.scatter(*arrays[which].T, s=1, alpha=0.5, linewidths=0)
        values = np.nan_to_num(arrays["density"])
        column[1].imshow(values, origin="lower", extent=arrays["extent"], vmin=0)
        column[0].set_title(name, fontsize=8)
        for axis in column:
            axis.set_xlim(low[0], high[0])
            axis.set_ylim(low[1], high[1])
            axis.set_aspect("equal")
            axis.set_xticks([])
            axis.set_yticks([])
    for axis, label in zip(axes[:, 0], ("data", "density", "samples"), strict=True):
        axis.set_ylabel(label)
    return save(figure, path)
