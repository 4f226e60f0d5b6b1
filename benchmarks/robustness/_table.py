"""docs/robustness.md: the part between two marks, written from the records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.robustness import _records

PAGE = _records.ROOT / "docs" / "robustness.md"
_BEGIN, _END = "<!-- records: begin -->", "<!-- records: end -->"
_Row = tuple[str, str]


def _kills(found: Mapping[str, Any]) -> list[_Row]:
    rows = []
    for subject in found["subjects"]:
        kills = subject["kills"]
        after = sum(each["checkpoint"] is not None for each in kills)
        verdict = "; ".join(subject["problems"]) or (
            f"same parameters ({subject['params_sha256'][:12]}), same {subject['lines']} lines of "
            "metrics byte for byte, every restart from the newest checkpoint"
        )
        rows.append((f"{len(kills)} kills ({after} after a checkpoint): {subject['subject']}, "
                     f"{subject['steps']} steps", verdict))  # fmt: skip
    terms = [
        each
        for subject in found["subjects"]
        for each in subject["kills"]
        if each["signal"] == "SIGTERM"
    ]
    if terms:
        slowest = max(each["seconds_to_leave"] for each in terms)
        codes = sorted({each["exit_code"] for each in terms})
        rows.append((f"{len(terms)} of them by SIGTERM",
                     f"left within {slowest:.1f} s with exit code {codes[0]}"))  # fmt: skip
    return rows


def _fuzzed(what: str) -> Callable[[Mapping[str, Any]], list[_Row]]:
    def rows(found: Mapping[str, Any]) -> list[_Row]:
        outcomes = ", ".join(f"{count} {name}" for name, count in found["outcomes"].items())
        return [(what.format(**found), f"{_broken(found)}: {outcomes}")]

    return rows


def _formats(found: Mapping[str, Any]) -> list[_Row]:
    rows = []
    for name, outcomes in found["outcomes"].items():
        told = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
        rows.append((f"{sum(outcomes.values())} spoilt data sets: {name}", told))
    growth = found["largest_growth_bytes"] / 2**20
    rows.append(("all of them", f"{_broken(found)}; memory grew by {growth:.0f} MiB at most"))
    return rows


def _broken(found: Mapping[str, Any]) -> str:
    count = len(found["problems"])
    return f"**{count} broke**" if count else "none broke"


def _cases(found: Mapping[str, Any]) -> list[_Row]:
    """A row a group for what went as expected, one each for what did not."""
    rows, fine = [], "as expected"
    for group in dict.fromkeys(each["group"] for each in found["cases"]):
        cases = [each for each in found["cases"] if each["group"] == group]
        names = [each["case"].partition("[")[0] for each in cases if each["outcome"] == fine]
        if names:
            told = "; ".join(dict.fromkeys(names))
            rows.append((f"{group}: {told}", f"{len(names)} of {len(cases)} {fine}"))
        rows += [
            (f"{group}: {each['case']}", each["outcome"])
            for each in cases
            if each["outcome"] != fine
        ]
    return rows


def _devices(found: Mapping[str, Any]) -> list[_Row]:
    return [
        (
            f"{found['config']}: {each['way']}",
            "the same bits"
            if each["same_bits"]
            else f"metrics within {each['largest_relative_difference']:.1e}, accuracies within "
            f"{100 * each['largest_difference_of_accuracies']:.2f} points",
        )
        for each in found["ways"]
        if each["way"] != "one device"
    ]


def _soak(found: Mapping[str, Any]) -> list[_Row]:
    mebi = 2**20
    return [
        (
            f"one run of {found['minutes']:g} minutes: {found['steps']} steps, "
            f"{found['lines_of_metrics']} lines, a checkpoint each "
            f"{found['checkpoint_every']} steps",
            f"{found['first_bytes'] / mebi:.1f} MiB of its own after warming up, "
            f"{found['last_bytes'] / mebi:.1f} MiB at the end; growth "
            f"{found['growth_bytes_an_hour'] / mebi:+.1f} MiB an hour (95 % interval "
            f"{found['growth_low'] / mebi:+.1f} to {found['growth_high'] / mebi:+.1f}); "
            f"{found['open_files'][0]} to {found['open_files'][1]} open files; "
            f"SIGTERM at the end: exit code {found['exit_code']}",
        )
    ]


_PARTS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], list[_Row]]]] = {
    "kills": ("Kills at random moments", _kills),
    "cases": ("Disks, checkpoints, signals, NaN", _cases),
    "configs": ("Wrong configs", _fuzzed("{configs} configs, seed {seed}")),
    "calls": ("Wrong calls", _fuzzed("{calls} calls of {functions} functions, seed {seed}")),
    "formats": ("Spoilt data", _formats),
    "devices": ("Devices", _devices),
    "soak": ("Soak", _soak),
}


def _growth(found: Mapping[str, Any]) -> list[str]:
    base = ", ".join(f"{key} {value}" for key, value in found["base"].items())
    changes = list(dict.fromkeys(c for row in found["quantities"] for c in row["grown"]))
    lines = [
        "### What grows",
        "",
        f"Peak memory that the compiled program plans (temporary and output) and the least time of "
        f"five calls, on {found['device']}, of two small convolutions; the base has {base}. Then, "
        "for each change alone, memory x and time x of the base.",
        "",
        "| quantity | base | " + " | ".join(changes) + " |",
        "|---|---|" + "---|" * len(changes),
    ]
    for row in found["quantities"]:
        base_bytes = row["base"]["temporary_bytes"] + row["base"]["output_bytes"]
        cells = [
            f"{row['grown'][c]['memory']:.1f}, {row['grown'][c]['time']:.1f}"
            if c in row["grown"]
            else ""
            for c in changes
        ]
        first = f"{base_bytes / 1024:.0f} KiB, {row['base']['milliseconds']:.2f} ms"
        lines.append(f"| {row['quantity']} | {first} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def tables(folder: Path) -> str:
    """Return the text that the records make."""
    lines: list[str] = []
    for name, (title, rows_of) in _PARTS.items():
        found = _records.read(name, folder)
        if found is None:
            continue
        lines += [f"### {title}", "", "| what was tried | what happened |", "|---|---|"]
        lines += [f"| {tried} | {happened} |" for tried, happened in rows_of(found)]
        lines.append("")
    growth = _records.read("memory", folder)
    return "\n".join(lines + (_growth(growth) if growth else []))


def write_table(folder: Path, page: Path = PAGE) -> Path:
    """Put the tables between the marks of a page.

    Raises:
        ValueError: the page lacks them.
    """
    text = page.read_text()
    if text.count(_BEGIN) != 1 or text.count(_END) != 1:
        raise ValueError(f"{page}: expected one {_BEGIN} and one {_END}.")
    before, after = text.split(_BEGIN)[0], text.split(_END)[1]
    page.write_text(f"{before}{_BEGIN}\n\n{tables(folder)}\n{_END}{after}")
    return page
