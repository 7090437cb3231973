"""The verb `report` on real runs; the content of the page is tested in tests/report."""

import sys

import pytest


def test_a_run_wrote_its_own_report(toy_runs):
    html = (toy_runs.classifier / "report.html").read_text(encoding="utf-8")
    assert "Confusion matrix:" in html and "Features of the encoder" in html
    assert "configs/quickstart/scratch.yaml:" in html  # the origin of a value


def test_runs_are_compared(cli, toy_runs, tmp_path):
    runs = [toy_runs.tokenizer, toy_runs.pretrain, toy_runs.classifier]
    code, out, err = cli("report", *runs, "--out", "deep/page.html", "--title", "Three runs")
    html = (tmp_path / "deep" / "page.html").read_text(encoding="utf-8")
    assert code == 0 and out.splitlines()[-1] == "deep/page.html" and err == ""
    assert "<h1>Three runs</h1>" in html
    assert "Figures from training: pretrain" in html and "<span>original</span><span>masked</span>" in html
    assert "4 evaluation images" not in html and "12 of 12 evaluation images" in html


def test_features_are_drawn_by_the_chosen_method(cli, toy_runs, tmp_path, monkeypatch):
    def caption():
        html = (tmp_path / "page.html").read_text(encoding="utf-8")
        return html[html.index("Each point is the mean of the patch") :][:400]

    for options, words in (([], "by t-SNE (perplexity 3.67)"), (["--embedding", "pca"], "of largest variance")):
        assert cli("report", toy_runs.classifier, "--out", "page.html", *options)[0] == 0
        assert words in caption()
    monkeypatch.setitem(sys.modules, "umap", None)
    assert cli("report", toy_runs.classifier, "--out", "page.html", "--embedding", "umap")[0] == 0
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "UMAP needs umap-learn; pip install umap-learn." in html and "of largest variance" in caption()


def test_a_page_without_data_has_a_note(cli, toy_runs, tmp_path):
    toy_runs.images.rename(toy_runs.images.with_name("elsewhere"))
    try:
        code, _, _ = cli("report", toy_runs.classifier, "--out", "page.html")
    finally:
        toy_runs.images.with_name("elsewhere").rename(toy_runs.images)
    assert code == 0 and "cannot be shown" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_no_images_need_no_checkpoint(cli, toy_runs, tmp_path):
    code, out, _ = cli("report", toy_runs.classifier, "--images", "0", "--out", "page.html")
    assert code == 0 and out == "page.html\n"
    assert "Confusion matrix" not in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: RUN"),
        (["nowhere"], "nowhere does not exist; give the Global.output_dir of a training run"),
        (["nowhere", "--images", "-1"], "--images must be at least 0, got -1"),
    ],
)
def test_mistakes_are_named(cli, arguments, message):
    code, _, err = cli("report", *arguments)
    assert code == 2 and message in err and "Traceback" not in err
