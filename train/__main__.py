"""`python -m train CONFIG [section.key=value ...] [--workdir DIR]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from train.errors import UserError

_DESCRIPTION = """\
Train a network from a config file, with Jacobian penalties.

  python -m train configs/quickstart.toml
  python -m train configs/quickstart.toml penalty.0.weight=0.1 training.steps=600
  python -m train configs/quickstart.toml data.path=FOLDER model.framework=equinox
"""
_EPILOG = """\
Overrides are section.key=value. Values are TOML (0.1, true, [1, 2], {name = "cosine"});
what does not parse is a string. Lists of tables go by index: penalty.0.weight=0.

The workdir holds config.toml (every default written out), environment.json, metrics.jsonl,
summary.json, checkpoints/ and figures/. The same command on an unfinished workdir goes on
from its last checkpoint, bit for bit as if it had never stopped; on a finished one it
shows the result again.

Exit codes: 0 finished, 2 bad input (nothing is overwritten), 3 the loss was not finite,
4 the disk is full or cannot be written (what was written stays), 130 or 143 stopped by SIGINT
or SIGTERM after writing a checkpoint.
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
        "--list", action="store_true", help="list what a config can name, with the options"
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    made = parser()
    chosen = made.parse_intermixed_args(arguments)
    if chosen.config is None and not chosen.list:
        made.error("a CONFIG is needed, for instance configs/quickstart.toml")
    try:
        return _main(chosen)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: stopped by SIGINT; the same command goes on.", file=sys.stderr)
        return 130


def _main(chosen: argparse.Namespace) -> int:
    # JAX takes seconds to import: --help should not.
    from train import config as configs
    from train.listing import listing
    from train.run import run, use_compilation_cache

    if chosen.list:
        print(listing())
        return 0
    config = configs.load(chosen.config, chosen.overrides)
    workdir = chosen.workdir or Path("runs") / config.experiment.name
    use_compilation_cache()
    run(config, workdir, debug=chosen.debug)
    return 0


if __name__ == "__main__":
    sys.exit(main())
