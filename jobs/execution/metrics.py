"""Reading metrics.json, which a stranger wrote. What passes is safe to store, to rank by, and to show."""

import json
import math
from typing import Any

from core.untrusted import Bounds, TextRefused, load_json
from jobs.execution.told import Told as _

MAX_BYTES = 1024 * 1024
MAX_METRICS = 200
MAX_PARAMS = 200
MAX_NAME_LENGTH = 100
MAX_MAGNITUDE = 1e15
MAX_PARAM_INTEGER = 2**64
MAX_PARAM_DEPTH = 4
MAX_PARAM_BYTES = 64 * 1024
# Other names than params and metrics are ignored, so their size does not matter. Numbers and texts have stricter rules below.
_BOUNDS = Bounds(bytes=MAX_BYTES, tokens=MAX_BYTES, storable=False)

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
        raise BadMetrics("no_metrics", _("metrics holds no number: at least one is needed"))
    checked = {name: _number(_name(name, "metrics"), value) for name, value in metrics.items()}
    _check_param(params, "params", 0)
    size = len(json.dumps(params, ensure_ascii=False).encode())
    if size > MAX_PARAM_BYTES:
        raise BadMetrics(
            "too_large", _("params takes %(size)d bytes, more than %(most)d", size=size, most=MAX_PARAM_BYTES)
        )
    return params, checked


def _load(raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX_BYTES:
        raise BadMetrics("too_large", _("it is larger than %(most)d bytes", most=MAX_BYTES))
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadMetrics("not_utf8", _("it is not UTF-8 (byte %(place)d)", place=error.start)) from None
    try:
        document = load_json(text, _BOUNDS, object_pairs_hook=_refuse_duplicates)
    except TextRefused as error:
        raise _not_read(error) from None
    if not isinstance(document, dict):
        raise BadMetrics(
            "wrong_type",
            _('it must be an object with "params" and "metrics", not %(kind)s', kind=_kind(document)),
        )
    return document


def _not_read(error: TextRefused) -> BadMetrics:
    problem = _(error.sentence, **error.values)
    if not error.is_syntax:
        return BadMetrics("too_deep" if error.rule == "depth" else "out_of_range", problem)
    cause = error.__cause__
    column = cause.colno if isinstance(cause, json.JSONDecodeError) else 1
    told = _(
        "it is not JSON: %(why)s (line %(line)d, column %(column)d)", why=problem, line=error.line or 1, column=column
    )
    return BadMetrics("not_json", told)


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for name, value in pairs:
        if name in names:
            raise BadMetrics("duplicate_name", _("%(name)s is given twice in one object", name=_shown(name)))
        names[name] = value
    return names


def _object(document: dict[str, Any], field: str) -> dict[str, Any]:
    if field not in document:
        raise BadMetrics("missing_field", _('it has no "%(field)s"', field=field))
    value = document[field]
    if not isinstance(value, dict):
        raise BadMetrics("wrong_type", _("%(field)s must be an object, not %(kind)s", field=field, kind=_kind(value)))
    return value


def _check_count(field: str, values: dict[str, Any], limit: int) -> None:
    if len(values) > limit:
        told = _("%(field)s has %(count)d entries, more than %(most)d", field=field, count=len(values), most=limit)
        raise BadMetrics("too_many", told)


def _name(name: str, field: str) -> str:
    """The place of a value for messages, once its name is known to be good."""
    if not name.strip() or len(name) > MAX_NAME_LENGTH or not (name.isascii() and name.isprintable()):
        told = _(
            "%(field)s has the name %(name)s: names are 1 to %(most)d printable ASCII characters",
            field=field, name=_shown(name), most=MAX_NAME_LENGTH,
        )  # fmt: skip
        raise BadMetrics("bad_name", told)
    return f"{field}.{name}"


def _number(place: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadMetrics("wrong_type", _("%(place)s must be a number, not %(kind)s", place=place, kind=_kind(value)))
    if isinstance(value, float) and not math.isfinite(value):
        raise BadMetrics("not_finite", _not_finite(place, value))
    # Compared before it is converted: an integer may be too large for a float.
    if abs(value) > MAX_MAGNITUDE:
        told = _(
            "%(place)s is %(value)s: larger than %(most)s", place=place, value=_shown(value), most=f"{MAX_MAGNITUDE:g}"
        )
        raise BadMetrics("out_of_range", told)
    return float(value)


def _not_finite(place: str, value: float) -> str:
    return _("%(place)s is %(value)s: only finite numbers are allowed", place=place, value=str(value))


def _check_param(value: Any, place: str, depth: int) -> None:
    if isinstance(value, dict | list):
        if depth > MAX_PARAM_DEPTH:
            told = _("%(place)s is nested deeper than %(most)d levels", place=place[:200], most=MAX_PARAM_DEPTH)
            raise BadMetrics("too_deep", told)
        if isinstance(value, dict):
            for name, inner in value.items():
                _check_param(inner, _name(name, place), depth + 1)
        else:
            for index, inner in enumerate(value):
                _check_param(inner, f"{place}[{index}]", depth + 1)
    elif isinstance(value, str):
        _check_text(value, place)
    elif isinstance(value, float) and not math.isfinite(value):
        raise BadMetrics("not_finite", _not_finite(place, value))
    elif isinstance(value, int) and abs(value) > MAX_PARAM_INTEGER:
        told = _("%(place)s is %(value)s: an integer larger than 2**64", place=place, value=_shown(value))
        raise BadMetrics("out_of_range", told)


def _check_text(text: str, place: str) -> None:
    for character in text:
        is_control = (character < " " and character not in "\t\n\r") or "\x7f" <= character <= "\x9f"
        if is_control or "\ud800" <= character <= "\udfff" or character in _BIDI_CONTROLS:
            told = _(
                "%(place)s holds the character %(character)s, which is not allowed",
                place=place, character=f"U+{ord(character):04X}",
            )  # fmt: skip
            raise BadMetrics("bad_text", told)


def _kind(value: Any) -> str:
    kinds = {dict: _("an object"), list: _("a list"), str: _("a text"), bool: _("true or false"), type(None): "null"}
    return kinds.get(type(value), _("a number"))


def _shown(value: Any) -> str:
    """A value for a message: short, and plain ASCII whatever it holds."""
    if isinstance(value, int) and abs(value) > 10**30:
        return _("an integer of more than 30 digits")
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."
