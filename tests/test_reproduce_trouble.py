"""Runs of a paper that fail, die or are stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_paper
import pytest

from train.errors import FailedRun
from train.reproduce import Settings, measurement
from train.reproduce.__main__ import main
from train.reproduce._page import joined_page
from train.reproduce._run import reproduce
from train.reproduce._runner import run_all_jobs, run_jobs

ROOT = Path(__file__).resolve().parents[1]


class TestTrouble:
    def test_a_run_that_fails_is_a_result(self, tmp_path):
        """The report is written, names it, and the claims that need it are not held."""
        fake = fake_paper.paper(["fail"], needing="fail")
        report, verdicts = reproduce(fake, Settings(seeds=2), tmp_path, 2)
        holds = {verdict.claim.id: verdict.holds for verdict in verdicts}
        kept = ["higher", "thrice", "mean", "sum", "rank"]
        assert holds == {
            **dict.fromkeys(kept, True),
            "tie": False,
            "failing": False,
            "quiet": False,
        }
        text = report.read_text()
        assert "## Runs that failed" in text
        assert "**fail/0**: RuntimeError: this one breaks" in text
        assert "runs/fail/0/log.txt" in text
        assert str(tmp_path) not in text
        assert "Traceback" in (tmp_path / "runs" / "fail" / "0" / "log.txt").read_text()
        listed = {each["id"]: each for each in json.loads((tmp_path / "claims.json").read_text())}
        assert "fail/0 failed" in listed["failing"]["notes"][0]
        assert listed["failing"]["ours"] is None
        assert "not held" in joined_page(tmp_path).read_text()
        # The same command tries it again, and the rest is not done twice.
        (tmp_path / "mended").touch()
        report, verdicts = reproduce(fake, Settings(seeds=2), tmp_path, 1)
        assert {verdict.claim.id for verdict in verdicts if not verdict.holds} == {"tie"}
        assert "failed" not in report.read_text()
        assert [path.read_text() for path in (tmp_path / "runs").rglob("calls")] == ["x"] * 4

    def test_what_needs_a_run_that_failed_fails_too(self, tmp_path):
        jobs = [
            *measurement("last", [0], fake_paper.total, needs=["sum"], arms=["sum"]),
            *measurement("sum", [0], fake_paper.total, needs=["fail"], arms=["fail"]),
            *measurement("fail", [0], fake_paper.fail),
        ]
        run_jobs(jobs, tmp_path, title="t", workers=1)
        summary = json.loads((tmp_path / "runs" / "last" / "0" / "summary.json").read_text())
        assert summary == {"status": "failed", "reason": "it needs sum/0, which failed"}
        with pytest.raises(FailedRun, match=r"last/0 failed: it needs") as caught:
            run_all_jobs(jobs, tmp_path, title="t", workers=1)
        assert caught.value.exit_code == 1

    @pytest.mark.parametrize(("kind", "dies"), [("die", False), ("always", True)])
    def test_a_worker_that_is_killed(self, tmp_path, kind, dies, monkeypatch):
        """It is tried again alone; only where it dies again has it failed. The others go on."""
        jobs = fake_paper.paper([kind]).jobs(Settings(seeds=2))
        run_jobs(jobs, tmp_path, title="t", workers=2)
        found = {
            path.parent.relative_to(tmp_path / "runs").as_posix(): json.loads(path.read_text())
            for path in (tmp_path / "runs").rglob("summary.json")
        }
        assert len(found) == len(jobs)
        assert {name for name, each in found.items() if each["status"] == "failed"} == (
            {"always/0"} if dies else set()
        )
        if dies:
            assert "its process ended" in found["always/0"]["reason"]
        assert run_jobs(jobs, tmp_path, title="t", workers=1) == dies

    def test_the_command_says_which_runs_failed(self, tmp_path, monkeypatch, capsys):
        fake = fake_paper.paper(["fail"])
        monkeypatch.setattr("train.reproduce.papers.PAPERS", {"fake2000": lambda: fake})
        assert main(["fake2000", "--seeds", "2", "--workdir", str(tmp_path)]) == 1
        shown = capsys.readouterr()
        assert shown.err == "error: 1 runs failed: fail/0; see the report.\n"
        assert f"Report: {tmp_path / 'report.md'}" in shown.out

    def test_a_need_that_nothing_makes(self, tmp_path):
        jobs = measurement("sum", [0], fake_paper.total, needs=["nowhere"], arms=[])
        with pytest.raises(AssertionError, match="nowhere/0"):
            run_jobs(jobs, tmp_path, title="t", workers=1)

    def test_workers_are_started_without_the_terminal_s_interrupt(self, tmp_path):
        """One that is still starting when Ctrl-C comes would print a traceback."""
        run_jobs(measurement("s", [0], fake_paper.shielded), tmp_path, title="s", workers=1)
        summary = json.loads((tmp_path / "runs" / "s" / "0" / "summary.json").read_text())
        assert summary["metrics"]["value"] == 1.0
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
    def test_a_parent_that_is_stopped_takes_its_workers_along(self, tmp_path, number):
        workdir = tmp_path / "run"
        code = (
            "import sys; sys.path.insert(0, 'tests')\n"
            "from train.reproduce import papers\n"
            "import fake_paper\n"
            "papers.PAPERS = {'fake2000': lambda: fake_paper.paper(['wait'])}\n"
            "from train.reproduce.__main__ import main\n"
            "if __name__ == '__main__':\n"
            f"    sys.exit(main(['fake2000', '--seeds', '2', '--workdir', {str(workdir)!r}]))\n"
        )
        script = tmp_path / "script.py"
        script.write_text(code)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            [sys.executable, str(script)], cwd=ROOT, env=environment, stderr=subprocess.PIPE
        )
        began = workdir / "began"
        deadline = time.monotonic() + 120
        while not (began.exists() and began.read_text()) and time.monotonic() < deadline:
            time.sleep(0.1)
        worker = int(began.read_text())
        process.send_signal(number)
        error = process.communicate(timeout=60)[1].decode()
        if number == signal.SIGTERM:
            assert process.returncode == 143
            assert "the same command goes on" in error
            assert "Traceback" not in error
        deadline = time.monotonic() + 20
        while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not Path(f"/proc/{worker}").exists()
