"""Every paper's plan: configs that load, jobs and claims that fit together, at both scales."""

import json
import shutil
from pathlib import Path

import pytest

from train import config as configs
from train.reproduce import Settings
from train.reproduce._reword import reword
from train.reproduce.papers import PAPERS

PAGES = Path(__file__).resolve().parents[1] / "docs" / "papers"
SCALES = ["quick", "full"]
# Nothing in it is about a penalty.
WITHOUT_PENALTY = {"convolution-guide", "dangel2025", "delattre2023", "lipschitz2023"}


@pytest.fixture(params=PAPERS)
def paper(request):
    found = PAPERS[request.param]()
    assert found.name == request.param
    return found


@pytest.mark.parametrize("scale", SCALES)
def test_the_plan(paper, scale):
    settings = Settings(scale=scale, seeds=2)
    jobs = list(paper.jobs(settings))
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names) > 0
    for job in jobs:
        assert set(job.needs) <= set(names)
        assert (job.config is None) != (job.measure is None)
    assert scale in paper.scales
    plans = {(job.config, job.overrides) for job in jobs if job.config is not None}
    for config, overrides in plans:
        configs.load(config, overrides)


@pytest.mark.parametrize("scale", SCALES)
def test_the_claims(paper, scale):
    claims = list(paper.claims(Settings(scale=scale)))
    ids = [claim.id for claim in claims]
    assert len(set(ids)) == len(ids) > 0
    for claim in claims:
        assert claim.above < claim.below
        assert (claim.above, claim.below) != (float("-inf"), float("inf"))
        assert claim.place
        assert claim.paper != ""
        assert len(claim.claim) > 15
    if paper.name not in WITHOUT_PENALTY:
        assert any(claim.about_penalty for claim in claims)


@pytest.mark.parametrize("name", sorted(path.parent.name for path in PAGES.glob("*/claims.json")))
def test_the_committed_report(name, tmp_path):
    """It is in today's words, and says why what does not hold does not."""
    folder = tmp_path / name
    shutil.copytree(PAGES / name, folder, ignore=shutil.ignore_patterns("figures"))
    reword(folder, PAPERS, {})
    for file in ("claims.json", "report.md"):
        assert (folder / file).read_text() == (PAGES / name / file).read_text(), (
            f"python -m train.reproduce --reword docs/papers/{name}"
        )
    # What ± means stands above all tables, and not again below each.
    assert (folder / "report.md").read_text().count("± is half of") == 1
    for claim in json.loads((folder / "claims.json").read_text()):
        assert claim["holds"] or claim["why_not"].startswith(("our protocol", "the paper"))
