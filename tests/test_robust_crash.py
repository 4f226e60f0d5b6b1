"""What ends a run early: full and read-only disks, signals anywhere, torn files, NaN."""

import errno
import os
import resource
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from train_setup import tiny, train_cache  # noqa: F401

from train import loop, records
from train.__main__ import main
from train.checkpoints import Checkpoints
from train.config import dump
from train.errors import DataError, DivergedError, InterruptedRun, StorageError, WorkdirError
from train.interrupt import Interrupt, Stop
from train.locate import explain, first_not_finite
from train.problem import Outcome
from train.run import run

pytestmark = pytest.mark.usefixtures("train_cache")
QUICK = {"noise": [], "fgsm": [], "pgd": [], "decision_cells": False}


def short(**sections):
    training = {"steps": 9, "log_every": 2, "eval_every": 4, "checkpoint_every": 3}
    return tiny(training={**training, **sections.pop("training", {})}, evaluation=QUICK, **sections)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, train_cache):  # noqa: F811
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, run(short(), workdir, pictures=False)


def assert_same(workdir, whole):
    summary = run(short(), workdir, pictures=False)
    assert summary["params_sha256"] == whole[1]["params_sha256"]
    assert summary["metrics"] == whole[1]["metrics"]
    kept = (workdir / "metrics.jsonl").read_bytes()
    assert kept == (whole[0] / "metrics.jsonl").read_bytes()
    assert not list(workdir.rglob("*.partial"))


class TestDisks:
    # The metadata of an array, or its numbers alone, do not fit.
    @pytest.mark.parametrize("limit", [40, 1000])
    def test_a_full_disk_keeps_what_was_written(self, whole, tmp_path, monkeypatch, limit):
        """The kernel refuses to write further, as it does where a disk is full."""
        save = Checkpoints.save
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

        def full_from_the_second(self, step, tree, *rest):
            if step > 3:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            save(self, step, tree, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(Checkpoints, "save", full_from_the_second)
            try:
                with pytest.raises(StorageError) as caught:
                    run(short(), tmp_path, pictures=False)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert caught.value.exit_code == 4
        assert "checkpoint of step 6 cannot be written" in str(caught.value)
        assert "that of step 3 is kept" in str(caught.value)
        assert Checkpoints(tmp_path / "checkpoints").steps() == [3]
        assert_same(tmp_path, whole)

    def test_no_space_for_a_line_of_metrics(self, whole, tmp_path, monkeypatch):
        append = records.MetricsLog.append

        def full(self, step, metrics):
            if step == 8:
                with self.path.open("ab") as file:
                    file.write(b'{"step": 8, "train/lo')
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            append(self, step, metrics)

        with monkeypatch.context() as patch:
            patch.setattr(records.MetricsLog, "append", full)
            with pytest.raises(StorageError, match=r"metrics\.jsonl: cannot be written \(No space"):
                run(short(), tmp_path, pictures=False)
        assert_same(tmp_path, whole)

    def test_the_command_says_it_in_one_line(self, tmp_path, monkeypatch, capsys):
        def refused(path, content):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

        config = tmp_path / "tiny.toml"
        config.write_text(dump(short()))
        monkeypatch.setattr(records, "write_bytes", refused)
        assert main([str(config), "--workdir", str(tmp_path / "run")]) == 4
        told = capsys.readouterr().err
        assert told.startswith("error: ")
        assert told.count("\n") == 1
        assert "Read-only file system" in told

    def test_a_folder_that_cannot_be_made(self, tmp_path, monkeypatch):
        def refused(*_, **__):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        monkeypatch.setattr(os, "open", refused)
        with pytest.raises(WorkdirError, match="cannot be used as a folder"):
            run(short(), tmp_path / "run")

    def test_a_file_that_takes_the_place_of_another_leaves_no_part(self, tmp_path):
        with pytest.raises(ValueError, match="holds objects of Python"):
            records.write_arrays(tmp_path / "a.npz", {"a": np.asarray([object()])})
        assert list(tmp_path.iterdir()) == []


class TestCheckpoints:
    @pytest.mark.parametrize("spoil", ["torn", "gone", "a file"])
    def test_the_newest_is_no_use(self, whole, tmp_path, monkeypatch, capsys, spoil):
        stop_at(monkeypatch, short(), tmp_path, 7)
        newest = tmp_path / "checkpoints" / "6"
        if spoil == "torn":
            path = newest / "arrays.npz"
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        else:
            newest.rename(tmp_path / "elsewhere")
        if spoil == "a file":
            newest.write_text("not a folder")
        assert_same(tmp_path, whole)
        out = capsys.readouterr().out
        assert "goes on from the checkpoint of step 3" in out
        assert ("checkpoint 6 is torn and passed over" in out) == (spoil == "torn")

    def test_where_none_is_whole_the_run_says_that_it_begins_again(
        self, whole, tmp_path, monkeypatch, capsys
    ):
        stop_at(monkeypatch, short(), tmp_path, 4)
        (tmp_path / "checkpoints" / "3" / "index.json").unlink()
        assert_same(tmp_path, whole)
        assert "no checkpoint is whole, so it starts at step 0 again" in capsys.readouterr().out
        assert (tmp_path / "checkpoints" / "3.torn").is_dir()


class Crashed(Exception):
    """Stands for the process dying at once."""


def stop_at(monkeypatch, config, workdir, step):
    """Let a run die before it takes the step after `step`."""
    take = loop.Loop._rows

    def dying(self, begin, end):
        if begin >= step:
            raise Crashed
        return take(self, begin, end)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "_rows", dying)
        with pytest.raises(Crashed):
            run(config, workdir, pictures=False)


class TestSignals:
    @pytest.mark.parametrize("where", ["data", "compile", "evaluation", "final evaluation"])
    def test_anywhere_outside_the_steps(self, whole, tmp_path, monkeypatch, where):
        def interrupted(function, when=lambda *arguments: True):
            def call(*arguments, **options):
                if when(*arguments):
                    os.kill(os.getpid(), signal.SIGTERM)
                return function(*arguments, **options)

            return call

        from train import data
        from train.tasks import TASKS, classification

        with monkeypatch.context() as patch:
            if where == "data":
                patch.setattr(data, "load", interrupted(data.load))
            elif where == "compile":
                patch.setattr(loop.Loop, "compiled", interrupted(loop.Loop.compiled))
            else:
                final = where == "final evaluation"

                def task(setting, dataset, **options):
                    from dataclasses import replace

                    problem = classification(setting, dataset, **options)
                    evaluate = interrupted(problem.evaluate, lambda *given: given[2] is final)
                    return replace(problem, evaluate=evaluate)

                patch.setitem(TASKS, "classification", task)
            with pytest.raises(InterruptedRun) as caught:
                run(short(), tmp_path, pictures=False)
        assert caught.value.exit_code == 143
        steps = {"evaluation": [3, 4], "final evaluation": [6, 9]}.get(where, [])
        assert Checkpoints(tmp_path / "checkpoints").steps() == steps
        assert_same(tmp_path, whole)

    def test_what_must_not_be_cut_is_not(self):
        with Interrupt() as interrupt, interrupt.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            assert interrupt.received == signal.SIGTERM
            with pytest.raises(Stop), interrupt.at_once():
                pass
        with Interrupt() as interrupt, interrupt.deferred():  # noqa: SIM117
            with pytest.raises(Stop), interrupt.at_once():
                os.kill(os.getpid(), signal.SIGTERM)


class TestNotFinite:
    def test_the_first_primitive_and_its_line(self):
        assert first_not_finite(lambda x: jnp.tanh(x) / 2, jnp.ones(3)) is None
        found = first_not_finite(jax.jit(lambda x: jax.nn.relu(jnp.log(x) + 1)), jnp.zeros(3))
        assert found is not None
        assert found.primitive == "log"

    @pytest.mark.parametrize(
        ("loss", "xs", "told"),
        [
            (lambda w, x: jnp.mean(x * w), [1.0, np.nan], "the batch hold"),
            (lambda w, x: jnp.mean(jnp.sqrt(w * 0 * x)), [1.0, 1.0], "its gradient is not: "),
            (lambda w, x: jnp.mean(jnp.log(w * 0 * x)), [1.0, 1.0], "not finite: task_loss"),
        ],
    )
    def test_what_a_step_met_first(self, loss, xs, told):
        def objective(params, state, xs, targets, keys, step):
            value = loss(params, xs)
            return value, Outcome(state, {"task_loss": value})

        gradient = jax.value_and_grad(objective, has_aux=True)
        found = explain(gradient, jnp.ones(()), (), jnp.asarray(xs), None, None, 0)
        assert told in found
        assert ("the first primitive" in found) == (told != "the batch hold")

    def test_a_run_in_debug_names_the_term(self, tmp_path):
        penalty = {"name": "jacobian", "weight": 1e30, "schedule": {"name": "ramp", "begin": 0.4}}
        config = short(penalty=[penalty], optimizer={"learning_rate": 1.0})
        with pytest.raises(DivergedError) as caught:
            run(config, tmp_path, debug=True)
        assert "not finite at step 5 (the loss and its gradient are finite, but its norm " in str(
            caught.value
        )
        assert "checkpoint of step 3 is kept" in str(caught.value)

    @pytest.mark.parametrize("where", ["inputs", "targets"])
    def test_in_the_data(self, tmp_path, where):
        rows = np.random.default_rng(0).normal(size=(20, 3))
        rows[7, 0 if where == "inputs" else 2] = np.inf
        table = tmp_path / "table.csv"
        table.write_text("a,b,y\n" + "\n".join(",".join(map(str, row)) for row in rows))
        config = short(data={"name": "csv", "path": str(table), "target_columns": "y"})
        with pytest.raises(DataError, match=r"line 9.*inf"):
            run(config, tmp_path / "run")

    @pytest.mark.parametrize("bad", [np.nan, -1.0, 256.0])
    def test_in_arrays_of_pixels(self, bad):
        import datasets

        from train.data._columns import ARRAYS
        from train.data._pictures import read_column
        from train.sections import Data

        pictures = np.full((3, 2, 2), 200, np.float32)
        features = datasets.Features({"image": datasets.Array2D((2, 2), "float32")})

        def read():
            table = datasets.Dataset.from_dict({"image": list(pictures)}, features=features)
            return read_column([table], "image", ARRAYS, ["x"], Data(path="x"))

        (sound,), pixels = read()
        assert (pixels.low, pixels.high) == (0, 255)
        np.testing.assert_array_equal(sound, 200)
        pictures[1, 0, 1] = bad
        with pytest.raises(DataError, match="outside 0"):
            read()


def test_a_step_that_raises_is_one_message(tmp_path, monkeypatch):
    """A check inside the compiled step, of a solver for instance, ends the run as a result."""
    import dataclasses

    from train.tasks import make_problem

    def check(xs):
        if check.calls >= 4:
            raise ValueError("the solver met what is not finite")
        check.calls += 1
        return xs

    check.calls = 0

    def checked(config, dataset, batches):
        problem = make_problem(config, dataset, batches)

        def prepare(rows):
            xs, targets = problem.prepare(rows)
            return jax.pure_callback(check, jax.ShapeDtypeStruct(xs.shape, xs.dtype), xs), targets

        return dataclasses.replace(problem, prepare=prepare)

    monkeypatch.setattr("train.prepare.make_problem", checked)
    with pytest.raises(DivergedError, match="solver met what is not finite") as caught:
        run(short(training={"steps": 8, "checkpoint_every": 3}), tmp_path)
    assert "checkpoint of step 3 is kept" in str(caught.value)
    assert len(str(caught.value)) < 1500
    summary = records.read_json(tmp_path / records.SUMMARY)
    assert summary["status"] == "diverged"
    assert "solver" in summary["reason"]
