"""A sentence for people that keeps what it was made of, so that it can be said again in the language of who reads it.

It is English text wherever a text is wanted (logs, the command line, comparisons). `kept` is what is stored beside it:
the sentence with its gaps, which is also its entry in the catalogue of translations, and what fills them. Without
Django: the process that supervises runs tells such sentences, too.
"""

from collections.abc import Sequence
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


MOST_TOGETHER = 20
JOINT, COMMA = "%(first)s; %(rest)s", "%(first)s, %(rest)s"


def together(sentences: Sequence[str], *, count: int = 0, joint: str = JOINT) -> str:
    """One sentence of several; of many the first ones, and how many more there are. `count`: of all, with those not given."""
    shown = list(sentences[:MOST_TOGETHER])
    if (more := max(count, len(sentences)) - len(shown)) > 0:
        shown.append(Told("and %(count)d more", count=more))
    joined = shown.pop()
    while shown:
        joined = Told(joint, first=shown.pop(), rest=joined)
    return joined


def first_ones(sentences: Sequence[str]) -> tuple[str, ...]:
    """The first sentences of a long list, and one that says how many more there are."""
    more = len(sentences) - MOST_TOGETHER
    return (*sentences[:MOST_TOGETHER], *([Told("And %(count)d more.", count=more)] if more > 0 else []))
