"""Markup in the data is escaped in every part of a report."""

import json
import math
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from plsc.config.tree import parse
from plsc.report.examination import Examination, Example
from plsc.report.page import page
from plsc.report.write import write
from plsc.runs.reader import Run, read_run, read_runs
from tests.report.toys import make_run

PIECES = [
    "<", ">", '"', "'", "&", "/", "=", " ", "]]>", "<!--", "-->", "<![CDATA[", "</script>", "</style>", "</title>",
    "</svg>", "</pre>", "<x-evil>", "<script>x</script>", '"><img src=x onerror=evil()>', "' onload='evil()",
    "<svg/onload=evil()>", "&lt;x-evil&gt;", "javascript:evil()", "\\", "\x00", "\ud800", "%3C", "＜", "  # ", "x",
]  # fmt: skip
MARKUP = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join)
TEXTS = st.one_of(MARKUP, st.text(min_size=1, max_size=8))
NUMBERS = st.one_of(  # as read_run leaves them
    st.floats(-1e300, 1e300), st.sampled_from([math.nan, math.inf, -math.inf]), st.integers(-(10**30), 10**30)
)

TAGS = """
html head meta title style body main h1 h2 h3 p nav a div b span table tr th td i ul li section figure figcaption img
details summary pre svg path text circle rect footer
"""
FROM_DATA = {"title", "alt", "aria-label"}
WRITTEN_HERE = """
lang charset http-equiv content name class id href style src open d stroke stroke-dasharray x y width height rx fill
fill-opacity cx cy r transform viewbox role
"""


class Inspector(HTMLParser):
    """Parser of a page that rejects all tags and attributes that plsc does not write."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.said = [], []

    def handle_starttag(self, tag, attributes):
        assert tag in TAGS.split(), f"<{tag}> comes from data"
        for name, value in attributes:
            assert name in FROM_DATA or name in WRITTEN_HERE.split(), f"{name}= comes from data"
            if name in FROM_DATA:
                self.said.append(value or "")
            else:
                assert "evil" not in (value or ""), f"{name}={value} holds data"
            if name in ("src", "href"):
                assert value.startswith(("data:image/png;base64,", "#"))
        if tag not in ("meta", "img") and not self.get_starttag_text().endswith("/>"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("path", "circle", "rect") or self.open[-1] == tag:
            assert self.open.pop() == tag, f"</{tag}> comes from data"

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)

    def handle_data(self, data):
        self.said.append(data)

    def handle_comment(self, data):
        raise AssertionError(f"a comment comes from data: {data}")

    def handle_decl(self, declaration):
        assert declaration == "doctype html"

    unknown_decl = handle_pi = handle_comment


def inspect(html):
    inspector = Inspector()
    inspector.feed(html)
    inspector.close()
    assert inspector.open == []
    return "".join(inspector.said)


def run_of(text, number, name):
    config = parse("Task: {name: x}\nGlobal: {}\n", "config.yaml")
    for key, value in ((text, text), ("Task", {"name": text}), ("Global", {"monitor": text, text: [text]})):
        config.put(key, value, config.origin)
    rows = [{"step": i, "epoch": i, "time": number, "top1": number, text: number, "loss": -number} for i in range(4)]
    environment = {"plsc": text, "device": text, text: text, "runtime": {text: [text]}, "command": [text, text]}
    return Run(name, Path(text), config, f"a: {text}  # {text}", environment, {"eval": rows, text: rows}, [])


def examined(text):
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    example = Example(image, text, text + "x", 0.5, text)
    points = np.arange(6.0).reshape(3, 2)
    matrix, classes = np.array([[1, 2], [3, 0]]), [text, f"{text} "]
    bins = np.array([[3, 0.5, 0.4]])
    return Examination(
        text, classes, matrix, 1.0, bins, [example], [example], points, np.array([0, 1, 1]), text, [text]
    )


def check_page(text, number):
    runs = [run_of(text, number, text), run_of("x", 1.0, f"{text}/2")]
    html = page(runs, {text: examined(text)}, title=text)
    said = inspect(html)
    plain = text.replace("\x00", "").replace("\r", "")
    assert plain in said.replace("\x00", "").replace("\ufffd", "").replace("\r", "") or "\ufffd" in text
    inspect(page(runs[:1]))


@pytest.mark.filterwarnings("ignore:invalid value encountered")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example("<script>alert(1)</script>", math.nan)
@example('"><img src=x onerror=evil()>', math.inf)
@example("' onmouseover='evil()", 1e300)
@example("]]></svg><x-evil>", 5e-324)
@example("<!--", -0.0)
@given(TEXTS, NUMBERS)
def test_no_markup_from_data_survives(text, number):
    check_page(text, number)


@pytest.mark.slow
def test_no_markup_from_data_survives_in_two_thousand_reports(tally):
    @settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
    @given(TEXTS, NUMBERS)
    def check(text, number):
        check_page(text, number)
        tally.add("inputs tried: reports")

    check()
    tally.add("crashes", 0)


def test_the_inspection_would_find_it():
    html = page([run_of("plain", 1.0, "plain")])
    for evil in PIECES[15:18]:
        with pytest.raises(AssertionError, match="comes from data"):
            inspect(html.replace("</main>", f"{evil}</main>"))
    with pytest.raises(AssertionError, match="comes from data"):
        inspect(html.replace("</main>", "<!-- x --></main>"))
    with pytest.raises(AssertionError, match="</svg> comes from data"):
        inspect(html.replace("</main>", "</svg></main>"))


def test_content_read_from_a_run_is_escaped(tmp_path):
    evil = "".join(PIECES[:20])
    runs = read_runs([make_run(tmp_path, "a", text=evil), make_run(tmp_path, "b", text="x")])
    assert evil.replace("'", "") in inspect(page(runs)).replace("'", "")


def test_a_name_with_surrogates_is_written(tmp_path):
    run = read_run(make_run(tmp_path))
    run.name = "\udcff"
    assert "?" in write(tmp_path / "report.html", page([run])).read_text(encoding="utf-8")


ROWS = [
    "3", "[]", "null", '"x"', "{}", "[" * 100_000, '{"split": [], "step": 1, "epoch": 1}',
    '{"split": "train", "step": "1", "epoch": 1}', '{"split": "train", "step": 1}',
    '{"split": "train", "step": 1, "epoch": NaN}', '{"split": "train", "step": Infinity, "epoch": 1}',
]  # fmt: skip


def test_lines_that_are_not_rows_are_skipped(tmp_path):
    run = make_run(tmp_path, epochs=2)
    whole = read_run(run).rows
    with open(run / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write("\n".join(ROWS) + "\n")
    assert read_run(run).rows == whole
    odd = {"split": "train", "step": 99, "epoch": 3, "a": "text", "b": [1], "c": None, "d": 10**400, "e": 1e301, "f": 2}
    with open(run / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(odd) + "\n")
    row = read_run(run).rows["train"][-1]
    assert math.isnan(row.pop("c"))  # as a metric that was not finite is written
    assert row == {"split": "train", "step": 99, "epoch": 3, "f": 2}
    inspect(page(read_runs([run])))


@pytest.mark.parametrize("text", ["Task: 3\nGlobal: [x]\n", "Task: {name: [x]}\nGlobal: null\n", "{}"])
def test_a_config_of_other_sections(tmp_path, text):
    run = make_run(tmp_path)
    (run / "config.yaml").write_text(text, encoding="utf-8")
    (run / "env.json").write_text("[1]", encoding="utf-8")
    inspect(page(read_runs([run])))


def test_a_config_that_is_not_a_mapping(tmp_path):
    run = make_run(tmp_path)
    (run / "config.yaml").write_text("- x\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"config.yaml: a config must be a mapping of sections, got a list"):
        read_run(run)
