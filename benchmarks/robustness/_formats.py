"""Give the command data files that are torn, lie about their size, or reach out of their folder."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import random
import resource
import shutil
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.robustness._configs import Case, try_case
from benchmarks.robustness._records import ROOT

_SIDE, _TRAIN, _TEST = 6, 20, 10


class Format(NamedTuple):
    """A data set as files, and the overrides that read it from the folder."""

    write: Callable[[Path], None]
    overrides: tuple[str, ...]


def _images(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 255, (count, _SIDE, _SIDE), np.uint8)


def _labels(count: int) -> np.ndarray:
    return (np.arange(count) % 4).astype(np.uint8)


def _idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(folder: Path, packed: bool = False) -> None:
    """Write the four published IDX files."""
    for split, count in (("train", _TRAIN), ("t10k", _TEST)):
        for kind, array in (("images-idx3", _images(count)), ("labels-idx1", _labels(count))):
            content = _idx(array)
            name = folder / f"{split}-{kind}-ubyte{'.gz' if packed else ''}"
            name.write_bytes(gzip.compress(content) if packed else content)


def write_csv(folder: Path) -> None:
    """Write a table with a header and a column of labels."""
    rows = np.random.default_rng(0).normal(size=(30, 3))
    lines = ["a;b;c;label", *(";".join(f"{x:.4f}" for x in row) + f";{i % 3}"
                               for i, row in enumerate(rows))]  # fmt: skip
    (folder / "table.csv").write_text("\n".join(lines) + "\n")


def write_parquet(folder: Path) -> None:
    """Write splits as the hub does: parquet files with encoded images."""
    import datasets
    from PIL import Image

    for split, count in (("train", _TRAIN), ("test", _TEST)):
        features = datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=4)}
        )
        rows = {
            "image": [Image.fromarray(image) for image in _images(count)],
            "label": _labels(count).tolist(),
        }
        table = datasets.Dataset.from_dict(rows, features=features)
        table.to_parquet(folder / f"{split}-00000-of-00001.parquet")


def write_pictures(folder: Path) -> None:
    """Write folders of pictures: split, class, file."""
    from PIL import Image

    for split, count in (("train", _TRAIN), ("test", _TEST)):
        for number, (image, label) in enumerate(zip(_images(count), _labels(count), strict=True)):
            path = folder / split / f"class-{label}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)


FORMATS: Mapping[str, Format] = {
    "IDX": Format(write_idx, ()),
    "IDX, gzip": Format(lambda folder: write_idx(folder, packed=True), ()),
    "csv": Format(write_csv, ("data.name=csv", "data.label_column=label")),
    "parquet": Format(write_parquet, ()),
    "pictures": Format(write_pictures, ()),
}


def _png_header(width: int, height: int) -> bytes:
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        sums = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + sums

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 4096))


@lru_cache(maxsize=1)
def _bomb() -> bytes:
    """Return a small gzip file of 256 MiB that says to be 3 GiB of images."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as file:
        file.write(struct.pack(">HBB3I", 0, 8, 3, 2**20, 64, 48))
        for _ in range(64):
            file.write(b"\0" * 2**22)
    return packed.getvalue()


def harm(rng: random.Random, folder: Path) -> str:
    """Spoil one file of a data set; say how."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = rng.choice(files)
    content = path.read_bytes()
    other = rng.choice(files).read_bytes()
    at = rng.randrange(max(len(content), 1))
    packed = path.suffix == ".gz"

    def repack(body: bytes) -> bytes:
        return gzip.compress(body) if packed else body

    def header_lies() -> bytes:
        ndim = 3 if "images" in path.name else 1
        sizes = [rng.choice((0, 1, 2**31, 2**32 - 1, _SIDE)) for _ in range(ndim)]
        return repack(struct.pack(f">HBB{ndim}I", 0, rng.choice((8, 9, 0xD)), ndim, *sizes) + b"x")

    ways: dict[str, Callable[[], bytes]] = {
        "cut": lambda: content[:at],
        "one byte": lambda: content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :],
        "many bytes": lambda: bytes(
            rng.randrange(256) if rng.random() < 0.05 else each for each in content
        ),
        "empty": lambda: b"",
        "noise": lambda: rng.randbytes(300),
        "another file": lambda: other,
        "longer": lambda: content + b"\0" * 99,
        "twice": lambda: content * 2,
        "a pickle": lambda: b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00cos\nsystem\n.",
        "a header that lies": header_lies,
        "a bomb": _bomb,
    }
    if path.suffix == ".csv":
        text = content.decode()
        ways |= {
            "nan": lambda: text.replace("0.", "nan", 1).encode(),
            "inf": lambda: text.replace("-0.", "-inf;", 3).encode(),
            "ragged": lambda: (text + "1;2\n").encode(),
            "one long line": lambda: b"1;" * 2**20,
            "formula": lambda: text.replace("0.", "=CMD()", 2).encode(),
            "huge numbers": lambda: text.replace("0.", "1e300", 4).encode(),
            "utf-16": lambda: text.encode("utf-16"),
        }
    if path.suffix == ".png":
        ways |= {
            "a picture of 2^31 x 2^31": lambda: _png_header(2**31 - 1, 2**31 - 1),
            "a picture of 60000 x 60000": lambda: _png_header(60000, 60000),
            "another size": lambda: _png_header(9, 7),
        }
    way = rng.choice((*sorted(ways), "gone", "a folder", "a loop", "a link out", "not readable"))
    if way in ways:
        path.write_bytes(ways[way]())
    else:
        path.unlink()
        if way == "a folder":
            path.mkdir()
        elif way == "a loop":
            path.symlink_to(path.name)
        elif way == "a link out":
            path.symlink_to("/etc/passwd")
        elif way == "not readable":
            os.mkfifo(path)
    return f"{path.name}: {way}"


def fuzz_formats(count: int, folder: Path, seed: int = 0) -> dict[str, Any]:
    """Try `count` spoilt data sets; return the record."""
    rng = random.Random(seed)
    outcomes: dict[str, Counter[str]] = {name: Counter() for name in FORMATS}
    problems = []
    base = ROOT / "configs" / "smoke" / "nnx.toml"
    shutil.rmtree(folder, ignore_errors=True)
    sound = folder / "sound"
    for name, form in FORMATS.items():
        (sound / name).mkdir(parents=True)
        with contextlib.redirect_stderr(io.StringIO()):
            form.write(sound / name)
    names = sorted(FORMATS)
    largest = 0
    for number in range(count):
        name = names[number % len(names)]
        own = folder / "case"
        shutil.rmtree(own, ignore_errors=True)
        shutil.copytree(sound / name, own / "data")
        done = "nothing" if number < len(names) else harm(rng, own / "data")
        case = Case(
            base.read_bytes(),
            (f"data.path={own / 'data'}", "data.batch_size=4", *FORMATS[name].overrides),
            f"{name}: {done}",
        )
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outcome, problem = try_case(case, own, trained=False)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        largest = max(largest, grown if number >= len(names) else 0)
        if done == "nothing" and outcome != "built":
            problem = f"the sound data set is refused: {outcome}"
        outcomes[name][outcome] += 1
        if problem:
            problems.append({"case": case.told, "outcome": outcome, "problem": problem})
    return {
        "seed": seed,
        "data_sets": count,
        "outcomes": {name: dict(sorted(found.items())) for name, found in outcomes.items()},
        "largest_growth_bytes": largest,
        "problems": problems,
    }
