"""Whole runs: records, resuming bit for bit, interruption, divergence, one run a workdir."""

import fcntl
import json
import os
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from train_setup import tiny, train_cache, undrawn  # noqa: F401

from train import loop, records
from train.errors import ConfigError, DataError, DivergedError, InterruptedRun, WorkdirError
from train.run import run
from train.workdir import record_config

pytestmark = pytest.mark.usefixtures("train_cache")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, train_cache):  # noqa: F811
    """A run of the tiny config that nothing disturbed."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, run(tiny(), workdir)


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def assert_same_run(workdir, summary, whole):
    """Weights, metrics and every line are bit for bit those of the undisturbed run."""
    reference, expected = whole
    assert summary["params_sha256"] == expected["params_sha256"]
    assert summary["metrics"] == expected["metrics"]
    assert (workdir / "metrics.jsonl").read_text() == (reference / "metrics.jsonl").read_text()


@pytest.mark.usefixtures("undrawn")
class TestRecords:
    def test_a_workdir_holds_what_a_report_needs(self, whole):
        workdir, summary = whole
        names = ("config.toml", "environment.json", "metrics.jsonl", "summary.json")
        assert all((workdir / name).is_file() for name in names)
        assert {path.name for path in (workdir / "figures").glob("*.png")} == {
            "curves.png",
            "decision_cells.png",
            "sensitivity.png",
        }
        assert json.loads((workdir / "summary.json").read_text()) == summary
        assert not list(workdir.rglob(".*.partial"))

    def test_the_summary(self, whole):
        _, summary = whole
        assert (summary["status"], summary["steps"], summary["seed"]) == ("finished", 30, 3)
        metrics = summary["metrics"]
        assert 0.25 < metrics["test/accuracy"] <= 1
        assert metrics["test/jacobian_norm"] > 0
        assert {
            "test/accuracy_noise_0.2",
            "test/accuracy_fgsm_0.1",
            "test/accuracy_pgd_0.1",
        } <= set(metrics)
        assert summary["penalty_statistics"] == {"jacobian": "shared pass"}
        assert summary["rows_independent"] is True
        assert summary["timing"]["ms_per_step"] > 0

    def test_the_environment(self, whole):
        workdir, _ = whole
        environment = json.loads((workdir / "environment.json").read_text())
        assert environment["data"]["train"] + environment["data"]["test"] == 1797
        assert environment["data"]["input_shape"] == [8, 8, 1]
        assert environment["versions"]["jax"]
        assert environment["device"]["platform"]

    def test_one_line_a_step_with_what_was_due(self, whole):
        workdir, _ = whole
        found = lines(workdir)
        assert [line["step"] for line in found] == [10, 15, 20, 30]
        assert "train/loss" in found[0]
        assert "test/accuracy" not in found[0]
        assert "train/loss" not in found[1]
        assert "test/accuracy" in found[1]
        assert {"train/loss", "test/accuracy"} <= set(found[3])
        assert found[3]["train/task_loss"] < found[0]["train/task_loss"]
        total = found[0]["train/task_loss"] + 0.01 * found[0]["train/penalty/jacobian"]
        assert found[0]["train/loss"] == pytest.approx(total, rel=1e-5)

    def test_a_finished_run_is_shown_not_repeated(self, whole, capsys):
        workdir, summary = whole
        before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file()}
        assert run(tiny(), workdir) == summary
        assert "finished already" in capsys.readouterr().out
        after = {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file()}
        assert {k: v for k, v in after.items() if k.name != ".lock"} == {
            k: v for k, v in before.items() if k.name != ".lock"
        }

    def test_the_same_config_gives_the_same_run(self, whole, tmp_path):
        assert_same_run(tmp_path, run(tiny(), tmp_path), whole)

    def test_another_seed_gives_another_run(self, whole, tmp_path):
        other = run(tiny(experiment={"seed": 4}), tmp_path)
        assert other["params_sha256"] != whole[1]["params_sha256"]


class Crashed(Exception):
    """Stands for the process dying at once."""


def crash_at(monkeypatch, save_number, *, tear=False):
    """Let the run die right after it wrote its checkpoint of that number."""
    calls = []
    save = loop.Checkpoints.save

    def dying(self, step, tree, *rest):
        save(self, step, tree, *rest)
        calls.append(step)
        if len(calls) == save_number:
            if tear:
                for path in (self.folder / str(step)).rglob("*"):
                    if path.is_file():
                        path.write_bytes(path.read_bytes()[:7])
            raise Crashed

    monkeypatch.setattr(loop.Checkpoints, "save", dying)


class TestResuming:
    @pytest.mark.usefixtures("undrawn")
    @pytest.mark.parametrize("save_number", [1, 3])
    def test_after_a_crash(self, whole, tmp_path, monkeypatch, save_number):
        with monkeypatch.context() as patch:
            crash_at(patch, save_number)
            with pytest.raises(Crashed):
                run(tiny(), tmp_path)
        # What a process that is killed may leave behind: lines past the checkpoint, a torn one.
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 29, "train/loss": 1.0}\n{"step": 30, "tra')
        assert_same_run(tmp_path, run(tiny(), tmp_path), whole)

    @pytest.mark.usefixtures("undrawn")
    def test_after_the_newest_checkpoint_is_torn(self, whole, tmp_path, monkeypatch, capsys):
        with monkeypatch.context() as patch:
            crash_at(patch, 2, tear=True)
            with pytest.raises(Crashed):
                run(tiny(), tmp_path)
        assert_same_run(tmp_path, run(tiny(), tmp_path), whole)
        out = capsys.readouterr().out
        assert "checkpoint 24 is torn" in out
        assert "goes on from the checkpoint of step 12" in out

    @pytest.mark.usefixtures("undrawn")
    @pytest.mark.parametrize(
        ("kept", "told"),
        [
            ((), "lacks 2 lines of training up to the checkpoint, the first of step 10"),
            ((0,), "lacks 1 line of training up to the checkpoint, the first of step 20"),
            ((1, 2), "lacks 1 line of training up to the checkpoint, the first of step 10"),
            ((0, 1, 2), None),
        ],
    )
    def test_lines_that_are_gone_are_told(self, whole, tmp_path, monkeypatch, capsys, kept, told):
        with monkeypatch.context() as patch:
            crash_at(patch, 2)
            with pytest.raises(Crashed):
                run(tiny(), tmp_path)
        path = tmp_path / "metrics.jsonl"
        written = path.read_bytes().splitlines(keepends=True)
        assert len(written) == 3
        path.write_bytes(b"".join(written[each] for each in kept))
        summary = run(tiny(), tmp_path)
        assert summary["params_sha256"] == whole[1]["params_sha256"]
        out = capsys.readouterr().out
        assert ("lacks" in out) == (told is not None)
        assert told is None or f"metrics.jsonl {told}" in out
        assert lines(tmp_path)[len(kept) :] == lines(whole[0])[3:]

    @pytest.mark.usefixtures("undrawn")
    def test_a_checkpoint_past_the_end_is_refused(self, whole, tmp_path):
        shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
        (tmp_path / "summary.json").unlink()
        config = tiny(training={"steps": 20})
        record_config(tmp_path, config)
        before = (tmp_path / "metrics.jsonl").read_bytes()
        with pytest.raises(WorkdirError, match=r"of step 30, but training\.steps is 20"):
            run(config, tmp_path)
        assert (tmp_path / "metrics.jsonl").read_bytes() == before

    def test_after_death_during_the_final_evaluation(self, whole, tmp_path, monkeypatch):
        def die(workdir):
            raise Crashed

        with monkeypatch.context() as patch:
            patch.setattr("train.figures.draw_run", die)
            with pytest.raises(Crashed):
                run(tiny(), tmp_path)
        assert not (tmp_path / "summary.json").exists()
        assert_same_run(tmp_path, run(tiny(), tmp_path), whole)
        assert (tmp_path / "figures" / "curves.png").exists()

    @pytest.mark.usefixtures("undrawn")
    @pytest.mark.parametrize("jax_was", [None, "0.4.1"])
    def test_other_numbers_of_the_same_checkpoint_are_told(self, whole, tmp_path, capsys, jax_was):
        """As after a death during the final evaluation, on what computes otherwise."""
        shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
        (tmp_path / "summary.json").unlink()
        *before, last = lines(tmp_path)
        accuracy = last["test/accuracy"]
        last["test/accuracy"] = 0.25
        text = "".join(json.dumps(each) + "\n" for each in (*before, last))
        (tmp_path / "metrics.jsonl").write_text(text)
        environment = records.read_json(tmp_path / "environment.json")
        if jax_was is not None:
            environment["versions"]["jax"] = jax_was
        records.write_json(tmp_path / "environment.json", environment)
        assert run(tiny(), tmp_path)["metrics"] == whole[1]["metrics"]
        (told,) = [line for line in capsys.readouterr().out.splitlines() if "other numbers" in line]
        assert told.startswith("tiny: the checkpoint of step 30 gives other numbers")
        assert f"test/accuracy {100 * accuracy:.2f} % in place of 25.00 %." in told
        assert "test/loss" not in told
        changed = f"versions.jax: {jax_was} -> {jax.__version__}"
        assert ("no record says" if jax_was is None else changed) in told
        assert (tmp_path / "metrics.jsonl").read_text() == text

    @pytest.mark.usefixtures("undrawn")
    def test_what_training_rounded_otherwise_is_not_told(self, whole, tmp_path, capsys):
        shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
        (tmp_path / "summary.json").unlink()
        *before, last = lines(tmp_path)
        last["test/loss"] *= 1.002
        text = "".join(json.dumps(each) + "\n" for each in (*before, last))
        (tmp_path / "metrics.jsonl").write_text(text)
        run(tiny(), tmp_path)
        assert "other numbers" not in capsys.readouterr().out

    @pytest.mark.usefixtures("undrawn")
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_writes_a_checkpoint_and_leaves(self, whole, tmp_path, monkeypatch, number):
        take = loop.Loop._rows

        def interrupted(self, step, end):
            if step == 10:
                os.kill(os.getpid(), number)
            return take(self, step, end)

        with monkeypatch.context() as patch:
            patch.setattr(loop.Loop, "_rows", interrupted)
            with pytest.raises(InterruptedRun) as caught:
                run(tiny(), tmp_path)
        assert caught.value.exit_code == 128 + number
        assert records.read_json(tmp_path / "summary.json")["status"] == "interrupted"
        # Not a step at which a checkpoint was due, and before a log line is.
        assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["11"]
        assert_same_run(tmp_path, run(tiny(), tmp_path), whole)

    @pytest.mark.usefixtures("undrawn")
    def test_dropout_and_momentum_come_back_too(self, tmp_path, monkeypatch):
        config = tiny(model={"dropout": 0.3}, optimizer={"name": "adam", "learning_rate": 0.01})
        expected = run(config, tmp_path / "whole")
        with monkeypatch.context() as patch:
            crash_at(patch, 1)
            with pytest.raises(Crashed):
                run(config, tmp_path / "resumed")
        again = run(config, tmp_path / "resumed")
        assert again["params_sha256"] == expected["params_sha256"]


@pytest.mark.usefixtures("undrawn")
class TestRefusals:
    def test_a_changed_config(self, whole):
        workdir, _ = whole
        before = (workdir / "config.toml").read_text()
        with pytest.raises(WorkdirError, match=r"penalty\.0\.weight: 0\.01 -> 0\.5"):
            run(tiny(penalty=[{"name": "jacobian", "weight": 0.5}]), workdir)
        assert (workdir / "config.toml").read_text() == before

    def test_a_workdir_in_use(self, whole):
        workdir, _ = whole
        with (workdir / ".lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(WorkdirError, match="another run is using it"):
                run(tiny(), workdir)

    def test_records_without_a_config(self, tmp_path):
        (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
        with pytest.raises(WorkdirError, match=r"no config\.toml"):
            run(tiny(), tmp_path)
        assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n'

    def test_a_workdir_that_is_a_file(self, tmp_path):
        path = tmp_path / "file"
        path.write_text("mine")
        with pytest.raises(WorkdirError, match="cannot be used"):
            run(tiny(), path)
        assert path.read_text() == "mine"

    def test_other_data_on_resuming(self, tmp_path, monkeypatch):
        with monkeypatch.context() as patch:
            crash_at(patch, 1)
            with pytest.raises(Crashed):
                run(tiny(), tmp_path)
        environment = records.read_json(tmp_path / "environment.json")
        environment["data"]["sha256"] = "0" * 64
        records.write_json(tmp_path / "environment.json", environment)
        with pytest.raises(WorkdirError, match="other data"):
            run(tiny(), tmp_path)

    @pytest.mark.parametrize("parallel", [{"data": 4096}, {"hosts": 2}])
    def test_more_devices_than_there_are(self, tmp_path, parallel):
        with pytest.raises(ConfigError, match=r"parallel\."):
            run(tiny(parallel=parallel), tmp_path)

    def test_a_mistake_can_be_mended_in_the_same_workdir(self, tmp_path):
        with pytest.raises(DataError):
            run(tiny(data={"path": str(tmp_path / "absent")}), tmp_path / "run")
        assert run(tiny(training={"steps": 2}), tmp_path / "run")["status"] == "finished"

    @pytest.mark.parametrize(
        ("sections", "path"),
        [
            ({"model": {"name": "lenet", "hidden": None}}, "model"),
            (
                {"penalty": [{"name": "jacobian", "weight": 1, "method": "hutchinson"}]},
                "penalty.0.method",
            ),
            ({"penalty": [{"name": "noise_injection", "weight": 1}]}, "penalty.0.scale"),
        ],
    )
    def test_parts_that_do_not_fit(self, tmp_path, sections, path):
        with pytest.raises(ConfigError) as caught:
            run(_without_none(sections), tmp_path)
        assert path in str(caught.value)


def _without_none(sections):
    from train_setup import BASE

    model = {**BASE["model"], **sections.get("model", {})}
    model = {key: value for key, value in model.items() if value is not None}
    from train.config import parse

    return parse({**BASE, **sections, "model": model}, "tiny")


@pytest.mark.usefixtures("undrawn")
class TestDevices:
    def test_the_batch_over_two_devices_gives_the_same_numbers(self, whole, tmp_path):
        if jax.device_count() < 2:
            pytest.skip("one device")
        found = run(tiny(parallel={"data": 2}), tmp_path)["metrics"]
        for name, value in whole[1]["metrics"].items():
            # One in 360 test digits may change sides with the last bit.
            tolerance = 0.021 if "accuracy" in name else 1e-4
            assert found[name] == pytest.approx(value, rel=1e-4, abs=tolerance)

    def test_the_batch_must_divide(self, tmp_path):
        with pytest.raises(ConfigError, match=r"data\.batch_size=32 is not a multiple"):
            run(tiny(parallel={"data": 3}), tmp_path)


class TestDivergence:
    def test_the_step_is_named_and_the_last_good_checkpoint_kept(self, tmp_path):
        # A ramp of the weight makes a run that is well until it is not.
        penalty = {"name": "jacobian", "weight": 1e30, "schedule": {"name": "ramp", "begin": 0.6}}
        config = tiny(penalty=[penalty], optimizer={"learning_rate": 1.0})
        with pytest.raises(DivergedError) as caught:
            run(config, tmp_path)
        assert caught.value.exit_code == 3
        summary = records.read_json(tmp_path / "summary.json")
        assert summary["status"] == "diverged"
        step = int(str(caught.value).split("not finite at step ")[1].split(":")[0])
        assert 18 < step <= 24
        assert "checkpoint of step 12 is kept" in str(caught.value)
        assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["12"]
        assert all(np.isfinite(list(line.values())).all() for line in lines(tmp_path))


@pytest.mark.usefixtures("undrawn")
class TestSmallSets:
    def test_fewer_examples_than_a_batch(self, tmp_path, capsys):
        config = tiny(data={"samples_per_class": 1}, training={"steps": 3})
        summary = run(config, tmp_path)
        assert summary["status"] == "finished"
        assert "every batch is the whole split" in capsys.readouterr().out
        environment = records.read_json(tmp_path / "environment.json")
        assert environment["data"]["train"] == environment["data"]["batch_size"] == 10

    def test_penalties_of_weight_zero_change_nothing(self, tmp_path):
        none = run(tiny(penalty=[], training={"steps": 5}), tmp_path / "none")
        zero = run(
            tiny(penalty=[{"name": "jacobian", "weight": 0}], training={"steps": 5}),
            tmp_path / "zero",
        )
        assert none["params_sha256"] == zero["params_sha256"]


def test_workdirs_are_not_left_by_this_file():
    assert not (Path.cwd() / "runs" / "tiny").exists()
