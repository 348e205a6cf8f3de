"""Reading metrics.json, which a stranger wrote. What passes is safe to store, to rank by, and to show.

A file that cannot be read as a whole is refused (`BadMetrics`). A single value that breaks a rule is left out and listed
as a fault; the verdict knows whether the leaderboard can do without it.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, TypeVar

from core.names import LONGEST_NAME, is_name, plain_name, shown
from core.sizes import human_bytes
from core.untrusted import Bounds, TextRefused, load_json
from jobs.execution.told import MOST_TOGETHER, together
from jobs.execution.told import Told as _

T = TypeVar("T")

MAX_BYTES = 1024 * 1024
MAX_METRICS = 200
MAX_PARAMS = 200
MAX_MAGNITUDE = 1e15
MAX_PARAM_INTEGER = 2**64
MAX_PARAM_DEPTH = 4
MAX_PARAM_BYTES = 64 * 1024
# Other names than params and metrics are ignored, so their size does not matter. Numbers and texts have stricter rules below.
_BOUNDS = Bounds(bytes=MAX_BYTES, tokens=MAX_BYTES, storable=False)

# They reorder text on a page or in a terminal, so that a reader sees another order than what is stored.
_BIDI_CONTROLS = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


_BAD_NAME = _(
    "%(field)s has the name %(name)s: names are 1 to %(most)d printable characters of any script, "
    "without a space at either end"
)
_NOT_FINITE = _("%(place)s is %(value)s: only finite numbers are allowed")


class BadMetrics(ValueError):
    """metrics.json breaks a rule; the message names the field, the rule and the value, for the person who wrote it.

    A value with several problems has them in `problems`, each with its code; the first one gives the code and the message.
    """

    def __init__(self, code: str, message: str, *more: tuple[str, str]) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.problems = [(code, message), *more]


@dataclass(frozen=True)
class Fault:
    """A value that was left out, and why. `name` is empty where it is about several values."""

    field: str
    name: str
    code: str
    sentence: str


@dataclass(frozen=True)
class Parsed:
    """The part of a metrics.json that passed. Metrics are finite floats; params keep their JSON types."""

    params: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    # As given: a scorer may leave it (jobs/detail_metrics.py).
    categories: Any = None


def parse_metrics(raw: bytes, *, wanted: Collection[str] = (), most: int = MAX_METRICS) -> Parsed:
    """Return what keeps the rules, and the faults. Of more than `most` metrics, the wanted ones are kept first.

    Raises BadMetrics when there is no object of metrics to be read.
    """
    document = _load(raw)
    params, more = _params_of(document)
    try:
        values = _metrics_of(document)
    except BadMetrics as error:
        raise BadMetrics(error.code, together([error.message, *(fault.sentence for fault in more)])) from None
    metrics, faults = checked("metrics", values, number, most=most, wanted=wanted)
    return Parsed(params, metrics, [*faults, *more], document.get("categories"))


def checked(
    field: str, values: dict[str, Any], check: Callable[[Any, str], T], *, most: int, wanted: Collection[str] = ()
) -> tuple[dict[str, T], list[Fault]]:
    """Return the entries under good names that pass the check, and the faults of the others; at most `most` of either."""
    kept: dict[str, T] = {}
    faults: list[Fault] = []
    seen: set[str] = set()
    repeated = _repeated(values)
    for given in sorted(values, key=lambda name: plain_name(name) not in wanted):
        if len(kept) == most or len(faults) >= most:
            told = _("%(field)s has %(count)d entries, more than %(most)d", field=field, count=len(values), most=most)
            faults.append(Fault(field, "", "too_many", told))
            break
        name = plain_name(given)
        try:
            if given in repeated or name in seen:
                kept.pop(name, None)  # which of them counts, only their author knows
                raise _given_twice(name)
            kept[name] = check(values[given], _place(field, name))
        except BadMetrics as error:
            faults += [Fault(field, name, code, message) for code, message in error.problems]
        seen.add(name)
    return kept, faults


def _load(raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX_BYTES:
        raise BadMetrics("too_large", _("it is larger than %(most)s", most=human_bytes(MAX_BYTES)))
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadMetrics("not_utf8", _("it is not UTF-8 (byte %(place)d)", place=error.start)) from None
    try:
        document = load_json(text, _BOUNDS, object_pairs_hook=_note_repeated)
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


class _Repeated(dict[str, Any]):
    """A JSON object in which these names are given more than once."""

    names: frozenset[str] = frozenset()


def _note_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(values := dict(pairs)) == len(pairs):
        return values
    repeating = _Repeated(values)
    repeating.names = frozenset(name for name, count in Counter(name for name, _value in pairs).items() if count > 1)
    return repeating


def _repeated(values: dict[str, Any]) -> frozenset[str]:
    return values.names if isinstance(values, _Repeated) else frozenset()


def _given_twice(name: str) -> BadMetrics:
    return BadMetrics("duplicate_name", _("%(name)s is given twice in one object", name=shown(name)))


def _metrics_of(document: dict[str, Any]) -> dict[str, Any]:
    if "metrics" not in document:
        form = '{"params": {...}, "metrics": {...}}'
        raise BadMetrics("missing_field", _('it has no "metrics"; its form is %(form)s', form=form))
    if "metrics" in _repeated(document):
        raise _given_twice("metrics")
    return _object(document["metrics"], "metrics")


def _params_of(document: dict[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
    """Return the params, none where the file has none, and the faults. They share a limit of bytes."""
    try:
        if "params" in _repeated(document):
            raise _given_twice("params")
        values = _object(document.get("params", {}), "params")
    except BadMetrics as error:
        return {}, [Fault("params", "", error.code, error.message)]
    found, faults = checked("params", values, param, most=MAX_PARAMS)
    params: dict[str, Any] = {}
    size = 0
    for name, value in found.items():
        more = len(json.dumps({name: value}, ensure_ascii=False).encode())
        if size + more > MAX_PARAM_BYTES:
            most = human_bytes(MAX_PARAM_BYTES)
            told = _("params.%(name)s brings params to more than %(most)s", name=name, most=most)
            faults.append(Fault("params", name, "too_large", told))
            continue
        params[name] = value
        size += more
    return params, faults


def _object(value: Any, field: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadMetrics("wrong_type", _("%(field)s must be an object, not %(kind)s", field=field, kind=_kind(value)))
    return value


def _place(field: str, name: str) -> str:
    """The place of a value for messages, once its name is known to be good."""
    if not is_name(name):
        raise BadMetrics("bad_name", _(_BAD_NAME, field=field, name=shown(name), most=LONGEST_NAME))
    return f"{field}.{name}"


def number(value: Any, place: str) -> float:
    """Return the finite number of a size that can be stored, charted and ranked."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadMetrics("wrong_type", _("%(place)s must be a number, not %(kind)s", place=place, kind=_kind(value)))
    if isinstance(value, float) and not math.isfinite(value):
        raise BadMetrics("not_finite", _(_NOT_FINITE, place=place, value=str(value)))
    # Compared before it is converted: an integer may be too large for a float.
    if abs(value) > MAX_MAGNITUDE:
        told = _(
            "%(place)s is %(value)s: larger than %(most)s", place=place, value=_shown(value), most=f"{MAX_MAGNITUDE:g}"
        )
        raise BadMetrics("out_of_range", told)
    return float(value)


def param(value: Any, place: str) -> Any:
    """Return the param with its names in NFC. Raises BadMetrics with all that is wrong inside it."""
    problems = _Problems()
    plain = _plain_param(value, place, 1, problems)
    if problems.told:
        if more := problems.count - len(problems.told):
            problems.told.append(("more", _("%(place)s has %(count)d more faults", place=place, count=more)))
        (code, message), *others = problems.told
        raise BadMetrics(code, message, *others)
    return plain


class _Problems:
    """The problems inside one param: all counted, the first few in sentences."""

    def __init__(self) -> None:
        self.count = 0
        self.told: list[tuple[str, str]] = []

    def add(self, code: str, sentence: str, /, **values: Any) -> None:
        self.count += 1
        if len(self.told) < MOST_TOGETHER:
            self.told.append((code, _(sentence, **values)))


def _plain_param(value: Any, place: str, depth: int, problems: _Problems) -> Any:
    if isinstance(value, dict | list) and depth > MAX_PARAM_DEPTH:
        sentence = _("%(place)s is nested deeper than %(most)d levels")
        problems.add("too_deep", sentence, place=place[:200], most=MAX_PARAM_DEPTH)
    elif isinstance(value, dict):
        return _plain_object(value, place[:200], depth, problems)
    elif isinstance(value, list):
        return [
            _plain_param(inner, f"{place[:200]}[{index}]", depth + 1, problems) for index, inner in enumerate(value)
        ]
    elif isinstance(value, str):
        _check_text(value, place, problems)
    elif isinstance(value, float) and not math.isfinite(value):
        problems.add("not_finite", _NOT_FINITE, place=place, value=str(value))
    elif isinstance(value, int) and abs(value) > MAX_PARAM_INTEGER:
        sentence = _("%(place)s is %(value)s: an integer larger than 2**64")
        problems.add("out_of_range", sentence, place=place, value=_shown(value))
    return value


def _plain_object(value: dict[str, Any], place: str, depth: int, problems: _Problems) -> dict[str, Any]:
    names = {plain_name(name): inner for name, inner in value.items()}
    if len(names) < len(value) or _repeated(value):
        problems.add("duplicate_name", _("%(place)s has a name twice"), place=place)
    for name in names:
        if not is_name(name):
            problems.add("bad_name", _BAD_NAME, field=place, name=shown(name), most=LONGEST_NAME)
    return {
        name: _plain_param(inner, f"{place}.{name}" if is_name(name) else place, depth + 1, problems)
        for name, inner in names.items()
    }


def _check_text(text: str, place: str, problems: _Problems) -> None:
    for character in text:
        is_control = (character < " " and character not in "\t\n\r") or "\x7f" <= character <= "\x9f"
        if is_control or "\ud800" <= character <= "\udfff" or character in _BIDI_CONTROLS:
            sentence = _("%(place)s holds the character %(character)s, which is not allowed")
            problems.add("bad_text", sentence, place=place, character=f"U+{ord(character):04X}")
            return


def _kind(value: Any) -> str:
    kinds = {dict: _("an object"), list: _("a list"), str: _("a text"), bool: _("true or false"), type(None): "null"}
    return kinds.get(type(value), _("a number"))


def _shown(value: Any) -> str:
    if isinstance(value, int) and abs(value) > 10**30:
        return _("an integer of more than 30 digits")
    return shown(value)
