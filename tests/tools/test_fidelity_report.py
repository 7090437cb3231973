from tools.fidelity_report import ROOT, table


def test_table_has_one_row_per_family_and_one_column_per_quantity():
    text = table({"b": {"gradients": 2e-8, "teacher": 3e-8}, "a": {"outputs": 1e-9}})
    assert text.splitlines()[0] == "| family | outputs | gradients | teacher |"
    assert text.splitlines()[2:] == ["| a | 1.0e-09 |  |  |", "| b |  | 2.0e-08 | 3.0e-08 |"]


def test_the_page_has_a_row_for_every_family():
    page = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")
    for family in ("pre-training", "fine-tuning", "linear probe", "attentive probe", "DALL-E", "pixel targets"):
        assert f"| {family} |" in page
