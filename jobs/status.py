"""What GET /api/jobs/{id}/status says of a job; the lane (leaderboard_site/lane/) says it by the same words."""

from datetime import datetime
from typing import Any, Protocol

from jobs.models import Status
from jobs.waiting import PendingJob, waiting


class ShownJob(PendingJob, Protocol):
    """The model has it, and so has the row that the lane reads."""

    @property
    def run_id(self) -> str: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def updated_at(self) -> datetime: ...
    @property
    def error_code(self) -> str: ...
    @property
    def error_in_words(self) -> str: ...
    @property
    def cancel_requested_at(self) -> datetime | None: ...
    @property
    def scoring_started_at(self) -> datetime | None: ...


def status_shown(job: ShownJob) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "job_id": job.pk,
        "status": job.status,
        "run_id": job.run_id or None,
        "created_at": job.created_at,
        "updated_at": job.updated_at,
    }
    if job.error_code:
        answer |= {"error_code": job.error_code, "error_message": job.error_in_words}
    if job.cancel_requested_at:
        answer["cancel_requested_at"] = job.cancel_requested_at
    # A scored job is still running for everyone who waits for its end; this says which of its two steps.
    if job.status == Status.RUNNING and job.scoring_started_at:
        answer["scoring_started_at"] = job.scoring_started_at
    if (why := waiting(job)) is not None:
        answer["waiting"] = {"position": why.position, "reason": why.reason, "expected_start": why.expected_start}
    return answer
