"""One HTML page without a link to anything else: pictures are inside it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import jinja2

from train.view._pictures import DARK_INK, DARK_PAPER, Picture
from train.view._read import Run
from train.view._tables import changed_keys, metric_rows

_TEMPLATE = Path(__file__).with_suffix(".html")
# More rows than this are shown when asked for.
_FEW_KEYS = 15


def page(runs: Sequence[Run], pictures: Sequence[Picture]) -> str:
    """Return the page that compares the runs."""
    titles = [run.title for run in runs]
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        head=" and ".join(titles) if len(titles) < 3 else f"{len(titles)} runs",
        titles=titles,
        workdirs=", ".join(str(run.workdir) for run in runs),
        metrics=metric_rows(runs),
        changed=changed_keys(runs) if len(runs) > 1 else [],
        few_keys=_FEW_KEYS,
        pictures=[
            {
                "title": each.title,
                "caption": each.caption,
                "light": _inline(each.light.read_bytes()),
                "dark": _inline(each.dark),
            }
            for each in pictures
        ],
        dark_paper=DARK_PAPER,
        dark_ink=DARK_INK,
    )


def _inline(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()
