"""`python -m train.reproduce NAME [--scale quick|full] [--workdir DIR]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from train.command import ended, leave, say
from train.errors import UserError
from train.interrupt import terminated

_DESCRIPTION = """\
Show a paper's table or figure again, with intervals over seeds, next to the paper's numbers.

  python -m train.reproduce --list
  python -m train.reproduce hoffman2019
  python -m train.reproduce hoffman2019 --scale full --data mnist=FOLDER --data usps=FOLDER
  python -m train.reproduce --report runs/reproduce
  python -m train.reproduce --reword runs/reproduce/rifai2011-quick
"""
_EPILOG = """\
The workdir holds claims.json, report.md, figures/ and runs/<arm>/<seed>/ with each run's own
records. The same command goes on where it stopped and does no finished run again. A claim
that does not hold is reported as such; that is no error.

--break penalty runs the same with every penalty weight 0: the claims about the penalty must
then fall, or they show nothing.

Exit codes: 0 done, 1 done with runs that failed (the report names them), 2 bad input (nothing is
overwritten), 130 or 143 stopped.
"""


def parser() -> argparse.ArgumentParser:
    """Return the command's argument parser."""
    made = argparse.ArgumentParser(
        prog="python -m train.reproduce",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("name", nargs="?", metavar="NAME", help="a paper, see --list")
    made.add_argument("--scale", default="quick", metavar="quick|full", help="default quick")
    made.add_argument("--workdir", type=Path, help="default runs/reproduce/NAME-SCALE")
    made.add_argument("--seeds", type=int, default=5, help="how many (default 5)")
    made.add_argument(
        "--first-seed", type=int, default=0, metavar="N", help="the least of them (default 0)"
    )
    made.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="a local copy of a data set that the paper takes, see --list",
    )
    made.add_argument("--break", dest="broken", metavar="penalty", help="every penalty weight 0")
    made.add_argument(
        "--most-steps",
        type=int,
        metavar="N",
        help="cut training runs of more steps to N: a part of a scale, and the report says so",
    )
    made.add_argument("--workers", type=int, help="runs at a time (default: one a core)")
    made.add_argument("--list", action="store_true", help="list the papers")
    made.add_argument(
        "--report", type=Path, metavar="DIR", help="join the claims of all papers under DIR"
    )
    made.add_argument(
        "--page", type=Path, metavar="FILE", help="with --report: renew the table in FILE"
    )
    made.add_argument(
        "--reword",
        type=Path,
        metavar="DIR",
        help="write the report in DIR again from its numbers, claims in the words of today; no run",
    )
    made.add_argument(
        "--other",
        action="append",
        default=[],
        metavar="WHAT=DIR",
        help="with --reword: the same reproduction with WHAT changed; name the claims that change",
    )
    made.add_argument(
        "--without-penalty",
        type=Path,
        metavar="DIR",
        help="with --reword: the same reproduction under --break penalty; name the claims that "
        "fall there",
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    made = parser()
    chosen = made.parse_args(arguments)
    return ended(lambda: _main(chosen), stopped="stopped")


def _main(chosen: argparse.Namespace) -> int:
    # JAX takes seconds to import: --help and a wrong path should not.
    from train.reproduce._page import joined_page
    from train.reproduce._reword import reword
    from train.reproduce.papers import PAPERS

    if chosen.list:
        say(_listing())
        return 0
    if chosen.report is not None:
        say(f"Report: {joined_page(chosen.report, chosen.page)}")
        return 0
    if chosen.reword is not None:
        others = {what: Path(path) for what, path in _pairs(chosen.other, "--other").items()}
        say(f"Report: {reword(chosen.reword, PAPERS, others, chosen.without_penalty)}")
        return 0
    for option, given in (("--other", chosen.other), ("--without-penalty", chosen.without_penalty)):
        if given:
            raise UserError(f"{option} goes with --reword, the report that it is compared with.")
    if chosen.name is None:
        raise UserError(f"a NAME is needed: {', '.join(PAPERS)}.")
    if chosen.name not in PAPERS:
        raise UserError(_unknown(chosen.name, PAPERS))
    if chosen.broken not in (None, "penalty"):
        raise UserError(f"--break: got {chosen.broken!r}, expected penalty.")
    if chosen.workers is not None and chosen.workers < 1:
        raise UserError(f"--workers: got {chosen.workers}, expected at least 1.")

    from train import records
    from train.reproduce._report import RUN
    from train.reproduce._run import default_folder, reproduce
    from train.reproduce._runner import default_workers
    from train.reproduce._settings import Settings

    settings = Settings(
        scale=chosen.scale,
        seeds=chosen.seeds,
        first_seed=chosen.first_seed,
        data=_pairs(chosen.data, "--data"),
        broken=chosen.broken is not None,
        most_steps=chosen.most_steps,
    )
    paper = PAPERS[chosen.name]()
    folder = chosen.workdir or default_folder(paper, settings)
    with terminated():
        report, verdicts = reproduce(paper, settings, folder, chosen.workers or default_workers())
    for verdict in verdicts:
        found = verdict.estimate
        say(
            f"{'held    ' if verdict.holds else 'NOT HELD'}  {verdict.claim.id}: "
            f"{found.mean:.4g} ({found.low:.4g} to {found.high:.4g}) {verdict.claim.unit}"
        )
    held = sum(verdict.holds for verdict in verdicts)
    say(f"{held} of {len(verdicts)} claims hold. Report: {report}")
    failed = (records.read_json(report.parent / RUN) or {}).get("failed", {})
    if failed:
        listed = ", ".join(list(failed)[:10])
        print(f"error: {len(failed)} runs failed: {listed}; see the report.", file=sys.stderr)
    return 1 if failed else 0


def _listing() -> str:
    from train.reproduce.papers import PAPERS

    lines = []
    for name, load in PAPERS.items():
        paper = load()
        lines.append(f"{name:18} {paper.title}")
        lines.append(f"{'':18} {paper.reference}")
        lines += [f"{'':18} --data {data}=PATH  {what}" for data, what in paper.data.items()]
    return "\n".join(lines)


def _unknown(name: str, known: Mapping[str, object]) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, 1, 0.4)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{name}: no such paper.{hint} There are {', '.join(known)}."


def _pairs(words: Sequence[str], option: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        name, sign, path = word.partition("=")
        if not (name and sign and path):
            kind = "NAME" if option == "--data" else "WHAT"
            raise UserError(f"{option}: got {word!r}, expected {kind}=PATH.")
        found[name] = path
    return found


if __name__ == "__main__":
    leave(main)
