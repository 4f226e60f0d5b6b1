"""One HTML page without a link to anything else: pictures are inside it."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

from train.view._pictures import DARK_INK, DARK_PAPER, Picture
from train.view._read import Run
from train.view._tables import Row, changed_keys, metric_rows

# More rows than this are shown when asked for.
_FEW_KEYS = 15
_STYLE = f"""
:root {{ color-scheme: light dark; --paper: #ffffff; --ink: #1d2127; --soft: #5d6673;
  --line: #d9dee5; --best: #e4f2e7; }}
@media (prefers-color-scheme: dark) {{ :root {{ --paper: {DARK_PAPER}; --ink: {DARK_INK};
  --soft: #98a2b0; --line: #323843; --best: #1e3a29; }} }}
body {{ margin: 0 auto; max-width: 68rem; padding: 1.5rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 1.6rem; margin: 0 0 .2rem; }}
h2 {{ font-size: 1.15rem; margin: 2.2rem 0 .4rem; }}
p, figcaption {{ color: var(--soft); margin: 0 0 .8rem; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line); }}
summary {{ color: var(--soft); cursor: pointer; }}
th {{ text-align: left; font-weight: 600; }}
td {{ text-align: right; }}
td.best {{ background: var(--best); font-weight: 600; }}
tbody th {{ font-weight: 400; font-family: ui-monospace, monospace; font-size: .88rem; }}
figure {{ margin: 0; }}
figure img {{ max-width: 100%; height: auto; }}
"""


def page(runs: Sequence[Run], pictures: Sequence[Picture]) -> str:
    """Return the page that compares the runs."""
    titles = [run.title for run in runs]
    head = " and ".join(titles) if len(titles) < 3 else f"{len(titles)} runs"
    workdirs = ", ".join(str(run.workdir) for run in runs)
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',
        f"<title>{html.escape(head)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{html.escape(head)}</h1>",
        f"<p>From the records in {html.escape(workdirs)}.</p>",
        "<h2>Metrics</h2>",
        "<p>At the end of training; the best of a row is marked where more or less is better.</p>",
        _table("metric", titles, metric_rows(runs)),
    ]
    changed = changed_keys(runs) if len(runs) > 1 else []
    if changed:
        state = " open" if len(changed) <= _FEW_KEYS else ""
        parts += [
            f"<h2>What differs in the configs</h2><details{state}>",
            f"<summary>{len(changed)} key{'s' * (len(changed) > 1)}</summary>",
            _table("key", titles, changed),
            "</details>",
        ]
    parts += [_figure(picture) for picture in pictures]
    return "\n".join([*parts, "</body></html>", ""])


def _table(corner: str, titles: Sequence[str], rows: Sequence[Row]) -> str:
    heads = "".join(f'<th scope="col">{html.escape(title)}</th>' for title in titles)
    lines = []
    for row in rows:
        cells = "".join(
            f'<td class="best">{html.escape(cell)}</td>'
            if column in row.best
            else f"<td>{html.escape(cell)}</td>"
            for column, cell in enumerate(row.cells)
        )
        lines.append(f'<tr><th scope="row">{html.escape(row.name)}</th>{cells}</tr>')
    return (
        f'<div class="wide"><table><thead><tr><th scope="col">{corner}</th>{heads}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _figure(picture: Picture) -> str:
    title, caption = html.escape(picture.title), html.escape(picture.caption)
    return (
        f"<h2>{title}</h2><figure><figcaption>{caption}</figcaption><picture>"
        f'<source media="(prefers-color-scheme: dark)" srcset="{_inline(picture.dark)}">'
        f'<img alt="{title}. {caption}" src="{_inline(_bytes(picture.light))}">'
        "</picture></figure>"
    )


def _bytes(path: Path) -> bytes:
    return path.read_bytes()


def _inline(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()
