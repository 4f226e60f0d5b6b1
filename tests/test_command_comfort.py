"""The command for people and for scripts: plans, quiet, JSON, lists, colours on terminals."""

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from train_setup import tiny, train_cache, undrawn  # noqa: F401

from train import data, listing, plan, progress
from train.__main__ import main, parser
from train.config import dump, load
from train.reproduce import __main__ as reproduce

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.usefixtures("train_cache")


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(dump(tiny(training={"steps": 4}, evaluation={"pgd": [], "fgsm": []})))
    return str(path)


@pytest.fixture(scope="module")
def finished(config_file, tmp_path_factory):
    """A finished run that was asked to be quiet."""
    workdir = tmp_path_factory.mktemp("run") / "run"
    assert main([config_file, "--workdir", str(workdir), "--quiet"]) == 0
    return workdir


@pytest.fixture(scope="class")
def planned(config_file, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("plan") / "run"
    found = plan.plan(load(config_file), workdir)
    assert not workdir.exists()
    return found


class TestDryRun:
    def test_the_plan(self, planned):
        assert planned["model"]["parameters"] == 64 * 12 + 12 + 12 * 10 + 10
        assert planned["training"] == {"steps": 4, "batch_size": 32, "epochs": 4 * 32 / 1438}
        (penalty,) = planned["penalties"]
        assert penalty["weight"] == 0.01
        assert penalty["method"].startswith("Projection(num_probes=1")
        assert planned["workdir_state"] == "new"
        json.dumps(planned, allow_nan=False)

    def test_the_final_evaluation(self, config_file, planned):
        assert planned["evaluation"] == {"Jacobian norm": 10 * planned["data"]["test"]}
        assert dict(plan.rows(planned))["final evaluation"].startswith("Jacobian norm 3,")
        changes = ["evaluation.pgd=[0.1, 0.2]", "evaluation.fgsm=[0.1]", "evaluation.pgd_steps=7"]
        changes += ["evaluation.jacobian_examples=4", "evaluation.attack_examples=5"]
        config = load(config_file, changes)
        found = plan.evaluation_gradients(config, data.load(config.data))
        assert found == {"Jacobian norm": 40, "FGSM": 5, "PGD": 2 * 7 * 5}

    @pytest.mark.parametrize(("steps", "told"), [(1, True), (1000, False)])
    def test_an_evaluation_that_outgrows_training_is_told(self, planned, steps, told):
        training = {**planned["training"], "steps": steps, "batch_size": 50}
        said = dict(plan.rows({**planned, "training": training}))["final evaluation"]
        assert f"training takes {50 * steps:,}" in said
        assert ("evaluation.jacobian=false" in said) == told

    def test_flops_are_those_of_one_step(self, planned):
        """A matrix product of the batch takes 2 N n m; a gradient about three of each layer."""
        step = planned["step"]
        forward = 2 * 32 * (64 * 12 + 12 * 10)
        assert 2 * forward < step["flops_without_penalties"] < 6 * forward
        assert 1.3 < step["flops"] / step["flops_without_penalties"] < 3
        assert step["temp_bytes"] > 0

    def test_without_a_penalty_it_is_compiled_once(self, config_file, tmp_path):
        found = plan.plan(load(config_file, ["penalty.0.weight=0"]), tmp_path / "run")
        assert "flops_without_penalties" not in found["step"]
        assert plan.rows(found)[4][1].endswith("left out")

    def test_the_command_shows_it_and_writes_nothing(self, config_file, tmp_path, capsys):
        workdir = tmp_path / "run"
        assert main([config_file, "--dry-run", "--workdir", str(workdir)]) == 0
        shown = capsys.readouterr().out
        assert shown.startswith("tiny: compiling a step")
        assert "now the step without penalties" in shown
        for word in ("910 parameters", "4 steps of 32 examples", "FLOPs a step", "KiB", "(new)"):
            assert word in shown, word
        assert not workdir.exists()

    def test_what_the_run_would_refuse(self, config_file, finished, capsys):
        config = load(config_file, ["training.steps=5"])
        before = sorted(finished.rglob("*"))
        state = plan.plan(config, finished)["workdir_state"]
        assert state.startswith("refused: belongs to a run of another config. Changed: training.st")
        arguments = [config_file, "parallel.data=64", "--dry-run"]
        assert main(arguments) == 2
        assert "parallel.data" in capsys.readouterr().err
        assert sorted(finished.rglob("*")) == before

    def test_a_finished_workdir_is_named(self, config_file, finished):
        found = plan.plan(load(config_file), finished)
        assert found["workdir_state"].startswith("finished")


class TestForScripts:
    def test_quiet_shows_nothing(self, config_file, finished, capfd):
        assert main([config_file, "--workdir", str(finished), "--quiet"]) == 0
        assert capfd.readouterr().out == ""

    def test_errors_are_shown_all_the_same(self, config_file, finished, capsys):
        arguments = [config_file, "training.steps=5", "--workdir", str(finished), "--quiet"]
        assert main(arguments) == 2
        assert capsys.readouterr().err.startswith("error: ")

    def test_a_quiet_reporter(self, capsys):
        for quiet in (True, False):
            progress.Reporter("title", 1, quiet).say(f"quiet: {quiet}")
        assert capsys.readouterr().out == "quiet: False\n"

    @pytest.mark.parametrize("what", ["summary", "plan", "list"])
    def test_json_is_one_object_and_nothing_else(self, config_file, finished, what, capfd):
        arguments = [config_file, "--workdir", str(finished), "--json"]
        extra = {"summary": [], "plan": ["--dry-run"], "list": ["--list"]}[what]
        assert main([*arguments, *extra]) == 0
        found = json.loads(capfd.readouterr().out)
        if what == "summary":
            assert found["workdir"] == str(finished)
            assert found["status"] == "finished"
            assert found["metrics"]["test/accuracy"] > 0
        elif what == "plan":
            assert found["model"]["parameters"] == 910
        else:
            assert "lenet" in found["model.name"]

    def test_json_is_alone_where_a_library_prints(self, config_file, finished, monkeypatch, capfd):
        import train.run

        run = train.run.run

        def chatty(*args, **kwargs):
            print("a library says hello")
            return run(*args, **kwargs)

        monkeypatch.setattr(train.run, "run", chatty)
        assert main([config_file, "--workdir", str(finished), "--json"]) == 0
        shown = capfd.readouterr()
        json.loads(shown.out)
        assert "hello" in shown.err

    def test_a_failed_command_prints_no_json(self, config_file, tmp_path, capsys):
        arguments = [config_file, "model.name=lenett", "--json", "--workdir", str(tmp_path / "r")]
        assert main(arguments) == 2
        assert capsys.readouterr().out == ""


class TestList:
    def test_every_config_with_a_claim(self):
        claims = listing.claims()
        assert "configs/quickstart.toml" in claims
        assert claims["configs/quickstart.toml"].startswith("A Jacobian penalty makes LeNet'")
        assert claims["configs/quickstart.toml"].endswith("instead of 60000.")
        smoke = {path for path in claims if "/smoke/" in path}
        assert smoke == set()
        on_disk = {path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("*.toml")}
        carded = {path for path in on_disk if (ROOT / path).read_text().startswith("# Claim")}
        assert set(claims) == carded
        assert all("#" not in claim and "Command" not in claim for claim in claims.values())

    def test_it_is_shown(self, capsys):
        assert main(["--list"]) == 0
        out = capsys.readouterr().out
        assert "  configs/quickstart.toml\n" in out
        for line in out.split("\n\n")[0].splitlines():
            assert len(line) <= 100

    def test_every_key_says_what_it_takes(self):
        out = listing.listing()
        for unsaid in (": a value", "Named(", "default None", "default True", "default ("):
            assert unsaid not in out
        assert 'solver: one of "dopri5", "rk4" (default dopri5)' in out
        assert "columns: the name of a column, its number from 1, or a list of these (may" in out
        assert "a string that is not empty" not in out
        assert 'activation: one of "cos", "elu", "gelu", "identity", "leaky_relu",' in out
        assert 'solver: one of "anderson", "iteration" (default anderson)' in out

    def test_a_reader_that_has_enough(self):
        code = "import sys; from train.__main__ import main; sys.exit(main(['--list']))"
        done = subprocess.run(
            ["bash", "-c", f'set -o pipefail; "{sys.executable}" -c "{code}" | head -1'],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("configs")


@contextlib.contextmanager
def reader_gone():
    """Let stdout be a pipe whose reader has left."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as out, contextlib.redirect_stdout(out):
        yield
        out.flush()  # as Python does at its end


@pytest.mark.usefixtures("undrawn")
def test_a_run_whose_reader_has_left_goes_on(config_file, tmp_path):
    with reader_gone():
        code = main([config_file, "training.log_every=1", "--workdir", str(tmp_path)])
    assert code == 0
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "finished"


def test_lists_and_progress_for_a_reader_that_has_left():
    from train.reproduce._progress import Progress

    with reader_gone():
        assert reproduce.main(["--list"]) == 0
    with reader_gone():
        Progress("title", [], [], 1).say("text")


def test_a_package_that_is_not_installed_is_named(config_file, monkeypatch, capsys):
    def missing(chosen):
        raise ModuleNotFoundError("No module named 'rich'", name="rich")

    monkeypatch.setattr("train.__main__._main", missing)
    assert main([str(config_file)]) == 2
    assert 'rich, which this Python lacks: pip install -e ".[train]"' in capsys.readouterr().err

    def torn(chosen):
        raise ModuleNotFoundError("No module named 'train.nothing'", name="train.nothing")

    monkeypatch.setattr("train.__main__._main", torn)
    with pytest.raises(ModuleNotFoundError):
        main([str(config_file)])


def test_help_names_every_option_and_command():
    text = parser().format_help()
    for word in (
        "--dry-run",
        "--quiet",
        "--json",
        "--list",
        "--debug",
        "train.view",
        "[[penalty]]",
    ):
        assert word in text
    assert all(len(line) <= 100 for line in text.splitlines())


_SHOW = (
    "from train.progress import Reporter\n"
    "reporter = Reporter('title', 3)\n"
    "with reporter:\n    reporter.advance(1)\n    reporter.metrics(2, {'train/loss': 0.5})\n"
    "reporter.table('rows', ['a', 'b'], [['x', '1']])\n"
)


def shown(terminal, script=_SHOW, **variables):
    """What the reporter writes to a terminal, or to a pipe."""
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    environment |= {"TERM": "xterm-256color", **variables}
    command = [sys.executable, "-c", script]
    if not terminal:
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        ).stdout
    leader, follower = pty.openpty()
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=follower, close_fds=True)
    os.close(follower)
    content = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        content += part
    os.close(leader)
    assert process.wait() == 0
    return content.decode()


# Colours of the foreground; moving the cursor, as the bar does, is no colour.
COLOR = re.compile(r"\x1b\[(?:\d+;)*(?:3\d|38;5;\d+)(?:;\d+)*m")


def test_no_colours_where_there_is_no_terminal():
    text = shown(terminal=False)
    assert "\x1b" not in text
    assert "title  step 2/3  train/loss 0.5" in text


def test_no_colours_where_they_are_unwanted():
    assert COLOR.search(shown(terminal=True))  # so that the next line means something
    assert not COLOR.search(shown(terminal=True, NO_COLOR="1"))


def test_the_bar_shows_the_loss_between_the_lines():
    script = (
        "from train.progress import Reporter\n"
        "reporter = Reporter('title', 9)\n"
        "with reporter:\n"
        "    assert reporter.has_bar\n"
        "    reporter.advance(1, 0.625)\n    reporter._bar.refresh()\n"
        "    reporter.metrics(2, {'test/accuracy': 0.5})\n    reporter.advance(3)\n"
    )
    text = shown(terminal=True, script=script)
    last = [line for line in re.split(r"[\r\n]", text) if "/9" in line][-1]
    assert "loss 0.625" in last, "a line without a loss takes nothing away"
    assert not progress.Reporter("title", 9).has_bar


def test_the_bar_shows_how_far_an_evaluation_is():
    script = (
        "from train.progress import Reporter\n"
        "reporter = Reporter('title', 9)\n"
        "with reporter:\n"
        "    reporter.advance(9, 0.625)\n"
        "    reporter.evaluated('accuracy', 400, 1000)\n    reporter._bar.refresh()\n"
    )
    assert "accuracy, 400 of 1000 examples" in shown(terminal=True, script=script)


def test_without_a_bar_a_long_evaluation_speaks_after_half_a_minute(monkeypatch, capsys):
    clock = iter([0.0, 29.0, 31.0, 31.0, 40.0, 62.0, 62.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    reporter = progress.Reporter("title", 9)
    for done in (100, 200, 300, 400):
        reporter.evaluated("accuracy", done, 1000)
    said = capsys.readouterr().out.splitlines()
    assert said == [f"title: evaluating: accuracy, {done} of 1000 examples" for done in (200, 400)]


WRONG = [
    ("confgs/quickstart.toml", "configs/quickstart.toml"),
    ("quikstart.toml", "configs/quickstart.toml"),
    ("configs/hoffman/jacobain.toml", "configs/hoffman/jacobian.toml"),
    ("/nowhere/papers/hoffman2019/none.toml", "none.toml"),
    ("mine.toml", "mine2.toml"),
]


@pytest.mark.parametrize(("path", "near"), WRONG)
def test_a_wrong_path_names_the_nearest_that_exists(path, near, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path if near == "mine2.toml" else ROOT)
    (tmp_path / "mine2.toml").write_text("")
    assert main([path]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {path}: no such config file. The nearest that exists is ")
    assert near in told.split("nearest that exists is ")[1].split(";")[0]
    assert told.count("\n") == 1


def test_a_folder_of_configs_names_those_in_it(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.endswith(
        "a folder, not a config file; it holds no .toml file.\n"
    )
    for number in range(6):
        (tmp_path / f"{number}.toml").write_text("")
    assert main([str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "it holds " in told
    assert "3.toml and 2 more." in told


WRONG_PATHS = {
    "train.__main__": ["absent.toml"],
    "train.seeds": ["absent.toml"],
    "train.view.__main__": ["absent"],
    "train.reproduce.__main__": ["absent"],
    "train.reproduce.__main__ --report": ["--report", "absent"],
}


@pytest.mark.parametrize("command", WRONG_PATHS)
def test_a_wrong_path_is_answered_before_jax_is_loaded(command):
    code = (
        f"import sys; from {command.split()[0]} import main\n"
        f"assert main({WRONG_PATHS[command]}) == 2\n"
        "assert 'jax' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("code", [0, 2, 130])
def test_a_signal_at_the_very_end_prints_nothing(code):
    """Ctrl-C while libraries shut down, and while the exit code is on its way."""
    script = (
        "import atexit, os, signal\n"
        "from train.command import leave\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "def main():\n"
        f"    if {code} == 130: os.kill(os.getpid(), signal.SIGINT)\n"
        f"    return {code}\n"
        "leave(main)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")
