"""pending -> running: a job gets a holder, who gets a lease and, with `attempt`, the fencing token of its later writes."""

import functools
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, F, Model, OuterRef, Q
from django.db.models.functions import Now

from jobs.board_needs import boards_with_needs, runnable
from jobs.models import Job, JobAttempt, Status, Worker
from jobs.runtime import provided
from jobs.transitions import lease
from leaderboards.models import Leaderboard, Pause
from submissions.models import Submission

_CLAIMED: tuple[type[Model], ...] = (Job, Submission, Leaderboard)
# The claim is one statement, so that it costs one round trip: the job's row, its attempt's and the worker's, and what is read of them.
# Round-robin between people: of each person with something pending, the first in their own order; then whoever was
# served longest ago. Re-runs (priority 1) stand behind all new work. SKIP LOCKED lets two workers take two jobs at once.
# While the queue is paused, or this worker disabled, nothing is next; jobs of a paused leaderboard, or of one that this worker
# cannot run as it is now, are passed over.
_CLAIM_NEXT = """
WITH heads AS (
    SELECT DISTINCT ON (user_id) id, user_id, priority, created_at
    FROM jobs_job
    WHERE status = 'pending' AND available_at <= statement_timestamp() AND resource_class = ANY(%(classes)s)
      AND leaderboard_id NOT IN (SELECT leaderboard_id FROM leaderboards_pause WHERE leaderboard_id IS NOT NULL)
      AND NOT EXISTS (SELECT FROM leaderboards_pause WHERE leaderboard_id IS NULL)
      AND NOT EXISTS (SELECT FROM jobs_worker WHERE id = %(worker)s AND disabled_at IS NOT NULL)
      AND leaderboard_id = ANY(ARRAY(
          SELECT board.id FROM unnest(%(boards)s::bigint[], %(versions)s::bigint[]) AS able (id, version)
          JOIN leaderboards_leaderboard board ON board.id = able.id AND COALESCE(board.score_version_id, 0) = able.version))
    ORDER BY user_id, priority, created_at, id
), next AS (
    SELECT job.id
    FROM heads JOIN jobs_job job ON job.id = heads.id
    LEFT JOIN LATERAL (
        SELECT started_at FROM jobs_job served
        WHERE served.user_id = heads.user_id AND served.started_at IS NOT NULL
        ORDER BY served.started_at DESC LIMIT 1
    ) last ON true
    WHERE job.status = 'pending' AND job.cancel_requested_at IS NULL
    ORDER BY heads.priority, last.started_at NULLS FIRST, heads.created_at, heads.id
    LIMIT 1 FOR UPDATE OF job SKIP LOCKED
), claimed AS (
    UPDATE jobs_job SET status = 'running', attempt = attempt + 1, worker_id = %(worker)s,
        lease_until = statement_timestamp() + %(lease)s, heartbeat_at = statement_timestamp(),
        started_at = statement_timestamp(), scoring_started_at = NULL, updated_at = statement_timestamp(),
        deadline_at = statement_timestamp() + make_interval(secs => (%(allowances)s::jsonb ->> resource_class)::float8
            + (SELECT CASE WHEN scorer <> '' THEN %(scoring)s ELSE 0 END FROM leaderboards_leaderboard WHERE id = leaderboard_id))
    FROM next
    WHERE jobs_job.id = next.id AND jobs_job.status = 'pending' AND jobs_job.cancel_requested_at IS NULL
    RETURNING jobs_job.*
), tried AS (
    INSERT INTO jobs_jobattempt (job_id, number, worker_name, outcome, detail, environment_id, provided)
    SELECT id, attempt, %(worker_name)s, 'running', '', (%(environments)s::jsonb ->> (
            SELECT image FROM leaderboards_leaderboard WHERE id = leaderboard_id))::bigint,
        COALESCE(%(provided)s::jsonb -> resource_class, '{{}}')
    FROM claimed
), busy AS (
    UPDATE jobs_worker SET state = 'running', heartbeat_at = statement_timestamp()
    WHERE id = %(worker)s AND EXISTS (SELECT FROM claimed)
)
SELECT {columns} FROM claimed job
JOIN submissions_submission submission ON submission.id = job.submission_id
JOIN leaderboards_leaderboard leaderboard ON leaderboard.id = job.leaderboard_id
"""


def claim_next(
    *,
    worker_id: int,
    worker_name: str,
    resource_classes: list[str],
    boards: Mapping[int, int] | None = None,
    environments: Mapping[str, int] | None = None,
    gpus: Sequence[Mapping[str, Any]] = (),
) -> Job | None:
    """pending -> running for the next job in fair order; None when nothing is due. The worker's row says that it runs one.

    `boards` are the leaderboards that the worker can run, with the score version that it can for (`board_needs.runnable`);
    left out, its announced inventory says it. `environments` (image -> id of a RunnerEnvironment) and `gpus` are kept with the
    attempt, for the job's page.
    """
    if boards is None:
        announced = Worker.objects.values_list("inventory", flat=True).get(pk=worker_id)
        boards = runnable(boards_with_needs(), announced)
    values: dict[str, Any] = {
        "classes": resource_classes,
        "allowances": json.dumps({name: _allowance(name) for name in resource_classes}),
        "scoring": _scoring_allowance(),
        "worker": worker_id,
        "worker_name": worker_name,
        "lease": lease(),
        "boards": list(boards.keys()),
        "versions": list(boards.values()),
        "environments": json.dumps(environments or {}),
        "provided": json.dumps({name: provided(name, gpus) for name in resource_classes}),
    }
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM_NEXT.format(columns=_columns()), values)
        row = cursor.fetchone()
    return _read(row) if row else None


@functools.cache
def _columns() -> str:
    """Every column of the claimed job, its submission and its leaderboard, in the order in which `_read` takes them."""
    return ", ".join(f'{model._meta.model_name}."{column}"' for model in _CLAIMED for column in _column_names(model))


def _column_names(model: type[Model]) -> list[str]:
    return [str(field.column) for field in model._meta.concrete_fields]


def _read(row: Sequence[Any]) -> Job:
    """The job with its submission and leaderboard, as `select_related` makes them."""
    values = iter(row)
    job, submission, leaderboard = (_made(model, values) for model in _CLAIMED)
    job.submission, job.leaderboard = submission, leaderboard
    return job


def _made(model: type[Model], values: Iterator[Any]) -> Any:
    """An instance from the next values; the model's own converters are applied, as for any query."""
    names, converters = _fields_of(model)
    read = list(itertools.islice(values, len(names)))
    for place, convert in converters:
        read[place] = convert(read[place], None, connection)
    return model.from_db(connection.alias, names, read)


@functools.cache
def _fields_of(model: type[Model]) -> tuple[list[str], list[tuple[int, Callable[..., Any]]]]:
    """The fields' names, and at which places which conversions are called for."""
    fields = model._meta.concrete_fields
    converters = [
        (place, convert) for place, field in enumerate(fields) for convert in field.get_db_converters(connection)
    ]
    return [field.attname for field in fields], converters


@transaction.atomic
def claim(job_id: UUID, *, worker_id: int, worker_name: str) -> Job | None:
    """pending -> running for one job; None when it is not pending, not due yet, paused, or taken."""
    due = Job.objects.filter(pk=job_id, status=Status.PENDING, cancel_requested_at=None, available_at__lte=Now())
    paused = Pause.objects.filter(Q(leaderboard=None) | Q(leaderboard=OuterRef("leaderboard")))
    disabled = Worker.objects.filter(pk=worker_id, disabled_at__isnull=False)
    claimed = due.filter(~Exists(paused), ~Exists(disabled)).update(
        status=Status.RUNNING,
        attempt=F("attempt") + 1,
        worker_id=worker_id,
        lease_until=Now() + lease(),
        heartbeat_at=Now(),
        started_at=Now(),
        scoring_started_at=None,
        updated_at=Now(),
    )
    return _started(job_id, worker_name) if claimed else None


def _started(job_id: UUID, worker_name: str) -> Job:
    """The claimed job with its deadline set and its attempt's row made; inside the claim's transaction."""
    job = Job.objects.select_related("submission", "leaderboard").get(pk=job_id)
    allowance = timedelta(seconds=_allowance(job.resource_class) + job.leaderboard.is_scored * _scoring_allowance())
    Job.objects.filter(pk=job_id).update(deadline_at=Now() + allowance)
    JobAttempt.objects.create(job=job, number=job.attempt, worker_name=worker_name)
    return job


def _allowance(resource_class: str) -> float:
    """Seconds from the claim to the deadline: unpacking before the run and storing after it are the platform's, not the run's."""
    return float(settings.RESOURCE_CLASSES[resource_class]["wall_seconds"] + settings.LEASE_SECONDS + 600)


def _scoring_allowance() -> float:
    """What comes on top where the leaderboard's scorer has its turn."""
    return float(settings.SCORING_LIMITS["wall_seconds"])
