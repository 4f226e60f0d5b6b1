"""One page that joins the claims of all papers, and the table that another page takes from it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from train import records
from train.errors import UserError
from train.reproduce._paper import Table
from train.reproduce._report import CLAIMS, REPORT, RUN
from train.reproduce._words import (
    HELD,
    UNDECIDED,
    claim_cells,
    markdown_table,
    outcome,
    seeds_inside,
    took,
)

PAGE = "papers.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def joined_page(folder: Path, table_page: Path | None = None) -> Path:
    """Write `papers.md` from every `claims.json` under the folder, and another page's table.

    Raises:
        UserError: there is none, or the other page lacks the marks between which the table stands.
    """
    found = list(_collect(folder))
    if not found:
        raise UserError(
            f"--report {folder}: no {CLAIMS} below it. Run python -m train.reproduce NAME first."
        )
    lines = ["# Papers, and what held here", ""]
    lines += [
        "Every line is one claim: the paper's number or ordering, ours with its 95 % interval, "
        "and whether the whole interval lies inside what is expected; where it crosses a bound the "
        "seeds leave it open. Written by "
        "`python -m train.reproduce --report DIR` from the records of the runs.",
        "",
        *markdown_table(_summary(found, folder)),
        "",
    ]
    for about, claims, _ in found:
        lines += [f"## {about['name']}", "", about["reference"], ""]
        if about["broken"]:
            lines += ["Every penalty weight was 0 in this run.", ""]
        if about.get("part"):
            lines += [f"Training runs were cut to {about['part']['most_steps']} steps.", ""]
        lines += markdown_table(_claims(claims))
        lines += [
            "",
            f"`{about['command']}`: {about['seeds']} seeds, {took(about)}.",
            "",
        ]
    page = folder / PAGE
    records.write_bytes(page, "\n".join(lines).encode())
    if table_page is not None:
        _renew(table_page, markdown_table(_summary(found, table_page.parent)))
    return page


def _collect(folder: Path) -> list[tuple[dict[str, Any], list[dict[str, Any]], Path]]:
    found = []
    for path in sorted(folder.rglob(CLAIMS)):
        about = records.read_json(path.parent / RUN)
        if about is None:
            continue
        try:
            claims = json.loads(path.read_bytes())
        except ValueError:
            raise UserError(f"{path}: does not parse; run its command again.") from None
        found.append((about, claims, path))
    return found


def _summary(found: list[tuple[dict[str, Any], list[dict[str, Any]], Path]], folder: Path) -> Table:
    """The table of a page in `folder`: a row a paper, with a link to its report."""
    rows = []
    for about, claims, path in found:
        outcomes = {claim["id"]: outcome(claim) for claim in claims}
        held = sum(each == HELD for each in outcomes.values())
        open_ = [name for name, each in outcomes.items() if each == UNDECIDED]
        fallen = [name for name, each in outcomes.items() if each not in (HELD, UNDECIDED)]
        scale = about["scale"] + (", broken" if about["broken"] else "")
        if about.get("part"):
            scale += f", runs cut to {about['part']['most_steps']} steps"
        listed = [", ".join(names) or "none" for names in (open_, fallen)]
        report = Path(os.path.relpath(path.parent / REPORT, folder)).as_posix()
        name = f"[`{about['name']}`]({report})"
        rows.append([name, scale, _time(about), f"{held} of {len(claims)}", *listed])
    columns = [
        "paper", "scale", "time of a core", "claims that hold", "that the seeds leave open",
        "that do not",
    ]  # fmt: skip
    return Table("", columns, rows)


def _time(about: dict[str, Any]) -> str:
    """What all runs took together; of a report that does not know the cores', the clock's."""
    cores = about.get("core_seconds")
    seconds = about["run_seconds"] if cores is None else cores
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _claims(claims: list[dict[str, Any]]) -> Table:
    rows = [
        [*claim_cells(claim, str(claim["paper"]), _number), _outcome_cell(claim)]
        for claim in claims
    ]
    return Table("", ["claim", "paper", "ours", "95 % interval", "expected", ""], rows)


def _outcome_cell(claim: dict[str, Any]) -> str:
    found, seeds = outcome(claim), seeds_inside(claim)
    if found == HELD:
        return f"**{found}**"
    return f"{found} ({seeds})" if found == UNDECIDED and seeds else found


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _renew(table_page: Path, table: list[str]) -> None:
    text = table_page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UserError(f"--page {table_page}: has no lines {BEGIN} and {END} to write between.")
    new = "\n".join([before + BEGIN, "", *table, "", END + after])
    records.write_bytes(table_page, new.encode())
