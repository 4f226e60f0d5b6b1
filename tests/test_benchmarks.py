"""The frame of the benchmarks: readings, verdicts, records, the table. No time is asserted."""

import dataclasses
import importlib
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import _clock, _comparison, _table
from benchmarks.__main__ import main
from benchmarks._comparison import Comparison, PeerMissing, assert_equal, counted, peer, timed
from benchmarks.works import WORKS, training_step
from benchmarks.works._classifiers import CLASSES, mlp


def row(**changes):
    made = Comparison("work", "sizes", "peer 1.0", 2.0, 4.0, "ms", 0.5, 0.4, 0.6, most=0.6)
    return dataclasses.replace(made, **changes)


class TestClock:
    def test_readings_are_seconds_a_call_in_turns(self, monkeypatch):
        """By a clock that only the calls move: one takes 3 ms, the other 12."""
        now, order = [0.0], []

        def call(name, seconds):
            def run():
                now[0] += seconds
                order.append(name)
                return jnp.zeros(())

            return run

        monkeypatch.setattr(_clock.time, "perf_counter", lambda: now[0])
        times = _clock.in_turns({"ours": call("ours", 0.003), "theirs": call("theirs", 0.012)})
        np.testing.assert_allclose(times.readings["ours"], 0.003)
        assert times.readings["theirs"].shape == (9,)
        np.testing.assert_allclose(times.ratio("ours", "theirs"), 0.25)
        assert times.least("theirs") == pytest.approx(0.012)
        # After two calls each to warm up, the readings take turns.
        turns = "".join(name[0] for name in order[4:])
        assert turns == ("o" * 7 + "t" * 2) * 9

    def test_few_rounds(self):
        with pytest.raises(ValueError, match="at least 5, got 3"):
            _clock.in_turns({}, rounds=3)


class TestComparison:
    @pytest.mark.parametrize(
        ("changes", "verdict"),
        [
            ({}, "reached"),
            ({"ratio": 0.61}, "short"),
            ({"most": None}, ""),
            ({"ratio": None, "ours": None}, "not measured"),
        ],
    )
    def test_verdict(self, changes, verdict):
        assert row(**changes).verdict == verdict

    def test_of_times_and_of_counts(self):
        times = _clock.Times({"a": np.full(5, 0.002), "b": np.full(5, 0.008)})
        made = timed(times, "a", "b", work="w", setting="s", peer="p", most=0.3)
        assert (made.ours, made.theirs, made.ratio, made.verdict) == (2.0, 8.0, 0.25, "reached")
        made = counted(30, 60, "products", work="w", setting="s", peer="p", most=0.4)
        assert (made.ratio, made.unit, made.verdict) == (0.5, "products", "short")

    def test_unequal_results_are_an_error(self):
        assert assert_equal(jnp.ones(3), np.ones(3) + 1e-7, 1e-6) < 1e-6
        for wrong in (np.ones(3) * 1.1, np.ones(4), np.array([1, 1, np.nan])):
            with pytest.raises(AssertionError, match=r"differ by|shape|finite"):
                assert_equal(wrong, np.ones(3), 1e-6)

    def test_a_peer_that_is_not_there(self):
        assert peer("numpy")[1] == f"numpy {np.__version__}"
        with pytest.raises(PeerMissing, match=r"no_such_peer does not import .*make benchmarks"):
            peer("no_such_peer")


class TestTable:
    @pytest.fixture
    def folder(self, tmp_path):
        around = {"machine": "a machine", "series": []}
        _comparison.save("divergence", [row(), row(ratio=0.7, note="why | not")], around, tmp_path)
        _comparison.save("gram", [row(most=None, unit="MiB", low=0.5, high=0.5)], around, tmp_path)
        return tmp_path

    def test_records_come_back(self, folder):
        rows, around = _comparison.read("divergence", folder)
        assert rows[0] == row()
        assert around["machine"] == "a machine"
        assert _comparison.read("trace", folder) is None

    def test_markdown(self, folder):
        text = "\n".join(_table.markdown(folder))
        assert "1 of 2 aims reached. Measured on a machine;" in text
        assert "| work: sizes | 2 ms | peer 1.0 | 4 ms | 0.5 (0.4 to 0.6) | at most 0.6 |" in text
        assert "| **short** |" in text
        assert "MiB" not in text

    def test_command(self, folder, tmp_path, capsys):
        readme = tmp_path / "README.md"
        readme.write_text(f"before\n{_table.BEGIN}\nstale\n{_table.END}\nafter\n")
        assert main(["--table", "--records", str(folder), "--page", str(readme)]) == 0
        assert "reached" in capsys.readouterr().out
        text = readme.read_text()
        assert "stale" not in text
        assert text.startswith("before\n")
        assert text.endswith("after\n")
        for wrong in (["no-such-work"], ["--table", "--page", str(tmp_path / "none")]):
            with pytest.raises(SystemExit) as stopped:
                main(wrong)
            assert stopped.value.code == 2

    def test_headlines_come_from_the_committed_records(self, tmp_path):
        page = tmp_path / "page.md"
        page.write_text(f"{_table.HEADLINES_BEGIN}\n{_table.HEADLINES_END}\n")
        _table.renew(page, _comparison.FOLDER)
        lines = page.read_text().splitlines()
        assert sum(line.startswith("| ") for line in lines) == 1 + len(_table.HEADLINES)
        written = (Path(__file__).parent.parent / "README.md").read_text()
        assert all(line in written for line in lines)

    def test_plots_and_exponent(self, folder):
        lines = {"cubic": [[n, 2.0 * n**3] for n in (1, 2, 4, 8)]}
        assert _table.exponent(lines["cubic"]) == pytest.approx(3.0)
        series = [{"title": "t", "x": "n", "y": "ms", "lines": lines}]
        _comparison.save("trace", [row()], {"machine": "m", "series": series}, folder)
        (picture,) = _table.draw(folder)
        assert picture.read_bytes()[:4] == b"\x89PNG"


def test_every_work_is_there_and_has_a_title():
    for name in WORKS:
        assert len(_table.title(name)) > 10


def test_every_work_imports_without_its_peers():
    for name in WORKS:
        assert callable(importlib.import_module(f"benchmarks.works.{name}").compare)


def test_the_recipe_by_hand_is_the_penalty():
    """What `training_step` times beside each other, of the smallest network."""
    net = mlp(4, (6, 5, CLASSES))
    ours, by_hand, plain = (
        training_step._gradient(loss, net)
        for loss in (
            training_step._ours(net.ours),
            training_step._by_hand(net.plain),
            training_step._plain(net.plain),
        )
    )
    assert training_step._agreement(ours, by_hand) < 1e-5
    assert [each.shape for each in ours[1]] == [(5, 6), (5,), (CLASSES, 5), (CLASSES,)]
    with pytest.raises(AssertionError, match="differ by"):
        training_step._agreement(ours, plain)
