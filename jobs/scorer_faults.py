"""Sentences for the faults that a scorer reports by id (scorers/faults.py): a closed list, so that they are translated.

A scorer is trusted with labels but reads what strangers left, so nothing in its answer is taken as it is: ids, names and
types have to be those of the list, texts are cut and shown escaped. An organizer's scorer may report the same ids, or
sentences of its own, which are shown as written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.names import shown
from jobs.execution.told import COMMA, together
from jobs.execution.told import Told as _

LONGEST_SENTENCE = 200  # of a scorer's own
MOST_FAULTS = 20
MOST_EXAMPLES = 3
LARGEST_COUNT = 2**53  # whole in JSON everywhere

_LINE = _("line %(line)d")
_NAME = "%(name)s"
_NAME_AT_LINE = _("%(name)s (line %(line)d)")


@dataclass(frozen=True)
class Sentence:
    """`text` may also name `count` and `examples`; the types are those of the gaps that the scorer fills."""

    text: str
    values: Mapping[str, type] = field(default_factory=dict)
    example: str = ""
    of_example: Mapping[str, type] = field(default_factory=dict)


_AT_LINE: dict[str, type] = {"line": int}
_NAMED: dict[str, type] = {"name": str}
_NAMED_AT_LINE: dict[str, type] = {"name": str, "line": int}
SENTENCES = {
    "no_table": Sentence(_("predictions/predictions.csv is missing")),
    "table_too_large": Sentence(_("predictions.csv is larger than %(most)s"), {"most": str}),
    "not_utf8": Sentence(_("predictions.csv: line %(line)d is not UTF-8"), _AT_LINE),
    "column": Sentence(
        _("predictions.csv: the first line must name the column %(column)s once; it is %(head)s"),
        {"column": str, "head": str},
    ),
    "cells": Sentence(
        _("predictions.csv: each row must have %(expected)d cells like the first line, but %(examples)s"),
        {"expected": int},
        _("line %(line)d has %(cells)d"),
        {"line": int, "cells": int},
    ),
    "quotes": Sentence(
        _("predictions.csv: a quotation mark is not closed, or stands inside a cell: %(examples)s"), {}, _LINE, _AT_LINE
    ),
    "long_cell": Sentence(
        _("predictions.csv: cells may have at most %(most)d characters, more are in %(examples)s"),
        {"most": int},
        _LINE,
        _AT_LINE,
    ),
    "unknown": Sentence(
        _("predictions.csv: %(key)s must be one of the %(total)d of this leaderboard, not %(examples)s"),
        {"key": str, "total": int},
        _NAME_AT_LINE,
        _NAMED_AT_LINE,
    ),
    "repeated": Sentence(
        _("predictions.csv: no %(key)s may be given twice, but these are: %(examples)s"),
        {"key": str},
        _NAME_AT_LINE,
        _NAMED_AT_LINE,
    ),
    "missing": Sentence(
        _("predictions.csv: %(count)d of %(total)d rows are missing: %(examples)s"), {"total": int}, _NAME, _NAMED
    ),
    "not_number": Sentence(
        _("predictions.csv: %(column)s must be a finite number of at most %(most)s either way, not %(examples)s"),
        {"column": str, "most": str},
        _("%(value)s (line %(line)d)"),
        {"value": str, "line": int},
    ),
    "not_probability": Sentence(
        _("predictions.csv: %(column)s must be from 0 to 1 for log_loss, not %(examples)s"),
        {"column": str},
        _("%(value)s (%(name)s)"),
        {"value": str, "name": str},
    ),
    "stopped": Sentence(
        _("predictions.csv was read to line %(line)d only, after %(most)d faults"), {"line": int, "most": int}
    ),
    "no_map": Sentence(
        _("%(count)d of %(total)d maps are missing, and this leaderboard measures pixels: %(examples)s"),
        {"total": int},
        _NAME,
        _NAMED,
    ),
    "map_too_large": Sentence(
        _("maps may have at most %(most)s, larger are %(examples)s"), {"most": str}, _NAME, _NAMED
    ),
    "map_not_grey": Sentence(_("maps must be grey PNGs of 8 or 16 bits, unlike %(examples)s"), {}, _NAME, _NAMED),
    "map_side": Sentence(
        _("maps have too many pixels a side: %(examples)s"),
        {},
        _("%(name)s has %(side)d, at most %(most)d"),
        {"name": str, "side": int, "most": int},
    ),
    "map_unreadable": Sentence(_("maps cannot be decoded as grey PNGs: %(examples)s"), {}, _NAME, _NAMED),
}
# Gaps for the platform's own words of a table, not a stranger's: shown without quotation marks.
_PLAIN = ("column", "key", "most")


def refusal(rejected: Any) -> str | None:
    """Return the sentence of what a scorer left as `rejected`: one text or fault, or a list of them. None: it is neither."""
    reported = rejected if isinstance(rejected, list) else [rejected]
    sentences = [_sentence(item) for item in reported[:MOST_FAULTS]]
    if not sentences or any(sentence is None for sentence in sentences):
        return None
    return together([sentence for sentence in sentences if sentence], count=len(reported))


def _sentence(reported: Any) -> str | None:
    if isinstance(reported, str):
        return _own_words(reported)
    if not isinstance(reported, dict) or (sentence := SENTENCES.get(str(reported.get("id")))) is None:
        return None
    values, count = reported.get("values", {}), reported.get("count", 1)
    examples = reported.get("examples", [])
    if not _fit(values, sentence.values) or not _fit({"count": count}, {"count": int}):
        return None
    gaps = {name: _shown(name, value) for name, value in values.items()}
    if "%(examples)s" in sentence.text:
        if not _are_examples(examples, sentence, count):
            return None
        gaps["examples"] = _listed(examples, sentence, count)
    if "%(count)d" in sentence.text:
        gaps["count"] = count
    return _(str(sentence.text), **gaps)


def _listed(examples: Sequence[Mapping[str, Any]], sentence: Sentence, count: int) -> str:
    named = [
        _(str(sentence.example), **{name: _shown(name, value) for name, value in example.items()})
        for example in examples
    ]
    return together(named, count=count, joint=COMMA)


def _are_examples(given: Any, sentence: Sentence, count: int) -> bool:
    if not isinstance(given, list) or not 0 < len(given) <= min(MOST_EXAMPLES, count):
        return False
    return all(_fit(example, sentence.of_example) for example in given)


def _fit(given: Any, types: Mapping[str, type]) -> bool:
    """Return whether exactly these names are given, with values of these types; a number within what is counted."""
    if not isinstance(given, dict) or given.keys() != types.keys():
        return False
    return all(type(value) is types[name] and _is_bounded(value) for name, value in given.items())


def _is_bounded(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, int) and 0 <= value <= LARGEST_COUNT)


def _shown(name: str, value: int | str) -> int | str:
    return shown(value) if isinstance(value, str) and not (name in _PLAIN and _is_plain(value)) else value


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and len(text) <= 20


def _own_words(sentence: str) -> str | None:
    """Return a scorer's own sentence as one line of plain characters, cut; None for an empty one."""
    plain = " ".join("".join(character if character.isprintable() else " " for character in sentence).split())
    return (plain if len(plain) <= LONGEST_SENTENCE else plain[: LONGEST_SENTENCE - 1] + "…") or None
