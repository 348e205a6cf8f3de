"""All runs of a leaderboard as a file, streamed: for operators, since it has what only a run's owner sees."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import F, Func, QuerySet, TextField

from jobs.models import Job
from leaderboards.export import csv_lines
from leaderboards.models import Leaderboard
from submissions.models import Submission

# Columns of a table for the names of one kind; what has other names stands in one more column, as JSON.
MOST_NAMES = 300
CHUNK = 500
_FIELDS = (
    "pk", "status", "error_code", "score", "trial", "withdrawn_at", "resource_class", "rerun_of_id", "created_at",
    "started_at", "finished_at", "wall_seconds", "cpu_seconds", "peak_memory_bytes", "isolation", "config", "params",
    "metrics", "self_reported", "user__username", "user__first_name", "submission_id", "submission__name",
    "submission__entrypoint", "score_version__number", "entry", "disqualification",
)  # fmt: skip
_TABLED = ("metrics", "params")


def export_runs(board: Leaderboard, kind: str) -> Iterator[str]:
    """Return the file in pieces, the oldest run first; `kind` is csv or json."""
    jobs = Job.objects.filter(leaderboard=board)
    return _csv(board, jobs) if kind == "csv" else _json(jobs)


def _records(jobs: QuerySet[Job]) -> Iterator[dict[str, Any]]:
    rows = jobs.order_by("created_at", "pk").values(*_FIELDS)
    return map(_record, rows.iterator(chunk_size=CHUNK))


def _record(row: dict[str, Any]) -> dict[str, Any]:
    submission = Submission(
        pk=row["submission_id"], name=row["submission__name"], entrypoint=row["submission__entrypoint"]
    )
    return {
        "job_id": str(row["pk"]),
        "status": row["status"],
        "error_code": row["error_code"],
        "user_id": row["user__username"],
        "name": row["user__first_name"],
        "submission_id": str(submission.pk),
        "submission": submission.label,
        "score": row["score"],
        "is_on_board": row["entry"] is not None,
        "is_trial": row["trial"],
        "is_disqualified": row["disqualification"] is not None,
        "withdrawn_at": _time(row["withdrawn_at"]),
        "score_version": row["score_version__number"],
        "resource_class": row["resource_class"],
        "rerun_of": str(row["rerun_of_id"]) if row["rerun_of_id"] else None,
        **{name: _time(row[name]) for name in ("created_at", "started_at", "finished_at")},
        **{name: row[name] for name in ("wall_seconds", "cpu_seconds", "peak_memory_bytes", "isolation")},
        **{name: row[name] for name in ("metrics", "params", "config", "self_reported")},
    }


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None


def _csv(board: Leaderboard, jobs: QuerySet[Job]) -> Iterator[str]:
    names = {"metrics": _names(jobs, "metrics"), "params": _names(jobs, "params")}
    first = [metric.name for metric in board.metric_list]
    names["metrics"] = list(dict.fromkeys([*first, *names["metrics"]]))
    plain = _plain_names()
    heads = [
        *plain,
        *(f"{kind}.{name}" for kind in _TABLED for name in [*names[kind], "(others)"]),
        "config",
        "self_reported",
    ]
    return csv_lines(heads, (_cells(record, plain, names) for record in _records(jobs)))


def _plain_names() -> list[str]:
    """Return the names in a record that are a column each."""
    empty = _record({**dict.fromkeys(_FIELDS), "submission__name": "", "submission__entrypoint": ""})
    return [name for name in empty if name not in (*_TABLED, "config", "self_reported")]


def _cells(record: dict[str, Any], plain: list[str], names: dict[str, list[str]]) -> list[Any]:
    cells = [record[name] for name in plain]
    for kind in _TABLED:
        values = dict(record[kind])
        cells += [_cell(values.pop(name, None)) for name in names[kind]]
        cells.append(_cell(values or None))
    return [*cells, _cell(record["config"] or None), _cell(record["self_reported"] or None)]


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool) else value


def _names(jobs: QuerySet[Job], kind: str) -> list[str]:
    """Return the first names of the kind, in their order."""
    keys = Func(F(kind), function="jsonb_object_keys", output_field=TextField())
    return list(jobs.annotate(key=keys).values_list("key", flat=True).distinct().order_by("key")[:MOST_NAMES])


def _json(jobs: QuerySet[Job]) -> Iterator[str]:
    yield "["
    for index, record in enumerate(_records(jobs)):
        yield ("," if index else "") + "\n" + json.dumps(record, ensure_ascii=False, cls=DjangoJSONEncoder)
    yield "\n]\n"
