"""HTML page of a report, without scripts and without external content."""

import time
from html import escape
from typing import Mapping, Optional, Sequence

from plsc.report import sections
from plsc.report.examination import Examination
from plsc.report.measured import comparable, ranked
from plsc.report.style import STYLE
from plsc.runs.reader import Run

# No scripts and no requests, even if some text were not escaped.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
START = (  # first bytes of every report, used to recognize reports
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
)


def page(
    runs: Sequence[Run], examinations: Optional[Mapping[str, Examination]] = None, title: Optional[str] = None
) -> str:
    """Return the HTML of a report.

    Args:
        runs: Runs, at least one.
        examinations: Results of the networks on images, by name of the run.
        title: Title of the page; by default the name of the run, or the number of runs.
    """
    examined = examinations or {}
    shown = title or (runs[0].name if len(runs) == 1 else f"{len(runs)} runs compared")
    names = "" if len(runs) == 1 and title is None else ", ".join(run.name for run in runs)
    results, seen = sections.results(runs), ""
    for group in comparable(runs):
        for number, run in enumerate(ranked(group)):
            seen += sections.pictures(run)
            if run.name in examined:
                seen += sections.examination(run, examined[run.name], unfolded=number == 0)
    body = [
        f"<h1>{escape(shown)}</h1><p class=soft>{escape(names)}</p>",
        _navigation(bool(results), bool(seen)),
        sections.headline(runs),
        sections.damaged(runs),
        results,
        sections.curves(runs),
        f"<div id=images>{seen}</div>",
        sections.configs(runs),
        sections.environments(runs),
        f"<footer>Written by plsc on {time.strftime('%Y-%m-%d %H:%M')}. This page loads no external content.</footer>",
    ]
    return (
        f'{START}<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(shown)}</title><style>{STYLE}</style></head>\n"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _navigation(results: bool, images: bool) -> str:
    there = {"results": results, "curves": True, "images": images, "configs": True, "environment": True}
    names = {"results": "Results", "curves": "Curves", "images": "Images", "configs": "Configuration"}
    links = [f'<a href="#{key}">{names.get(key, "Environment")}</a>' for key, shown in there.items() if shown]
    return f"<nav>{''.join(links)}</nav>"
