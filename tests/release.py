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
    """Build, look inside, install without dependencies, call every public name."""
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
    print(f"{wheel.name} and {source.name} are whole; they are in {DIST.name}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
