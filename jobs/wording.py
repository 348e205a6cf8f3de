"""Stored sentences (jobs/execution/told.py) in the language of who reads them."""

from typing import Any

from django.utils.translation import gettext


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


def _value(value: Any) -> Any:
    return in_words("", value) if isinstance(value, dict) else value
