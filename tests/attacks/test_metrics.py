"""The reader of metrics.json: what passes is safe to store and to rank, and nothing makes it fall over."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.execution.metrics import MAX_BYTES, BadMetrics, parse_metrics


def _document(metrics: Any = None, params: Any = None) -> bytes:
    return json.dumps({"params": params or {}, "metrics": {"a": 1} if metrics is None else metrics}).encode()


def test_good_document_keeps_types() -> None:
    params = {"name": "エンコーダ", "size": [256, 256], "deep": {"lr": 0.1, "on": True, "none": None}}
    read_params, metrics = parse_metrics(_document({"image_auc": 0.985, "epochs": 3}, params))
    assert read_params == params
    assert metrics == {"image_auc": 0.985, "epochs": 3.0}
    assert all(type(value) is float for value in metrics.values())


@pytest.mark.parametrize(
    ("raw", "code", "message"),
    [
        (b"\xff\xfe{}", "not_utf8", "it is not UTF-8 (byte 0)"),
        (b"", "not_json", "it is not JSON: Expecting value (line 1, column 1)"),
        (b"\xef\xbb\xbf{}", "not_json", None),
        (b"{'params': {}}", "not_json", None),
        (b"[]", "wrong_type", 'it must be an object with "params" and "metrics", not a list'),
        (b'{"params": {}}', "missing_field", 'it has no "metrics"'),
        (b'{"metrics": {"a": 1}}', "missing_field", 'it has no "params"'),
        (b'{"params": [], "metrics": {"a": 1}}', "wrong_type", "params must be an object, not a list"),
        (b'{"params": {}, "metrics": {}}', "no_metrics", "metrics holds no number: at least one is needed"),
        (b'{"params": {}, "metrics": {"a": NaN}}', "not_finite", "metrics.a is nan: only finite numbers are allowed"),
        (
            b'{"params": {"b": [NaN]}, "metrics": {"a": 1}}',
            "not_finite",
            "params.b[0] is nan: only finite numbers are allowed",
        ),
        (b'{"params": {}, "metrics": {"a": -Infinity}}', "not_finite", None),
        (
            b'{"params": {}, "metrics": {"a": 1e999}}',
            "not_finite",
            "metrics.a is inf: only finite numbers are allowed",
        ),
        (b'{"params": {"a": 1e999}, "metrics": {"a": 1}}', "not_finite", None),
        (
            b'{"params": {}, "metrics": {"a": 1, "a": 2}}',
            "duplicate_name",
            "'a' is given twice in one object",
        ),
        (
            b'{"params": {}, "metrics": {"a": true}}',
            "wrong_type",
            "metrics.a must be a number, not true or false",
        ),
        (b'{"params": {}, "metrics": {"a": "0.9"}}', "wrong_type", "metrics.a must be a number, not a text"),
        (b'{"params": {}, "metrics": {"a": null}}', "wrong_type", "metrics.a must be a number, not null"),
        (b'{"params": {}, "metrics": {"a": 1000000000000001}}', "out_of_range", None),
        (b'{"params": {}, "metrics": {"a": ' + b"9" * 400 + b"}}", "out_of_range", None),
        (b'{"params": {}, "metrics": {"a": ' + b"9" * 100_000 + b"}}", "out_of_range", None),
        (b'{"params": {}, "metrics": {"\\u0000": 1}}', "bad_name", None),
        (b'{"params": {}, "metrics": {"": 1}}', "bad_name", None),
        (b'{"params": {}, "metrics": {"\xc3\xa9": 1}}', "bad_name", None),
        (b'{"params": {"a": "x\\u0000"}, "metrics": {"a": 1}}', "bad_text", None),
        (b'{"params": {"a": "\\ud800"}, "metrics": {"a": 1}}', "bad_text", None),
        (b'{"params": {"a": "\\u202e"}, "metrics": {"a": 1}}', "bad_text", None),
        (b'{"params": {"a": "\\u001b[31m"}, "metrics": {"a": 1}}', "bad_text", None),
        (b"[" * 500_000, "too_deep", None),
        (b'{"a":' * 100_000, "too_deep", None),
        (b" " * (MAX_BYTES + 1), "too_large", None),
        (_document(params={"a": {"b": {"c": {"d": {"e": {}}}}}}), "too_deep", None),
        (_document(params={"a": "x" * 70_000}), "too_large", None),
        (
            _document({f"m{index}": 1 for index in range(201)}),
            "too_many",
            "metrics has 201 entries, more than 200",
        ),
        (_document(params={f"p{index}": 1 for index in range(201)}), "too_many", None),
        (_document({"x" * 101: 1}), "bad_name", None),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_bad_document_is_refused(raw: bytes, code: str, message: str | None) -> None:
    with pytest.raises(BadMetrics) as refused:
        parse_metrics(raw)
    assert refused.value.code == code
    if message:
        assert refused.value.message == message
    assert refused.value.message.isascii() and refused.value.message.isprintable()
    assert len(refused.value.message) < 400


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
    parse_metrics(raw)


_ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def _check(raw: bytes) -> None:
    """Either BadMetrics, or values that survive strict JSON, UTF-8 and PostgreSQL."""
    try:
        params, metrics = parse_metrics(raw)
    except BadMetrics as refusal:
        assert refusal.message.isascii()
        return
    assert metrics
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
    assert parse_metrics(_document(metrics)) == ({}, metrics)
