"""Give the training command wrong configs: one message and an exit code, never a traceback."""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import resource
import shutil
import signal
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.robustness._records import ROOT
from train import data, methods, networks, optimizers, penalties, schedules, tasks
from train.__main__ import main
from train.config import OPTIONS
from train.expect import keys_of
from train.loop import Loop
from train.sections import SECTIONS

_EXIT_CODES = (0, 2, 3, 4)
_LONGEST_MESSAGE = 1500
_SECONDS = 60  # for one config
# What one config may take of the machine: a wrong size must not fill it.
_MEMORY = 6 * 2**30
_SMALL = (
    "training.log_every=10", "training.eval_every=0",
    "evaluation.jacobian=false", "evaluation.fgsm=[]", "evaluation.pgd=[]", "evaluation.noise=[]",
    "evaluation.decision_cells=false",
)  # fmt: skip
VALUES = (
    "nan", "inf", "-inf", "-1", "0", "1", "2", "3", "7", "1e308", "1e-320", "-0.0", "0.5",
    "9223372036854775807", "-9223372036854775808", "99999999999999999999999", "99999999",
    '""', '" "', '"x"', '"nan"', "no quotes", "true", "false", "[]", "[[]]", "[0]", "[-1]",
    "[1, 2]", "4096",
    "[1, 'a']", "[nan]", "[inf, 1]", "[1e9]", "[99999999, 99999999]", "[1, 2, 3, 4, 5, 6, 7, 8]",
    "{}", "{name = 'x'}", "{name = 3}", "{name = 'exact', chunk_size = 0}", "{a = {b = {c = 1}}}",
    "[{name = 'jacobian', weight = 1}]", "1979-05-27", "07:32:00", "1979-05-27T07:32:00Z",
    '"../../../etc/passwd"', '"/dev/null"', '"/"', '"."', '"~"', '"-"', '"a/b"', '"\\u0000"',
    '"\\u202e"', '"' + "x" * 5000 + '"', "[" * 60 + "]" * 60, "'''\n'''", "=", "]", "0x_1",
    '"nnx"', '"linen"', '"equinox"', '"NHWC"', '["NCHW", "OIHW", "NCHW"]', '["NWC", "WIO", "NWC"]',
)  # fmt: skip


class Case(NamedTuple):
    """A file and what is overridden on the command line."""

    text: bytes
    overrides: tuple[str, ...]
    told: str


class Enough(BaseException):
    """The run has been built and traced; training it is not what is tried."""


class TooLong(BaseException):
    """A config took longer than a case may."""


def known_names() -> list[str]:
    """Return what some key or other accepts as a name."""
    registries: Sequence[Any] = (
        data.BUILTINS, methods.METHODS, networks.NETWORKS, optimizers.OPTIMIZERS,
        penalties.PENALTIES, schedules.SCHEDULES, tasks.TASKS,
    )  # fmt: skip
    return sorted({name for registry in registries for name in registry})


def known_keys(tables: dict[str, Any]) -> list[str]:
    """Return the paths of every key that a config of these names can have."""
    paths = []
    for section, kind in SECTIONS.items():
        own = [key for key in keys_of(kind) if key != "options"]
        options = OPTIONS.get(section)
        table = tables.get(section, {})
        if section == "penalty":
            for index, each in enumerate(table):
                paths += [f"penalty.{index}.{key}" for key in (*own, *options(each["name"]))]
            continue
        further = options(table["name"]) if options and "name" in table else ()
        paths += [f"{section}.{key}" for key in (*own, *further)]
    return paths


def draw(rng: random.Random, bases: Sequence[Path]) -> Case:
    """Return a wrong config: keys with other values, keys that are not known, or torn text."""
    base = bases[rng.randrange(len(bases))]
    text = base.read_bytes()
    kind = rng.random()
    if kind < 0.15:
        return _torn(rng, text, base)
    paths = known_keys(tomllib.loads(text.decode()))
    names = known_names()
    overrides = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        path = rng.choice(paths)
        if rng.random() < 0.08:
            path = rng.choice((path + "x", path.partition(".")[2], "penalty.7.weight", "a.b.c",
                               "penalty", "task", "=", ".", "penalty.-1.weight"))  # fmt: skip
        named = path.endswith(("name", "method", "schedule", "sampler", "solver"))
        value = rng.choice(VALUES if rng.random() < (0.3 if named else 0.9) else names)
        overrides.append(f"{path}={value}")
    told = f"{base.name}: " + " ".join(each[:120] for each in overrides)
    return Case(text, (*_SMALL, *overrides), told)


def _torn(rng: random.Random, text: bytes, base: Path) -> Case:
    lines = text.splitlines(keepends=True)
    at = rng.randrange(len(text))
    ways = {
        "cut": lambda: text[:at],
        "a byte": lambda: text[:at] + bytes([rng.randrange(256)]) + text[at + 1 :],
        "no line": lambda: b"".join(each for each in lines if each != rng.choice(lines)),
        "twice": lambda: text + rng.choice(lines),
        "binary": lambda: rng.randbytes(500),
        "zeros": lambda: text[:at] + b"\0" * 9 + text[at:],
        "empty": lambda: b"",
        "deep": lambda: b"a = " + b"[" * 5000,
    }
    way = rng.choice(sorted(ways))
    return Case(ways[way](), _SMALL, f"{base.name}: text, {way}")


def try_case(case: Case, folder: Path, trained: bool) -> tuple[str, str | None]:
    """Run the command on a case; return its outcome, and what is wrong with it or None.

    Args:
        case: to try.
        folder: its own; the workdir `run` inside may hold another run's records.
        trained: whether a config that turns out right is run, or only built.
    """
    path = folder / "config.toml"
    path.write_bytes(case.text)
    workdir = folder / "run"
    before = _contents(workdir)
    told, said = io.StringIO(), io.StringIO()
    arguments = [str(path), *case.overrides, "--workdir", str(workdir)]
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(said), _limited(trained):
        try:
            code: Any = main(arguments)
        except Enough:
            return "built", None
        except TooLong:
            return "took too long", None
        except SystemExit as leaving:
            code = leaving.code
        except BaseException as error:
            return "traceback", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    message = told.getvalue()
    problem = None
    if code not in _EXIT_CODES:
        problem = f"exit code {code}"
    elif code and (not message.startswith(("error: ", "usage: ")) or "Traceback" in message):
        problem = f"message {message[:200]!r}"
    elif code and len(message) > _LONGEST_MESSAGE:
        problem = f"a message of {len(message)} characters"
    elif code == 2 and before and _contents(workdir) != before:
        problem = "a run that was there has changed"
    return f"exit {code}", problem


def _contents(workdir: Path) -> dict[str, str]:
    return {
        str(path.relative_to(workdir)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(workdir.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@contextlib.contextmanager
def _limited(trained: bool) -> Iterator[None]:
    """Within, a run ends once it is built unless it is to be trained, and after its time."""

    def built(*_: Any) -> Any:
        raise Enough

    def late(*_: Any) -> None:
        raise TooLong

    run = Loop.run
    previous = signal.signal(signal.SIGALRM, late)
    signal.alarm(_SECONDS)
    if not trained:
        Loop.run = built
    try:
        yield
    finally:
        Loop.run = run
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def limit_memory() -> None:
    """Let this process take so much and no more."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + _MEMORY, taken + _MEMORY))


def fuzz_configs(
    count: int, folder: Path, seed: int = 0, trained: int = 10, *, sound: bool = True
) -> dict[str, Any]:
    """Try `count` configs; return the record.

    Args:
        count: of configs.
        folder: for files, emptied.
        seed: of the choices.
        trained: how many of those that turn out right are trained too; one step each.
        sound: build each config that others are made from as it is, too.
    """
    rng = random.Random(seed)
    bases = sorted((ROOT / "configs" / "smoke").glob("*.toml"))
    outcomes: Counter[str] = Counter()
    problems: list[dict[str, str]] = []
    kept = folder / "kept"
    shutil.rmtree(folder, ignore_errors=True)
    kept.mkdir(parents=True)
    # A run that is there, whose records no wrong config may touch.
    old = bases[0].read_bytes()
    with contextlib.redirect_stdout(io.StringIO()):
        (kept / "old.toml").write_bytes(old)
        main([str(kept / "old.toml"), *_SMALL, "--workdir", str(kept / "run")])
    left, slow = trained, []
    for base in bases if sound else ():
        own = folder / f"sound-{base.stem}"
        own.mkdir()
        outcome, _ = try_case(Case(base.read_bytes(), _SMALL, base.name), own, trained=False)
        if outcome != "built":
            problems.append({"case": base.name, "outcome": outcome, "problem": "a sound config"})
    for number in range(count):
        own = folder / "case"
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir()
        if number % 5 == 0:
            shutil.copytree(kept / "run", own / "run")
        case = draw(rng, bases)
        train = left > 0 and number % 3 == 1
        outcome, problem = try_case(case, own, train)
        left -= train and outcome == "exit 0"
        outcomes[outcome] += 1
        if outcome == "took too long":
            slow.append(case.told)
        if problem:
            problems.append({"case": case.told, "outcome": outcome, "problem": problem})
    return {
        "seed": seed,
        "configs": count,
        "outcomes": dict(sorted(outcomes.items())),
        "seconds_allowed": _SECONDS,
        "took_too_long": slow,
        "problems": problems,
    }
