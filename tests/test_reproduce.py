"""A whole reproduction of a paper that is made up, and its report in other words."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import fake_paper
import numpy as np
import pytest

from train.errors import UserError
from train.reproduce import CONFIGS, Settings, measurement, training
from train.reproduce._page import BEGIN, END, joined_page
from train.reproduce._reword import reword
from train.reproduce._run import reproduce, within
from train.statistics import student_interval


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

    @pytest.mark.parametrize("names", [["notes.txt"], ["runs", "figures", "a", "b"]])
    def test_a_folder_of_something_else_is_left_alone(self, tmp_path, names):
        for name in names:
            (tmp_path / name).mkdir()
        with pytest.raises(UserError, match=rf"no folder of such runs and holds {len(names)} oth"):
            reproduce(fake_paper.paper(), Settings(seeds=2), tmp_path, 1)
        assert sorted(path.name for path in tmp_path.iterdir() if path.name != ".lock") == sorted(
            names
        )

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
            *training("long", [0], config),
            *training("short", [0], config, ["training.steps=9"]),
        )
        jobs, cut = within([long, short, *measurement("m", [0], fake_paper.number)], 60)
        assert [job.overrides for job in jobs] == [
            ("training.steps=60",),
            ("training.steps=9",),
            (),
        ]
        assert cut == {7200: ["long"]}
        assert within([long], None) == ([long], {})
        autoencoder = training("phases", [0], CONFIGS / "autoencoder" / "contractive.toml")
        with pytest.raises(UserError, match="pretrain_steps"):
            within(autoencoder, 5)

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
        cells = r" \| quick \| \d+ (s|min) \| 5 of 6 \| none \| tie \|"
        assert re.search(r"\| \[`fake2000`\]\(report.md\)" + cells, page)
        assert "**held**" in page
        assert "not held" in page
        text = readme.read_text()
        assert text.startswith("before\n")
        assert text.endswith("after\n")
        assert re.search(r"\| \[`fake2000`\]\(.*/report.md\)" + cells, text)
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
