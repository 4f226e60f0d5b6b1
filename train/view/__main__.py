"""`python -m train.view WORKDIR [WORKDIR ...] [--workdir DIR] [--tensorboard DIR]`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from train.command import ended, leave, say
from train.errors import UserError

_DESCRIPTION = """\
Compare runs from their records: a table, PNGs, and one self-contained HTML page.

  python -m train.view runs/quickstart-plain runs/quickstart
  python -m train.view runs/* --workdir runs/view
"""
_EPILOG = """\
Nothing is computed again, so a copied workdir serves as well, and a run that is still going shows
what it has logged. The page holds its pictures and loads nothing; it follows the reader's light or
dark setting. Pictures are of what the runs recorded: curves, accuracy under noise and attacks,
decision cells, sensitivity maps, singular values, equilibria, densities, samples, fits.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m train.view",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workdirs", nargs="+", type=Path, metavar="WORKDIR")
    parser.add_argument(
        "--workdir",
        "--out",
        dest="out",
        metavar="DIR",
        type=Path,
        help="folder of index.html and PNGs (default: view, beside the first)",
    )
    parser.add_argument(
        "--tensorboard", type=Path, metavar="DIR", help="also write TensorBoard event files"
    )
    chosen = parser.parse_args(arguments)
    out = chosen.out or chosen.workdirs[0].resolve().parent / "view"
    # So that `runs/*` works the second time too.
    workdirs = [each for each in chosen.workdirs if each.resolve() != out.resolve()]
    return ended(lambda: _view(workdirs or chosen.workdirs, out, chosen.tensorboard))


def _view(workdirs: Sequence[Path], out: Path, events: Path | None) -> None:
    say(f"view: {len(workdirs)} run{'s are' if len(workdirs) > 1 else ' is'} read, then drawn")
    # matplotlib takes a second to import: --help should not.
    from train import records
    from train.view._page import page
    from train.view._pictures import pictures
    from train.view._read import read_runs
    from train.view._tensorboard import write_events

    runs = read_runs(workdirs)
    written = write_events(runs, events) if events is not None else []
    try:
        out.mkdir(parents=True, exist_ok=True)
        made = pictures(runs, out)
        records.write_bytes(out / "index.html", page(runs, made).encode())
    except OSError as error:
        raise UserError(f"--workdir {out}: cannot be written ({error.strerror}).") from None
    for picture in made:
        say(str(picture.light))
    for folder in written:
        say(str(folder))
    say(str(out / "index.html"))


if __name__ == "__main__":
    leave(main)
