"""A colouring in a file, and back: arrays alone, nothing that is executed."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import fields
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .._dependence import Factor, Fingerprint
from .._dependence._boolean import Boolean
from ._relation import Relation

C = TypeVar("C")

_FORMAT = "jacreg coloring"
_VERSION = 1
# What the file holds as arrays, or what is made from the rest.
_NOT_IN_HEADER = ("colors", "relation", "fingerprint", "digest")
# What reading a torn or foreign file may raise, from the archive to its fields.
_UNREADABLE = (
    OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, RuntimeError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def save_coloring(coloring: Any, path: str | os.PathLike[str]) -> None:
    """Write a colouring; a reader of the same path sees the old file or the new one."""
    relation = coloring.relation
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "coloring": {
            f.name: getattr(coloring, f.name)
            for f in fields(coloring)
            if f.name not in _NOT_IN_HEADER
        },
        "fingerprint": list(coloring.fingerprint),
        "digest": coloring.digest,
        "relation": {
            "out_shape": relation.out_shape,
            "in_shape": relation.in_shape,
            "rows_independent": relation.rows_independent,
            "factors": [[f.axes, f.inputs] for f in relation.factors],
        },
    }
    arrays = {"colors": coloring.colors}
    for i, factor in enumerate(relation.factors):
        arrays[f"indices{i}"] = factor.matrix.indices
        arrays[f"indptr{i}"] = factor.matrix.indptr
    target = Path(path)
    beside = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as stream:
            np.savez_compressed(stream, header=np.array(json.dumps(header, default=int)), **arrays)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def load_coloring(path: str | os.PathLike[str], make: Callable[..., C]) -> C:
    """Read a colouring and make it.

    Raises:
        ValueError: the file is no whole colouring.
    """
    try:
        # numpy leaves a torn file open, so it is opened here.
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as data:
            return _from_arrays(dict(data), make)
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except _UNREADABLE as error:
        raise ValueError(
            f"Coloring.load: {os.fspath(path)!r} is no whole file of Coloring.save, format "
            f"version {_VERSION} ({type(error).__name__}: {error}); make the colouring again with "
            "jacreg.color and save it."
        ) from error


def _from_arrays(arrays: dict[str, Any], make: Callable[..., C]) -> C:
    header = json.loads(str(arrays["header"][()]))
    found = (header["format"], header["version"])
    if found != (_FORMAT, _VERSION):
        raise ValueError(f"format and version are {found}")
    parts = {name: _tuples(value) for name, value in header["coloring"].items()}
    coloring: Any = make(
        **parts,
        fingerprint=Fingerprint(*header["fingerprint"]),
        colors=np.array(arrays["colors"]),
        relation=_relation(header["relation"], arrays),
    )
    _check(coloring)
    if coloring.digest != header["digest"]:
        raise ValueError("its contents are not those of its digest")
    return coloring


def _relation(header: dict[str, Any], arrays: dict[str, Any]) -> Relation:
    out_shape, in_shape = _tuples(header["out_shape"]), _tuples(header["in_shape"])
    factors = []
    for i, (axes, inputs) in enumerate(header["factors"]):
        shape = (prod(out_shape[a] for a in axes), prod(in_shape[a] for a in inputs))
        matrix = Boolean.of_file(shape, arrays[f"indptr{i}"], arrays[f"indices{i}"])
        factors.append(Factor(_tuples(axes), _tuples(inputs), matrix))
    return Relation(out_shape, in_shape, tuple(factors), header["rows_independent"])


def _check(coloring: Any) -> None:
    colors = coloring.colors
    size = sum(map(prod, coloring.out_shapes if coloring.reverse else coloring.in_shapes))
    sizes = tuple(sum(map(prod, s)) for s in (coloring.out_shapes, coloring.in_shapes))
    relation = (prod(coloring.relation.out_shape), prod(coloring.relation.in_shape))
    if not coloring.kind or relation != sizes or colors.shape != (size,):
        raise ValueError("its colours do not belong to its shapes")
    if colors.size and not (colors.min() >= 0 and colors.max() < coloring.num_colors):
        raise ValueError("its colours are not below their number")


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
