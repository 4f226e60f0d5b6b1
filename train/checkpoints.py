"""Checkpoints by orbax: whole or absent, checked when read, the last few kept."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from train import records

if TYPE_CHECKING:
    from jaxtyping import PyTree

_ARRAYS, _INDEX = "arrays", "index.json"


class Checkpoints:
    """The folder `checkpoints/`, one subfolder a step.

    A checkpoint holds the leaves of a pytree by number, so any framework's state
    fits; random keys are stored as their data. `index.json`, written last, holds a
    digest of the leaves: a folder without it, or whose arrays differ, is torn.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder.absolute()
        self.keep = keep

    def save(self, step: int, tree: PyTree) -> None:
        """Write a checkpoint and drop all but the newest `keep`."""
        import orbax.checkpoint as ocp

        self.folder.mkdir(parents=True, exist_ok=True)
        final, temporary = self.folder / str(step), self.folder / f".{step}.partial"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        leaves = _to_arrays(tree)
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(temporary / _ARRAYS, _named(leaves))
        records.write_json(temporary / _INDEX, {"step": step, "sha256": digest(leaves)})
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        records.sync_folder(self.folder)
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(self.folder / str(old), ignore_errors=True)

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, rising."""
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdecimal())

    def restore(self, like: PyTree, warn: Callable[[str], None]) -> tuple[int, PyTree] | None:
        """Return the newest whole checkpoint as `(step, tree)`, None where there is none.

        Args:
            like: a tree of the same structure, shapes and dtypes.
            warn: told of every checkpoint that is torn and passed over.
        """
        for step in reversed(self.steps()):
            try:
                return step, self._read(step, like)
            except Exception as error:  # orbax and tensorstore raise many kinds for torn files
                reason = " ".join(str(error).split())[:160]
                warn(f"checkpoint {step} is torn and passed over ({reason})")
        return None

    def _read(self, step: int, like: PyTree) -> PyTree:
        import orbax.checkpoint as ocp

        folder = self.folder / str(step)
        index = records.read_json(folder / _INDEX)
        if index is None:
            raise ValueError(f"no readable {_INDEX}")
        expected = _to_arrays(like)
        with ocp.StandardCheckpointer() as checkpointer:
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
        return _from_arrays(leaves, like)


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
