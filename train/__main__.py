"""`python -m train CONFIG [section.key=value ...] [--workdir DIR]`."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.command import ended, leave, say
from train.tables import read_tables

_DESCRIPTION = """\
Train a network from a config file, with Jacobian penalties.

  python -m train configs/quickstart.toml                    one run, in runs/quickstart
  python -m train configs/quickstart.toml penalty.0.weight=0 --workdir runs/plain
  python -m train.view runs/plain runs/quickstart            both side by side, as a page

  python -m train --list                                     configs, and what they can name
  python -m train configs/quickstart.toml --dry-run          sizes, FLOPs, memory; runs nothing
  python -m train configs/quickstart.toml model.framework=equinox data.path=FOLDER
"""
_EPILOG = """\
A config says what is trained: [data], [model], [task], any number of [[penalty]], [optimizer],
[training], [evaluation]. Copy the nearest of configs/ and change it; on top of each stand its
claim, its command and the numbers to expect. A key that does not exist is named together with
the nearest that does.

Overrides are section.key=value. Values are TOML (0.1, true, [1, 2], {name = "cosine"});
what does not parse is a string. Lists of tables go by index: penalty.0.weight=0.

The workdir holds config.toml (every default written out), environment.json, metrics.jsonl,
summary.json, checkpoints/ and figures/. The same command on an unfinished workdir goes on
from its last checkpoint, bit for bit as if it had never stopped; on a finished one it
shows the result again.

Exit codes: 0 finished, 2 bad input (nothing is overwritten), 3 the loss was not finite,
4 the disk is full or cannot be written (what was written stays), 5 an attack changed a
prediction that was certified not to change, 130 or 143 stopped by SIGINT or SIGTERM after
writing a checkpoint.
"""


def parser() -> argparse.ArgumentParser:
    """Return the command's argument parser."""
    made = argparse.ArgumentParser(
        prog="python -m train",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("config", nargs="?", metavar="CONFIG", help="a TOML file, see configs/")
    made.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="changes to the config"
    )
    made.add_argument(
        "--workdir", type=Path, help="where the run lives (default runs/<experiment.name>)"
    )
    made.add_argument(
        "--debug",
        action="store_true",
        help="where a loss or gradient is not finite, look for what made it (keeps a copy of the "
        "state, so takes more memory)",
    )
    made.add_argument(
        "--dry-run",
        action="store_true",
        help="show the plan: parameters, steps, penalties, and XLA's FLOPs and memory of a step",
    )
    made.add_argument("--quiet", action="store_true", help="show nothing but errors")
    made.add_argument(
        "--json",
        action="store_true",
        help="one JSON object on stdout and nothing else: summary, plan or list",
    )
    made.add_argument(
        "--list", action="store_true", help="list configs, and what they can name with its options"
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    made = parser()
    chosen = made.parse_intermixed_args(arguments)
    if chosen.config is None and not chosen.list:
        made.error("a CONFIG is needed, for instance configs/quickstart.toml")
    try:
        return ended(lambda: _main(chosen), stopped="stopped by SIGINT")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("jacreg", "models", "train"):
            raise
        print(
            f"error: train needs the package {error.name}, which this Python lacks: "
            'pip install -e ".[train]" in the checkout, or make quickstart and .venv/bin/python.',
            file=sys.stderr,
        )
        return 2


def _main(chosen: argparse.Namespace) -> int:
    if not chosen.list:
        read_tables(Path(chosen.config))
    # JAX takes seconds to import: --help and a wrong path should not.
    from train import config as configs
    from train import listing, plan, records
    from train.run import run, use_compilation_cache

    if chosen.list:
        say(_as_json(listing.names()) if chosen.json else listing.listing())
        return 0
    config = configs.load(chosen.config, chosen.overrides)
    workdir = chosen.workdir or Path("runs") / config.experiment.name
    use_compilation_cache()
    quiet = chosen.quiet or chosen.json
    with contextlib.ExitStack() as stack:
        if chosen.json:  # whatever else is printed, by a library for instance
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        if chosen.dry_run:
            found = plan.plan(config, workdir, quiet)
            plan.show(found, quiet)
        else:
            run(config, workdir, debug=chosen.debug, quiet=quiet)
            found = {
                "workdir": str(workdir),
                **(records.read_json(workdir / records.SUMMARY) or {}),
            }
    if chosen.json:
        say(_as_json(found))
    return 0


def _as_json(found: dict[str, Any]) -> str:
    return json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False)


if __name__ == "__main__":
    leave(main, at_once=True)
