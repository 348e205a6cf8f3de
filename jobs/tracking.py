"""Publish each completed job as one run in MLflow, found again by its tag, whatever answers get lost.

MLflow cannot be told a run's id and may create a run whose answer never arrives. So a run is searched by the job's tag
first; before a creation the outbox row says that one was sent, and after a lost answer no second one is sent until a late
one must have become visible. Should two exist all the same, the older one stays.

Only an MLflow that is away ends a pass. What is one job's own fault postpones that job alone; after TRACKING_TRIES its run
is finished without the thing at fault (jobs/mlflow_run.py), and a job without a run is tried again daily.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from accounts import log_context
from jobs import mlflow_credentials
from jobs.mlflow_errors import is_away, is_refused
from jobs.mlflow_run import JOB_TAG, RunFiller, Untaken, failures, milliseconds, run_name, with_notes
from jobs.models import Job, TrackingOutbox
from submissions.models import Submission

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

REQUEST_SECONDS = 20
# A request that we gave up on may still be carried out: so long after it was sent, its run must be findable.
LATE_SECONDS = REQUEST_SECONDS + 10
# The pauses after a job's own failures: doubling from this to TRACKING_BACKOFF_SECONDS, and daily after TRACKING_TRIES.
FIRST_PAUSE_SECONDS = 60.0
DAILY_SECONDS = 86_400.0


class TrackingError(Exception):
    """The job's row stays in the outbox: MLflow fails, or an earlier request may still be carried out."""


class MlflowAway(TrackingError):
    """MLflow cannot be asked now, for any job."""


class JobRefused(TrackingError):
    """MLflow, or the publisher, fails at something of this job alone."""


def _client() -> "MlflowClient":
    # Imported here: it takes a second and 60 MB, and only the reconciler needs it.
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(REQUEST_SECONDS)
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    mlflow_credentials.set_for_client()
    from mlflow import MlflowClient

    return MlflowClient(settings.MLFLOW_TRACKING_URI)


def publish_due(*, limit: int = 50) -> tuple[int, int]:
    """Bring due outbox rows to MLflow: (published, failed). Only an MLflow that is away ends the pass early."""
    published = failed = 0
    due = TrackingOutbox.objects.filter(next_try_at__lte=Now()).order_by("next_try_at")
    for job_id in list(due.values_list("job_id", flat=True)[:limit]):
        with _only_here(str(job_id)) as is_ours:
            row = TrackingOutbox.objects.select_related(
                "job__leaderboard", "job__user", "job__submission", "job__progress", "job__score_version"
            )
            found = row.filter(pk=job_id).first() if is_ours else None
            if found is None:
                continue
            with log_context.bound(request_id=found.job.request_id, job_id=str(job_id)):
                try:
                    _publish_or_refuse(found)
                    published += 1
                except TrackingError as error:
                    _postpone(found, error)
                    failed += 1
                    if isinstance(error, MlflowAway):
                        break
    return published, failed


def _publish_or_refuse(row: TrackingOutbox) -> None:
    """Publish the job; whatever fails at it alone must not keep the others from their turn."""
    try:
        _publish(row)
    except (TrackingError, DatabaseError, InterfaceError):
        raise
    except Exception as error:  # the outermost edge of one job
        logger.exception("publishing job %s", row.job_id)
        raise JobRefused(f"{type(error).__name__}: {error}") from error


@contextmanager
def _only_here(name: str) -> Iterator[bool]:
    """A session lock, so that two publishers never work on one job; gone with the connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 7))", [name])
        is_ours = bool(cursor.fetchone()[0])
        try:
            yield is_ours
        finally:
            if is_ours and connection.connection is not None and not connection.connection.closed:
                cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 7))", [name])


def _postpone(row: TrackingOutbox, error: TrackingError) -> None:
    is_own = isinstance(error, JobRefused)
    if not is_own:
        delay = min(settings.TRACKING_BACKOFF_SECONDS, 2.0 ** min(row.tries, 10))
    elif row.refusals < settings.TRACKING_TRIES:
        delay = min(settings.TRACKING_BACKOFF_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(row.refusals, 10))
    else:
        delay = DAILY_SECONDS
    logger.warning("job %s is not in MLflow yet (try %s): %s", row.job_id, row.tries + 1, error)
    TrackingOutbox.objects.filter(pk=row.pk).update(
        tries=F("tries") + 1,
        refusals=F("refusals") + int(is_own),
        last_error=str(error)[:500],
        next_try_at=Now() + timedelta(seconds=delay),
    )


def _publish(row: TrackingOutbox) -> None:
    job = row.job
    try:
        client = _client()
        if job.submission.deleted_at is not None:
            _remove_runs(client, row)
            return
        experiment_id = _experiment(client, f"{settings.MLFLOW_EXPERIMENT_PREFIX}{job.leaderboard.slug}")
        run = _find(client, experiment_id, job)
        if run is not None and row.only_name:
            RunFiller(client, run, job, gives_up_files=False).rename()
            _settle(row, run=None)
            return
        run = run or _create(client, experiment_id, row)
        left_out = _fill(client, run, row)
    except failures() as error:
        kind = MlflowAway if is_away(error) else JobRefused if is_refused(error) else TrackingError
        raise kind(f"{type(error).__name__}: {error}") from error
    _settle(row, run=run, experiment_id=experiment_id, left_out=left_out)


@transaction.atomic
def _settle(
    row: TrackingOutbox, *, run: "Run | None", experiment_id: str = "", left_out: Sequence[Untaken] = ()
) -> None:
    """Record the run that was sent (None: nothing but its name was), and take the row away.

    The row stays for the next pass if the submission was renamed or deleted meanwhile.
    """
    # The submission first, as who renames it does.
    submission = Submission.objects.select_for_update().only("name", "deleted_at").get(pk=row.job.submission_id)
    if run is not None and submission.deleted_at is None:
        stored = Job.objects.select_for_update().only("notes").get(pk=row.job_id)
        notes = with_notes(stored.notes, left_out)
        Job.objects.filter(pk=row.job_id).update(run_id=run.info.run_id, experiment_id=experiment_id, notes=notes)
    if (submission.name, submission.deleted_at) == (row.job.submission.name, None):
        TrackingOutbox.objects.filter(pk=row.job_id).delete()


def _fill(client: "MlflowClient", run: "Run", row: TrackingOutbox) -> list[Untaken]:
    """Fill the job's run and end it; return what it lacks, which is nothing before TRACKING_TRIES."""
    is_old = row.created_at + timedelta(seconds=DAILY_SECONDS) < timezone.now()
    filler = RunFiller(client, run, row.job, gives_up_files=is_old)
    filler.send()
    if filler.left_out and row.refusals < settings.TRACKING_TRIES:
        more = len(filler.left_out) - 1
        raise JobRefused(f"{filler.left_out[0]}{f' (and {more} more)' if more else ''}")
    filler.finish()
    return filler.left_out


def _experiment(client: "MlflowClient", name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another publisher has made it meanwhile
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _find(client: "MlflowClient", experiment_id: str, job: Job) -> "Run | None":
    """The job's run, or None; of two only the older one is left."""
    runs = client.search_runs(
        [experiment_id], f"tags.`{JOB_TAG}` = '{job.pk}'", order_by=["attributes.start_time ASC"], max_results=10
    )
    ordered = sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))
    for surplus in ordered[1:]:
        client.delete_run(surplus.info.run_id)
    return ordered[0] if ordered else None


def _remove_runs(client: "MlflowClient", row: TrackingOutbox) -> None:
    """Delete the run of a job whose submission was deleted: its files for good, the rest when MLflow collects its garbage."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    _refuse_early(row)
    job = row.job
    experiment = client.get_experiment_by_name(f"{settings.MLFLOW_EXPERIMENT_PREFIX}{job.leaderboard.slug}")
    while experiment is not None and (run := _find(client, experiment.experiment_id, job)) is not None:
        get_artifact_repository(run.info.artifact_uri, tracking_uri=settings.MLFLOW_TRACKING_URI).delete_artifacts()
        client.update_run(run.info.run_id, name=str(job.pk))
        client.delete_run(run.info.run_id)
    TrackingOutbox.objects.filter(pk=job.pk).delete()


def _refuse_early(row: TrackingOutbox) -> None:
    """Raise TrackingError while a run whose creation was sent may still appear."""
    if row.create_sent_at and row.create_sent_at + timedelta(seconds=LATE_SECONDS) > timezone.now():
        raise TrackingError("an earlier creation was sent and may still appear")


def _create(client: "MlflowClient", experiment_id: str, row: TrackingOutbox) -> "Run":
    job = row.job
    _refuse_early(row)
    TrackingOutbox.objects.filter(pk=row.pk).update(create_sent_at=Now())
    tags = {
        JOB_TAG: str(job.pk),
        "leadersboard.submission_id": str(job.submission_id),
        "leadersboard.leaderboard": job.leaderboard.slug,
        "leadersboard.isolation": job.isolation,
        "leadersboard.request_id": job.request_id,
        "leadersboard.scored_by": job.scorer or "submission",
        "leadersboard.score_version": str(job.score_version.number) if job.score_version else "",
        "leadersboard.trial": "true" if job.trial else "false",
        "mlflow.user": job.user.username,
        "mlflow.source.name": job.submission.entrypoint,
    }
    started = milliseconds(job.started_at)
    return client.create_run(experiment_id, start_time=started, tags=tags, run_name=run_name(job))
