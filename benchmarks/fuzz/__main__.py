"""`python -m benchmarks.fuzz --seconds 600`: random programs; exit 1 where one is wrong."""

from __future__ import annotations

import argparse
import sys

import jax

from ._hold import fuzz, hold
from ._program import write_program


def main(arguments: list[str] | None = None) -> int:
    """Print each find with its seed and its program."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0, help="the first program")
    parser.add_argument("--only", action="store_true", help="the program of that seed alone")
    options = parser.parse_args(arguments)
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_disable_most_optimizations", True)
    if options.only:
        program = write_program(options.seed)
        print(f"xs: [2, {', '.join(map(str, program.in_shape))}]\n{program.text}")
        finds = hold(program)
    else:
        found = fuzz(options.seconds, first_seed=options.seed)
        finds = found["finds"]
        print(f"{found['programs']} programs, skipped {found['skipped']}, {len(finds)} finds")
        print(f"go on with --seed {found['next_seed']}")
    for find in finds:
        print(find)
    return 1 if finds else 0


if __name__ == "__main__":
    sys.exit(main())
