"""Every Python block of the docs runs: the blocks of a page in order, in one namespace."""

import re
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# What is no Python is not run, so nothing that looks like Python may hide under another name.
NOT_RUN = {"", "toml", "json"}
NEEDS = ("flax", "equinox", "optax", "diffrax", "optimistix", "mlxtend", "sklearn")


def blocks(text):
    """The Python blocks, each with as many lines before it as the page has."""
    return [
        "\n" * (text[: match.start(2)].count("\n")) + match[2]
        for match in FENCE.finditer(text)
        if match[1] == "python"
    ]


def with_code():
    return [page for page in PAGES if blocks(page.read_text())]


@pytest.mark.parametrize("page", with_code(), ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page, monkeypatch, tmp_path):
    for module in NEEDS:
        pytest.importorskip(module)
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    names = {"__name__": "__main__"}
    for block in blocks(page.read_text()):
        exec(compile(block, str(page.relative_to(ROOT)), "exec"), names)
    jax.clear_caches()


def test_there_is_code_to_run():
    stems = {page.stem for page in with_code()}
    tutorials = {page.stem for page in (ROOT / "docs" / "tutorials").glob("*.md")}
    assert len(tutorials) >= 10
    assert stems >= tutorials | {"index", "which-penalty", "extending"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_python_hides_under_another_name(page):
    text = page.read_text()
    for match in FENCE.finditer(text):
        assert match[1] in NOT_RUN | {"python"}, match[1]
        assert match[1] == "python" or not re.search(r"^(import|from) \w", match[2], re.MULTILINE)
    assert text.count("```") == 2 * len(FENCE.findall(text))


def test_a_block_keeps_its_line_numbers():
    (block,) = blocks("one\n\n```python\nx = 1 / 0\n```\n")
    with pytest.raises(ZeroDivisionError) as caught:
        exec(compile(block, "page", "exec"), {})
    assert caught.traceback[-1].lineno == 3  # counted from 0: the page's fourth line


def test_named_files_and_commands_exist():
    """What a page tells to run or to open is there."""
    for page in PAGES:
        text = page.read_text()
        for config in re.findall(r"\b(configs/[\w/-]+\.toml)", text):
            assert (ROOT / config).is_file(), f"{page.name}: {config}"
        for example in re.findall(r"\b((?:examples|tests)/[\w/]+\.py)\b", text):
            assert (ROOT / example).is_file(), f"{page.name}: {example}"
        for module in set(re.findall(r"python -m ((?:train|benchmarks)[\w.]*)", text)):
            path = ROOT / Path(*module.rstrip(".").split("."))
            found = path.with_suffix(".py").exists() or (path / "__main__.py").exists()
            assert found, f"{page.name}: {module}"
