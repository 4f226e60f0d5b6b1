"""`claims.json`, `report.md` and the figures of a paper, from the records of its jobs alone."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from train import records
from train.reproduce._claims import Verdict, judge
from train.reproduce._job import LOG
from train.reproduce._paper import Paper, Table
from train.reproduce._results import Results
from train.reproduce._words import head, markdown_table, tail

CLAIMS, REPORT, FIGURES, RUN = "claims.json", "report.md", "figures", "reproduction.json"


def write_report(
    paper: Paper,
    results: Results,
    command: str,
    workers: int,
    cut: Mapping[int, Sequence[str]] | None = None,
) -> tuple[Path, list[Verdict]]:
    """Judge the claims, draw the figures, write everything; return the report and the verdicts.

    `cut` names the arms that were trained for fewer steps than the scale asks, by that number.
    """
    folder, settings = results.folder, results.settings
    verdicts = [judge(claim, results) for claim in paper.claims(settings)]
    pictures = folder / FIGURES
    pictures.mkdir(exist_ok=True)
    figures = _shown_or_none(lambda: list(paper.figures(results, pictures)), results)
    tables = _shown_or_none(lambda: list(paper.tables(results)), results)
    seconds = float(sum(np.nansum(results.seconds(arm)) for arm in results.arms))
    # Of a run that failed, or of a version before, it is not known.
    of_cores = float(sum(np.sum(results.seconds(arm, "core_seconds")) for arm in results.arms))
    about = {
        "name": paper.name,
        "reference": paper.reference,
        "scale": settings.scale,
        "seeds": settings.seeds,
        "first_seed": settings.first_seed,
        "broken": settings.broken,
        "data": sorted(settings.data),
        "part": {"most_steps": settings.most_steps, "cut": {str(k): v for k, v in cut.items()}}
        if cut
        else None,
        "command": command,
        "run_seconds": round(seconds, 1),
        "core_seconds": None if np.isnan(of_cores) else round(of_cores, 1),
        "workers": workers,
        "machine": _machine(results),
        "versions": {name: version(name) for name in ("jax", "jaxlib")},
        "diverged": {arm: found for arm in results.arms if (found := results.diverged(arm))},
        "failed": results.failed(),
    }
    listed = [verdict.record() for verdict in verdicts]
    records.write_json(folder / CLAIMS, listed)
    records.write_json(folder / RUN, about)
    page = _page(paper, results, listed, tables or [], figures or [], about)
    kinds = " and ".join(
        kind for kind, made in (("tables", tables), ("figures", figures)) if made is None
    )
    if kinds:
        page += f"\nThe {kinds} need runs that failed, so they are not here.\n"
    records.write_bytes(folder / REPORT, page.encode())
    return folder / REPORT, verdicts


def _shown_or_none(make: Callable[[], list[Any]], results: Results) -> list[Any] | None:
    """Return tables or figures; None where they cannot be made without a run that failed."""
    try:
        return make()
    except Exception:
        if not results.failed():
            raise
        return None


def _page(
    paper: Paper,
    results: Results,
    claims: Sequence[Mapping[str, Any]],
    tables: Sequence[Table],
    figures: Sequence[tuple[str, str]],
    about: dict[str, Any],
) -> str:
    lines = head(paper, results.settings, claims, about)
    for table in tables:
        lines += [f"## {table.title}", "", *markdown_table(table), ""]
        if table.note:
            lines += [table.note, ""]
    if figures:
        lines += ["## Figures", ""]
        for name, caption in figures:
            lines += [f"![{caption}]({FIGURES}/{name})", "", caption, ""]
    if about["failed"]:
        lines += ["## Runs that failed", ""]
        lines += [
            "They are results too: what needs them does not hold. The same command tries them "
            "again.",
            "",
        ]
        lines += [
            f"- **{name}**: {reason}. Its log: `runs/{name}/{LOG}`"
            for name, reason in about["failed"].items()
        ]
        lines += [""]
    if about["diverged"]:
        lines += ["## Runs that diverged", ""]
        lines += [
            f"- {arm}: seeds {', '.join(map(str, seeds))}"
            for arm, seeds in about["diverged"].items()
        ]
        lines += [""]
    return "\n".join([*lines, *tail(paper, results.settings, about)])


def _machine(results: Results) -> str:
    for arm in results.arms:
        for seed in results.seeds[arm]:
            found = records.read_json(results.workdir(arm, seed) / records.ENVIRONMENT)
            if found is not None:
                device = found["device"]
                return f"{device['count']} x {device['kind']} ({device['platform']})"
    return f"{platform.machine()} CPU"
