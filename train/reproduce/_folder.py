"""Whose folder it is: one plan's for good."""

from __future__ import annotations

from pathlib import Path

from train import records
from train.errors import WorkdirError, foreign
from train.reproduce._report import CLAIMS, REPORT, RUN

PLAN = "plan.json"
# Records of other commands, or a report whose origin is not known.
_OTHERS = (records.CONFIG, records.METRICS, records.SUMMARY, "seeds.json", CLAIMS, REPORT)


def check_seeds(folder: Path, seeds: int) -> None:
    """Leave a report of more seeds alone.

    Raises:
        WorkdirError: one is in the folder.
    """
    reported = (records.read_json(folder / RUN) or {}).get("seeds", 0)
    if reported > seeds:
        raise WorkdirError(
            f"--workdir {folder}: holds a report of {reported} seeds, which one of {seeds} would "
            f"overwrite. Give --seeds {reported} or more, or use another --workdir."
        )


def claim_folder(folder: Path, plan: str) -> None:
    """Write whose folder it is, before the first run; another's is left alone.

    Args:
        plan: what it is called, as `hoffman2019 (quick)`.

    Raises:
        WorkdirError: it holds another plan's runs, records of another command, or what no
            command wrote.
    """
    begun = (records.read_json(folder / PLAN) or {}).get("plan")
    about = records.read_json(folder / RUN)
    if begun is None and about is not None:  # of a version that wrote this at its end alone
        begun = f"{about['name']} ({about['scale']})"
    if begun is None and (folder / "seeds.json").exists():
        begun = (records.read_json(folder / "seeds.json") or {}).get("experiment")
    others = [name for name in _OTHERS if (folder / name).exists()]
    if begun is None and others:
        raise WorkdirError(
            f"--workdir {folder}: holds {', '.join(others)} of another command, which this one "
            "would overwrite. Use another --workdir."
        )
    # Hidden files are nobody's.
    held = sorted(path.name for path in folder.glob("*") if not path.name.startswith("."))
    if begun is None and held:
        raise foreign(folder, "such runs", held)
    if begun not in (None, plan):
        raise WorkdirError(
            f"--workdir {folder}: was begun with another plan, {begun}, and this is {plan}: its "
            "report would be overwritten. Use another --workdir."
        )
    folder.mkdir(parents=True, exist_ok=True)
    records.write_json(folder / PLAN, {"plan": plan})
