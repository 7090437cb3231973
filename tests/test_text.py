import pytest

from plsc.text import distinguishable, lines, look_the_same, printable


@pytest.mark.parametrize("text", ["a b.png", "köln/日本 ü.png", "a\\b", "crème", "👩\u200d🔬", "می\u200cخواهم"])
def test_ordinary_text_is_unchanged(text):
    assert printable(text) == lines(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("caf\udce9.png", r"caf\xe9.png"),
        ("a\nb", r"a\nb"),
        ("a\r\x1b[2Jb\x07", r"a\r\x1b[2Jb\x07"),
        ("a\x9b1mb\x7f", r"a\x9b1mb\x7f"),
        ("a\u2028b\u202etxt", r"a\u2028b\u202etxt"),
        ("\ud800", r"\ud800"),
        (5, "5"),
    ],
)
def test_what_could_do_harm_is_escaped(text, shown):
    assert printable(text) == shown
    shown.encode("utf-8")


def test_messages_keep_their_lines():
    assert lines("a:\n\tb \x1b[0m\udcff") == "a:\n\tb \\x1b[0m\\xff"


def test_names_that_look_the_same_are_distinguished():
    assert distinguishable(["cr\xe8me", "cre\u0300me", "köln"]) == [r"cr\xe8me", r"cre\u0300me", "köln"]
    assert distinguishable(["crème", "crème"]) == ["crème", "crème"]
    assert look_the_same("cr\xe8me", "cre\u0300me")
    assert not look_the_same("crème", "crème") and not look_the_same("a", "b")
