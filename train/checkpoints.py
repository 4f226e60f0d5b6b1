"""Checkpoints by orbax: whole or absent, checked when read, the last few kept."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from train import records
from train.allocator import give_back
from train.errors import StorageError

if TYPE_CHECKING:
    from jaxtyping import PyTree

_ARRAYS, _INDEX = "arrays", "index.json"


class Checkpoints:
    """The folder `checkpoints/`, one subfolder a step.

    A checkpoint holds the leaves of a pytree by number, so any framework's state
    fits; random keys are stored as their data. `index.json`, written last, holds a
    digest of the leaves: a folder without it, or whose arrays differ, is torn. Leaves are
    whole arrays, so a run may go on with another number of devices than wrote them. With several
    processes the first alone reads and writes; the others are told.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder.absolute()
        self.keep = keep

    def save(self, step: int, tree: PyTree, recorded: bool = True) -> None:
        """Write a checkpoint and drop all but the newest `keep`.

        Args:
            step: of the checkpoint.
            tree: what it holds.
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
            with _checkpointer() as checkpointer:
                checkpointer.save(temporary / _ARRAYS, _named(leaves))
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
        except Exception as error:  # orbax and tensorstore raise many kinds for a full disk
            shutil.rmtree(temporary, ignore_errors=True)
            steps = self.steps()
            kept = f"that of step {steps[-1]} is kept" if steps else "there is no earlier one"
            raise StorageError(
                f"{self.folder}: the checkpoint of step {step} cannot be written "
                f"({_reason(error)}); {kept}. Make room, then the same command goes on."
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
        """
        if jax.process_count() > 1:
            return _told(self._restore(like, warn) if jax.process_index() == 0 else None, like)
        return self._restore(like, warn)

    def _restore(self, like: PyTree, warn: Callable[[str], None]) -> Restored | None:
        if self.folder.is_dir():
            records.clear_partial(self.folder)
        for step in reversed(self.steps()):
            try:
                leaves, recorded = self._read(step, like)
                return Restored(step, _from_arrays(leaves, like), recorded)
            except Exception as error:  # orbax and tensorstore raise many kinds for torn files
                warn(f"checkpoint {step} is torn and passed over ({_reason(error)})")
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
        expected = _to_arrays(like)
        with _checkpointer() as checkpointer:
            stored = checkpointer.restore(folder / _ARRAYS, _named(expected))
        leaves = [
            np.asarray(stored.get(f"{number:06d}", leaf)) for number, leaf in enumerate(expected)
        ]
        for leaf, reference in zip(leaves, expected, strict=True):
            if (leaf.shape, leaf.dtype) != (reference.shape, reference.dtype):
                raise ValueError(
                    f"it holds an array {leaf.dtype}{leaf.shape}, the model has "
                    f"{reference.dtype}{reference.shape}"
                )
        if digest(leaves) != index.get("sha256"):
            raise ValueError("its digest does not match its arrays")
        return leaves, index.get("recorded") is not False


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


def _checkpointer() -> Any:
    """Return orbax's checkpointer, for this process alone where there are several.

    An array is a zarr folder of its own. In orbax's one database for all of them (OCDBT, its
    default) each array of each checkpoint leaves 300 bytes in memory for good: tensorstore 0.1.86
    counts one reference too many to every string of `KvStore.Spec.to_json`.
    """
    import orbax.checkpoint as ocp

    _silence_merging()
    options = ocp.options.MultiprocessingOptions()
    if jax.process_count() > 1:
        options = ocp.options.MultiprocessingOptions(
            primary_host=0, active_processes={0}, barrier_sync_key_prefix="jacreg"
        )
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=options, use_ocdbt=False)
    return ocp.Checkpointer(handler, multiprocessing_options=options)


def _silence_merging() -> None:
    """Drop orbax's warning, once a checkpoint, that there is no database to merge."""
    logger = logging.getLogger("absl")
    if _says_more not in logger.filters:
        logger.addFilter(_says_more)


def _says_more(record: logging.LogRecord) -> bool:
    return "Skipping merge of OCDBT" not in str(record.msg)


def _told(found: Restored | None, like: PyTree) -> Restored | None:
    """Return on every process what the first one restored."""
    from jax.experimental.multihost_utils import broadcast_one_to_all

    step, recorded = (-1, True) if found is None else (found.step, found.recorded)
    step, recorded = (int(each) for each in broadcast_one_to_all(np.asarray([step, recorded])))
    if step < 0:
        return None
    leaves = broadcast_one_to_all(_to_arrays(like if found is None else found.tree))
    return Restored(step, _from_arrays([np.asarray(leaf) for leaf in leaves], like), bool(recorded))


def _reason(error: Exception) -> str:
    # Their messages begin with what failed, end with where, and are long.
    return " ".join(str(error).split())[:160] or type(error).__name__


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


def _named(leaves: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Return what orbax stores: it refuses arrays without elements."""
    return {f"{number:06d}": leaf for number, leaf in enumerate(leaves) if leaf.size}


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
