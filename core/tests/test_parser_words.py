"""Complaints of the parsers of YAML and JSON are told in the reader's language."""

import re

import pytest
from django.utils import translation

from accounts.refusals import reason_of
from core.parser_words import _SENTENCES, in_parts
from core.untrusted import Bounds, TextRefused, load_json, load_yaml

BOUNDS = Bounds(bytes=10_000)
YAML = {
    "a: b: c": "mapping values are not allowed here, line 1",
    "a: [1, 2": "expected ',' or ']', but got '<stream end>', line 1",
    "a: {b: 1": "expected ',' or '}', but got '<stream end>', line 1",
    "- a\nb: 1": "expected <block end>, but found '?', line 2",
    "a: @b": "found character '@' that cannot start any token, line 1",
    'a: "b': "found unexpected end of stream, line 1",
    'a: "\\q"': "found unknown escape character 'q', line 1",
    "a:\n  b\nc\n": "could not find expected ':', line 4",
    "a: !!python/none x": "could not determine a constructor for the tag 'tag:yaml.org,2002:python/none', line 1",
}
JSON = {
    "": "Expecting value, line 1",
    '{"a": }': "Expecting value, line 1",
    '{"a": 1 "b"}': "Expecting ',' delimiter, line 1",
    '{"a" 1}': "Expecting ':' delimiter, line 1",
    "{a: 1}": "Expecting property name enclosed in double quotes, line 1",
    '{"a": "b': "Unterminated string starting at, line 1",
    "[1]\n[2]": "Extra data, line 2",
}


@pytest.mark.parametrize(
    ("load", "text", "told"),
    [(load, *case) for load, cases in ((load_yaml, YAML), (load_json, JSON)) for case in cases.items()],
)
def test_a_mistake_is_told_as_the_parser_does_and_in_japanese(load, text, told):
    with pytest.raises(TextRefused) as refused:
        load(text, BOUNDS)
    assert str(reason_of(refused.value)) == told
    with translation.override("ja"):
        japanese = str(reason_of(refused.value))
    assert re.search("[ぁ-ん]", japanese) and not re.search(r"[A-Za-z]{4,} [a-z]", japanese.replace("<stream end>", ""))


def test_another_complaint_stays_as_it_is():
    assert in_parts("found a new kind of mistake 100% odd") == (
        "%(problem)s",
        {"problem": "found a new kind of mistake 100% odd"},
    )


def test_values_are_told_apart_from_sentences():
    assert in_parts("found undefined alias '%(x)s'") == ("found undefined alias %(found)s", {"found": "'%(x)s'"})
    assert [sentence for sentence in _SENTENCES if sentence.count("%") != sentence.count("%(found)s")] == []
