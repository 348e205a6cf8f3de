"""Stored sentences (jobs/execution/told.py) in the language of who reads them."""

from collections.abc import Iterator
from typing import Any

from django.utils.translation import gettext

from jobs.execution.told import JOINT

# Sentences about several faults, and the gaps that hold them.
_OF_SEVERAL = {
    JOINT: ("first", "rest"),
    "metrics.json: %(why)s.": ("why",),
    "%(rejection)s (%(left_out)s)": ("rejection", "left_out"),
}


def in_words(text: str, stored: dict[str, Any]) -> str:
    """The sentence in the language that is active now; as it was written where nothing is stored beside it (rows of
    earlier versions) or a translation does not fit."""
    if not stored.get("text"):
        return text
    try:
        values = {name: _value(value) for name, value in stored["values"].items()}
        return gettext(stored["text"]) % values if values else gettext(stored["text"])
    except (KeyError, TypeError, ValueError):
        return text


def lines_in_words(text: str, stored: dict[str, Any]) -> list[str]:
    """The faults that a message names, each by itself; the whole message if it is about one thing."""
    lines = list(_lines(stored))
    return lines if len(lines) > 1 else [in_words(text, stored)]


def _lines(value: Any) -> Iterator[str]:
    gaps = _OF_SEVERAL.get(value.get("text", "")) if isinstance(value, dict) else None
    values = value.get("values", {}) if gaps else {}
    if gaps and values.keys() >= set(gaps):
        for name in gaps:
            yield from _lines(values[name])
    elif words := str(_value(value)):
        yield words


def _value(value: Any) -> Any:
    return in_words("", value) if isinstance(value, dict) else value
