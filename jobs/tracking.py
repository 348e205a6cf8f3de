"""MLflow: each completed job as one run, found again by its tag, whatever answers get lost.

MLflow cannot be told a run's id and may create a run whose answer never arrives. So a run is searched by the job's tag
first; before a creation the outbox row says that one was sent, and after a lost answer nobody creates again until a late
one must have become visible. Should two exist all the same, the older one stays.
"""

import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.files.storage import storages
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from accounts import log_context
from jobs import mlflow_credentials
from jobs.detail_metrics import published_categories
from jobs.models import Job, TrackingOutbox
from jobs.queries import progress_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

JOB_TAG = "leadersboard.job_id"
REQUEST_SECONDS = 20
# A request that we gave up on may still be carried out: so long after it was sent, its run must be findable.
LATE_SECONDS = REQUEST_SECONDS + 10
MAX_PARAM_LENGTH = 6000
LOG_ARTIFACT = "log.txt"  # the job's log among its run's artifacts
# Before the names of what a run says of itself, where a scorer's numbers are the result.
SELF_REPORTED = "self_reported/"
# Before those of categories, where the leaderboard publishes them.
CATEGORIES = "categories/"


class TrackingError(Exception):
    """MLflow is away or refuses; the job's row stays in the outbox."""


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
    """Bring due outbox rows to MLflow: (published, failed). The first failure ends it: MLflow is likely away."""
    published = 0
    due = TrackingOutbox.objects.filter(next_try_at__lte=Now()).order_by("next_try_at")
    for job_id in list(due.values_list("job_id", flat=True)[:limit]):
        with _only_here(str(job_id)) as is_ours:
            row = TrackingOutbox.objects.select_related(
                "job__leaderboard", "job__user", "job__submission", "job__progress"
            )
            found = row.filter(pk=job_id).first() if is_ours else None
            if found is None:
                continue
            with log_context.bound(request_id=found.job.request_id, job_id=str(job_id)):
                try:
                    _publish(found)
                    published += 1
                except TrackingError as error:
                    _postpone(found, str(error))
                    return published, 1
    return published, 0


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


def _postpone(row: TrackingOutbox, reason: str) -> None:
    delay = min(settings.TRACKING_BACKOFF_SECONDS, 2.0 ** min(row.tries, 10))
    logger.warning("job %s is not in MLflow yet (try %s): %s", row.job_id, row.tries + 1, reason)
    TrackingOutbox.objects.filter(pk=row.pk).update(
        tries=F("tries") + 1, last_error=reason[:500], next_try_at=Now() + timedelta(seconds=delay)
    )


def _publish(row: TrackingOutbox) -> None:
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    job = row.job
    try:
        client = _client()
        experiment_id = _experiment(client, f"{settings.MLFLOW_EXPERIMENT_PREFIX}{job.leaderboard.slug}")
        run = _find(client, experiment_id, job) or _create(client, experiment_id, row)
        _fill(client, run.info.run_id, job)
    except (MlflowException, RequestException, OSError) as error:
        raise TrackingError(f"{type(error).__name__}: {error}") from error
    with transaction.atomic():
        Job.objects.filter(pk=job.pk).update(run_id=run.info.run_id, experiment_id=experiment_id)
        TrackingOutbox.objects.filter(pk=job.pk).delete()


def _experiment(client: "MlflowClient", name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # made by somebody else meanwhile
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


def _create(client: "MlflowClient", experiment_id: str, row: TrackingOutbox) -> "Run":
    job = row.job
    if row.create_sent_at and row.create_sent_at + timedelta(seconds=LATE_SECONDS) > timezone.now():
        raise TrackingError("an earlier creation was sent and may still appear")
    TrackingOutbox.objects.filter(pk=row.pk).update(create_sent_at=Now())
    tags = {
        JOB_TAG: str(job.pk),
        "leadersboard.submission_id": str(job.submission_id),
        "leadersboard.leaderboard": job.leaderboard.slug,
        "leadersboard.isolation": job.isolation,
        "leadersboard.request_id": job.request_id,
        "leadersboard.scored_by": job.scorer or "submission",
        "mlflow.user": job.user.username,
        "mlflow.source.name": job.submission.entrypoint,
    }
    run_name = f"{job.user.username} {str(job.pk)[:8]}"
    return client.create_run(experiment_id, start_time=_milliseconds(job.started_at), tags=tags, run_name=run_name)


def _fill(client: "MlflowClient", run_id: str, job: Job) -> None:
    """Everything about the job; the same again changes nothing."""
    from mlflow.entities import Metric, Param

    ended = _milliseconds(job.finished_at)
    progress = progress_of(job)
    curves = [{**curve, "name": _curve_name(job, curve["name"])} for curve in (progress.curves if progress else [])]
    # Of a metric that is a curve too, the result stands at the end of the curve: MLflow shows the value of the last step.
    last_steps = {curve["name"]: curve["points"][-1][0] for curve in curves}
    metrics = [Metric(name, value, ended, int(last_steps.get(name, 0))) for name, value in _named(_results(job))]
    begun = _milliseconds(job.started_at)
    metrics += [
        Metric(curve["name"], value, min(begun + int(seconds * 1000), ended), int(step))
        for curve in curves
        for step, value, seconds in curve["points"]
    ]
    params = [Param(name, value[:MAX_PARAM_LENGTH]) for name, value in flatten(job.params)]
    for start in range(0, len(params), 100):
        client.log_batch(run_id, params=params[start : start + 100])
    for start in range(0, len(metrics), 500):
        client.log_batch(run_id, metrics=metrics[start : start + 500])
    with tempfile.TemporaryDirectory() as folder:
        if _download(job, Path(folder)):
            client.log_artifacts(run_id, folder)
    client.set_terminated(run_id, status="FINISHED", end_time=ended)


def _results(job: Job) -> Iterator[tuple[str, float]]:
    """The numbers that participants may see."""
    yield from job.metrics.items()
    for name, value in job.self_reported.items():
        yield f"{SELF_REPORTED}{name}", value
    for category, values in (published_categories(job) or {}).items():
        for name, value in values.items():
            yield f"{CATEGORIES}{category}/{name}", value


def _curve_name(job: Job, name: str) -> str:
    """Beside a scorer's metric no curve of the run's may stand under the same name, as if it were its history."""
    return f"{SELF_REPORTED}{name}" if job.scorer and name in job.metrics else name


def _download(job: Job, folder: Path) -> bool:
    """The job's artifacts and log, for MLflow to take; whether there is anything."""
    files = [(item["path"], item["name"]) for item in job.artifacts]
    if job.log_name:
        files.append((LOG_ARTIFACT, job.log_name))
    for path, name in files:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with storages["artifacts"].open(name) as stored, target.open("wb") as copy:
            for chunk in stored.chunks():
                copy.write(chunk)
    return bool(files)


def flatten(params: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Nested params as MLflow's flat ones: {"model": {"layers": 2}} gives ("model.layers", "2").

    Two that come to one name get a number: MLflow refuses a name with two values, and the run would never get there.
    """
    for name, value in _named(_leaves(params)):
        yield name, value if isinstance(value, str) else repr(value)


def _named(values: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The values under names that MLflow takes, each but once."""
    taken: set[str] = set()
    for given, value in values:
        name = plain = _safe_name(given)
        number = 2
        while name in taken:
            name = f"{plain[:240]}_{number}"
            number += 1
        taken.add(name)
        yield name, value


def _leaves(params: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in params.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _safe_name(name: str) -> str:
    """MLflow takes letters, digits and _-./: and space, up to 250, and no path that has a shorter form."""
    kept = "".join(char if char.isalnum() or char in "_-./: " else "_" for char in name)[:250]
    parts = [part for part in kept.split("/") if part not in ("", ".", "..")]
    return "/".join(parts).strip("./ ") or "_"


def _milliseconds(moment: datetime | None) -> int:
    return int((moment or timezone.now()).timestamp() * 1000)
