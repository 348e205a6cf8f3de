"""Deleting a submission with all that its runs left: at once for everyone who looks, within seconds from storage and MLflow.

The rows of the submission and its jobs stay, without content: a final status never changes, and quotas count on. Files and
runs are removed by the reconciler, so that neither the storage nor MLflow can hold a deletion up.
"""

import logging

from django.core.files.storage import storages
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy

from accounts.models import User
from accounts.refusals import Conflict, Forbidden
from accounts.services import lock_person
from jobs.execution.told import Told as _
from jobs.execution.told import kept
from jobs.models import Job, JobAttempt, JobProgress, Status, Withdrawal
from jobs.retention import stored_below
from leaderboards.models import Leaderboard
from leaderboards.services import rebuild_entries
from submissions.contents import refuse_deleted
from submissions.models import Submission
from submissions.storage import STORAGE_ERRORS

logger = logging.getLogger(__name__)

BATCH = 50
NOTE = _("Its owner deleted the submission and the results of this run.")
_REMOVE_RUNS = """
INSERT INTO jobs_trackingoutbox (job_id, tries, last_error)
SELECT id, 0, '' FROM jobs_job WHERE submission_id = %s AND status = 'completed'
ON CONFLICT (job_id) DO UPDATE SET only_name = false, tries = 0, refusals = 0, next_try_at = statement_timestamp()
"""


def refuse_deletion(submission: Submission, *, by: User) -> None:
    """Raise Forbidden, Gone or Conflict if this person cannot delete the submission now."""
    if by.pk != submission.user_id:
        raise Forbidden("forbidden", gettext_lazy("Only its owner can delete a submission."))
    refuse_deleted(submission)
    active = submission.jobs.active().order_by("created_at").values_list("pk", flat=True).first()
    if active is not None:
        sentence = gettext_lazy("Job %(id)s of it waits or runs. Cancel it first.")
        raise Conflict("job_active", sentence, id=str(active)[:8])
    is_open = Leaderboard.objects.open().filter(pk=submission.leaderboard_id).exists()
    if not is_open and counting_jobs(submission).exists():
        sentence = gettext_lazy(
            "a run of it counts on %(slug)s, which is not open now: its standings stay as they are."
        )
        raise Conflict("leaderboard_closed", sentence, field="leaderboard", slug=submission.leaderboard.slug)


def counting_jobs(submission: Submission) -> QuerySet[Job]:
    """Return its completed runs that nothing keeps off the board."""
    could_rank = submission.jobs.filter(status=Status.COMPLETED, trial=False)
    return could_rank.filter(withdrawn_at=None, disqualification=None)


@transaction.atomic
def delete_submission(submission: Submission, *, by: User) -> None:
    """Empty the submission and its jobs, and take its runs off the board. Raises as `refuse_deletion` does."""
    lock_person(by)  # no new job of it
    # In full, so that an operator's rerun waits too.
    held = Submission.objects.select_for_update(of=("self",)).select_related("leaderboard").get(pk=submission.pk)
    refuse_deletion(held, by=by)
    # First: the guard of ended jobs lets results go only with their submission.
    Submission.objects.filter(pk=held.pk).update(deleted_at=Now(), name="", metadata={}, manifest=[], root_folder="")
    counting = list(counting_jobs(held).values_list("pk", flat=True))
    Withdrawal.objects.bulk_create(Withdrawal(job_id=job_id) for job_id in counting)
    held.jobs.filter(pk__in=counting).update(withdrawn_at=Now())
    held.jobs.update(
        params={}, metrics={}, score=None, self_reported={}, detail_metrics={}, config={}, artifacts=[], log_name="",
        log_bytes=0, scorer_log_name="", error_message="", error_told={}, notes=[kept(NOTE)], run_id="",
        experiment_id="", updated_at=Now(),
    )  # fmt: skip
    JobProgress.objects.filter(job__submission=held).delete()
    JobAttempt.objects.filter(job__submission=held).update(detail="", detail_told={})
    with connection.cursor() as cursor:
        cursor.execute(_REMOVE_RUNS, [held.pk])
    if held.jobs.filter(status=Status.COMPLETED, trial=False).exists():
        rebuild_entries(held.leaderboard, user_id=held.user_id)


def remove_deleted_files() -> int:
    """Remove the stored files of deleted submissions and their runs; how many submissions have none left.

    Their size is 0 then. What cannot be removed now is tried again in the next pass.
    """
    due = Submission.objects.filter(~Q(size_bytes=0), deleted_at__isnull=False).order_by("deleted_at")
    removed = 0
    for submission in due.only("pk", "object_name")[:BATCH]:
        try:
            for job_id in submission.jobs.values_list("pk", flat=True):
                for name in list(stored_below(storages["artifacts"], f"results/{job_id}")):
                    storages["artifacts"].delete(name)
            storages["submissions"].delete(submission.object_name)
        except STORAGE_ERRORS as error:
            logger.warning("the files of deleted submission %s stay for now: %s", submission.pk, error)
            continue
        removed += Submission.objects.filter(pk=submission.pk).update(size_bytes=0)
    return removed
