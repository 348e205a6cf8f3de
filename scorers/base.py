"""What all scorers share: the interface, and tables read as a stranger wrote them."""

from __future__ import annotations

import codecs
import csv
import json
import math
import sys
import unicodedata
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults import MOST_COUNTED, Faults

TABLE = "predictions.csv"
LABELS = "labels.csv"
SETTINGS = "scoring.json"
MOST_TABLE_BYTES = 64 * 1024 * 1024
LONGEST_CELL = 1000
LARGEST_NUMBER = 1e12  # what is computed of such ones can still be stored


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
        """Measure the predictions; raises faults.BadPredictions."""


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
    faults: Faults,
    *,
    numbers: tuple[str, ...] = (),
    texts: Iterable[tuple[str, set[str]]] = (),
) -> dict[str, Any]:
    """Read the columns of predictions.csv in the order of the labels: numbers as arrays, texts as lists.

    A text that is not among those given with its column becomes "". Each row must belong to a label, and each label must
    have one row, so the labels bound the memory, whatever the table holds. What is wrong goes to `faults`; the values are
    of use only if nothing is.
    """
    path = predictions / TABLE
    known = {name: {text: text for text in accepted} for name, accepted in texts}
    reading = _Reading(true, faults, numbers, known)
    if not path.is_file():
        faults.add("no_table")
    elif path.stat().st_size > MOST_TABLE_BYTES:
        faults.add("table_too_large", {"most": f"{MOST_TABLE_BYTES // 1024**2} MiB"})
    else:
        csv.field_size_limit(LONGEST_CELL)
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                reading.read(csv.reader(file, strict=True))
        except UnicodeDecodeError:
            faults.add("not_utf8", {"line": _line_of_bad_byte(path)})
    return reading.columns


def _line_of_bad_byte(path: Path) -> int:
    decoder = codecs.getincrementaldecoder("utf-8")()
    line = 1
    with path.open("rb") as file:
        while chunk := file.read(1024 * 1024):
            try:
                line += decoder.decode(chunk).count("\n")
            except UnicodeDecodeError as error:
                return line + error.object.count(b"\n", 0, error.start)
    return line


class _Reading:
    """One pass over predictions.csv."""

    def __init__(
        self, true: Labels, faults: Faults, numbers: tuple[str, ...], texts: dict[str, dict[str, str]]
    ) -> None:
        count = len(true.places)
        self.columns: dict[str, Any] = {name: array("d", bytes(8 * count)) for name in numbers}
        self.columns |= {name: [""] * count for name in texts}
        self._true, self._faults, self._numbers, self._texts = true, faults, numbers, texts
        self._seen = bytearray(count)

    def read(self, reader: Any) -> None:
        """Take each row, and find the labels without one if the table could be read to its end."""
        places = self._read_heads(reader)
        if places is None:
            return
        width, key_place = places.pop(""), places.pop(self._true.key)
        while (cells := self._next(reader)) is not None:
            if cells and len(cells) != width:
                self._faults.add("cells", {"expected": width}, line=reader.line_num, cells=len(cells))
                self._see("".join(cells[key_place : key_place + 1]))  # it is wrong, but not missing
            elif cells:
                row = {column: cells[place].strip() for column, place in places.items()}
                self._take(cells[key_place], row, reader.line_num)
            if self._faults.are_too_many:
                self._faults.add("stopped", {"line": reader.line_num, "most": MOST_COUNTED})
                return
        if missing := self._seen.count(0):
            names = (name for name, place in self._true.places.items() if not self._seen[place])
            self._faults.add_missing("missing", len(self._seen), missing, names)

    def _read_heads(self, reader: Any) -> dict[str, int] | None:
        """Return the place of each column, and the number of all under ""; None without the columns that are needed."""
        before = self._faults.count
        heads = [head.strip() for head in self._next(reader) or []]
        names = (self._true.key, *self.columns)
        if self._faults.count == before:
            for name in names:
                if heads.count(name) != 1:
                    self._faults.add("column", {"column": name, "head": ", ".join(heads[:20])})
        if self._faults.count > before:
            return None
        return {"": len(heads)} | {name: heads.index(name) for name in names}

    def _next(self, reader: Any) -> list[str] | None:
        """Return the next row's cells, [] for one that cannot be read; None at the end."""
        try:
            cells: list[str] | None = next(reader, None)
        except csv.Error as error:
            if "field limit" in str(error):
                self._faults.add("long_cell", {"most": LONGEST_CELL}, line=reader.line_num)
            else:
                self._faults.add("quotes", line=reader.line_num)
            return []
        return cells

    def _see(self, text: str) -> tuple[str, int | None]:
        """Return the name, and the place of its label if this is its first row."""
        name = spelled(text.strip())
        place = self._true.places.get(name)
        if place is None or self._seen[place]:
            return name, None
        self._seen[place] = 1
        return name, place

    def _take(self, text: str, row: dict[str, str], line: int) -> None:
        name, place = self._see(text)
        if place is None:
            if name in self._true.places:
                self._faults.add("repeated", {"key": self._true.key}, name=name, line=line)
            else:
                self._faults.add("unknown", {"key": self._true.key, "total": len(self._seen)}, name=name, line=line)
            return
        for column in self._numbers:
            value = _number(row[column])
            if not abs(value) <= LARGEST_NUMBER:
                most = f"{LARGEST_NUMBER:g}"
                self._faults.add("not_number", {"column": column, "most": most}, value=row[column], line=line)
            self.columns[column][place] = value
        for column, accepted in self._texts.items():
            self.columns[column][place] = accepted.get(row[column], "")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def spelled(name: str) -> str:
    """Return the one spelling of a name (NFC), under which the platform keeps files: a Mac writes e and ´ for é."""
    return unicodedata.normalize("NFC", name)


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
