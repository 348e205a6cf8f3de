"""What all scorers share: the interface, and tables read as a stranger wrote them."""

from __future__ import annotations

import csv
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
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


class Scorer(ABC):
    """One way to measure. `wanted` are the metrics of the leaderboard: the others need not be computed."""

    def __init__(self, wanted: list[str]) -> None:
        self.wanted = wanted

    @abstractmethod
    def score(self, predictions: Path, truth: Path) -> dict[str, float]:
        """The metrics by name; raises BadPredictions."""


def settings(truth: Path) -> dict[str, Any]:
    """What the organizer set beside the labels; nothing where there is no such file."""
    path = truth / SETTINGS
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def labels(truth: Path, key: str, *columns: str) -> dict[str, dict[str, str]]:
    """The rows of the labels by their key, in the file's order."""
    with (truth / LABELS).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if missing := [column for column in (key, *columns) if not row.get(column)]:
            raise ValueError(f"{LABELS}: a row has no {', '.join(missing)}")
    found = {row[key]: row for row in rows}
    if len(found) != len(rows):
        raise ValueError(f"{LABELS}: a {key} stands twice")
    if not found:
        raise ValueError(f"{LABELS}: is empty")
    return found


def table(predictions: Path, key: str, *columns: str) -> dict[str, dict[str, str]]:
    """The rows of predictions.csv by their key: the columns asked for, each but once."""
    path = predictions / TABLE
    if not path.is_file():
        raise BadPredictions(f"predictions/{TABLE} is missing")
    if path.stat().st_size > MOST_TABLE_BYTES:
        raise BadPredictions(f"{TABLE} is larger than {MOST_TABLE_BYTES // 1024**2} MiB")
    csv.field_size_limit(LONGEST_CELL)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return dict(_rows(csv.reader(file, strict=True), key, columns))
    except UnicodeDecodeError:
        raise BadPredictions(f"{TABLE} is not UTF-8") from None
    except csv.Error as error:
        raise BadPredictions(f"{TABLE} is not a table of comma-separated values: {error}") from None


def _rows(reader: Iterator[list[str]], key: str, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    heads = [head.strip() for head in next(reader, [])]
    for name in (key, *columns):
        if heads.count(name) != 1:
            raise BadPredictions(f"{TABLE}: its first line must name the column {name} once")
    places = {name: heads.index(name) for name in (key, *columns)}
    seen: set[str] = set()
    for number, cells in enumerate(reader, 2):
        if not cells:
            continue
        if len(cells) != len(heads):
            raise BadPredictions(f"{TABLE}: row {number} has {len(cells)} cells, not {len(heads)}")
        row = {name: cells[place].strip() for name, place in places.items()}
        if row[key] in seen:
            raise BadPredictions(f"{TABLE}: {shown(row[key])} stands twice")
        seen.add(row[key])
        yield row[key], row


def matched(found: dict[str, dict[str, str]], wanted: dict[str, Any], what: str) -> None:
    """Refuse a table that does not speak of exactly what there is to predict."""
    missing = [name for name in wanted if name not in found]
    if missing:
        raise BadPredictions(
            f"{TABLE}: {len(missing)} of {len(wanted)} {what} are missing, the first is {shown(missing[0])}"
        )
    unknown = next((name for name in found if name not in wanted), None)
    if unknown is not None:
        raise BadPredictions(f"{TABLE}: {shown(unknown)} is none of the {len(wanted)} {what}")


def number(text: str, column: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= LARGEST_NUMBER:
        raise BadPredictions(f"{TABLE}: {column} of {shown(name)} must be a finite number, not {shown(text)}")
    return value


def shown(text: str) -> str:
    """A stranger's text for a message: short and plain ASCII."""
    plain = ascii(text)
    return plain if len(plain) <= 60 else plain[:57] + "..."


def auc(pairs: list[tuple[float, bool]]) -> float:
    """Area under the ROC curve of (score, is positive): how often a positive stands above a negative, ties half."""
    ordered = sorted(pairs)
    positives = sum(is_positive for _, is_positive in ordered)
    negatives = len(ordered) - positives
    if not positives or not negatives:
        raise ValueError("the labels have one kind only")
    wins, below, at = 0.0, 0, 0
    while at < len(ordered):
        end = at
        while end < len(ordered) and ordered[end][0] == ordered[at][0]:
            end += 1
        ups = sum(is_positive for _, is_positive in ordered[at:end])
        downs = end - at - ups
        wins += ups * (below + downs / 2)
        below, at = below + downs, end
    return wins / (positives * negatives)


def best_f1(pairs: list[tuple[float, bool]]) -> float:
    """The highest F1 that any threshold reaches; equal scores pass it together."""
    ordered = sorted(pairs, reverse=True)
    positives = sum(is_positive for _, is_positive in ordered)
    best, hits = 0.0, 0
    for index, (score, is_positive) in enumerate(ordered):
        hits += is_positive
        if index + 1 == len(ordered) or ordered[index + 1][0] != score:
            best = max(best, 2 * hits / (index + 1 + positives))
    return best
