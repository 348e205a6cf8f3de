"""Numbers that a run left in a CSV or JSON file, as curves. The file is a stranger's: everything is bounded, and what is
no series is passed over.

CSV: each column of numbers is a curve, over a first column called step, epoch, ... or over the row's number.
JSON: lists of numbers, lists of [x, y], {"x": [...], "y": [...]}, and lists of objects, at any place up to 5 deep.
"""

import csv
import io
import json
import math
from collections.abc import Iterator
from typing import Any

from jobs.curves import MOST_LINES, CurveChart, Points, draw

MAX_BYTES = 1024 * 1024
MAX_ROWS = 20_000
MAX_COLUMNS = 50
MAX_CHARTS = 24
MAX_DEPTH = 5
FEWEST_POINTS = 2
ENDINGS = (".csv", ".json")
_X_NAMES = {"step", "epoch", "iteration", "iter", "x", "index", "time", "seconds", "batch"}
_MAX_NAME = 100
_MAX_VALUE = 1e300

Named = tuple[str, dict[str, Points]]


def can_be_drawn(path: str, size: int) -> bool:
    """Whether a file may hold curves, by its name and size."""
    return path.lower().endswith(ENDINGS) and 0 < size <= MAX_BYTES


def charts_of(path: str, raw: bytes) -> list[CurveChart]:
    """The charts that a file's content makes; an empty list where it holds no series. Raises nothing."""
    text = raw[:MAX_BYTES].decode("utf-8-sig", "replace")
    found = _of_csv(text) if path.lower().endswith(".csv") else _of_json(text)
    charts = []
    for name, series in found:
        charts.append(draw(name[:_MAX_NAME], {label[:_MAX_NAME]: points for label, points in series.items()}))
        if len(charts) == MAX_CHARTS:
            break
    return charts


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and abs(number) <= _MAX_VALUE else None


def _of_csv(text: str) -> Iterator[Named]:
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            if row and len(rows) <= MAX_ROWS:
                rows.append(row)
    except csv.Error:
        return
    if not rows:
        return
    has_names = any(_finite(cell) is None for cell in rows[0])
    names = rows.pop(0) if has_names else [str(number + 1) for number in range(len(rows[0]))]
    columns = {
        name.strip() or str(index + 1): [_finite(row[index]) if index < len(row) else None for row in rows]
        for index, name in enumerate(names[:MAX_COLUMNS])
    }
    yield from _columns(columns)


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


def _of_json(text: str) -> Iterator[Named]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return
    yield from _within(document, "", 0)


def _within(value: Any, name: str, depth: int) -> Iterator[Named]:
    if depth > MAX_DEPTH:
        return
    points = _points(value)
    if points:
        yield name or "1", {name or "1": points}
    elif isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        rows = value[:MAX_ROWS]
        names = list(dict.fromkeys(str(key) for row in rows[:100] for key in row))[:MAX_COLUMNS]
        yield from _columns({key: [_finite(row.get(key)) for row in rows] for key in names})
    elif isinstance(value, dict):
        yield from _within_object(value, name, depth)


def _within_object(value: dict[str, Any], name: str, depth: int) -> Iterator[Named]:
    """Curves of {"x", "y"} that stand side by side are laid over each other; all else is looked into."""
    pairs = {str(key): points for key, inner in value.items() if (points := _pair(inner))}
    for start in range(0, len(pairs), MOST_LINES):
        yield name or "1", dict(list(pairs.items())[start : start + MOST_LINES])
    for key, inner in value.items():
        if str(key) not in pairs:
            yield from _within(inner, f"{name}.{key}" if name else str(key), depth + 1)


def _points(value: Any) -> Points | None:
    """The points of a list of numbers, a list of pairs, or an object of x and y; None for anything else."""
    if isinstance(value, dict):
        return _pair(value)
    if not isinstance(value, list) or not FEWEST_POINTS <= len(value) <= MAX_ROWS:
        return None
    if all(isinstance(item, list) and len(item) == 2 for item in value):
        return _zipped([item[0] for item in value], [item[1] for item in value])
    return _zipped(list(range(len(value))), value)


def _pair(value: Any) -> Points | None:
    if not isinstance(value, dict):
        return None
    xs, ys = value.get("x"), value.get("y")
    if not (isinstance(xs, list) and isinstance(ys, list) and len(xs) == len(ys)):
        return None
    return _zipped(xs, ys) if FEWEST_POINTS <= len(xs) <= MAX_ROWS else None


def _zipped(xs: list[Any], ys: list[Any]) -> Points | None:
    """Only true numbers count here: JSON tells them from text."""
    if any(isinstance(item, str) for item in (*xs, *ys)):
        return None
    points = [(_finite(x), _finite(y)) for x, y in zip(xs, ys, strict=True)]
    known = [(x, y) for x, y in points if x is not None and y is not None]
    return known if len(known) == len(points) else None
