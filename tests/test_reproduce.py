"""Papers: claims against their definitions, and a whole reproduction of one that is made up."""

import dataclasses
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_paper
import numpy as np
import pytest
from scipy import stats

from train.errors import FailedRun, UserError
from train.reproduce import CONFIGS, Claim, Estimate, Settings, judge, measurement, training
from train.reproduce.__main__ import main
from train.reproduce._outcome import outcome, seeds_inside
from train.reproduce._page import BEGIN, END, joined_page
from train.reproduce._reword import reword
from train.reproduce._run import check, command, reproduce, within
from train.reproduce._runner import run_all_jobs, run_jobs
from train.statistics import rank_correlation, student_interval

ROOT = Path(__file__).resolve().parents[1]


def claim(low, high, **region):
    estimate = Estimate((low + high) / 2, low, high, "given", ())
    return Claim("id", "It is.", "here", 1.0, lambda results: estimate, **region)


@pytest.mark.parametrize(
    ("interval", "region", "expected"),
    [
        ([0.2, 0.8], [0.0, 1.0], "held"),
        ([0.2, 1.0], [0.0, 1.0], "undecided"),
        ([0.9, 1.1], [None, 1.0], "undecided"),
        ([-0.1, 0.1], [0.0, None], "undecided"),
        ([-1.0, 2.0], [0.0, 1.0], "undecided"),
        ([1.0, 1.1], [None, 1.0], "not held"),
        ([1.0, 1.0], [1.0, None], "not held"),
        ([1.5, 1.6], [0.0, 1.0], "not held"),
        ([math.nan, math.nan], [0.0, 1.0], "not held"),
        ([None, None], [0.0, 1.0], "not held"),
    ],
)
def test_a_claim_holds_misses_or_is_left_open(interval, region, expected):
    values = [0.1, 0.4, 1.0, 1.2]
    record = {"holds": expected == "held", "interval": interval, "expected": region}
    assert outcome({**record, "values": values}) == expected
    assert seeds_inside({"values": values, "expected": [0.0, 1.0]}) == "2 of 4 seeds inside"
    assert seeds_inside({"values": [0.5], "expected": [0.0, 1.0]}) == ""


class TestStatistics:
    def test_student(self):
        values = [1.0, 2.0, 4.0, 8.0]
        low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
        np.testing.assert_allclose(student_interval(values), [3.75, low, high])

    def test_rank_correlation(self):
        first = np.arange(20.0)
        rising = rank_correlation(first, np.exp(first))
        assert rising.mean == pytest.approx(1.0)
        assert rising.low > 0.999
        second = np.random.default_rng(0).permutation(20)
        found = rank_correlation(first, second)
        assert found.mean == pytest.approx(stats.spearmanr(first, second).statistic)
        assert -1 < found.low < found.mean < found.high < 1

    def test_its_interval_covers(self):
        # Independent pairs: 0 lies outside 95 % intervals about one time in twenty.
        rng = np.random.default_rng(1)
        outside = 0
        for _ in range(400):
            found = rank_correlation(rng.normal(size=25), rng.normal(size=25))
            outside += not found.low <= 0 <= found.high
        assert 5 <= outside <= 40

    @pytest.mark.parametrize(("first", "second"), [([1.0] * 9, [1.0] * 9), ([1.0] * 12, [1.0])])
    def test_too_few_pairs(self, first, second):
        with pytest.raises(ValueError, match="at least 10"):
            rank_correlation(first, second)


class TestClaims:
    @pytest.mark.parametrize(
        ("low", "high", "region", "holds"),
        [
            (0.1, 0.2, {"above": 0.0}, True),
            (-0.1, 0.2, {"above": 0.0}, False),
            (0.0, 0.0, {"above": 0.0}, False),
            (0.1, 0.2, {"below": 0.2}, False),
            (0.1, 0.2, {"above": 0.0, "below": 0.3}, True),
            (0.1, 0.4, {"above": 0.0, "below": 0.3}, False),
        ],
    )
    def test_the_whole_interval_must_lie_inside(self, low, high, region, holds):
        assert judge(claim(low, high, **region), None).holds is holds

    def test_what_is_not_finite_does_not_hold(self):
        verdict = judge(claim(math.nan, math.nan, above=-1.0), None)
        assert not verdict.holds
        assert "diverged" in verdict.notes[0]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The made-up paper, reproduced once."""
    folder = tmp_path_factory.mktemp("fake")
    report, verdicts = reproduce(fake_paper.paper(), Settings(seeds=3), folder, 2)
    return folder, report, verdicts


class TestReproduction:
    def test_verdicts(self, done):
        folder, _, verdicts = done
        holds = {verdict.claim.id: verdict.holds for verdict in verdicts}
        expected = ["higher", "thrice", "mean", "sum", "rank"]
        assert holds == {**dict.fromkeys(expected, True), "tie": False}
        listed = json.loads((folder / "claims.json").read_text())
        assert [entry["id"] for entry in listed] == [verdict.claim.id for verdict in verdicts]
        for entry in listed:
            assert entry.keys() >= {"id", "claim", "paper", "ours", "interval", "holds", "test"}
            assert entry["interval"][0] <= entry["ours"] <= entry["interval"][1]
        by_id = {entry["id"]: entry for entry in listed}
        differences = 2 * (1 + 0.01 * np.arange(3))
        assert by_id["higher"]["ours"] == pytest.approx(differences.mean())
        np.testing.assert_allclose(by_id["higher"]["interval"], student_interval(differences)[1:])
        assert by_id["thrice"]["ours"] == pytest.approx(3.0)
        assert "3 pairs" in by_id["thrice"]["test"]

    def test_report(self, done):
        _, report, _ = done
        text = report.read_text()
        for part in (
            "5 of 6 claims hold",
            "It is quick.",
            "**tie**",
            "## Values | all",
            "| deep/high | 3.03 |",
            "![A caption.](figures/made.png)",
            "Everything else.",
            "python -m train.reproduce fake2000 --scale quick --seeds 3",
        ):
            assert part in text
        assert str(report.parent) not in text

    def test_again_nothing_is_done_twice(self, done):
        folder = done[0]
        before = (folder / "claims.json").read_bytes()
        reproduce(fake_paper.paper(), Settings(seeds=3), folder, 2)
        assert (folder / "claims.json").read_bytes() == before
        calls = [path.read_text() for path in (folder / "runs").rglob("calls")]
        assert calls == ["x"] * 6
        for path in (folder / "runs").rglob("summary.json"):
            assert json.loads(path.read_text())["timing"]["core_seconds"] >= 0
        assert " s of a core), 2 at a time" in (folder / "report.md").read_text()

    def test_another_plan_is_refused(self, done):
        folder = done[0]
        with pytest.raises(UserError, match=r"another plan .*broken"):
            reproduce(fake_paper.paper(), Settings(seeds=3, broken=True), folder, 1)

    def test_another_paper_overwrites_nothing(self, done):
        """Another paper or scale, and what is no reproduction at all."""
        folder = done[0]
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        other = dataclasses.replace(fake_paper.paper(), name="other2001")
        for paper, settings in (
            (other, Settings(seeds=3)),
            (fake_paper.paper(), Settings(seeds=3, scale="full")),
        ):
            with pytest.raises(UserError, match=r"another plan, fake2000 \(quick\)") as caught:
                reproduce(paper, settings, folder, 1)
            assert caught.value.exit_code == 2
        after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        locks = {path for path in before if path.name == ".lock"}
        assert {k: v for k, v in after.items() if k not in locks} == {
            k: v for k, v in before.items() if k not in locks
        }

    def test_a_report_of_more_seeds_is_not_overwritten(self, done):
        folder, report, _ = done
        before = report.read_bytes()
        with pytest.raises(UserError, match=r"report of 3 seeds, which one of 2 would overwrite"):
            reproduce(fake_paper.paper(), Settings(seeds=2), folder, 1)
        assert report.read_bytes() == before

    @pytest.mark.parametrize("name", ["summary.json", "config.toml", "report.md"])
    def test_records_of_another_command_are_left_alone(self, tmp_path, name):
        (tmp_path / name).write_text("{}")
        with pytest.raises(UserError, match=rf"holds {name} of another command"):
            reproduce(fake_paper.paper(), Settings(seeds=2), tmp_path, 1)
        assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == [name]

    def test_a_folder_of_a_version_before_is_known(self, done, tmp_path):
        folder = tmp_path / "copy"
        shutil.copytree(done[0], folder)
        (folder / "plan.json").unlink()
        reproduce(fake_paper.paper(), Settings(seeds=3), folder, 1)
        (folder / "plan.json").unlink()
        other = dataclasses.replace(fake_paper.paper(), name="other2001")
        with pytest.raises(UserError, match="another plan, fake2000"):
            reproduce(other, Settings(seeds=3), folder, 1)

    def test_a_part_of_a_scale_is_cut_and_labelled(self, tmp_path, monkeypatch):
        config = CONFIGS / "hoffman" / "jacobian.toml"
        long, short = (
            training("long", 0, config),
            training("short", 0, config, ["training.steps=9"]),
        )
        jobs, cut = within([long, short, measurement("m", 0, fake_paper.number)], 60)
        assert [job.overrides for job in jobs] == [
            ("training.steps=60",),
            ("training.steps=9",),
            (),
        ]
        assert cut == {7200: ["long"]}
        assert within([long], None) == ([long], {})
        autoencoder = training("phases", 0, CONFIGS / "autoencoder" / "contractive.toml")
        with pytest.raises(UserError, match="pretrain_steps"):
            within([autoencoder], 5)

        settings = Settings(seeds=3, most_steps=60)
        monkeypatch.setattr("train.reproduce._run.within", lambda jobs, _: (jobs, cut))
        report, _ = reproduce(fake_paper.paper(), settings, tmp_path, 1)
        text = report.read_text()
        assert "**A part of this scale**" in text
        assert "`long`: of 7200" in text
        assert "--most-steps 60" in text
        assert "runs cut to 60 steps" in joined_page(tmp_path).read_text()

    def test_joined_page_and_readme(self, done, tmp_path):
        folder = done[0]
        readme = tmp_path / "README.md"
        readme.write_text(f"before\n{BEGIN}\nstale\n{END}\nafter\n")
        page = joined_page(folder, readme).read_text()
        assert "| `fake2000` | quick | 5 of 6 | none | tie |" in page
        assert "**held**" in page
        assert "not held" in page
        text = readme.read_text()
        assert text.startswith("before\n")
        assert text.endswith("after\n")
        assert "fake2000" in text
        assert "stale" not in text
        (folder / "papers.md").unlink()
        with pytest.raises(UserError, match="has no lines"):
            joined_page(folder, Path(folder / "report.md"))

    def test_nothing_to_join(self, tmp_path):
        with pytest.raises(UserError, match=r"no claims\.json"):
            joined_page(tmp_path)

    def test_broken(self, tmp_path):
        report, verdicts = reproduce(
            fake_paper.paper(), Settings(seeds=3, broken=True), tmp_path, 1
        )
        for verdict in verdicts:
            if verdict.claim.about_penalty:
                assert not verdict.holds
        assert "Every penalty weight is 0" in report.read_text()


class TestReword:
    """A report again from its own numbers."""

    @pytest.fixture
    def record(self, done, tmp_path):
        """What a checkout keeps of a reproduction: no runs."""
        folder = tmp_path / "kept"
        shutil.copytree(done[0], folder, ignore=shutil.ignore_patterns("runs", ".lock"))
        return folder

    @staticmethod
    def papers(change):
        """The made-up paper with its claims changed."""
        paper = fake_paper.paper()
        claims = [each for each in map(change, paper.claims(Settings())) if each is not None]
        changed = dataclasses.replace(paper, claims=lambda settings: claims)
        return {"fake2000": lambda: changed}

    def test_unchanged_words_change_nothing(self, record):
        before = {path: path.read_bytes() for path in record.rglob("*") if path.is_file()}
        reword(record, self.papers(lambda claim: claim), {})
        assert before == {path: path.read_bytes() for path in before}

    def test_a_report_of_a_version_before(self, record):
        about = json.loads((record / "reproduction.json").read_text())
        for name in ("part", "failed", "diverged", "first_seed", "versions"):
            del about[name]
        (record / "reproduction.json").write_text(json.dumps(about))
        before = (record / "report.md").read_bytes()
        assert reword(record, self.papers(lambda claim: claim), {}).read_bytes() == before

    def test_new_words_and_a_claim_that_is_dropped(self, record):
        def change(claim):
            if claim.id == "tie":
                return dataclasses.replace(claim, why_not="the paper: varied, and it stays.")
            return None if claim.id == "rank" else claim

        text = reword(record, self.papers(change), {}).read_text()
        assert "**4 of 5 claims hold**" in text
        assert "Why: the paper: varied, and it stays." in text
        assert "The seeds rise." not in text
        for kept in ("| deep/high | 3.03 |", "![A caption.](figures/made.png)", "Everything else."):
            assert text.count(kept) == 1
        listed = json.loads((record / "claims.json").read_text())
        assert [entry["why_not"] for entry in listed if entry["id"] == "tie"] == [
            "the paper: varied, and it stays."
        ]

    @pytest.mark.parametrize("changes", [{"id": "new"}, {"above": -1.0}])
    def test_what_its_numbers_do_not_judge(self, record, changes):
        """A claim of its own run, and a region that was moved."""
        before = (record / "report.md").read_bytes()

        def change(claim):
            return dataclasses.replace(claim, **changes) if claim.id == "tie" else claim

        with pytest.raises(UserError, match=r"claim (new|tie) .*Words alone"):
            reword(record, self.papers(change), {})
        assert (record / "report.md").read_bytes() == before

    def test_seeds_that_are_moved(self, record, tmp_path):
        """Which claims another choice of seeds changes."""
        moved = tmp_path / "moved"
        settings = Settings(seeds=3, first_seed=100)
        reproduce(fake_paper.paper(), settings, moved, 1)
        assert sorted(path.name for path in (moved / "runs" / "low").iterdir()) == [
            "100",
            "101",
            "102",
        ]
        papers = self.papers(lambda claim: claim)
        text = reword(record, papers, {"seeds from 100": moved}).read_text()
        # A low level of 1 (1 + 0.01 seed) is about 2 there, and no longer about 1.
        row = "| seeds from 100 | 4 of 6 | mean: held, then not held |"
        assert row in text
        # Kept when it is written again, and once.
        assert reword(record, papers, {"seeds from 100": moved}).read_text().count(row) == 1
        assert row in reword(record, papers, {}).read_text()

    def test_another_reproduction_is_not_compared(self, record, tmp_path):
        broken = tmp_path / "broken"
        reproduce(fake_paper.paper(), Settings(seeds=3, broken=True), broken, 1)
        with pytest.raises(UserError, match=r"broken differ"):
            reword(record, self.papers(lambda claim: claim), {"broken": broken})

    def test_without_the_penalty(self, record, tmp_path):
        """Which of the claims about it fall: one that does not shows nothing."""
        broken = tmp_path / "broken"
        reproduce(fake_paper.paper(), Settings(seeds=3, broken=True), broken, 1)
        papers = self.papers(lambda claim: dataclasses.replace(claim, about_penalty=True))
        text = reword(record, papers, {}, broken).read_text()
        said = "of the 5 claims about the penalty that hold above, 2 fall"
        assert f"--seeds 3 --break penalty`: {said}" in text
        assert "Still held: mean, sum, rank." in text
        assert reword(record, papers, {}).read_text() == text
        with pytest.raises(UserError, match=r"broken differ"):
            reword(record, papers, {}, record)

    def test_no_report(self, tmp_path):
        with pytest.raises(UserError, match=r"no reproduction\.json"):
            reword(tmp_path, {}, {})


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
            measurement("last", 0, fake_paper.total, needs=["sum/0"], arms=["sum"]),
            measurement("sum", 0, fake_paper.total, needs=["fail/0"], arms=["fail"]),
            measurement("fail", 0, fake_paper.fail),
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
        job = measurement("sum", 0, fake_paper.total, needs=["nowhere/0"], arms=[])
        with pytest.raises(AssertionError, match="nowhere/0"):
            run_jobs([job], tmp_path, title="t", workers=1)

    def test_workers_are_started_without_the_terminal_s_interrupt(self, tmp_path):
        """One that is still starting when Ctrl-C comes would print a traceback."""
        run_jobs([measurement("s", 0, fake_paper.shielded)], tmp_path, title="s", workers=1)
        summary = json.loads((tmp_path / "runs" / "s" / "0" / "summary.json").read_text())
        assert summary["metrics"]["value"] == 1.0
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
    def test_a_parent_that_is_stopped_takes_its_workers_along(self, tmp_path, number):
        code = (
            "import sys; sys.path.insert(0, 'tests')\n"
            "from train.reproduce import papers\n"
            "import fake_paper\n"
            "papers.PAPERS = {'fake2000': lambda: fake_paper.paper(['wait'])}\n"
            "from train.reproduce.__main__ import main\n"
            "if __name__ == '__main__':\n"
            f"    sys.exit(main(['fake2000', '--seeds', '2', '--workdir', {str(tmp_path)!r}]))\n"
        )
        script = tmp_path / "script.py"
        script.write_text(code)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            [sys.executable, str(script)], cwd=ROOT, env=environment, stderr=subprocess.PIPE
        )
        began = tmp_path / "began"
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


class TestCommand:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "a NAME is needed"),
            (["hofman2019"], "Did you mean hoffman2019"),
            (["lutter2019", "--scale", "huge"], "quick or full"),
            (["lutter2019", "--seeds", "1"], "at least 2"),
            (["lutter2019", "--break", "data"], "expected penalty"),
            (["lutter2019", "--workers", "0"], "at least 1"),
            (["lutter2019", "--first-seed", "-1"], "--first-seed: got -1, expected 0 or more"),
            (["lutter2019", "--other", "one thread=/tmp"], "--other goes with --reword"),
            (["lutter2019", "--without-penalty", "/tmp"], "--without-penalty goes with --reword"),
            (["hoffman2019", "--most-steps", "0"], "--most-steps: got 0, expected at least 1"),
            (["lutter2019", "--data", "mnist"], "expected NAME=PATH"),
            (["lutter2019", "--data", "mnist=/tmp"], "lutter2019 takes none"),
            (["hoffman2019", "--data", "mnist=/nowhere"], "no such file or folder"),
            (["--report", "/nowhere"], "no claims.json"),
        ],
    )
    def test_bad_input(self, arguments, message, capsys, tmp_path):
        place = [] if "--report" in arguments else ["--workdir", str(tmp_path / "new")]
        assert main([*arguments, *place]) == 2
        shown = capsys.readouterr()
        assert message in shown.err
        assert shown.err.startswith("error: ")
        assert len(shown.err) < 1500
        assert not (tmp_path / "new").exists()

    def test_list(self, capsys):
        assert main(["--list"]) == 0
        listed = capsys.readouterr().out
        for name in ("convolution-guide", "hoffman2019", "scarvelis2024"):
            assert name in listed
        assert "--data mnist=PATH" in listed

    def test_the_command_that_is_recorded_names_no_folder(self):
        settings = Settings(
            scale="full", seeds=7, first_seed=100, data={"shapes": "/home/me"}, broken=True
        )
        said = command(fake_paper.paper(), settings)
        assert said == (
            "python -m train.reproduce fake2000 --scale full --seeds 7 --first-seed 100 "
            "--data shapes=PATH --break penalty"
        )

    def test_data_that_is_there(self, tmp_path):
        check(fake_paper.paper(), Settings(data={"shapes": str(tmp_path)}))
