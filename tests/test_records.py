"""Records and checkpoints: whole or absent, whatever a crash leaves behind."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train import records
from train.checkpoints import Checkpoints, digest, tree_digest
from train.errors import WorkdirError


class TestMetricsLog:
    def log(self, tmp_path, *steps):
        log = records.MetricsLog(tmp_path / "metrics.jsonl")
        for step in steps:
            log.append(step, {"train/loss": step / 10})
        return log

    def test_each_line_is_an_object_with_its_step(self, tmp_path):
        log = self.log(tmp_path, 1, 2)
        log.append(3, {"train/loss": float("nan"), "test/accuracy": np.float32(0.5)})
        lines = [json.loads(line) for line in log.path.read_text().splitlines()]
        assert [line["step"] for line in lines] == [1, 2, 3]
        assert lines[2] == {"step": 3, "train/loss": None, "test/accuracy": 0.5}

    @pytest.mark.parametrize("tail", ["", '{"step": 4, "tr', '{"step": 4}\n\x00\x00\x00', "[1]\n"])
    def test_truncation_drops_what_comes_after_and_what_is_torn(self, tmp_path, tail):
        log = self.log(tmp_path, 1, 2, 3)
        with log.path.open("a") as file:
            file.write(tail)
        log.truncate(2)
        log.append(3, {})
        assert [line["step"] for line in log.read()] == [1, 2, 3]
        assert log.path.read_text().count("\n") == 3

    def test_a_doubled_step_is_read_once(self, tmp_path):
        assert [line["step"] for line in self.log(tmp_path, 1, 2, 2, 1, 3).read()] == [1, 2, 3]


def test_a_failed_write_leaves_the_old_record(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    records.write_json(path, {"status": "old"})

    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(records.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        records.write_json(path, {"status": "new"})
    assert records.read_json(path) == {"status": "old"}


def test_json_is_strict(tmp_path):
    path = tmp_path / "record.json"
    records.write_json(path, {"a": [float("inf"), np.int64(3)], "b": {"c": np.float32("nan")}})
    assert json.loads(path.read_text()) == {"a": [None, 3], "b": {"c": None}}
    path.write_text('{"torn": ')
    assert records.read_json(path) is None


def test_arrays_are_never_unpickled(tmp_path):
    path = tmp_path / "arrays.npz"
    records.write_arrays(path, {"a": np.arange(3)})
    found = records.read_arrays(path)
    assert list(found) == ["a"]
    np.testing.assert_array_equal(found["a"], np.arange(3))
    objects = np.asarray([{}], dtype=object)
    with pytest.raises(ValueError, match="'a' holds objects"):
        records.write_arrays(path, {"a": objects})
    np.savez(path, a=objects)
    with pytest.raises(ValueError, match="allow_pickle"):
        records.read_arrays(path)


def tree(value):
    return {
        "weights": [jnp.full((3, 2), value), jnp.arange(4, dtype=jnp.bfloat16)],
        "key": jax.random.key(int(value)),
        "old_key": jax.random.PRNGKey(int(value)),
        "count": jnp.int32(value),
        "empty": jnp.zeros((0, 5)),
    }


def tear(folder, how):
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        if how == "truncate":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        elif how == "index" and path.name == "index.json":
            path.unlink()
        elif how == "zero" and path.name == "arrays.npz":
            path.write_bytes(bytes(path.stat().st_size))


class TestCheckpoints:
    def test_round_trip(self, tmp_path):
        checkpoints = Checkpoints(tmp_path / "checkpoints")
        checkpoints.save(10, tree(3.0))
        step, restored, _ = checkpoints.restore(tree(0.0), warn=pytest.fail)
        assert step == 10
        assert tree_digest(restored) == tree_digest(tree(3.0))
        assert tree_digest(restored) != tree_digest(tree(0.0))
        for old, new in zip(jax.tree.leaves(tree(3.0)), jax.tree.leaves(restored), strict=True):
            assert (old.dtype, old.shape) == (new.dtype, new.shape)
        jax.random.normal(restored["key"])

    def test_the_newest_are_kept(self, tmp_path):
        checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
        for step in (10, 9, 200):
            checkpoints.save(step, tree(float(step)))
        assert checkpoints.steps() == [10, 200]
        assert checkpoints.restore(tree(0.0), warn=pytest.fail)[0] == 200

    @pytest.mark.parametrize("how", ["truncate", "index", "zero"])
    def test_a_torn_one_is_passed_over_and_told(self, tmp_path, how):
        checkpoints = Checkpoints(tmp_path / "checkpoints")
        checkpoints.save(1, tree(1.0))
        checkpoints.save(2, tree(2.0))
        tear(tmp_path / "checkpoints" / "2", how)
        told = []
        step, restored, _ = checkpoints.restore(tree(0.0), warn=told.append)
        assert step == 1
        assert tree_digest(restored) == tree_digest(tree(1.0))
        assert len(told) == 1
        assert "checkpoint 2 is torn" in told[0]

    def test_numpy_opens_it_under_the_paths_of_the_state(self, tmp_path):
        Checkpoints(tmp_path).save(3, tree(2.0))
        with np.load(tmp_path / "3" / "arrays.npz") as arrays:
            weights = {name: arrays[name] for name in arrays if "['weights'][0]" in name}
        assert [leaf.tolist() for leaf in weights.values()] == [[[2.0, 2.0]] * 3]

    def test_those_of_an_earlier_version_are_refused_and_kept(self, tmp_path):
        checkpoints = Checkpoints(tmp_path)
        checkpoints.save(3, tree(2.0))
        (tmp_path / "3" / "arrays").mkdir()
        with pytest.raises(WorkdirError, match="earlier version, which this one does not read"):
            checkpoints.restore(tree(0.0), warn=pytest.fail)
        assert checkpoints.steps() == [3]

    def test_one_that_was_never_finished_does_not_count(self, tmp_path):
        checkpoints = Checkpoints(tmp_path / "checkpoints")
        checkpoints.save(1, tree(1.0))
        (tmp_path / "checkpoints" / "1").rename(tmp_path / "checkpoints" / ".1.partial")
        assert checkpoints.restore(tree(0.0), warn=pytest.fail) is None
        checkpoints.save(1, tree(4.0))
        assert checkpoints.restore(tree(0.0), warn=pytest.fail)[0] == 1

    @pytest.mark.parametrize(
        ("like", "what"),
        [
            ({"w": jnp.ones(4)}, r"float32\(3,\).* float32\(4,\)"),
            ({"w": jnp.ones(3, jnp.int32)}, r"float32\(3,\).* int32\(3,\)"),
            ({"v": jnp.ones(3)}, r"\['w'\] float32"),
            ({"w": jnp.ones(3), "x": jnp.ones(2)}, r"\['x'\]"),
            ({}, r"\['w'\]"),
        ],
    )
    def test_a_whole_one_of_another_model_is_refused_and_kept(self, tmp_path, like, what):
        checkpoints = Checkpoints(tmp_path / "checkpoints")
        checkpoints.save(1, {"w": jnp.ones(3)})
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        with pytest.raises(WorkdirError, match=f"checkpoints/1: is whole, but .*{what}"):
            checkpoints.restore(like, warn=pytest.fail)
        assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_the_digest_sees_value_dtype_and_shape():
    base = [np.zeros(4, np.float32)]
    others = [
        [np.ones(4, np.float32)],
        [np.zeros(4, np.int32)],
        [np.zeros((2, 2), np.float32)],
        [np.zeros(4, np.float32), np.zeros(0, np.float32)],
    ]
    assert digest(base) == digest([np.zeros(4, np.float32)])
    assert len({digest(each) for each in [base, *others]}) == 5
