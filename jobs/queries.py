"""Reading jobs: their log, their progress, their run in MLflow."""

import logging
from urllib.parse import urlencode

from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import storages
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.refusals import Unavailable
from jobs.models import Job, JobLogChunk, JobProgress, Status
from submissions.storage import STORAGE_ERRORS

logger = logging.getLogger(__name__)

# The first seconds of a run say little about the others.
SOONEST_ESTIMATE_SECONDS = 2.0
LOG_PART_BYTES = 256 * 1024


def progress_of(job: Job) -> JobProgress | None:
    """What the job's latest attempt has said about itself; None when it has said nothing. Free with `progress` selected."""
    found = getattr(job, "progress", None)
    return found if found is not None and found.attempt == job.attempt else None


def seconds_left(job: Job, progress: JobProgress) -> float | None:
    """How long the run will take on, if it goes on as it has so far; None when that cannot be told."""
    fraction, at = progress.fraction, progress.fraction_at
    if job.status != Status.RUNNING or not job.started_at or not at or not fraction or fraction >= 1:
        return None
    elapsed = (at - job.started_at).total_seconds()
    if elapsed < SOONEST_ESTIMATE_SECONDS:
        return None
    since = max(0.0, (timezone.now() - at).total_seconds())
    return max(0.0, elapsed * (1 - fraction) / fraction - since)


def open_artifact(name: str) -> File:
    """What a run left, open for reading; raises Unavailable while the storage is away."""
    try:
        return storages["artifacts"].open(name)
    except STORAGE_ERRORS as error:
        raise _unreadable(name) from error


def _unreadable(name: str) -> Unavailable:
    logger.exception("reading %s", name)
    return Unavailable("storage_unavailable", _("Stored files cannot be read just now. Try again in a minute."))


def read_log(job: Job, offset: int = 0) -> tuple[bytes, int]:
    """A part of the job's log (cleaned UTF-8) from a byte offset, and the offset of the next part."""
    if job.log_name:
        with open_artifact(job.log_name) as stored:
            try:
                stored.seek(offset)
                content = stored.read(LOG_PART_BYTES)
            except STORAGE_ERRORS as error:
                raise _unreadable(job.log_name) from error
        return content, offset + len(content)
    chunks = JobLogChunk.objects.filter(job=job, attempt=job.attempt).order_by("offset")
    parts: list[bytes] = []
    position, total = offset, 0
    for start, raw in chunks.filter(offset__gt=offset - LOG_PART_BYTES).values_list("offset", "content"):
        piece = bytes(raw)
        if start + len(piece) <= position or start > position:
            continue
        part = piece[position - start :]
        parts.append(part)
        position += len(part)
        total += len(part)
        if total >= LOG_PART_BYTES:
            break
    return b"".join(parts), position


def read_scorer_log(job: Job) -> str | None:
    """The end of what the job's scorer said, for operators alone: it may tell of the labels. None: there is nothing."""
    if not job.scorer_log_name:
        return None
    with open_artifact(job.scorer_log_name) as stored:
        try:
            stored.seek(max(0, stored.size - LOG_PART_BYTES))
            return bytes(stored.read(LOG_PART_BYTES)).decode("utf-8", "replace")
        except STORAGE_ERRORS as error:
            raise _unreadable(job.scorer_log_name) from error


def mlflow_ui_link(job: Job) -> str:
    """Opens the job's run in MLflow; empty until MLflow has it."""
    if not job.run_id:
        return ""
    return f"{settings.MLFLOW_PUBLIC_URL}/#/experiments/{job.experiment_id}/runs/{job.run_id}"


def mlflow_rest_link(job: Job) -> str:
    """The run as JSON; empty until MLflow has it."""
    if not job.run_id:
        return ""
    return f"{settings.MLFLOW_PUBLIC_URL}/api/2.0/mlflow/runs/get?{urlencode({'run_id': job.run_id})}"
