"""What all scorers share: the interface, and tables read as a stranger wrote them."""

from __future__ import annotations

import csv
import json
import math
import sys
import unicodedata
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TABLE = "predictions.csv"
LABELS = "labels.csv"
SETTINGS = "scoring.json"
MOST_TABLE_BYTES = 64 * 1024 * 1024
LONGEST_CELL = 1000
LARGEST_NUMBER = 1e12  # what is computed of such ones can still be stored


class BadPredictions(Exception):
    """The predictions break a rule. The sentence is shown to the participant: it speaks of what they left and of names
    that they have, never of a label."""


@dataclass
class Scores:
    """Metrics by name, and those of each category where the labels have some."""

    metrics: dict[str, float]
    categories: dict[str, dict[str, float]] = field(default_factory=dict)


class Scorer(ABC):
    """One way to measure. `wanted` are the metrics of the leaderboard: the others need not be computed."""

    def __init__(self, wanted: list[str]) -> None:
        self.wanted = wanted

    @abstractmethod
    def score(self, predictions: Path, truth: Path) -> Scores:
        """Measure the predictions; raises BadPredictions."""


def settings(truth: Path) -> dict[str, Any]:
    """What the organizer set beside the labels; nothing where there is no such file."""
    path = truth / SETTINGS
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


class Labels:
    """The labels by column, in the order of the file. `places` maps a key to its row's number."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.places: dict[str, int] = {}
        self.texts: dict[str, list[str]] = {}
        self.numbers: dict[str, array[float]] = {}

    def add(self, row: dict[str, str]) -> None:
        place = len(self.places)
        if self.places.setdefault(row[self.key], place) != place:
            raise ValueError(f"{LABELS}: a {self.key} stands twice")
        for name, texts in self.texts.items():
            texts.append(sys.intern(row[name] or ""))  # most rows share a few texts
        for name, numbers in self.numbers.items():
            numbers.append(float(row[name]))

    def row(self, place: int) -> dict[str, str]:
        return {name: texts[place] for name, texts in self.texts.items()}


def labels(
    truth: Path, key: str, *columns: str, numbers: tuple[str, ...] = (), optional: tuple[str, ...] = ()
) -> Labels:
    """Read the labels. Only the optional columns may be empty."""
    found = Labels(key)
    found.texts = {name: [] for name in (*columns, *optional)}
    found.numbers = {name: array("d") for name in numbers}
    with (truth / LABELS).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if missing := [column for column in (key, *columns, *numbers) if not row.get(column)]:
                raise ValueError(f"{LABELS}: a row has no {', '.join(missing)}")
            found.add({**row, key: spelled(row[key])})
    if not found.places:
        raise ValueError(f"{LABELS}: is empty")
    return found


def table(
    predictions: Path,
    true: Labels,
    what: str,
    *,
    numbers: tuple[str, ...] = (),
    texts: Iterable[tuple[str, set[str]]] = (),
) -> dict[str, Any]:
    """Read the columns of predictions.csv in the order of the labels: numbers as arrays, texts as lists.

    A text that is not among those given with its column becomes "". Each row must belong to a label, and each label must
    have one row, so the labels bound the memory, whatever the table holds.
    """
    path = predictions / TABLE
    if not path.is_file():
        raise BadPredictions(f"predictions/{TABLE} is missing")
    if path.stat().st_size > MOST_TABLE_BYTES:
        raise BadPredictions(f"{TABLE} is larger than {MOST_TABLE_BYTES // 1024**2} MiB")
    csv.field_size_limit(LONGEST_CELL)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return _columns(csv.reader(file, strict=True), true, what, numbers, dict(texts))
    except UnicodeDecodeError:
        raise BadPredictions(f"{TABLE} is not UTF-8") from None
    except csv.Error as error:
        raise BadPredictions(f"{TABLE} is not a table of comma-separated values: {error}") from None


def _columns(
    reader: Iterator[list[str]], true: Labels, what: str, numbers: tuple[str, ...], texts: dict[str, set[str]]
) -> dict[str, Any]:
    count = len(true.places)
    found: dict[str, Any] = {name: array("d", bytes(8 * count)) for name in numbers}
    found |= {name: [""] * count for name in texts}
    known = {name: {text: text for text in accepted} for name, accepted in texts.items()}
    seen = bytearray(count)
    for name, row in _rows(reader, true.key, (*numbers, *texts)):
        place = true.places.get(name)
        if place is None:
            raise BadPredictions(f"{TABLE}: {shown(name)} is none of the {count} {what}")
        if seen[place]:
            raise BadPredictions(f"{TABLE}: {shown(name)} stands twice")
        seen[place] = 1
        for column in numbers:
            found[column][place] = number(row[column], column, name)
        for column, accepted in known.items():
            found[column][place] = accepted.get(row[column], "")
    if missing := seen.count(0):
        first = next(name for name, place in true.places.items() if not seen[place])
        raise BadPredictions(f"{TABLE}: {missing} of {count} {what} are missing, the first is {shown(first)}")
    return found


def _rows(reader: Iterator[list[str]], key: str, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    heads = [head.strip() for head in next(reader, [])]
    for name in (key, *columns):
        if heads.count(name) != 1:
            raise BadPredictions(f"{TABLE}: its first line must name the column {name} once")
    places = {name: heads.index(name) for name in columns}
    key_place = heads.index(key)
    for line, cells in enumerate(reader, 2):
        if not cells:
            continue
        if len(cells) != len(heads):
            raise BadPredictions(f"{TABLE}: row {line} has {len(cells)} cells, not {len(heads)}")
        yield spelled(cells[key_place].strip()), {name: cells[place].strip() for name, place in places.items()}


def spelled(name: str) -> str:
    """Return the one spelling of a name (NFC), under which the platform keeps files: a Mac writes e and ´ for é."""
    return unicodedata.normalize("NFC", name)


def number(text: str, column: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= LARGEST_NUMBER:
        raise BadPredictions(f"{TABLE}: {column} of {shown(name)} must be a finite number, not {shown(text)}")
    return value


def shown(text: str) -> str:
    """A stranger's text for a message: short; printable characters of any script as they are, others escaped."""
    plain = repr(text)
    return plain if len(plain) <= 60 else plain[:57] + "..."


def auc(scores: Sequence[float], positive: Sequence[bool]) -> float:
    """Return the area under the ROC curve: how often a positive ranks above a negative, ties half."""
    # Only one of the two at a time is a list of objects; an array takes 8 bytes a score.
    ups = array("d", sorted(score for score, is_positive in zip(scores, positive, strict=True) if is_positive))
    downs = array("d", sorted(score for score, is_positive in zip(scores, positive, strict=True) if not is_positive))
    if not ups or not downs:
        raise ValueError("the labels have one kind only")
    wins, below, equal = 0.0, 0, 0
    for score in ups:
        while below < len(downs) and downs[below] < score:
            below += 1
        equal = max(equal, below)
        while equal < len(downs) and downs[equal] == score:
            equal += 1
        wins += (below + equal) / 2
    return wins / (len(ups) * len(downs))


def best_f1(scores: Sequence[float], positive: Sequence[bool]) -> float:
    """The highest F1 that any threshold reaches; equal scores pass it together."""
    order = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
    positives = sum(positive)
    best, hits = 0.0, 0
    for index, place in enumerate(order):
        hits += positive[place]
        if index + 1 == len(order) or scores[order[index + 1]] != scores[place]:
            best = max(best, 2 * hits / (index + 1 + positives))
    return best
