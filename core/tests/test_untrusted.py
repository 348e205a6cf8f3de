"""YAML and JSON of strangers: ordinary texts are read, texts beyond a bound are refused, and no accepted text is slow."""

import json
import math
from contextlib import suppress
from datetime import date

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.untrusted import (
    DEEPEST,
    LONGEST_NUMBER,
    MOST_MERGES,
    Bounds,
    TextRefused,
    compose_yaml,
    load_json,
    load_yaml,
    storable_json_bytes,
)
from tests.timing import seconds

KIB = 1024
SIZE = 64 * KIB
BOUNDS = Bounds(bytes=4 * SIZE)
# The widest bounds: those of a worker that reads a config file.
WIDE = Bounds(bytes=4 * SIZE, tokens=200_000, aliases=1000, storable=False)


def fill(unit: str, size: int = SIZE) -> str:
    return unit * (size // len(unit))


def numbered(unit: str, size: int = SIZE) -> str:
    return "".join(unit % number for number in range(size // len(unit % 10_000)))


# Each repeats one thing that a reader of YAML could be slow at, up to 64 KiB. Those with brackets are as deep as allowed.
SHAPES = {
    "brackets": fill("["),
    "braces": fill("{"),
    "brackets on lines": fill("[\n"),
    "closed brackets": "[" * (SIZE // 2) + "]" * (SIZE // 2),
    "brackets apart": fill("[" + " " * 15),
    "saw of brackets": "[" + fill("[" * (DEEPEST - 2) + "1" + "]" * (DEEPEST - 2) + ",") + "]",
    "saw of braces": "[" + fill("{a: " * (DEEPEST - 2) + "1" + "}" * (DEEPEST - 2) + ",") + "]",
    "deep list": "[" * (DEEPEST - 1) + fill("1,") + "]" * (DEEPEST - 1),
    "deep names": "[" * (DEEPEST - 1) + fill("a: ,") + "]" * (DEEPEST - 1),
    "question marks": fill("? "),
    "lines of question marks": fill("? " * (DEEPEST - 1) + "1\n"),
    "dashes": fill("- "),
    "lines of dashes": fill("- " * (DEEPEST - 1) + "1\n"),
    "dashes and question marks": fill("- ? "),
    "steps": "".join(" " * level + "a:\n" for level in range(300)),
    "list": "[" + fill("1,") + "]",
    "lists": "[" + fill("[],") + "]",
    "names in braces": "{" + numbered("a%d,") + "}",
    "pairs in brackets": "[" + fill("a: ,") + "]",
    "questions in brackets": "[" + fill("?,") + "]",
    "list on lines": fill("- 1\n"),
    "empty list on lines": fill("-\n"),
    "names": numbered("k%d:\n"),
    "one name": fill("a:\n"),
    "names that are lists": fill("? {a: b}\n"),
    "words on lines": fill("word\n "),
    "words": fill("a "),
    "one word": fill("a"),
    "possible names": fill("a\n"),
    "escapes": '"' + fill("\\x41") + '"',
    "broken lines in quotes": '"' + fill("\\\n") + '"',
    "lines in quotes": '"' + fill("\n") + '"',
    "quotes in quotes": "'" + fill("''") + "'",
    "literal": "|\n" + fill(" a\n"),
    "folded": ">\n" + fill(" a\n"),
    "blank literal": "|\n" + fill("\n"),
    "literals": fill("- |\n a\n"),
    "anchors": numbered("- &a%d 1\n"),
    "aliases": "- &a 1\n" + fill("- *a\n"),
    "aliases of aliases": "a0: &a0 [1]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 100)
    ),
    "merges": "a: &a {" + numbered("k%d: 1,", SIZE // 2) + "}\n" + fill("- <<: *a\n", SIZE // 2),
    "merges in a list": "a: &a {b: 1}\nc:\n  <<: [" + fill("*a,") + "]\n",
    "merges of merges": "a0: &a0 {k: 1}\n" + "".join(
        f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 100)
    ),
    "merge of itself": "&a\n<<: *a\n",
    "merges within merges": "{<<: " * (DEEPEST - 1) + "{" + numbered("k%d: 1,") + "}" + "}" * (DEEPEST - 1),
    "tags": fill("- !!str a\n"),
    "unknown tags": fill("- !a b\n"),
    "long tag": "!" + fill("%41"),
    "prefix of tags": "%TAG !a! tag:" + "x" * (SIZE // 2) + "\n---\n" + fill("- !a!x\n", SIZE // 2),
    "directives": numbered("%%TAG !a%d! x\n") + "--- a",
    "unknown directives": fill("%FOO\n") + "--- a",
    "documents": fill("---\n"),
    "comments": fill("# a\n"),
    "one comment": "#" + fill("a"),
    "blank lines": fill(" \n"),
    "digits": fill("1"),
    "hexadecimal": "0x" + fill("f"),
    "base 60": "- 1" + fill(":59"),
    "many of base 60": fill("- 1" + ":59" * 130 + "\n"),
    "many to base 60 with a point": fill("- 1" + ":59" * 130 + ".5\n"),
    "underscores": "1" + fill("_"),
    "fraction": "1." + fill("0"),
    "moment": "2001-01-01 00:00:00." + fill("1"),
    "spaces in a moment": "2001-01-01" + fill(" ") + "x",
    "equal hashes": "{" + ",".join(f"{number * (2**61 - 1)}: " for number in range(1, 2900)) + "}",
    "merged equal hashes": "{<<: {" + ",".join(f"{number * (2**61 - 1)}: " for number in range(1, 2900)) + "}}",
    "omap": "!!omap [" + fill("{a: 1},") + "]",
    "set": "!!set {" + numbered("a%d,") + "}",
    "base 64": "!!binary |\n" + fill(" QUFB\n"),
    "BOMs": fill("\ufeff", 1000),
}  # fmt: skip
READERS = {"load_yaml": load_yaml, "compose_yaml": compose_yaml, "load_json": load_json}


def plain_seconds() -> float:
    """Return how long an ordinary config of the same size takes."""
    return seconds(load_yaml, numbered("key_%d: some plain value\n"), WIDE)


def tried(read, text, bounds) -> None:
    with suppress(TextRefused):
        read(text, bounds)


@pytest.fixture(scope="module")
def plain() -> float:
    return plain_seconds()


@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_takes_many_times_what_a_plain_text_takes(plain, shape):
    for read in (load_yaml, load_json):
        assert seconds(tried, read, SHAPES[shape], WIDE, enough=20 * plain) < 20 * plain


@pytest.mark.parametrize("shape", ["saw of brackets", "lines of question marks"])
def test_the_longest_that_a_worker_reads_takes_no_more_for_its_length(plain, shape):
    """Try the shapes that take longest at four times the length."""
    text = SHAPES[shape].removeprefix("[").removesuffix("]") * 4
    longest = f"[{text}]" if SHAPES[shape].startswith("[") else text
    assert seconds(tried, load_yaml, longest[: WIDE.bytes], WIDE, enough=80 * plain) < 80 * plain


PIECES = [
    "[", "]", "{", "}", ",", ": ", "- ", "? ", "\n", "\n  ", " ", "a", "1", '"', "'", "&a ", "*a ", "!!int ", "<<: ", "#", "|",
    ">", "%TAG ! x", "---", "...", "1:59", "0x", "\\u0000", "\ufeff", "\0", "\ud800", "é", "\t", "=", "~", ".inf", "!!set ",
    "2001-01-01", "!!omap ", "!!binary ", "null", "{a: &a {b: 1}, c: {<<: *a}}",
]  # fmt: skip


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join), st.sampled_from([BOUNDS, WIDE]))
def test_whatever_comes_is_read_or_refused(text, bounds):
    for read in READERS.values():
        for given_text in (text, text.encode("utf-8", "surrogatepass")):
            try:
                value = read(given_text, bounds)
            except TextRefused as refusal:
                assert str(refusal) and (refusal.line is None or refusal.line >= 1)
            else:
                if read is load_json and bounds.storable and "Infinity" not in text:
                    storable_json_bytes(value)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=4),
    )
)  # fmt: skip
def test_ordinary_values_come_back(value):
    assert load_json(json.dumps(value), BOUNDS) == value
    assert load_yaml(yaml.safe_dump(value, allow_unicode=True), BOUNDS) == value


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def merging(count: int) -> str:
    # The merged mapping is empty: the bound on copied names never sees it.
    return f"none: &none {{}}\nmany:\n  <<: [{', '.join(['*none'] * count)}]\n  key: 1\n"


FEW = Bounds(bytes=1000, tokens=10, aliases=1000)
MERGED = "a: &a {" + ", ".join(f"k{number}: 1" for number in range(2000)) + "}\n"


@pytest.mark.parametrize(
    ("read", "taken", "refused", "bounds", "rule", "line"),
    [
        (load_json, nested(DEEPEST), nested(DEEPEST + 1), BOUNDS, "depth", 1),
        (load_yaml, nested(DEEPEST), nested(DEEPEST + 1), BOUNDS, "depth", 1),
        (load_yaml, "- " * (DEEPEST - 1) + "1", "\n" + "- " * (DEEPEST + 1) + "1", BOUNDS, "depth", 2),
        (load_json, "[1,2,3,4]", "[1,2,\n3,4,5]", FEW, "tokens", 2),
        (load_yaml, "[1,2]", "[1,2,\n3,4,5,6]", FEW, "tokens", 2),
        (load_json, " " * 998 + "{}", " " * 999 + "{}", FEW, "bytes", None),
        (load_yaml, "é" * 500, "é" * 501, FEW, "bytes", None),
        (load_yaml, b"a" * 1000, b"a" * 1001, FEW, "bytes", None),
        (load_json, "1" * LONGEST_NUMBER, "\n" + "1" * (LONGEST_NUMBER + 1), BOUNDS, "number", 2),
        (load_yaml, "1" * LONGEST_NUMBER, "\n" + "1" * (LONGEST_NUMBER + 1), BOUNDS, "number", 2),
        (load_yaml, "{12345678901234567: a}", "{123456789012345678: a}", BOUNDS, "number", 1),
        (load_yaml, "<<: {1: a}", "<<: {123456789012345678: a}", BOUNDS, "number", 1),
        (load_yaml, merging(MOST_MERGES), merging(MOST_MERGES + 1), WIDE, "merges", 3),
        (load_yaml, MERGED, "a: &a {b: 1}\nc: *a", BOUNDS, "aliases", 2),
        (load_yaml, MERGED + "b:\n" + "- <<: *a\n" * 5, MERGED + "b:\n" + "- <<: *a\n" * 6, WIDE, "merges", 8),
        (load_yaml, '"\\\\0"', '- "\\0"', BOUNDS, "storable", 1),
        (load_yaml, '"\\\\uD800"', '\n"\\uD800"', BOUNDS, "storable", 2),
        (load_json, '"\\\\u0000"', '"\\u0000"', BOUNDS, "storable", None),
        (load_json, '"\\ud83d\\ude00"', '{"\\ud83d": 1}', BOUNDS, "storable", None),
        (load_json, "[]", "[NaN]", BOUNDS, "storable", None),
        (load_yaml, "--- a", "--- a\n--- b", BOUNDS, "documents", 2),
        (load_yaml, "%YAML 1.1\n--- a", "%TAG ! x:\n--- a", BOUNDS, "directives", 2),
        (load_yaml, "a: b", "a: b\nc: !!int x", BOUNDS, "syntax", 2),
        (load_yaml, "2001-01-01", "2001-99-99", BOUNDS, "syntax", 1),
        (load_yaml, "a", "!!python/object/apply:os.system [id]", BOUNDS, "syntax", 1),
        (load_yaml, "a", "&a\n<<: *a\n", WIDE, "syntax", None),
        (load_yaml, "a", "\n\x07", BOUNDS, "syntax", 2),
        (load_yaml, "a", b"\xff\xfe\xff", BOUNDS, "syntax", None),
        (load_json, "1", b"\n\xff", BOUNDS, "syntax", 2),
        (load_json, "1", "\n{1}", BOUNDS, "syntax", 2),
    ],
)
def test_a_bound_holds_on_both_sides(read, taken, refused, bounds, rule, line):
    read(taken, bounds)
    with pytest.raises(TextRefused) as error:
        read(refused, bounds)
    assert (error.value.rule, error.value.line) == (rule, line)


def test_text_that_is_not_stored_may_hold_nul():
    assert load_yaml('"\\0"', WIDE) == load_json('"\\u0000"', WIDE) == "\0"


def test_a_refusal_says_rule_and_value():
    with pytest.raises(TextRefused) as error:
        load_json("[" + "7" * 500 + "]", BOUNDS)
    assert str(error.value) == "the number 77777777777777777777... has more than 400 characters"
    with pytest.raises(TextRefused) as error:
        load_json('{"a": {"b": [1, "\\u0000"]}}', BOUNDS)
    assert (str(error.value), error.value.place) == ("a text holds the character NUL", "a.b[1]")


def test_nodes_are_made_without_their_tags():
    node = compose_yaml("a: !mine {b: 1}\n", BOUNDS)
    assert isinstance(node, yaml.MappingNode) and compose_yaml("", BOUNDS) is None


def test_an_ordinary_config_of_hundreds_of_kilobytes_is_read():
    lines = numbered("  layer_%d: {width: 64, dropout: 0.1, name: 'block'}\n", 200 * KIB)
    text = "# A comment with [[[[ and {{{{\nmodel:\n" + lines + "moment: 2027-01-31\nempty:\n"
    value = load_yaml(text, WIDE)
    assert value["moment"] == date(2027, 1, 31) and value["model"]["layer_0"]["dropout"] == 0.1


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, "\0", {"\0": 1}, [{"a": "\0"}], "\ud800", {"\udfff": 1}, object()]
)
def test_what_jsonb_cannot_keep_is_told(value):
    with pytest.raises((ValueError, TypeError)):
        storable_json_bytes(value)


def test_deep_nesting_is_told():
    value: list = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueError, match="nested too deeply"):
        storable_json_bytes(value)


@pytest.mark.parametrize(
    ("value", "size"), [({}, 2), ({"a": "名"}, 12), ({"a": "\\u0000"}, 16), ("😀", 6), ([1.5, None], 11)]
)
def test_what_it_can_keep_is_measured_in_bytes(value, size):
    # json.dumps escapes the backslash: "\\u0000" is text about NUL, not NUL
    assert storable_json_bytes(value) == size
