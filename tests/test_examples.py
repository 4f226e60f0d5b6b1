"""The examples run as they stand, are short, and show what they say."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_at_most_forty_lines(path):
    assert len(path.read_text().splitlines()) <= 40


def test_score_matching_learns_the_score():
    result = runpy.run_path(str(EXAMPLES / "score_matching.py"))
    assert result["errors"][-1] < 0.25 * result["errors"][0]


def test_the_custom_loop_flattens_the_classifier(capsys):
    result = runpy.run_path(str(EXAMPLES / "custom_loop.py"))
    assert result["norms"][0.05] < 0.5 * result["norms"][0.0]
    assert capsys.readouterr().out.count("accuracy 0.9") == 2
