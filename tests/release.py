"""What a release holds, by `make release-check`: built, installed alone, tried elsewhere."""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"


def main() -> int:
    """Build, look inside, call every public name alone, measure with each extra; pins that fit."""
    # Nothing else asks for the oldest releases together until somebody runs `make test-oldest`.
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--constraint"]
    subprocess.run([*command, str(ROOT / "constraints-oldest.txt"), f"{ROOT}[dev]"], check=True)
    shutil.rmtree(DIST, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", str(ROOT)], check=True)
    (wheel,), (source,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    others = {top for top in tops if top != "jacreg" and not top.endswith(".dist-info")}
    if others:
        print(f"error: the wheel holds {sorted(others)} beside jacreg", file=sys.stderr)
        return 1
    with tarfile.open(source) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    missing = {"LICENSE", "README.md", "pyproject.toml", "jacreg/py.typed"} - names
    if missing:
        print(f"error: the source distribution lacks {sorted(missing)}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        away = Path(folder)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
        subprocess.run([*command, str(away / "site"), str(wheel)], check=True)
        for name in ("test_public_names.py", "public_calls.py"):
            shutil.copy(ROOT / "tests" / name, away)
        environment = {**os.environ, "PYTHONPATH": str(away / "site")}
        where = "import jacreg, pathlib; print(pathlib.Path(jacreg.__file__).parent.parent)"
        found = subprocess.run(
            [sys.executable, "-c", where], cwd=away, env=environment, check=True,
            capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip
        if Path(found).resolve() != (away / "site").resolve():
            print(f"error: jacreg was imported from {found}, not from the wheel", file=sys.stderr)
            return 1
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
        subprocess.run(command, cwd=away, env=environment, check=True)
        for extra in ("flows", "equilibrium"):
            _try_figures(wheel, extra)
    print(f"{wheel.name} and {source.name} are whole; they are in {DIST.name}/")
    return 0


def _try_figures(wheel: Path, extra: str) -> None:
    """In an environment with the wheel, one extra and pytest alone."""
    with tempfile.TemporaryDirectory() as folder:
        away = Path(folder)
        subprocess.run([sys.executable, "-m", "venv", str(away / "fresh")], check=True)
        python = str(away / "fresh" / "bin" / "python")
        command = [python, "-m", "pip", "install", "--quiet", "--no-compile", "pytest"]
        subprocess.run([*command, f"{wheel}[{extra}]"], check=True)
        shutil.copy(ROOT / "tests" / "release_figures.py", away / "test_release_figures.py")
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        command = [python, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "-rs"]
        command.append("test_release_figures.py")
        subprocess.run(command, cwd=away, env=environment, check=True)


if __name__ == "__main__":
    sys.exit(main())
