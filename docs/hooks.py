"""Site hook: a page that the navigation does not name is listed by its folder, so none is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# Of papers/ the reports in its subfolders, too.
FOLDERS = {"papers": ("Papers", "**/*.md"), ".": ("More", "*.md")}


def on_config(config: Any) -> Any:
    """Add the pages of docs/ and docs/papers/ that `nav` leaves out."""
    root = Path(config["docs_dir"])
    named = set(_pages(config["nav"]))
    for folder, (title, pattern) in FOLDERS.items():
        found = sorted(path.relative_to(root).as_posix() for path in (root / folder).glob(pattern))
        missing = [page for page in found if page not in named]
        missing.sort(key=lambda page: not page.endswith("index.md"))
        if missing:
            config["nav"].append({title: missing})
    return config


def _pages(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    items = nav.values() if isinstance(nav, dict) else nav
    return [page for item in items for page in _pages(item)]
