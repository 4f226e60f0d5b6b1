"""The page of tested versions says what the pins of the test commands say."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PINS = ("constraints-oldest.txt", "constraints.txt", "constraints-3.12.txt")
# What users install with jacreg and its extras, not what its developers do.
EXTRAS = ("flax", "equinox", "flows", "train")


def needed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"]]
    for extra in EXTRAS:
        lines += project["optional-dependencies"][extra]
    for line in lines:
        name, least = re.fullmatch(r"([\w-]+)(?:\[.*\])?(.*)", line).groups()
        if name != "jacreg":
            yield name, least


def pinned(file):
    lines = (ROOT / file).read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def expected():
    pins = [pinned(file) for file in PINS]
    rows = dict.fromkeys(needed())
    return [
        f"| {name} | {least.replace('>=', '')} | "
        + " | ".join(pin.get(name, "newest") for pin in pins)
        + " |"
        for name, least in rows
    ]


def test_the_table_is_that_of_the_pins():
    text = (ROOT / "docs" / "versions.md").read_text()
    found = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert found == expected(), "\n".join(["write:", *expected()])


def test_what_is_pinned_is_no_older_than_what_is_needed():
    def number(version):
        return [int(part) for part in re.findall(r"\d+", version)]

    for name, least in needed():
        for file in PINS:
            pin = pinned(file).get(name)
            assert pin is None or number(pin) >= number(least), (name, file)
