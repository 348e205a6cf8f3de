"""What goes after 90 days, and stored files that nothing refers to."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.files.storage import Storage, storages
from django.db import IntegrityError, transaction
from django.db.models import F, ProtectedError, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from jobs.models import FINAL, Job
from submissions.models import Submission

logger = logging.getLogger(__name__)

BATCH = 200
# An upload or a run under way has files that no row names yet.
YOUNG = timedelta(hours=24)


@dataclass(frozen=True)
class Pruned:
    """How many went, or with `dry_run` would go."""

    jobs: int = 0
    submissions: int = 0
    objects: int = 0


def old(days: int) -> tuple[QuerySet[Job], QuerySet[Submission]]:
    """What may go: jobs that ended so long ago, and submissions of which no job is left. The oldest first, so that a batch is
    read from an index, and not the whole site for it."""
    before = Now() - timedelta(days=days)
    jobs = Job.objects.filter(status__in=FINAL, finished_at__lt=before, entry=None, tracking=None)
    # Its owner may count a withdrawn run again: it stays as long after the withdrawal.
    jobs = jobs.filter(Q(withdrawn_at=None) | Q(withdrawn_at__lt=before))
    # Its leaderboard may go back to its score version: it stays as long after the change.
    jobs = jobs.exclude(
        ~Q(score_version=F("leaderboard__score_version")),
        score_version__isnull=False,
        leaderboard__score_version__chosen_at__gte=before,
    )
    submissions = Submission.objects.filter(created_at__lt=before, jobs=None)
    return jobs.order_by("finished_at"), submissions.order_by("created_at", "id")


def prune_jobs(*, days: int | None = None, dry_run: bool = False) -> Pruned:
    """Delete jobs that ended more than `days` ago with their files, then submissions that old without a job.

    A job that is somebody's entry on a leaderboard stays: the board must not forget its leader.
    """
    days = settings.RETENTION_DAYS if days is None else days
    old_jobs, jobless = old(days)
    if dry_run:
        kept = Job.objects.exclude(pk__in=old_jobs.values("pk"))
        emptied = Submission.objects.filter(created_at__lt=Now() - timedelta(days=days)).exclude(jobs__in=kept)
        return Pruned(old_jobs.count(), emptied.distinct().count(), 0)
    jobs = 0
    while batch := list(old_jobs[:BATCH]):
        for job in batch:
            with transaction.atomic():
                job.delete()
            # After the row: what a crash leaves here, the sweep takes.
            _delete_files(job)
        jobs += len(batch)
    submissions = 0
    refused: list[UUID] = []
    while found := list(jobless.exclude(pk__in=refused)[:BATCH]):
        for submission in found:
            try:
                with transaction.atomic():
                    submission.delete()
            except (ProtectedError, IntegrityError):
                refused.append(submission.pk)  # its owner made a job of it in this moment: it stays, with its file
                continue
            storages["submissions"].delete(submission.object_name)
            submissions += 1
    if jobs or submissions:
        logger.info("retention: %s jobs and %s submissions older than %s days are gone", jobs, submissions, days)
    return Pruned(jobs, submissions, 0)


def _delete_files(job: Job) -> None:
    storage = storages["artifacts"]
    for item in job.artifacts:
        storage.delete(item["name"])
    for name in filter(None, (job.log_name, job.scorer_log_name)):
        storage.delete(name)


def sweep_orphans(*, dry_run: bool = False) -> int:
    """Delete stored files that are over a day old and that no row names; how many."""
    count = 0
    for storage, name, is_needed in _stored():
        if is_needed or _modified(storage, name) > timezone.now() - YOUNG:
            continue
        count += 1
        if not dry_run:
            storage.delete(name)
    count += _give_up_unfinished_uploads(dry_run=dry_run)
    if count and not dry_run:
        logger.info("%s stored files that nothing referred to are gone", count)
    return count


def _give_up_unfinished_uploads(*, dry_run: bool) -> int:
    """Parts of uploads whose process died: an object storage keeps them, and lists them nowhere among its files."""
    count = 0
    storage: Any  # not asked by its class: that would load the library for S3, some 20 MB, where there is none
    for storage in (storages["submissions"], storages["artifacts"]):
        if not hasattr(storage, "unfinished_uploads"):
            continue
        for key, upload_id, begun_at in storage.unfinished_uploads():
            if begun_at > timezone.now() - YOUNG:
                continue
            count += 1
            if not dry_run:
                storage.give_up_upload(key, upload_id)
    return count


def _modified(storage: Storage, name: str) -> datetime:
    try:
        return storage.get_modified_time(name)
    except OSError:
        return timezone.now()  # gone meanwhile


def _stored() -> Iterator[tuple[Storage, str, bool]]:
    """(storage, name, whether a row names it) of every stored submission, log and artifact."""
    submissions, artifacts = storages["submissions"], storages["artifacts"]
    try:
        _, names = submissions.listdir("")
    except FileNotFoundError:
        names = []
    for start in range(0, len(names), BATCH):
        part = names[start : start + BATCH]
        needed = Submission.objects.filter(object_name__in=part, deleted_at=None)
        known = set(needed.values_list("object_name", flat=True))
        yield from ((submissions, name, name in known) for name in part)
    try:
        job_ids, _ = artifacts.listdir("results")
    except FileNotFoundError:
        return
    for job_id in job_ids:
        named = _named_files(job_id)
        yield from ((artifacts, name, name in named) for name in stored_below(artifacts, f"results/{job_id}"))


def _named_files(job_id: str) -> set[str]:
    try:
        job = Job.objects.filter(pk=UUID(job_id)).first()
    except ValueError:
        job = None
    return {job.log_name, job.scorer_log_name, *(item["name"] for item in job.artifacts)} if job else set()


def stored_below(storage: Storage, folder: str) -> Iterator[str]:
    """Every file in the folder and those within it; none if there is no such folder."""
    try:
        folders, files = storage.listdir(folder)
    except FileNotFoundError:
        return
    yield from (f"{folder}/{name}" for name in files)
    for inner in folders:
        yield from stored_below(storage, f"{folder}/{inner}")
