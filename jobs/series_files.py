"""Numbers that a run left in a CSV or JSON file, as curves. The file is a stranger's: bytes, rows, columns, numbers and
charts are bounded, and what is no series is passed over.

CSV: each column of numbers is a curve, over a first column called step, epoch, ... or over the row's number.
JSON: lists of numbers, lists of [x, y], {"x": [...], "y": [...]}, and lists of objects, at any place up to 5 deep.
"""

import csv
import io
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from core.untrusted import Bounds, TextRefused, load_json
from jobs.curves import MOST_LINES, CurveChart, Points, draw

MAX_BYTES = 1024 * 1024
MAX_ROWS = 20_000
MAX_COLUMNS = 50
MAX_CHARTS = 24
# In the whole file: a number costs the same in one long column as in fifty.
MAX_NUMBERS = 100_000
MAX_DEPTH = 5
FEWEST_POINTS = 2
# A file of single digits is cut by MAX_NUMBERS, not refused. Replacement characters are longer than what they stand for.
_JSON = Bounds(bytes=4 * MAX_BYTES, tokens=MAX_BYTES, storable=False)
ENDINGS = (".csv", ".json")
_X_NAMES = {"step", "epoch", "iteration", "iter", "x", "index", "time", "seconds", "batch"}
_MAX_NAME = 100
_MAX_VALUE = 1e300
_LONGEST_NUMBER = 400
# A short series costs as much as so many numbers of a long one.
_SERIES_COST = 10

Named = tuple[str, dict[str, Points]]


@dataclass(frozen=True)
class Drawn:
    """The charts of a file. `is_cut` if the file has more than was read or drawn."""

    charts: list[CurveChart]
    is_cut: bool

    @property
    def limits(self) -> dict[str, int]:
        return {"rows": MAX_ROWS, "columns": MAX_COLUMNS, "charts": MAX_CHARTS, "numbers": MAX_NUMBERS}


def can_be_drawn(path: str, size: int) -> bool:
    """Whether a file may hold curves, by its name and size."""
    return path.lower().endswith(ENDINGS) and 0 < size <= MAX_BYTES


def charts_of(path: str, raw: bytes) -> Drawn:
    """Return the charts of a file's content; none if it has no series. Raises nothing."""
    text = raw[:MAX_BYTES].decode("utf-8-sig", "replace")
    reader = _Reader()
    series = reader.of_csv(text) if path.lower().endswith(".csv") else reader.of_json(text)
    charts = [
        draw(name[:_MAX_NAME], {label[:_MAX_NAME]: points for label, points in lines.items()})
        for name, lines in itertools.islice(series, MAX_CHARTS)
    ]
    is_cut = reader.is_cut or (len(charts) == MAX_CHARTS and next(series, None) is not None)
    return Drawn(charts, is_cut)


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and len(value) > _LONGEST_NUMBER:
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and abs(number) <= _MAX_VALUE else None


class _Reader:
    """Find series in one file, and count the numbers that are read."""

    def __init__(self) -> None:
        self.is_cut = False
        self._numbers_left = MAX_NUMBERS

    def _rows(self, rows: int, columns: int) -> int:
        """Return how many of the rows may be read, and count them as read."""
        allowed = max(0, min(rows, MAX_ROWS, self._numbers_left // max(1, columns)))
        self.is_cut = self.is_cut or allowed < rows
        self._numbers_left -= allowed * columns + _SERIES_COST
        return allowed

    def of_csv(self, text: str) -> Iterator[Named]:
        first = text.partition("\n")[0]
        delimiter = max(",;\t", key=first.count)
        filled = (row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row)
        try:
            head = next(filled, [])
            width = min(len(head), MAX_COLUMNS)
            self.is_cut = len(head) > width
            has_names = any(_finite(cell) is None for cell in head[:width])
            most = min(MAX_ROWS, MAX_NUMBERS // max(1, width))
            # One more than may be read, to know whether there are more.
            body = itertools.chain([] if has_names else [head], filled)
            rows = [row[:width] for row in itertools.islice(body, most + 1)]
        except csv.Error:
            return
        rows = rows[: self._rows(len(rows), width)]
        names = head[:width] if has_names else [str(number + 1) for number in range(width)]
        yield from _columns(
            {
                name.strip() or str(index + 1): [_finite(row[index]) if index < len(row) else None for row in rows]
                for index, name in enumerate(names)
            }
        )

    def of_json(self, text: str) -> Iterator[Named]:
        try:
            document = load_json(text, _JSON)
        except TextRefused:
            return
        yield from self._within(document, "", 0)

    def _within(self, value: Any, name: str, depth: int) -> Iterator[Named]:
        if depth > MAX_DEPTH:
            return
        points = self._points(value)
        if points:
            yield name or "1", {name or "1": points}
        elif isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
            names = list(dict.fromkeys(str(key) for row in value[:100] for key in row))
            self.is_cut = self.is_cut or len(names) > MAX_COLUMNS
            names = names[:MAX_COLUMNS]
            rows = value[: self._rows(len(value), len(names))]
            yield from _columns({key: [_finite(row.get(key)) for row in rows] for key in names})
        elif isinstance(value, dict):
            yield from self._within_object(value, name, depth)

    def _within_object(self, value: dict[str, Any], name: str, depth: int) -> Iterator[Named]:
        """Curves of {"x", "y"} that stand side by side are laid over each other; all else is looked into."""
        pairs = {str(key): points for key, inner in value.items() if (points := self._pair(inner))}
        items = list(pairs.items())
        for start in range(0, len(items), MOST_LINES):
            yield name or "1", dict(items[start : start + MOST_LINES])
        for key, inner in value.items():
            if str(key) not in pairs:
                yield from self._within(inner, f"{name}.{key}" if name else str(key), depth + 1)

    def _points(self, value: Any) -> Points | None:
        """Return the points of a list of numbers, a list of pairs, or an object of x and y; None for anything else."""
        if isinstance(value, dict):
            return self._pair(value)
        if not isinstance(value, list) or len(value) < FEWEST_POINTS:
            return None
        if all(isinstance(item, list) and len(item) == 2 for item in value):
            value = value[: self._rows(len(value), 2)]
            return _zipped([item[0] for item in value], [item[1] for item in value])
        if not isinstance(value[0], int | float):
            return None
        value = value[: self._rows(len(value), 2)]
        return _zipped(list(range(len(value))), value)

    def _pair(self, value: Any) -> Points | None:
        if not isinstance(value, dict):
            return None
        xs, ys = value.get("x"), value.get("y")
        if not (isinstance(xs, list) and isinstance(ys, list) and len(xs) == len(ys) >= FEWEST_POINTS):
            return None
        count = self._rows(len(xs), 2)
        return _zipped(xs[:count], ys[:count])


def _columns(columns: dict[str, list[float | None]]) -> Iterator[Named]:
    """Each column of numbers over the first one, if that is a known x that only rises, else over the row's number."""
    x_name = next(iter(columns), "")
    first = columns.get(x_name, [])
    along: list[float] | None = None
    if x_name.lower() in _X_NAMES and all(value is not None for value in first):
        known = [value for value in first if value is not None]
        along = known if known == sorted(known) else None
    for name, values in columns.items():
        if along is not None and name == x_name:
            continue
        points = [
            (along[index] if along is not None else float(index), value)
            for index, value in enumerate(values)
            if value is not None
        ]
        # A column of words with a number here and there is none.
        if len(points) >= FEWEST_POINTS and len(points) * 2 >= len(values):
            yield name, {name: points}


def _zipped(xs: list[Any], ys: list[Any]) -> Points | None:
    """Only true numbers count here: JSON tells them from text."""
    if len(xs) < FEWEST_POINTS or any(isinstance(item, str) for item in (*xs, *ys)):
        return None
    points = [(_finite(x), _finite(y)) for x, y in zip(xs, ys, strict=True)]
    known = [(x, y) for x, y in points if x is not None and y is not None]
    return known if len(known) == len(points) else None
