"""HTML of the page."""

from html.parser import HTMLParser

import numpy as np

from plsc.evaluation.classification import calibration_bins
from plsc.report.examination import Examination, Example
from plsc.report.page import page
from plsc.runs.reader import read_runs
from tests.report.toys import HOSTILE, make_run


class Tags(HTMLParser):
    """Parser that collects tags and addresses and checks that every tag is closed."""

    VOID = {"meta", "img", "br"}

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.addresses, self.data = [], set(), [], []

    def handle_starttag(self, tag, attributes):
        self.seen.add(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href", "srcset")]
        assert not [name for name, _ in attributes if name.startswith("on")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.data.append(data)


def examined(text="plain"):
    confidence = np.array([0.9, 0.8, 0.7, 0.6])
    points = np.random.default_rng(0).normal(size=(4, 2))
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    return Examination(
        f"4 images {text}",
        [text, "b"],
        np.array([[2, 1], [0, 1]]),
        12.5,
        calibration_bins(confidence, confidence > 0.65),
        [Example(image, text, "b", 0.9, f"{text}.png")],
        [Example(image, "b", "b", 0.8, "fine.png")],
        points,
        np.array([0, 0, 0, 1]),
        "along two directions (50% and 25% of it)",
        [text],
    )


def make_page(tmp_path, text="plain"):
    runs = read_runs([make_run(tmp_path, "first", text=text), make_run(tmp_path, "second", text=text, best=80.0)])
    for run in runs:
        run.name += text
    return page(runs, {run.name: examined(text) for run in runs}, title=text)


def parsed(html):
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    return tags


def test_the_page_has_all_sections_and_loads_nothing(tmp_path):
    html = make_page(tmp_path)
    tags = parsed(html)
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in tags.addresses)
    assert "http" not in html.replace("http-equiv", "") and "@import" not in html and "url(" not in html
    text = " ".join(tags.data)
    for part in (
        "90%",
        "Results",
        "Curves",
        "Figures from training: firstplain",
        "Confusion matrix: accuracy 75.0%",
        "b, 80%",
        "plain, predicted as b, 90%",
        "50% and 25% of it",
        "base.yaml:4",
        "Differences between the runs",
    ):
        assert part in text, part
    assert html.index("<td class=wrap>firstplain") < html.index("<td class=wrap>secondplain")  # the better one first


def test_no_name_becomes_markup(tmp_path):
    html = make_page(tmp_path, HOSTILE)
    tags = parsed(html)
    assert "script" not in tags.seen
    assert html.count("<script") == 0
    assert "default-src 'none'" in html
    assert " ".join(tags.data).count(HOSTILE) > 10


def test_a_run_without_metrics(tmp_path):
    path = make_run(tmp_path, epochs=1)
    (path / "metrics.jsonl").write_text("", encoding="utf-8")
    parsed(page(read_runs([path])))


def test_many_classes_have_no_matrix(tmp_path):
    found = Examination("", [f"class {i}" for i in range(100)], np.eye(100, dtype=np.int64), 0.0, np.zeros((15, 3)))
    assert "Accuracy of each class" in page(read_runs([make_run(tmp_path)]), {"run": found})
