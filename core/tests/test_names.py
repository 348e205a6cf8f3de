"""Strangers' names in messages."""

import pytest

from core.names import printable, shown


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("検査　結果（１）.png", "検査　結果（１）.png"),
        ("Größe\u00a0é🎯", "Größe\u00a0é🎯"),
        ("a\x1b[31m\n", "a\\x1b[31m\\n"),
        ("\u202egnp\u200b", "\\u202egnp\\u200b"),
        ("\ud800", "\\ud800"),
        ("\udcff.png", "\\xff.png"),
        ("\U000f0000", "\\U000f0000"),
    ],
)
def test_names_of_any_script_are_shown_and_what_is_invisible_is_escaped(name, said):
    assert (printable(name), shown(name)) == (said, f"'{said}'")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("it's", '"it\'s"'),
        ("a\\u3042", "'a\\\\u3042'"),
        ("'\"", '"\'\\""'),
        (1.5, "1.5"),
        ("あ" * 60, "'" + "あ" * 56 + "..."),
        ("あ" * 58, "'" + "あ" * 58 + "'"),
    ],
)
def test_shown_values_are_quoted_and_short(value, said):
    assert shown(value) == said
