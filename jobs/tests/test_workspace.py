"""The effective config: the submission's file with the job's config laid over it."""

import datetime
import json
import re

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.refusals import InvalidInput
from core.config_merge import ConfigRefused, check_replacements, merge
from jobs.services import check_request
from jobs.workspace import BadSubmission, effective_config


def over(tmp_path, text, overrides, name="config.yaml"):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    return effective_config(path, overrides)


def test_config_without_overrides_stays_byte_for_byte(tmp_path):
    assert over(tmp_path, "a: 1 # why\n: : not yaml {", {}) == b"a: 1 # why\n: : not yaml {"
    assert effective_config(tmp_path / "none.yaml", {}) == b""


@pytest.mark.parametrize("name", ["config.yaml", "config.json"])
def test_config_merges_objects_and_replaces_the_rest(tmp_path, name):
    made = over(tmp_path, '{"a": {"x": 1, "y": [1, 2]}, "b": 2}', {"a": {"y": [3]}, "c": "é"}, name)
    assert yaml.safe_load(made) == {"a": {"x": 1, "y": [3]}, "b": 2, "c": "é"}
    if name.endswith("json"):
        assert json.loads(made)


@pytest.mark.parametrize("text", [None, "", "# nothing\n"])
def test_config_of_no_file_is_the_overrides(tmp_path, text):
    assert yaml.safe_load(over(tmp_path, text, {"a": 1})) == {"a": 1}


BOMB = "a: &a {k: 1}\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} {{<<: [{', '.join(['*' + chr(97 + n)] * 9)}]}}\n" for n in range(12)
)
KEYS = "{" + ", ".join(f"k{n}: 1" for n in range(2000)) + "}"
WIDE_BOMB = f"a: &a {KEYS}\nb:\n" + "- <<: *a\n" * 5000
LONG_BOMB = f"a: &a {KEYS}\nb:\n  <<: [" + "*a, " * 5000 + "*a]\n"
LAUGHS = (
    '{"a": &a ["lol"],'
    + ",".join(f'"{chr(98 + n)}": &{chr(98 + n)} [{",".join(["*" + chr(97 + n)] * 9)}]' for n in range(12))
    + "}"
)


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("a: [1", "config.yaml", "not valid YAML"),
        ("- 1\n- 2\n", "config.yaml", "must hold an object"),
        ("a: !!python/object/apply:os.system [id]\n", "config.yaml", "not valid YAML"),
        ("{a: 1}", "config.json", "not valid JSON"),
        (BOMB, "config.yaml", "is too much .*: merges .<<. copy more than 10000 names .line"),
        (LAUGHS, "config.json", "not valid JSON"),
        ("[" * 5000, "config.yaml", "nested deeper than 64 levels .line 1"),
        (WIDE_BOMB, "config.yaml", "more than 1000 aliases"),
        (LONG_BOMB, "config.yaml", "more than 1000 aliases .* .line 3"),
        ("a: 1" + ":59" * 400, "config.yaml", "the number 1:59.* more than 400 characters .line 1"),
        ("a: 1" + ":59" * 400 + ".5", "config.yaml", "the number 1:59.* more than 400 characters .line 1"),
        ("a: !!int ''", "config.yaml", "not valid YAML in line 1"),
        ("a: !!bool maybe", "config.yaml", "not valid YAML"),
        ("a: !!timestamp x", "config.yaml", "not valid YAML"),
        ("a: 2001-99-99", "config.yaml", "not valid YAML"),
        ('{"a": "\\ud800"}', "config.json", "not valid JSON"),
        ('{"a": ' * 340 + "1" + "}" * 340, "config.yaml", "nested deeper"),
        ("# " + "x" * 256 * 1024, "config.yaml", "more than the 256 KiB"),
    ],
    ids=[
        "broken",
        "list",
        "python",
        "yaml-as-json",
        "merge-bomb",
        "laughs",
        "deep",
        "many-merges",
        "one-long-merge",
        "base-60",
        "base-60-float",
        "no-int",
        "no-bool",
        "no-time",
        "no-date",
        "surrogate",
        "deeper-than-can-be-written",
        "large",
    ],
)
def test_config_that_cannot_be_laid_over_is_the_authors_fault(tmp_path, text, name, said):
    with pytest.raises(BadSubmission, match=said):
        over(tmp_path, text, {"z": 1}, name)


def test_config_of_many_laughs_stays_small(tmp_path):
    assert len(over(tmp_path, LAUGHS, {"z": 1})) < 10_000


TREES = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), TREES, max_size=3)


# On a busy machine trees take longer to draw than Hypothesis thinks healthy, or a single example to run: nothing is wrong.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(OBJECTS, OBJECTS)
def test_merge_lets_the_second_win_and_changes_neither(base, top):
    before = json.dumps([base, top])
    merged = merge(base, top)
    assert json.dumps([base, top]) == before
    assert merge(merged, top) == merged
    assert merge({}, top) == top and merge(base, {}) == base
    assert set(merged) == set(base) | set(top)


# --- Names that YAML does not read as text -------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "overrides", "merged"),
    [
        ("1: {a: 1, b: 2}", {"1": {"a": 3}}, {1: {"a": 3, "b": 2}}),
        ("true: 1", {"true": 2}, {True: 2}),
        ("yes: 1", {"yes": 2}, {True: 2}),
        ("on: 1", {"true": 2}, {True: 2}),
        ("null: 1", {"null": 2}, {None: 2}),
        ("~: 1", {"null": 2}, {None: 2}),
        ("0.5: 1", {"0.5": 2}, {0.5: 2}),
        ("1.0: 1", {"1.0": 2}, {1.0: 2}),
        ("2024-01-01: 1", {"2024-01-01": 2}, {datetime.date(2024, 1, 1): 2}),
        ("0x10: 1", {"16": 2}, {16: 2}),
        ("'1': 1", {"1": 2}, {"1": 2}),
        ("true: 1", {"1": 2}, {True: 1, "1": 2}),
        ("1: 1", {"x": 2, "<<": 3, "[": 4}, {1: 1, "x": 2, "<<": 3, "[": 4}),
    ],
)
def test_names_are_matched_by_what_yaml_reads_them_as(tmp_path, text, overrides, merged):
    made = yaml.safe_load(over(tmp_path, text, overrides))
    assert [(type(key), key, value) for key, value in made.items()] == [
        (type(key), key, value) for key, value in merged.items()
    ]


@pytest.mark.parametrize(
    ("text", "overrides", "said"),
    [
        ("1.0: 1", {"1": 2}, "'1' and the file’s 1.0 are one number: write it as 1.0"),
        ("1: 1", {"1.0": 2}, "'1.0' and the file’s 1 are one number"),
        ("{1: 1, '1': 2}", {"1": 3}, "may be the file’s 1 or its '1' in quotes"),
        ("on: 1", {"yes": 2, "true": 3}, "'yes' and 'true' are one name of the file, true"),
        ("a: {on: 1}", {"a": {"yes": 2, "true": 3}}, "one name of the file, true"),
    ],
)
def test_names_that_may_mean_two_things_are_refused(tmp_path, text, overrides, said):
    with pytest.raises(BadSubmission, match="laid over config.yaml: .*" + re.escape(said)):
        over(tmp_path, text, overrides)


# --- Replacing an object -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("overrides", "merged"),
    [
        ({"a": {"$replace": {"z": 1}}}, {"a": {"z": 1}, "b": 2}),
        ({"a": {"$replace": None}}, {"a": None, "b": 2}),
        ({"b": {"$replace": [1]}}, {"a": {"x": {"y": 1}}, "b": [1]}),
        ({"new": {"in": {"$replace": {"z": 1}}}}, {"a": {"x": {"y": 1}}, "b": 2, "new": {"in": {"z": 1}}}),
        ({"a": {"x": {"$replace": {}}}}, {"a": {"x": {}}, "b": 2}),
        ({"$replace": {"z": 1}}, {"z": 1}),
    ],
)
def test_an_object_is_replaced_where_that_is_said(overrides, merged):
    check_replacements(overrides)
    assert merge({"a": {"x": {"y": 1}}, "b": 2}, overrides) == merged


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"a": {"b": {"$replace": {}, "c": 1}}}, "a.b: $replace must be the only name"),
        ({"$replace": 1}, "at the top must hold an object"),
        ({"a": [{"$replace": {}}]}, "a[0]: $replace has no meaning in a list"),
        ({"a": {"$replace": {"b": {"$replace": {}}}}}, "a.$replace.b: $replace has no meaning"),
    ],
)
def test_a_replacement_that_means_nothing_is_refused(tmp_path, overrides, said):
    with pytest.raises(ConfigRefused, match=re.escape(said)):
        check_replacements(overrides)
    with pytest.raises(InvalidInput) as refused:
        check_request(overrides, "small", None)
    assert said in str(refused.value.message)
    with pytest.raises(BadSubmission, match=re.escape(said)):
        over(tmp_path, "a: 1", overrides)
