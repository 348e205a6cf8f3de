"""A board's rows as a file: exactly what the page shows by the same address, all pages of it, streamed."""

import csv
import json
from collections.abc import Iterable, Iterator
from typing import Any

from leaderboards.queries import Ranking, Row, sees_names
from leaderboards.selection import Selection

FORMATS = {"csv": "text/csv; charset=utf-8", "json": "application/json"}


BYTE_ORDER_MARK = "\ufeff"


class _Line:
    """What csv.writer writes to: hands each line back."""

    def write(self, line: str) -> str:
        return line


# Excel with a Japanese keyboard reads the wide forms as the narrow ones.
_FORMULAS = frozenset("=+-@\t\r\n＝＋－＠")


def inert_cell(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value[:1] in _FORMULAS else value


def csv_lines(heads: list[str], rows: Iterable[list[Any]]) -> Iterator[str]:
    """Return the lines of a CSV file that spreadsheets open as it is: each CSV of the site is written here.

    Excel takes UTF-8 for the system's encoding (cp932 in Japan) unless a byte order mark comes first.
    """
    writer = csv.writer(_Line())
    yield BYTE_ORDER_MARK + writer.writerow([inert_cell(head) for head in heads])
    for row in rows:
        yield writer.writerow([inert_cell(cell) for cell in row])


def _head(selected: Selection) -> dict[str, Any]:
    return {
        "leaderboard": selected.board.slug,
        "metric": selected.metric.name if selected.metric else "",
        "direction": selected.metric.direction if selected.metric else "higher",
        "as_of": selected.as_of.isoformat() if selected.as_of else None,
    }


def _record(row: Row, names: list[str], viewer: Any) -> dict[str, Any]:
    return {
        "rank": row.rank,
        "user_id": row.username,
        "baseline": row.name if row.is_baseline else None,
        "metrics": {name: row.metrics.get(name) for name in names},
        "wall_seconds": row.wall_seconds,
        "peak_memory_bytes": row.peak_memory_bytes,
        "submitted_at": row.submitted_at.isoformat().replace("+00:00", "Z"),
        "job_id": str(row.job_id) if row.job_id else None,
        "isolation": row.isolation,
        "display_name": row.display_name,
        "submission_name": row.submission_name if sees_names(viewer, row) else None,
    }


def export(selected: Selection, kind: str, *, viewer: Any) -> Iterator[str]:
    """The file in pieces, as this viewer sees the board; `kind` is a key of FORMATS."""
    names = [metric.name for metric in selected.columns]
    records = (_record(row, names, viewer) for row in Ranking(selected).stream())
    return _csv(records, names) if kind == "csv" else _json(_head(selected), records)


def _csv(records: Iterator[dict[str, Any]], names: list[str]) -> Iterator[str]:
    costs = [
        "wall_seconds",
        "peak_memory_bytes",
        "submitted_at",
        "job_id",
        "isolation",
        "display_name",
        "submission_name",
    ]
    rows = (
        [
            *(record[name] for name in ("rank", "user_id", "baseline")),
            *record["metrics"].values(),
            *(record[name] for name in costs),
        ]
        for record in records
    )
    return csv_lines(["rank", "user_id", "baseline", *names, *costs], rows)


def _json(head: dict[str, Any], records: Iterator[dict[str, Any]]) -> Iterator[str]:
    yield json.dumps(head)[:-1] + ', "entries": ['
    for index, record in enumerate(records):
        yield ("," if index else "") + "\n" + json.dumps(record, ensure_ascii=False)
    yield "\n]}\n"
