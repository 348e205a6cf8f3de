"""The database's function that makes new jobs, for one request or a batch (jobs/migrations/0023_enqueue_jobs.sql)."""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings

_ENQUEUE = """
SELECT number, job_id, made_at, is_new, refusal, details FROM enqueue_jobs(%s::jsonb, %s, %s, waits => %s)
ORDER BY number
"""


class Outcome(NamedTuple):
    """The outcome of a request: a job, or the code of the refusal with its figures."""

    number: int  # of the request, from 1
    job_id: UUID | None
    made_at: datetime | None
    is_new: bool | None
    refusal: str | None
    details: dict[str, Any]


def job_request(
    *,
    submission_id: UUID | str,
    config: dict[str, Any],
    resource_class: str,
    trial: bool,
    idempotency_key: str | None,
    request_digest: str,
    request_id: str,
    user_id: int | None = None,
    token_digest: str | None = None,
) -> dict[str, Any]:
    """Return a request for enqueue_jobs, of a user or of whom a token belongs to."""
    return {
        **({"user_id": user_id} if token_digest is None else {"token": token_digest}),
        "submission_id": str(submission_id),
        "config": config,
        "resource_class": resource_class,
        "trial": trial,
        "idempotency_key": idempotency_key,
        "request_digest": request_digest,
        "request_id": request_id,
    }


def enqueue_jobs(cursor: Any, requests: Iterable[dict[str, Any]], *, waits: bool) -> list[Outcome]:
    """Make the jobs in the cursor's transaction, which has to be READ COMMITTED.

    A person whose row is locked is waited for, or refused as `locked`.
    """
    quotas = [settings.CONCURRENT_JOBS, settings.SUBMISSIONS_PER_HOUR]
    cursor.execute(_ENQUEUE, [json.dumps(list(requests)), *quotas, waits])
    # Django leaves JSON as text on its connections.
    return [Outcome._make([*row, json.loads(details)]) for *row, details in cursor.fetchall()]
