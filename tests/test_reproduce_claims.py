"""Claims of papers against their definitions."""

import math

import numpy as np
import pytest
from scipy import stats

from train.reproduce import Claim, Estimate, correlation, judge
from train.reproduce._words import outcome, seeds_inside
from train.statistics import rank_correlation, student_interval


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

    def test_too_few_pairs_of_a_command_with_few_seeds_are_told(self):
        few = correlation(lambda results: (np.arange(8), np.arange(8)), "flows")
        verdict = judge(Claim("id", "It rises.", "here", "rises", few, above=0.0), None)
        assert not verdict.holds
        assert verdict.estimate.test == "none: 8 flows are too few"


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
