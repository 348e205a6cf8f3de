"""Withdrawing a completed run from its leaderboard, and counting it again: for its owner, while the leaderboard is open."""

from django.db import transaction
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from accounts.refusals import Conflict, Forbidden
from jobs.models import Job, Status, Withdrawal
from leaderboards.models import Disqualification, Leaderboard
from leaderboards.services import rebuild_entries
from submissions.contents import refuse_deleted

# Each one computes a person's entry again under the board's lock.
MOST_WITHDRAWALS = 20


@transaction.atomic
def withdraw_job(job: Job, *, by: User) -> None:
    """Take the run off the board until `restore_job`; its owner's next best run counts at once.

    A job that completes meanwhile waits for the rebuild, as it does for a disqualification. Raises Forbidden and Conflict.
    """
    held = _held(job, by)
    if held.trial:
        raise Conflict("is_trial", _("A trial run does not rank: there is nothing to withdraw."))
    if held.withdrawn_at is not None:
        raise Conflict("already_withdrawn", _("The run is withdrawn already."))
    if held.withdrawals.count() >= MOST_WITHDRAWALS:
        raise Conflict(
            "too_many_withdrawals", _("A run can be withdrawn %(most)d times at most."), most=MOST_WITHDRAWALS
        )
    Job.objects.filter(pk=held.pk).update(withdrawn_at=Now(), updated_at=Now())
    Withdrawal.objects.create(job=held)
    rebuild_entries(held.leaderboard, user_id=held.user_id)


@transaction.atomic
def restore_job(job: Job, *, by: User) -> None:
    """Count a withdrawn run again. Raises Forbidden and Conflict."""
    held = _held(job, by)
    if held.withdrawn_at is None:
        raise Conflict("not_withdrawn", _("The run is not withdrawn."))
    Job.objects.filter(pk=held.pk).update(withdrawn_at=None, updated_at=Now())
    held.withdrawals.filter(restored_at=None).update(restored_at=Now())
    rebuild_entries(held.leaderboard, user_id=held.user_id)


def may_withdraw(job: Job, user: User) -> bool:
    """Return whether the job's page offers it: the job is theirs, could rank, and its board is open."""
    is_theirs = job.user_id == user.pk and job.status == Status.COMPLETED and not job.trial
    return is_theirs and not hasattr(job, "disqualification") and _is_open(job)


def _held(job: Job, by: User) -> Job:
    """Return the job locked and as it is now, after all that withdrawing and counting again have in common."""
    if by.pk != job.user_id:
        raise Forbidden("forbidden", _("Only its owner can withdraw a run or count it again."))
    # A key share, which an entry's row takes, does not wait for this lock.
    held = Job.objects.select_for_update(of=("self",), no_key=True).select_related("leaderboard").get(pk=job.pk)
    refuse_deleted(held.submission)
    if held.status != Status.COMPLETED:
        raise Conflict("not_completed", _("Only a completed run can be withdrawn."))
    if Disqualification.objects.filter(pk=held.pk).exists():
        raise Conflict("disqualified", _("The operators disqualified this run: it does not count either way."))
    if not _is_open(held):
        sentence = _("%(slug)s is not open now: its standings stay as they are.")
        raise Conflict("leaderboard_closed", sentence, field="leaderboard", slug=held.leaderboard.slug)
    return held


def _is_open(job: Job) -> bool:
    return Leaderboard.objects.open().filter(pk=job.leaderboard_id).exists()
