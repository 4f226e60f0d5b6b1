"""What a report says in words: its claims, how they stand elsewhere, and how it was made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from train.reproduce._paper import Paper, Table

if TYPE_CHECKING:
    from train.reproduce._settings import Settings

Record = Mapping[str, Any]

# How a claim that does not hold misses: as a whole, or because its seeds do not tell.
HELD, UNDECIDED, MISSED = "held", "undecided", "not held"

_FALLEN, _OTHERS = "## What did not hold", "## Under other roundings"
_WITHOUT = "## With every penalty weight 0"
_LEFT_OUT, _HOW = "## Left out", "## How"


def head(
    paper: Paper, settings: Settings, claims: Sequence[Record], about: Mapping[str, Any]
) -> list[str]:
    """Return the lines of a report up to its first table; claims as `claims.json` has them."""
    held = sum(claim["holds"] for claim in claims)
    lines = [f"# {paper.title}", "", paper.reference, ""]
    if settings.broken:
        lines += [
            "**Every penalty weight is 0 in this run (`--break penalty`)**: the claims marked "
            "“penalty” are expected not to hold.",
            "",
        ]
    lines += [f"**{held} of {len(claims)} claims hold** at scale {settings.scale}.", ""]
    if about["failed"]:
        listed = ", ".join(list(about["failed"])[:5])
        lines += [f"**{len(about['failed'])} runs failed** (see below): {listed}.", ""]
    lines += [f"{paper.scales[settings.scale]}", ""]
    if about["part"]:
        lines += [_part(about["part"]), ""]
    lines += markdown_table(claims_table(claims))
    lines += [
        "",
        "A claim holds when the whole 95 % interval of its statistic lies inside what is expected; "
        "a tie does not. In tables and figures that do not say otherwise ± is half of the 95 % "
        "interval of a mean over seeds, and a band is that interval.",
        "",
    ]
    fallen = [claim for claim in claims if not claim["holds"]]
    if fallen:
        lines += [_FALLEN, ""]
        for claim in fallen:
            line = f"- **{claim['id']}**: {claim['claim']} {_fallen(claim)}"
            if not (claim["notes"] or settings.broken):
                line += f" Why: {claim['why_not'] or 'not found out.'}"
            lines += [line]
        lines += [""]
    return [*lines, *_elsewhere(about.get("others", ())), *_without(about.get("without_penalty"))]


def _elsewhere(others: Sequence[Mapping[str, Any]]) -> list[str]:
    if not others:
        return []
    rows = [
        [
            each["what"],
            f"{each['held']} of {each['of']}",
            "; ".join(f"{id}: {was}, then {now}" for id, was, now in each["changed"]) or "none",
        ]
        for each in others
    ]
    table = Table("", ["other", "claims that hold", "claims whose outcome changes"], rows)
    said = "The same command with something changed that no claim is about."
    return [_OTHERS, "", said, "", *markdown_table(table), ""]


def _without(found: Mapping[str, Any] | None) -> list[str]:
    if not found:
        return []
    outcomes = found["outcomes"]
    stay = [id for id, now in outcomes.items() if now == HELD]
    said = (
        f"`{found['command']}`: of the {len(outcomes)} claims about the penalty that hold above, "
        f"{len(outcomes) - len(stay)} fall, as they must where they show something. "
        f"Still held: {', '.join(stay) or 'none'}."
    )
    return [_WITHOUT, "", said, ""]


def tail(paper: Paper, settings: Settings, about: Mapping[str, Any]) -> list[str]:
    """Return the lines of a report after its figures."""
    lines = []
    missing = list(paper.left_out(settings))
    if missing:
        lines += [_LEFT_OUT, "", *(f"- {reason}" for reason in missing), ""]
    lines += [_HOW, ""]
    lines += [f"- Command: `{about['command']}`"]
    lines += [f"- {settings.seeds} seeds; {took(about)}."]
    lines += ["- Records of every run: `runs/<arm>/<seed>/`.", ""]
    return lines


def took(about: Mapping[str, Any]) -> str:
    """Return the time of all runs in words: on a busy machine that of the cores tells more."""
    cores = about.get("core_seconds")
    spent = "" if cores is None else f" ({cores:.0f} s of a core)"
    return (
        f"{about['run_seconds']:.0f} s of runs in all{spent}, {about['workers']} at a time, on "
        f"{about['machine']}"
    )


def between(report: str) -> list[str]:
    """Return the lines of a report between `head` and `tail`: its tables and figures."""
    lines = report.split("\n")
    starts = [number for number, line in enumerate(lines) if line.startswith("## ")]
    first = next(number for number in starts if lines[number] not in (_FALLEN, _OTHERS, _WITHOUT))
    last = next(number for number in starts if lines[number] in (_LEFT_OUT, _HOW))
    return lines[first:last]


def _part(part: Mapping[str, Any]) -> str:
    each = "; ".join(
        f"{', '.join(f'`{arm}`' for arm in arms)}: of {steps}"
        for steps, arms in part["cut"].items()
    )
    return (
        f"**A part of this scale** (`--most-steps`): runs of more than {part['most_steps']} steps "
        f"were cut to that, with their schedules in proportion. {each}."
    )


def claims_table(claims: Sequence[Record]) -> Table:
    """Return the table of claims."""
    rows = [
        [
            claim["id"] + (" (penalty)" if claim["about_penalty"] else ""),
            *claim_cells(claim, _shown(claim["paper"]), _shown),
            claim["test"],
            f"**{HELD}**" if claim["holds"] else outcome(claim),
        ]
        for claim in claims
    ]
    columns = ["id", "claim", "paper", "ours", "95 % interval", "expected", "test", ""]
    return Table("Claims", columns, rows)


def claim_cells(claim: Record, paper: str, shown: Callable[[Any], str]) -> list[str]:
    """Return the sentence, the paper's, ours with its interval, and what is expected."""
    return [
        claim["claim"],
        f"{paper} ({claim['place']})",
        f"{shown(claim['ours'])} {claim['unit']}".strip(),
        " to ".join(map(shown, claim["interval"])),
        expected(*claim["expected"]),
    ]


def expected(above: float | None, below: float | None) -> str:
    """Return the region of a claim in words."""
    bounds = {"above": above, "below": below}
    told = [f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None]
    return " and ".join(told) or "any"


def markdown_table(table: Table) -> list[str]:
    """Return the lines of a table in Markdown."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in table.rows]
    head = [column.replace("|", "\\|") for column in table.columns]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return lines + [f"| {' | '.join(row)} |" for row in cells]


def _fallen(claim: Record) -> str:
    if claim["notes"]:
        return f"({'; '.join(claim['notes'])})"
    seeds = seeds_inside(claim)
    if outcome(claim) == UNDECIDED:
        how = "the interval crosses the bound" + (f", {seeds}." if seeds else ".")
    else:
        how = "the whole interval lies outside."
    low, high = map(_shown, claim["interval"])
    return (
        f"Ours is {_shown(claim['ours'])}, from {low} to {high}; "
        f"expected was {expected(*claim['expected'])}: {how}"
    )


def _shown(value: Any) -> str:
    value = math.nan if value is None else value  # JSON has no number that is not finite
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


def outcome(record: Record) -> str:
    """Return "held", "undecided" where the interval crosses a bound, else "not held"."""
    if record["holds"]:
        return HELD
    low, high = record["interval"]
    if not (_is_finite(low) and _is_finite(high)):
        return MISSED
    above, below = _region(record)
    return UNDECIDED if low < below and high > above else MISSED


def seeds_inside(record: Record) -> str:
    """Return how many of a claim's seeds lie in its region, in words; "" without seeds."""
    values = record["values"]
    if len(values) < 2:
        return ""
    above, below = _region(record)
    inside = sum(above < value < below for value in values if _is_finite(value))
    return f"{inside} of {len(values)} seeds inside"


def _region(record: Record) -> tuple[float, float]:
    above, below = record["expected"]
    return (-math.inf if above is None else above, math.inf if below is None else below)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
