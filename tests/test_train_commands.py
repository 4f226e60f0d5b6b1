"""The commands as a user types them: exit codes, one message, and where things go."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy import stats
from train_setup import tiny, train_cache, undrawn  # noqa: F401

from train import pairs, progress, seeds
from train.__main__ import main
from train.config import dump, load
from train.errors import ConfigError, DivergedError
from train.reproduce import __main__ as reproduce
from train.run import use_compilation_cache

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.usefixtures("train_cache")


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(dump(tiny()))
    return str(path)


class TestTrain:
    def test_a_run_with_overrides(self, config_file, tmp_path, capsys):
        workdir = tmp_path / "run"
        arguments = [config_file, "training.steps=4", "model.framework=linen"]
        assert main([*arguments, "--workdir", str(workdir)]) == 0
        assert json.loads((workdir / "summary.json").read_text())["steps"] == 4
        assert load(workdir / "config.toml").model.framework == "linen"
        assert "test/accuracy" in capsys.readouterr().out
        # The recorded config is a config: it names the same run.
        assert main([str(workdir / "config.toml"), "--workdir", str(workdir)]) == 0
        assert "finished already" in capsys.readouterr().out

    @pytest.mark.usefixtures("undrawn")
    def test_the_default_workdir(self, config_file, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert main([config_file, "training.steps=4", "experiment.name=here"]) == 0
        assert (tmp_path / "runs" / "here" / "summary.json").is_file()

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["training.steps=many"], "training.steps"),
            (["trainin.steps=3"], "nearest known section is training"),
            (["data.path=absent-folder"], "data.path"),
            (["data.name=mnist-5kk"], "mnist-5k"),
            (["model.dropout=1.5"], "model.dropout"),
            (["model.layout=[1, 2, 3]"], "model.layout"),
            (['model.layout=["NHHC", "HWIO", "NHWC"]'], "model.layout"),
            (["model.name=resnet18", "model.framework=linen"], "model"),
            (["parallel.hosts=2"], "parallel.hosts"),
            (["experiment"], "section.key=value"),
        ],
    )
    def test_bad_input_is_one_message_and_exit_2(
        self, config_file, tmp_path, capsys, arguments, expected
    ):
        assert main([config_file, *arguments, "--workdir", str(tmp_path / "run")]) == 2
        shown = capsys.readouterr()
        assert expected in shown.err
        assert shown.err.startswith("error: ")
        assert shown.err.count("\n") == 1
        assert len(shown.err) < 1500
        assert "Traceback" not in shown.err
        assert not (tmp_path / "run" / "config.toml").exists()

    @pytest.mark.parametrize("override", ["data.name=nothing", "task.name=flow"])
    def test_bad_input_leaves_no_folder(self, config_file, tmp_path, capsys, override):
        workdir = tmp_path / "run"
        assert main([config_file, override, "--workdir", str(workdir)]) == 2
        assert not workdir.exists()
        own = tmp_path / "own"
        own.mkdir()
        assert main([config_file, "data.name=nothing", "--workdir", str(own)]) == 2
        assert own.is_dir(), "a folder of the user's stays"
        capsys.readouterr()

    @pytest.mark.parametrize("more", [[], ["--dry-run", "--json"]])
    def test_a_folder_of_something_else_stays_as_it_is(self, config_file, tmp_path, capsys, more):
        (tmp_path / "notes.md").write_text("mine")
        (tmp_path / ".hidden").write_text("mine")
        assert main([config_file, *more, "--workdir", str(tmp_path)]) == (0 if more else 2)
        shown = capsys.readouterr()
        told = "is no folder of a run and holds 1 other entry (notes.md)"
        assert told in (json.loads(shown.out)["workdir_state"] if more else shown.err)
        assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "notes.md"]

    def test_a_mistake_in_the_config_comes_before_the_folder_of_another(
        self, config_file, tmp_path, capsys
    ):
        (tmp_path / "config.toml").write_text("[tool]\nname = 1\n")
        for override, said in {
            "penalty.0.method=hutchinson": "error: penalty.0.method: frobenius_squared: method",
            "training.steps=3": "its config.toml does not parse",
        }.items():
            assert main([config_file, override, "--workdir", str(tmp_path)]) == 2
            assert said in capsys.readouterr().err
            assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]

    def test_a_byte_order_mark(self, config_file, tmp_path):
        marked = tmp_path / "marked.toml"
        marked.write_bytes(b"\xef\xbb\xbf" + Path(config_file).read_bytes())
        assert load(marked) == load(config_file)

    def test_seeds_have_a_limit(self, config_file, capsys):
        for command in (
            lambda: seeds.main([config_file, "--seeds", "9" * 20]),
            lambda: reproduce.main(["hoffman2019", "--seeds", "9" * 20]),
        ):
            try:
                code = command()
            except SystemExit as left:
                code = left.code
            assert code == 2
            assert "at most 10000" in capsys.readouterr().err

    def test_no_config(self, capsys):
        with pytest.raises(SystemExit) as caught:
            main([])
        assert caught.value.code == 2
        assert "CONFIG" in capsys.readouterr().err

    def test_list_names_every_choice(self, capsys):
        assert main(["--list"]) == 0
        out = capsys.readouterr().out
        for name in ("mnist-5k", "lenet", "classification", "jacobian", "projection", "thirds"):
            assert f"  {name}" in out

    def test_help_teaches_without_loading_jax(self):
        code = (
            "import sys; sys.argv = ['train', '--help']\n"
            "try:\n    import train.__main__ as m; m.main()\n"
            "except SystemExit as e: assert e.code == 0\n"
            "assert 'jax' not in sys.modules"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        )
        for taught in ("penalty.0.weight", "--workdir", "Exit codes", "summary.json"):
            assert taught in done.stdout


@pytest.mark.slow
def test_killed_and_started_again(config_file, tmp_path, monkeypatch):
    """kill -9 at any moment, then the same command: bit for bit the undisturbed run."""
    # A kill may leave a torn program, which is not for the suite's folder.
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    command = [sys.executable, "-m", "train", config_file, "training.steps=3000"]
    command += ["training.checkpoint_every=200", "training.log_every=50"]

    def start(workdir):
        return subprocess.Popen([*command, "--workdir", str(workdir)], cwd=ROOT)

    assert start(tmp_path / "whole").wait() == 0
    for wait in (0.0, 0.3, 1.0):
        process = start(tmp_path / "killed")
        checkpoints = tmp_path / "killed" / "checkpoints"
        before = set(checkpoints.glob("[0-9]*"))
        while process.poll() is None and set(checkpoints.glob("[0-9]*")) <= before:
            time.sleep(0.02)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(tmp_path / "killed").wait() == 0
    whole, killed = (
        json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "killed")
    )
    assert killed["params_sha256"] == whole["params_sha256"]
    assert killed["metrics"] == whole["metrics"]
    assert (tmp_path / "killed" / "metrics.jsonl").read_text() == (
        tmp_path / "whole" / "metrics.jsonl"
    ).read_text()


class TestPairs:
    def test_without_penalty_differs_in_the_penalty_alone(self):
        config = tiny()
        plain = pairs.without_penalty(config)
        assert [penalty.weight for penalty in plain.penalty] == [0]
        assert plain.experiment.seed == config.experiment.seed
        assert (plain.data, plain.optimizer, plain.training) == (
            config.data, config.optimizer, config.training,
        )  # fmt: skip
        with pytest.raises(ConfigError, match="penalty"):
            pairs.without_penalty(plain)

    def test_interval_of_paired_differences(self):
        differences = [0.3, 0.5, 0.1, 0.4, 0.2]
        found = seeds.student_interval(differences)
        sem = np.std(differences, ddof=1) / np.sqrt(5)
        expected = stats.t.interval(0.95, 4, loc=0.3, scale=sem)
        np.testing.assert_allclose(found, [0.3, *expected], rtol=1e-9)
        with pytest.raises(ValueError, match="at least 2"):
            seeds.student_interval([0.3])

    def test_metrics_that_a_run_lacks_are_not_compared(self):
        plain = {"metrics": {"a": 1.0, "b": None, "c": 2.0}}
        penalised = {"metrics": {"a": 3.0, "b": 1.0, "d": 2.0}}
        pair = pairs.Pair(plain, penalised)
        assert pair.shared_metrics() == {"a"}
        assert pair.difference("a") == 2.0

    def test_the_seeds_command(self, config_file, tmp_path, capsys):
        # Each run is a process: it measures what is compared here.
        few = ["noise=[]", "fgsm=[]", "pgd=[]", "decision_cells=false"]
        overrides = ["training.steps=4", *(f"evaluation.{each}" for each in few)]
        arguments = [config_file, *overrides, "--seeds", "2", "--workdir", str(tmp_path)]
        assert seeds.main(arguments) == 0
        found = json.loads((tmp_path / "seeds.json").read_text())
        summaries = [
            json.loads((tmp_path / "runs" / side / str(seed) / "summary.json").read_text())
            for side in ("plain", "penalised")
            for seed in range(2)
        ]
        assert [each["seed"] for each in summaries] == [0, 1, 0, 1]
        name = "test/jacobian_norm"
        plain, penalised = np.reshape([each["metrics"][name] for each in summaries], (2, 2))
        assert found["differences"][name]["mean"] == pytest.approx(np.mean(penalised - plain))
        assert "95 % interval" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "arguments",
        [["experiment.seed=7"], ["--against", "model.hidden=[3]", " experiment.seed = 1"]],
    )
    def test_a_seed_among_the_overrides_is_told(self, config_file, tmp_path, capsys, arguments):
        folder = tmp_path / "new"
        assert seeds.main([config_file, "--workdir", str(folder), *arguments]) == 2
        assert "each run has a seed of its own here, 0 to 4" in capsys.readouterr().err
        assert not folder.exists()

    def test_runs_that_diverged_are_all_named(self, config_file, tmp_path):
        from train.config import load

        arms = seeds._arms(load(config_file), ["training.steps=4"], None)
        jobs = seeds._jobs(Path(config_file), arms, 3)
        for job in jobs:
            bad = job.name in ("penalised/0", "plain/2")
            place = tmp_path / "runs" / job.name
            place.mkdir(parents=True)
            status = "diverged" if bad else "finished"
            (place / "summary.json").write_text(json.dumps({"status": status}))
        with pytest.raises(DivergedError) as caught:
            seeds._summaries(jobs, tmp_path)
        assert str(caught.value).startswith("penalised/0, plain/2 (2 of 6 runs): the loss")
        assert f"{tmp_path}/runs/penalised/0/log.txt; the" in str(caught.value)

    def test_weights_are_compared_with_none_each(self, config_file, tmp_path, capsys):
        from train.config import load

        config = load(config_file, [])
        arms = seeds._arms(config, ["training.steps=4"], [0.1, 2.0])
        assert list(arms) == ["plain", "weight-0.1", "weight-2.0"]
        found = [load(config_file, overrides) for overrides in arms.values()]
        assert [each.penalty[0].weight for each in found] == [0, 0.1, 2.0]
        assert {each.training.steps for each in found} == {4}
        # A wrong weight is told before anything is run or written.
        wrong = [config_file, "--weights", "-1", "--workdir", str(tmp_path / "new")]
        assert seeds.main(wrong) == 2
        assert "penalty.0.weight" in capsys.readouterr().err
        assert not (tmp_path / "new").exists()

    def test_another_config_beside_it(self, tmp_path, capsys):
        from train.config import load

        config = "configs/smoke/certified.toml"  # which has no penalty
        arms = seeds._arms(load(config), ["training.steps=4"], None, ["model.constrained=false"])
        other, own = (load(config, overrides) for overrides in arms.values())
        assert list(arms) == ["other", "config"]
        assert (other.model.options["constrained"], other.training.steps) == (False, 4)
        assert own.model.options.get("constrained", True)
        assert own.experiment.name != other.experiment.name
        found = {"test/accuracy": 0.9, "test/certified_accuracy_0.1": 0.5}
        found["test/accuracy_pgd_l2_0.1"] = 0.6
        seeds._draw_certificates({"a": 2 * [{"metrics": found}]}, (0.1,), tmp_path)
        assert (tmp_path / "certified.png").read_bytes()[:4] == b"\x89PNG"
        with pytest.raises(SystemExit):
            seeds.main([config, "--weights", "1", "--against", "model.constrained=false"])
        assert "--against cannot stand beside it" in capsys.readouterr().err
        assert seeds.main([config, "--workdir", str(tmp_path), "--against", "model.no=1"]) == 2
        assert "model.no" in capsys.readouterr().err

    def test_the_quick_start(self, tmp_path, capsys):
        from train import quickstart

        overrides = ["data.name=digits", "model.name=mlp", "training.steps=4"]
        assert quickstart.main([*overrides, "--workdir", str(tmp_path)]) == 0
        out = capsys.readouterr().out
        picture = tmp_path / "quickstart" / "figures" / "decision_cells_side_by_side.png"
        assert str(picture) in "".join(out.split("\n"))
        assert picture.read_bytes()[:4] == b"\x89PNG"
        for shown in ("no penalty", "Jacobian penalty", "ms a step", "times smaller"):
            assert shown in out


@pytest.mark.parametrize("given", [None, "of-the-user"])
def test_compiled_programs_go_where_jax_was_told(given, tmp_path, monkeypatch):
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    monkeypatch.setenv("JACREG_CACHE", str(tmp_path))
    try:
        jax.config.update(names[0], given)
        use_compilation_cache()
        found = [getattr(jax.config, name) for name in names]
    finally:
        for name in names:
            jax.config.update(name, before[name])
    assert found == ([given, before[names[1]]] if given else [str(tmp_path / "xla"), 0.3])


def test_percent_for_accuracies_alone():
    assert progress.shown_metric("test/accuracy_noise_0.1", 0.5) == "50.00 %"
    assert progress.shown_metric("test/jacobian_norm", 0.5) == "0.5"
    assert progress.shown_metric("test/jacobian_norm", None) == "-"
