"""`claims.json`, `report.md` and the figures of a paper, from the records of its jobs alone."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train import records
from train.reproduce._claims import Verdict, judge
from train.reproduce._job import LOG
from train.reproduce._outcome import HELD, UNDECIDED, outcome, seeds_inside
from train.reproduce._paper import Paper, Table
from train.reproduce._results import Results

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
    about = {
        "name": paper.name,
        "reference": paper.reference,
        "scale": settings.scale,
        "seeds": settings.seeds,
        "broken": settings.broken,
        "data": sorted(settings.data),
        "part": {"most_steps": settings.most_steps, "cut": {str(k): v for k, v in cut.items()}}
        if cut
        else None,
        "command": command,
        "run_seconds": round(seconds, 1),
        "workers": workers,
        "machine": _machine(results),
        "diverged": {arm: found for arm in results.arms if (found := results.diverged(arm))},
        "failed": results.failed(),
    }
    listed = [verdict.record() for verdict in verdicts]
    records.write_json(folder / CLAIMS, listed)
    records.write_json(folder / RUN, about)
    page = _page(paper, results, verdicts, tables or [], figures or [], about)
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
    verdicts: Sequence[Verdict],
    tables: Sequence[Table],
    figures: Sequence[tuple[str, str]],
    about: dict[str, Any],
) -> str:
    settings = results.settings
    held = sum(verdict.holds for verdict in verdicts)
    lines = [f"# {paper.title}", "", paper.reference, ""]
    if settings.broken:
        lines += [
            "**Every penalty weight is 0 in this run (`--break penalty`)**: the claims marked "
            "“penalty” are expected not to hold.",
            "",
        ]
    lines += [f"**{held} of {len(verdicts)} claims hold** at scale {settings.scale}.", ""]
    if about["failed"]:
        listed = ", ".join(list(about["failed"])[:5])
        lines += [f"**{len(about['failed'])} runs failed** (see below): {listed}.", ""]
    lines += [f"{paper.scales[settings.scale]}", ""]
    if about["part"]:
        lines += [_part(about["part"]), ""]
    lines += markdown_table(claims_table(verdicts))
    lines += [
        "",
        "A claim holds when the whole 95 % interval of its statistic lies inside what is expected; "
        "a tie does not.",
        "",
    ]
    fallen = [verdict for verdict in verdicts if not verdict.holds]
    if fallen:
        lines += ["## What did not hold", ""]
        for verdict in fallen:
            line = f"- **{verdict.claim.id}**: {verdict.claim.claim} {_fallen(verdict)}"
            if not (verdict.notes or settings.broken):
                line += f" Why: {verdict.claim.why_not or 'not found out.'}"
            lines += [line]
        lines += [""]
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
    missing = list(paper.left_out(settings))
    if missing:
        lines += ["## Left out", "", *(f"- {reason}" for reason in missing), ""]
    lines += ["## How", ""]
    lines += [f"- Command: `{about['command']}`"]
    lines += [f"- {settings.seeds} seeds; {about['run_seconds']:.0f} s of runs in all, "]
    lines[-1] += f"{about['workers']} at a time, on {about['machine']}."
    lines += ["- Records of every run: `runs/<arm>/<seed>/`.", ""]
    return "\n".join(lines)


def _part(part: Mapping[str, Any]) -> str:
    each = "; ".join(
        f"{', '.join(f'`{arm}`' for arm in arms)}: of {steps}"
        for steps, arms in part["cut"].items()
    )
    return (
        f"**A part of this scale** (`--most-steps`): runs of more than {part['most_steps']} steps "
        f"were cut to that, with their schedules in proportion. {each}."
    )


def claims_table(verdicts: Sequence[Verdict]) -> Table:
    """Return the table of claims."""
    rows = []
    for verdict in verdicts:
        claim, found = verdict.claim, verdict.estimate
        rows.append(
            [
                claim.id + (" (penalty)" if claim.about_penalty else ""),
                claim.claim,
                f"{_shown(claim.paper)} ({claim.place})",
                f"{_shown(found.mean)} {claim.unit}".strip(),
                f"{_shown(found.low)} to {_shown(found.high)}",
                expected(claim.above, claim.below),
                found.test,
                f"**{HELD}**" if verdict.holds else outcome(verdict.record()),
            ]
        )
    columns = ["id", "claim", "paper", "ours", "95 % interval", "expected", "test", ""]
    return Table("Claims", columns, rows)


def expected(above: float | None, below: float | None) -> str:
    """Return the region of a claim in words."""
    bounds = []
    if above is not None and above > float("-inf"):
        bounds.append(f"above {above:g}")
    if below is not None and below < float("inf"):
        bounds.append(f"below {below:g}")
    return " and ".join(bounds) or "any"


def markdown_table(table: Table) -> list[str]:
    """Return the lines of a table in Markdown."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in table.rows]
    head = [column.replace("|", "\\|") for column in table.columns]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return lines + [f"| {' | '.join(row)} |" for row in cells]


def _fallen(verdict: Verdict) -> str:
    found, claim = verdict.estimate, verdict.claim
    if verdict.notes:
        return f"({'; '.join(verdict.notes)})"
    record = verdict.record()
    seeds = seeds_inside(record)
    if outcome(record) == UNDECIDED:
        how = "the interval crosses the bound" + (f", {seeds}." if seeds else ".")
    else:
        how = "the whole interval lies outside."
    return (
        f"Ours is {_shown(found.mean)}, from {_shown(found.low)} to {_shown(found.high)}; "
        f"expected was {expected(claim.above, claim.below)}: {how}"
    )


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


def _machine(results: Results) -> str:
    for arm in results.arms:
        for seed in results.seeds[arm]:
            found = records.read_json(results.workdir(arm, seed) / records.ENVIRONMENT)
            if found is not None:
                device = found["device"]
                return f"{device['count']} x {device['kind']} ({device['platform']})"
    return f"{platform.machine()} CPU"
