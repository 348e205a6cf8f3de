"""A sentence for people that keeps what it was made of, so that it can be said again in the language of who reads it.

It is English text wherever a text is wanted (logs, the command line, comparisons). `kept` is what is stored beside it:
the sentence with its gaps, which is also its entry in the catalogue of translations, and what fills them. Without
Django: the process that supervises runs tells such sentences, too.
"""

from typing import Any


class Told(str):
    """Import it as `_` where sentences are made, so that they are found for translation."""

    kept: dict[str, Any]

    def __new__(cls, text: str, /, **values: Any) -> "Told":
        made = super().__new__(cls, text % values if values else text)
        made.kept = {"text": text, "values": {name: kept(value) or value for name, value in values.items()}}
        return made


def kept(text: object) -> dict[str, Any]:
    """What is stored beside the text; {} for a text that says itself alone."""
    return text.kept if isinstance(text, Told) else {}


def retold(stored: dict[str, Any]) -> Told:
    """The sentence of what `kept` gave, after a way as JSON."""
    values = {name: retold(value) if isinstance(value, dict) else value for name, value in stored["values"].items()}
    return Told(stored["text"], **values)
