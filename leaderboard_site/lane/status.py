"""GET /api/jobs/{id}/status: one SQL for token, person and job, of as many requests as came in together."""

import json
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.utils import translation

from jobs.models import Status
from jobs.status import status_shown
from jobs.wording import in_words
from leaderboard_site.lane.answers import Answer, poll_answer
from leaderboard_site.lane.calls import Call
from leaderboard_site.lane.database import rows

ALLOW = "GET, HEAD, OPTIONS"

# Each token and job by its key, whatever the planner thinks of the tables' sizes: LIMIT keeps the look-ups from being
# joined another way. A job that is not the token's own is no row: who may see it all the same is the site's to say.
_STATUS = """
SELECT asked.number, job.*
FROM unnest(%s::text[], %s::uuid[]) WITH ORDINALITY AS asked(digest, job_id, number)
CROSS JOIN LATERAL (
    SELECT user_id FROM live_token WHERE digest = asked.digest LIMIT 1
) token
CROSS JOIN LATERAL (
    SELECT id, status, run_id, created_at, updated_at, error_code, error_message, error_told, cancel_requested_at, leaderboard_id,
           resource_class, available_at, losses, scoring_started_at
    FROM jobs_job WHERE id = asked.job_id AND user_id = token.user_id LIMIT 1
) job
"""


class JobRow(NamedTuple):
    """What `status_shown` reads of a job."""

    pk: UUID
    status: str
    run_id: str
    created_at: datetime
    updated_at: datetime
    error_code: str
    error_message: str
    error_told: str
    cancel_requested_at: datetime | None
    leaderboard_id: int
    resource_class: str
    available_at: datetime
    losses: int
    scoring_started_at: datetime | None

    @property
    def error_in_words(self) -> str:
        # Django leaves JSON as text on its connections.
        return in_words(self.error_message, json.loads(self.error_told))


def answer_all(calls: list[Call]) -> list[Answer | None]:
    """An answer to each, None where the site must."""
    answers: list[Answer | None] = [None] * len(calls)
    for row in rows(_STATUS, [call.digest for call in calls], [call.job_id for call in calls]):
        call, job = calls[row[0] - 1], JobRow._make(row[1:])
        if job.status == Status.PENDING or job.error_code:  # these have words in them
            with translation.override(call.language):
                shown = status_shown(job)
        else:
            shown = status_shown(job)
        answers[row[0] - 1] = poll_answer(call, shown, allow=ALLOW)
    return answers
