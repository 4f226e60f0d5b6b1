"""A finished report written again in today's words, from its own numbers and without a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from train import records
from train.errors import UserError
from train.reproduce._claims import Claim
from train.reproduce._paper import Paper
from train.reproduce._report import CLAIMS, REPORT, RUN
from train.reproduce._settings import Settings
from train.reproduce._words import between, head, outcome, tail

# Of two reports that may be compared, these are the same.
_SAME = ("name", "scale", "broken", "data", "part")

# What is a claim's own in its record.
_WORDS = ("claim", "place", "paper", "unit", "about_penalty")

# Of reports that were written before these were recorded.
_ABSENT: dict[str, Any] = {"part": None, "failed": {}, "diverged": {}}


def reword(
    folder: Path,
    papers: Mapping[str, Any],
    others: Mapping[str, Path],
    without: Path | None = None,
) -> Path:
    """Write `claims.json` and `report.md` again: sentences and reasons of today, the same numbers.

    A claim that the paper has no longer is dropped. Tables and figures stay as they are: they are
    made of the runs.

    Args:
        others: by what was changed, folders of the same reproduction whose outcomes are compared.
        without: folder of the same reproduction with every penalty weight 0.

    Raises:
        UserError: no report, or a claim that its numbers do not judge.
    """
    about, old = _read(folder)
    if about["name"] not in papers:
        raise UserError(f"--reword {folder}: is of {about['name']}, which is no paper here.")
    paper: Paper = papers[about["name"]]()
    settings = Settings(
        scale=about["scale"],
        seeds=about["seeds"],
        first_seed=about.get("first_seed", 0),
        data=dict.fromkeys(about["data"], "PATH"),
        broken=about["broken"],
        most_steps=about["part"] and about["part"]["most_steps"],
    )
    listed = [_again(claim, old, folder) for claim in paper.claims(settings)]
    compared = {each["what"]: each for each in about.get("others", [])}
    compared |= {what: _compared(what, other, about, listed) for what, other in others.items()}
    if compared:
        about["others"] = list(compared.values())
    if without is not None:
        about["without_penalty"] = _fallen(without, about, listed)
    middle = between((folder / REPORT).read_text())
    lines = [*head(paper, settings, listed, about), *middle, *tail(paper, settings, about)]
    records.write_json(folder / CLAIMS, listed)
    records.write_json(folder / RUN, about)
    records.write_bytes(folder / REPORT, "\n".join(lines).encode())
    return folder / REPORT


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    about = records.read_json(folder / RUN)
    try:
        claims = json.loads((folder / CLAIMS).read_bytes())
    except (OSError, ValueError):
        claims = None
    if about is None or claims is None:
        raise UserError(f"{folder}: holds no {RUN} and {CLAIMS} of a finished report.")
    missing = {name: value for name, value in _ABSENT.items() if name not in about}
    return about | missing, {claim["id"]: claim for claim in claims}


def _again(claim: Claim, old: Mapping[str, Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    """Return a claim's record with today's words."""
    record = old.get(claim.id)
    if record is None or record["expected"] != claim.region:
        what = "is not in" if record is None else "has another region than in"
        raise UserError(
            f"--reword {folder}: the claim {claim.id} {what} {CLAIMS}. Words alone can be written "
            "again; run the report's own command for the rest."
        )
    words = {name: getattr(claim, name) for name in _WORDS}
    return {**record, **words, "why_not": "" if record["holds"] else claim.why_not}


def _compared(
    what: str, folder: Path, about: Mapping[str, Any], claims: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return which claims another folder judges otherwise."""
    other, theirs = _same(f"--other {what}={folder}", folder, about)
    both = [(claim, theirs[claim["id"]]) for claim in claims if claim["id"] in theirs]
    return {
        "what": what,
        "command": other["command"],
        "versions": other.get("versions"),
        "held": sum(bool(each["holds"]) for _, each in both),
        "of": len(both),
        "changed": [
            [claim["id"], outcome(claim), outcome(each)]
            for claim, each in both
            if outcome(claim) != outcome(each)
        ],
    }


def _fallen(
    folder: Path, about: Mapping[str, Any], claims: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return which claims about the penalty hold in the report and which of them fall there."""
    other, theirs = _same(f"--without-penalty {folder}", folder, {**about, "broken": True})
    held = [each["id"] for each in claims if each["about_penalty"] and each["holds"]]
    outcomes = {id: outcome(theirs[id]) for id in held if id in theirs}
    return {"command": other["command"], "versions": other.get("versions"), "outcomes": outcomes}


def _same(
    asked: str, folder: Path, about: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return another folder's report, which is of the same reproduction, or raise UserError."""
    other, theirs = _read(folder)
    differ = [key for key in _SAME if about[key] != other[key]]
    if differ:
        raise UserError(f"{asked}: is of another reproduction ({', '.join(differ)} differ).")
    return other, theirs
