"""The reader of metrics.json: what passes is safe to store and to rank, and nothing makes it fall over."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.names import invisible_character
from jobs.execution.metrics import MAX_BYTES, BadMetrics, Parsed, parse_metrics


def _document(metrics: Any = None, params: Any = None) -> bytes:
    return json.dumps({"params": params or {}, "metrics": {"a": 1} if metrics is None else metrics}).encode()


def test_good_document_keeps_types() -> None:
    params = {"name": "エンコーダ", "size": [256, 256], "deep": {"lr": 0.1, "on": True, "none": None}}
    read = parse_metrics(_document({"image_auc": 0.985, "epochs": 3}, params))
    assert (read.params, read.metrics, read.faults) == (params, {"image_auc": 0.985, "epochs": 3.0}, [])
    assert all(type(value) is float for value in read.metrics.values())


@pytest.mark.parametrize(
    ("raw", "code", "message"),
    [
        (b"\xff\xfe{}", "not_utf8", "it is not UTF-8 (byte 0)"),
        (b"", "not_json", "it is not JSON: Expecting value (line 1, column 1)"),
        (b"\xef\xbb\xbf{}", "not_json", None),
        (b"{'params': {}}", "not_json", None),
        (b"[]", "wrong_type", 'it must be an object with "params" and "metrics", not a list'),
        (b'{"params": {}}', "missing_field", 'it has no "metrics"; its form is {"params": {...}, "metrics": {...}}'),
        (b'{"metrics": [1]}', "wrong_type", "metrics must be an object, not a list"),
        (b'{"metrics": {"a": 1}, "metrics": {"a": 2}}', "duplicate_name", "'metrics' is given twice in one object"),
        (b'{"params": {}, "metrics": {"a": ' + b"9" * 100_000 + b"}}", "out_of_range", None),
        (b"[" * 500_000, "too_deep", None),
        (b'{"a":' * 100_000, "too_deep", None),
        (b" " * (MAX_BYTES + 1), "too_large", None),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_document_without_metrics_to_read_is_refused(raw: bytes, code: str, message: str | None) -> None:
    with pytest.raises(BadMetrics) as refused:
        parse_metrics(raw)
    assert refused.value.code == code
    assert message is None or refused.value.message == message
    assert refused.value.message.isprintable() and len(refused.value.message) < 400


@pytest.mark.parametrize(
    ("metrics", "code", "message"),
    [
        ('"b": NaN', "not_finite", "metrics.b is nan: only finite numbers are allowed"),
        ('"b": -Infinity', "not_finite", None),
        ('"b": 1e999', "not_finite", "metrics.b is inf: only finite numbers are allowed"),
        ('"b": 1, "b": 2', "duplicate_name", "'b' is given twice in one object"),
        ('"\\u00e9": 1, "e\\u0301": 2', "duplicate_name", "'é' is given twice in one object"),
        ('"b": true', "wrong_type", "metrics.b must be a number, not true or false"),
        ('"b": "0.9"', "wrong_type", "metrics.b must be a number, not a text"),
        ('"b": null', "wrong_type", "metrics.b must be a number, not null"),
        ('"精度": null', "wrong_type", "metrics.精度 must be a number, not null"),
        ('"b": 1000000000000001', "out_of_range", "metrics.b is 1000000000000001: larger than 1e+15"),
        (f'"b": {"9" * 400}', "out_of_range", None),
        *((f'"{name}": 1', "bad_name", None) for name in ["", " ", " b", "b ", "\\u0000", "\\u202e", "\\ue000", "\\ud800"]),
        ('"\\u200bé\\n": 1', "bad_name", "metrics has the name '\\u200bé\\n': names are 1 to 100 printable characters of "
         "any script, without a space at either end"),
        (f'"{"x" * 101}": 1', "bad_name", None),
        (f'"{"x" * 1000}": 1', "bad_name", None),
    ],
)  # fmt: skip
def test_bad_metric_is_left_out(metrics: str, code: str, message: str | None) -> None:
    read = parse_metrics(f'{{"params": {{"k": 1}}, "metrics": {{"a": 1, {metrics}}}}}'.encode())
    assert (read.params, read.metrics) == ({"k": 1}, {"a": 1.0})
    _check_faults(read, "metrics", code, message)


@pytest.mark.parametrize(
    ("params", "code", "message"),
    [
        ("[]", "wrong_type", "params must be an object, not a list"),
        ('{}, "params": {}', "duplicate_name", None),
        ('{"b": [NaN]}', "not_finite", "params.b[0] is nan: only finite numbers are allowed"),
        ('{"b": 1e999}', "not_finite", None),
        ('{"b": {"c": 1, "c": 2}}', "duplicate_name", "params.b has a name twice"),
        ('{"b": "x\\u0000"}', "bad_text", None),
        ('{"b": "\\ud800"}', "bad_text", None),
        ('{"b": "\\u202e"}', "bad_text", None),
        ('{"b": "\\u001b[31m"}', "bad_text", None),
        ('{"b": {"\\u202e": 1}}', "bad_name", None),
        ('{"a": {"b": {"c": {"d": {"e": {}}}}}}', "too_deep", None),
        (f'{{"b": "{"x" * 70_000}"}}', "too_large", None),
    ],
)
def test_bad_param_is_left_out(params: str, code: str, message: str | None) -> None:
    read = parse_metrics(f'{{"params": {params}, "metrics": {{"a": 1}}}}'.encode())
    assert (read.params, read.metrics) == ({}, {"a": 1.0})
    _check_faults(read, "params", code, message)


def _check_faults(read: Parsed, field: str, code: str, message: str | None) -> None:
    assert {(fault.field, fault.code) for fault in read.faults} == {(field, code)}
    for fault in read.faults:
        assert message is None or fault.sentence == message
        assert fault.sentence.isprintable() and len(fault.sentence) < 400


def test_all_that_is_wrong_with_a_file_is_told_at_once() -> None:
    with pytest.raises(BadMetrics) as refused:
        parse_metrics(b'{"metrics": null, "params": {"a": NaN, "b": {"c": "\\u202e", "d": [Infinity]}}}')
    assert refused.value.message == (
        "metrics must be an object, not null; params.a is nan: only finite numbers are allowed; "
        "params.b.c holds the character U+202E, which is not allowed; "
        "params.b.d[0] is inf: only finite numbers are allowed"
    )


def test_faults_inside_one_param_are_bounded() -> None:
    read = parse_metrics(b'{"metrics": {"a": 1}, "params": {"b": [' + b"NaN," * 200_000 + b"NaN]}}")
    assert [fault.sentence for fault in read.faults[19:]] == [
        "params.b[19] is nan: only finite numbers are allowed",
        "params.b has 199981 more faults",
    ]
    assert (read.params, read.metrics) == ({}, {"a": 1.0})


def test_names_may_use_any_script_and_are_stored_in_nfc() -> None:
    names = ["画像 AUC", "％", "a%b'\"", "=1+1", "🎯", "x" * 100, "0", "éé"]
    read = parse_metrics(_document(dict.fromkeys([*names[:-1], "éé"], 1), {"プ": {"ブ": "ブ"}}))
    assert (list(read.metrics), read.faults) == (names, [])
    assert read.params == {"プ": {"ブ": "ブ"}}


def test_of_too_many_entries_the_first_are_kept_and_the_wanted_ones() -> None:
    many = {f"m{index}": 1 for index in range(201)}
    read = parse_metrics(_document(many, many), wanted=["m200"])
    assert (len(read.metrics), len(read.params), "m200" in read.metrics) == (200, 200, True)
    assert [fault.sentence for fault in read.faults] == [
        "metrics has 201 entries, more than 200",
        "params has 201 entries, more than 200",
    ]
    assert len(parse_metrics(_document({f"m{index}": None for index in range(50_000)})).faults) == 201
    read = parse_metrics(_document(params={"a": "x" * 40_000, "b": "x" * 40_000, "c": 1}))
    assert list(read.params) == ["a", "c"]
    assert read.faults[0].sentence == "params.b brings params to more than 64 KiB"


@pytest.mark.parametrize(
    "raw",
    [
        _document({f"m{index}": 1 for index in range(200)}),
        _document({"x" * 100: 1e15, "-": -1e15}),
        _document(params={"a": {"b": {"c": {"d": {"e": 1}}}}}),
        _document(params={"a": "x" * 60_000}),
    ],
)
def test_limits_are_inclusive(raw: bytes) -> None:
    assert parse_metrics(raw).faults == []


_ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def _check(raw: bytes) -> None:
    """Either BadMetrics, or values that survive strict JSON, UTF-8 and PostgreSQL."""
    try:
        read = parse_metrics(raw)
    except BadMetrics as refusal:
        assert not invisible_character(refusal.message)
        return
    params, metrics = read.params, read.metrics
    assert not any(invisible_character(fault.sentence) for fault in read.faults)
    assert all(type(value) is float and math.isfinite(value) and abs(value) <= 1e15 for value in metrics.values())
    stored = json.dumps({"params": params, "metrics": metrics}, allow_nan=False, ensure_ascii=False)
    assert "\\u0000" not in stored.encode("utf-8").decode()
    assert json.loads(stored) == {"params": params, "metrics": metrics}


@given(st.binary(max_size=2000))
def test_any_bytes(raw: bytes) -> None:
    _check(raw)


@given(_ANY_JSON)
def test_any_json(document: Any) -> None:
    _check(json.dumps(document).encode())


@given(st.dictionaries(st.text(max_size=5), _ANY_JSON), st.dictionaries(st.text("ab.-", min_size=1), _ANY_JSON))
def test_any_params_and_metrics(params: Any, metrics: Any) -> None:
    _check(json.dumps({"params": params, "metrics": metrics}).encode())


@given(st.dictionaries(st.text("abc_", min_size=1, max_size=9), st.floats(-1e15, 1e15), min_size=1, max_size=20))
def test_good_metrics_come_back_as_they_are(metrics: dict[str, float]) -> None:
    assert parse_metrics(_document(metrics)).metrics == metrics
