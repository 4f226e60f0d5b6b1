"""Wrong configs, calls and files from a fixed seed: the short form of `benchmarks.robustness`."""

import random

import pytest
from train_setup import train_cache  # noqa: F401

from benchmarks.robustness import _calls, _configs, _formats, _kills

pytestmark = pytest.mark.usefixtures("train_cache")


def test_wrong_configs_end_in_one_message(tmp_path, monkeypatch):
    # What asks for gigabytes is tried by the command, under a limit.
    small = tuple(value for value in _configs.VALUES if "9999" not in value)
    monkeypatch.setattr(_configs, "VALUES", small)
    found = _configs.fuzz_configs(8, tmp_path / "fuzz", seed=3, trained=0, sound=False)
    assert found["problems"] == []
    assert found["outcomes"]["exit 2"] > 4
    assert set(found["outcomes"]) <= {"exit 0", "exit 2", "built"}


def test_a_traceback_is_seen(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise KeyError("no such thing")

    monkeypatch.setattr(_configs, "main", broken)
    case = _configs.Case(b"", (), "")
    assert _configs.try_case(case, tmp_path, trained=False) == (
        "traceback",
        "KeyError: 'no such thing'",
    )
    monkeypatch.setattr(_configs, "main", lambda arguments: 1)
    assert _configs.try_case(case, tmp_path, trained=False)[1] == "exit code 1"
    monkeypatch.setattr(_configs, "main", lambda arguments: 2)
    assert "message ''" in str(_configs.try_case(case, tmp_path, trained=False)[1])


def test_wrong_calls_are_value_errors_or_type_errors():
    found = _calls.fuzz_calls(2 * len(_calls.CALLS), seed=5, traced=1.0)
    assert found["problems"] == []
    assert found["outcomes"]["TypeError"] > 20


def test_another_exception_of_a_call_is_seen(monkeypatch):
    def broken(count):
        return [][count]

    monkeypatch.setattr(_calls, "CALLS", {"broken": _calls.Call(broken, {"count": 3})})
    found = _calls.fuzz_calls(8, traced=0.0)
    assert found["problems"]


def test_every_call_works_with_its_own_arguments():
    """Else the wrong argument is not what the fuzzer looks at."""
    rng = random.Random(0)
    for name in rng.sample(sorted(_calls.CALLS), 12):
        call = _calls.CALLS[name]
        abstract = name not in ("rows_independent", "choose", "color")
        _calls._make(call.function, _calls._keyed(call.arguments), abstract)


def test_spoilt_files_end_in_one_message(tmp_path):
    found = _formats.fuzz_formats(16, tmp_path / "formats", seed=2)
    assert found["problems"] == []
    assert found["largest_growth_bytes"] < 2**30
    assert sum(each.get("exit 2", 0) for each in found["outcomes"].values()) > 5


def test_a_small_file_of_a_huge_picture(tmp_path):
    folder = tmp_path / "data"
    _formats.write_pictures(folder)
    (folder / "train" / "class-0" / "0.png").write_bytes(_formats._png_header(60000, 60000))
    text = (_formats.ROOT / "configs" / "smoke" / "nnx.toml").read_bytes()
    case = _configs.Case(text, (f"data.path={folder}",), "")
    assert _configs.try_case(case, tmp_path, trained=False) == ("exit 2", None)


@pytest.mark.slow
def test_random_kills(tmp_path, monkeypatch):
    # A kill may leave a torn program, which is not for the suite's folder.
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    found = _kills.run_kills(tmp_path, 3, seed=1, subjects=_kills.SUBJECTS[:1])
    assert found["failed_runs"] == 0
    assert found["kills"] == 3
