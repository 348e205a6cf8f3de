"""Reading metrics.json, which a stranger wrote. What passes is safe to store, to rank by, and to show."""

import json
import math
from typing import Any

MAX_BYTES = 1024 * 1024
MAX_METRICS = 200
MAX_PARAMS = 200
MAX_NAME_LENGTH = 100
MAX_MAGNITUDE = 1e15
MAX_PARAM_INTEGER = 2**64
MAX_PARAM_DEPTH = 4
MAX_PARAM_BYTES = 64 * 1024

# They reorder text on a page or in a terminal, so that a reader sees another order than what is stored.
_BIDI_CONTROLS = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class BadMetrics(ValueError):
    """metrics.json breaks a rule; the message names the field, the rule and the value, for the person who wrote it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def parse_metrics(raw: bytes) -> tuple[dict[str, Any], dict[str, float]]:
    """(params, metrics) of a metrics.json. Metrics are finite floats; params keep their JSON types."""
    document = _load(raw)
    params, metrics = _object(document, "params"), _object(document, "metrics")
    _check_count("metrics", metrics, MAX_METRICS)
    _check_count("params", params, MAX_PARAMS)
    if not metrics:
        raise BadMetrics("no_metrics", "metrics holds no number: at least one is needed")
    checked = {name: _number(_name(name, "metrics"), value) for name, value in metrics.items()}
    _check_param(params, "params", 0)
    size = len(json.dumps(params, ensure_ascii=False).encode())
    if size > MAX_PARAM_BYTES:
        raise BadMetrics("too_large", f"params takes {size} bytes, more than {MAX_PARAM_BYTES}")
    return params, checked


def _load(raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX_BYTES:
        raise BadMetrics("too_large", f"metrics.json is larger than {MAX_BYTES} bytes")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadMetrics("not_utf8", f"metrics.json is not UTF-8 (byte {error.start})") from None
    try:
        document = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_refuse_duplicates)
    except BadMetrics:
        raise
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise BadMetrics("not_json", f"metrics.json is not JSON: {error.msg} ({place})") from None
    except RecursionError:
        raise BadMetrics("too_deep", "metrics.json is nested too deeply") from None
    except ValueError:
        # Python refuses to convert integers of more than some thousand digits.
        raise BadMetrics("out_of_range", "metrics.json holds a number with too many digits") from None
    if not isinstance(document, dict):
        raise BadMetrics(
            "wrong_type", f'metrics.json must be an object with "params" and "metrics", not {_kind(document)}'
        )
    return document


def _refuse_constant(name: str) -> Any:
    raise BadMetrics("not_finite", f"metrics.json holds {name}: only finite numbers are allowed")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for name, value in pairs:
        if name in names:
            raise BadMetrics("duplicate_name", f"{_shown(name)} is given twice in one object")
        names[name] = value
    return names


def _object(document: dict[str, Any], field: str) -> dict[str, Any]:
    if field not in document:
        raise BadMetrics("missing_field", f'metrics.json has no "{field}"')
    value = document[field]
    if not isinstance(value, dict):
        raise BadMetrics("wrong_type", f"{field} must be an object, not {_kind(value)}")
    return value


def _check_count(field: str, values: dict[str, Any], limit: int) -> None:
    if len(values) > limit:
        raise BadMetrics("too_many", f"{field} has {len(values)} entries, more than {limit}")


def _name(name: str, field: str) -> str:
    """The place of a value for messages, once its name is known to be good."""
    if not name.strip() or len(name) > MAX_NAME_LENGTH or not (name.isascii() and name.isprintable()):
        rule = f"1 to {MAX_NAME_LENGTH} printable ASCII characters"
        raise BadMetrics("bad_name", f"{field} has the name {_shown(name)}: names are {rule}")
    return f"{field}.{name}"


def _number(place: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadMetrics("wrong_type", f"{place} must be a number, not {_kind(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise BadMetrics("not_finite", f"{place} is {value}: only finite numbers are allowed")
    # Compared before it is converted: an integer may be too large for a float.
    if abs(value) > MAX_MAGNITUDE:
        raise BadMetrics("out_of_range", f"{place} is {_shown(value)}: larger than {MAX_MAGNITUDE:g}")
    return float(value)


def _check_param(value: Any, place: str, depth: int) -> None:
    if isinstance(value, dict | list):
        if depth > MAX_PARAM_DEPTH:
            raise BadMetrics("too_deep", f"{place[:200]} is nested deeper than {MAX_PARAM_DEPTH} levels")
        if isinstance(value, dict):
            for name, inner in value.items():
                _check_param(inner, _name(name, place), depth + 1)
        else:
            for index, inner in enumerate(value):
                _check_param(inner, f"{place}[{index}]", depth + 1)
    elif isinstance(value, str):
        _check_text(value, place)
    elif isinstance(value, float) and not math.isfinite(value):
        raise BadMetrics("not_finite", f"{place} is {value}: only finite numbers are allowed")
    elif isinstance(value, int) and abs(value) > MAX_PARAM_INTEGER:
        raise BadMetrics("out_of_range", f"{place} is {_shown(value)}: an integer larger than 2**64")


def _check_text(text: str, place: str) -> None:
    for character in text:
        is_control = (character < " " and character not in "\t\n\r") or "\x7f" <= character <= "\x9f"
        if is_control or "\ud800" <= character <= "\udfff" or character in _BIDI_CONTROLS:
            raise BadMetrics("bad_text", f"{place} holds the character U+{ord(character):04X}, which is not allowed")


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _shown(value: Any) -> str:
    """A value for a message: short, and plain ASCII whatever it holds."""
    if isinstance(value, int) and abs(value) > 10**30:
        return "an integer of more than 30 digits"
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."
