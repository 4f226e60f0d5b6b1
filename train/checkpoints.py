"""Checkpoints: numpy's npz files, whole or absent, checked when read, the last few kept."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from train import records
from train.allocator import give_back
from train.errors import StorageError, WorkdirError, reason

if TYPE_CHECKING:
    from jaxtyping import PyTree

_ARRAYS, _INDEX = "arrays.npz", "index.json"


class Checkpoints:
    """The folder `checkpoints/`, one subfolder a step.

    `arrays.npz` holds the leaves of a pytree by their paths, so any framework's state fits; random
    keys are stored as their data, and types that numpy does not have, bfloat16, as their bytes.
    `index.json`, written last, holds a digest of the leaves: a folder without it, or whose arrays
    differ, is torn. Leaves are whole arrays, so a run may go on with another number of devices than
    wrote them. With several processes the first alone reads and writes; the others are told.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder.absolute()
        self.keep = keep

    def save(self, step: int, tree: PyTree, recorded: bool = True) -> None:
        """Write a checkpoint and drop all but the newest `keep`.

        Args:
            recorded: whether the line of metrics of this step is written.

        Raises:
            StorageError: the disk is full or cannot be written; the older ones are kept.
        """
        if jax.process_index() != 0:
            return
        final, temporary = self.folder / str(step), self._partial(step)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            leaves = _to_arrays(tree)
            named = dict(zip(_names(tree), leaves, strict=True))
            records.write_arrays(temporary / _ARRAYS, named, compressed=False)
            index = {"step": step, "sha256": digest(leaves), "recorded": recorded}
            records.write_json(temporary / _INDEX, index)
            if final.exists():
                old = self.folder / f"{step}.old"
                final.rename(old)
                temporary.rename(final)
                old.rename(self._partial(step))
                records.clear_partial(self.folder)
            else:
                temporary.rename(final)
            records.sync_folder(self.folder)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            steps = self.steps()
            kept = f"that of step {steps[-1]} is kept" if steps else "there is no earlier one"
            raise StorageError(
                f"{self.folder}: the checkpoint of step {step} cannot be written "
                f"({reason(error, 160)}); {kept}. Make room, then the same command goes on."
            ) from None
        for old in self.steps()[: -self.keep]:
            self._drop(old)
        give_back()

    def _partial(self, step: int) -> Path:
        return self.folder / f".{step}{records.PARTIAL}"

    def _drop(self, step: int) -> None:
        """Remove a checkpoint, never leaving a part of it under its name."""
        (self.folder / str(step)).rename(self.folder / f".{step}.old{records.PARTIAL}")
        records.clear_partial(self.folder)

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, rising."""
        if not self.folder.is_dir():
            return []
        names = [path.name for path in self.folder.iterdir() if path.is_dir()]
        return sorted(int(name) for name in names if name.isascii() and name.isdecimal())

    def is_empty(self) -> bool:
        """Return whether the folder holds nothing, not even what is torn."""
        return not self.folder.is_dir() or not any(self.folder.iterdir())

    def restore(self, like: PyTree, warn: Callable[[str], None]) -> Restored | None:
        """Return the newest whole checkpoint, None where there is none.

        A torn one is passed over; it keeps its bytes, under another name.

        Args:
            like: a tree of the same structure, shapes and dtypes.
            warn: told of every checkpoint that is torn and passed over.

        Raises:
            WorkdirError: the newest whole one is another network's or optimiser's, or a version
                that kept them in another form wrote them. Nothing is changed.
        """
        if jax.process_count() > 1:
            return _told(self._restore(like, warn) if jax.process_index() == 0 else None, like)
        return self._restore(like, warn)

    def _restore(self, like: PyTree, warn: Callable[[str], None]) -> Restored | None:
        if self.folder.is_dir():
            records.clear_partial(self.folder)
        if any((self.folder / str(step) / "arrays").is_dir() for step in self.steps()):
            raise WorkdirError(
                f"{self.folder}: holds checkpoints of an earlier version, which this one does not "
                "read. Finish the run with that version, or start in another workdir."
            )
        for step in reversed(self.steps()):
            try:
                leaves, recorded = self._read(step, like)
                return Restored(step, _from_arrays(leaves, like), recorded)
            except WorkdirError:
                raise
            except Exception as error:  # numpy and zipfile raise many kinds for torn files
                warn(f"checkpoint {step} is torn and passed over ({reason(error, 160)})")
                self._set_aside(step)
        return None

    def _set_aside(self, step: int) -> None:
        aside = self.folder / f"{step}.torn"
        shutil.rmtree(aside, ignore_errors=True)
        with suppress(OSError):
            (self.folder / str(step)).rename(aside)

    def _read(self, step: int, like: PyTree) -> tuple[list[np.ndarray], bool]:
        folder = self.folder / str(step)
        index = records.read_json(folder / _INDEX)
        if index is None:
            raise ValueError(f"no readable {_INDEX}")
        expected = dict(zip(_names(like), _to_arrays(like), strict=True))
        found = {
            name: _as_type(leaf, expected[name].dtype) if name in expected else leaf
            for name, leaf in records.read_arrays(folder / _ARRAYS).items()
        }
        self._check_fits(folder, found, expected)
        leaves = list(found.values())
        if digest(leaves) != index.get("sha256"):
            raise ValueError("its digest does not match its arrays")
        return leaves, index.get("recorded") is not False

    def _check_fits(
        self, folder: Path, found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]
    ) -> None:
        """Raise unless arrays that could be read are those of a state.

        Raises:
            WorkdirError: they are another's. To begin again would take its run away.
        """

        def words(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
            return {name: f"{name[4:]} {each.dtype}{each.shape}" for name, each in arrays.items()}

        has, needs = words(found), words(expected)
        other = [name for name in {**has, **needs} if has.get(name) != needs.get(name)]
        if other:
            first = other[0]
            raise WorkdirError(
                f"{folder}: is whole, but holds the state of another network or optimiser "
                f"({has.get(first, 'nothing')} where this run has {needs.get(first, 'nothing')}). "
                "Go on with the model, the versions of its packages and the checkpoints that it "
                "was written with, or use another workdir."
            )


def _as_type(leaf: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return an array that numpy stored as bytes, bfloat16 for instance, in its type again."""
    stored = leaf.dtype
    return leaf.view(dtype) if stored.kind == "V" and stored.itemsize == dtype.itemsize else leaf


class NoCheckpoints:
    """Of a run without a workdir: nothing is kept."""

    folder = None

    def save(self, step: int, tree: PyTree, recorded: bool = True) -> None:
        """Write nothing."""

    def steps(self) -> list[int]:
        """Return no step."""
        return []

    def is_empty(self) -> bool:
        """Return True."""
        return True

    def restore(self, like: PyTree, warn: Callable[[str], None]) -> Restored | None:
        """Return None: there is none."""


class Restored(NamedTuple):
    """A checkpoint as read: its step, its tree, and whether its line of metrics is written."""

    step: int
    tree: PyTree
    recorded: bool


def _told(found: Restored | None, like: PyTree) -> Restored | None:
    """Return on every process what the first one restored."""
    from jax.experimental.multihost_utils import broadcast_one_to_all

    step, recorded = (-1, True) if found is None else (found.step, found.recorded)
    step, recorded = (int(each) for each in broadcast_one_to_all(np.asarray([step, recorded])))
    if step < 0:
        return None
    leaves = broadcast_one_to_all(_to_arrays(like if found is None else found.tree))
    return Restored(step, _from_arrays([np.asarray(leaf) for leaf in leaves], like), bool(recorded))


def digest(leaves: list[np.ndarray]) -> str:
    """Return a SHA-256 over dtypes, shapes and bytes."""
    value = hashlib.sha256()
    for leaf in leaves:
        value.update(f"{leaf.dtype}{leaf.shape}".encode())
        value.update(np.ascontiguousarray(leaf).tobytes())
    return value.hexdigest()


def tree_digest(tree: PyTree) -> str:
    """Return `digest` of a pytree's leaves."""
    return digest(_to_arrays(tree))


def _names(tree: PyTree) -> list[str]:
    """Return a name for each leaf: its path, after its number, so that no two are the same."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    return [f"{number:04d}{jax.tree_util.keystr(path)}" for number, path in enumerate(paths)]


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_arrays(tree: PyTree) -> list[np.ndarray]:
    return [
        np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        for leaf in jax.tree.leaves(tree)
    ]


def _from_arrays(leaves: list[np.ndarray], like: PyTree) -> PyTree:
    old, structure = jax.tree.flatten(like)
    new = [
        jax.random.wrap_key_data(jnp.asarray(leaf), impl=jax.random.key_impl(reference))
        if _is_key(reference)
        else jnp.asarray(leaf)
        for leaf, reference in zip(leaves, old, strict=True)
    ]
    return jax.tree.unflatten(structure, new)
