"""A run that its owner withdraws leaves the board, the next best counts at once, and counting it again undoes all of it."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.refusals import Conflict, Forbidden
from accounts.tests.factories import UserFactory
from jobs.models import Job, Status, Withdrawal
from jobs.services import rerun_job
from jobs.tests.factories import JobFactory
from jobs.tests.test_races import at_once, complete, running
from jobs.withdrawing import MOST_WITHDRAWALS, may_withdraw, restore_job, withdraw_job
from leaderboards.models import Entry, Standing
from leaderboards.services import disqualify, pause, rebuild_entries, record_score, reinstate
from leaderboards.tests.factories import LeaderboardFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def board():
    return LeaderboardFactory()


def completed(board, user, score, minutes=0):
    finished = timezone.now() - timedelta(hours=1) + timedelta(minutes=minutes)
    job = JobFactory(user=user, leaderboard=board, status="completed", score=score, finished_at=finished)
    record_score(job.pk)
    return job


def entries():
    return list(Entry.objects.order_by("user").values_list("job_id", flat=True))


def history():
    rows = Standing.objects.order_by("user", "began_at", "pk")
    return list(rows.values_list("user", "job", "score", "began_at", "ended_at"))


def test_the_next_best_counts_at_once_and_again_the_best_when_it_is_undone(board):
    user, other = UserFactory(), UserFactory()
    first, best = completed(board, user, 0.5, 1), completed(board, user, 0.9, 2)
    theirs = completed(board, other, 0.7, 3)
    before = history()
    withdraw_job(best, by=user)
    assert entries() == [first.pk, theirs.pk]
    best.refresh_from_db()
    assert (best.withdrawn_at is not None, best.pk in {row[1] for row in history()}) == (True, False)
    restore_job(best, by=user)
    best.refresh_from_db()
    assert (entries(), history(), best.withdrawn_at) == ([best.pk, theirs.pk], before, None)
    period = Withdrawal.objects.get()
    assert (period.job, period.withdrawn_at < period.restored_at) == (best, True)


def test_the_only_run_leaves_no_entry_and_a_rebuild_does_not_bring_it_back(board):
    user = UserFactory()
    job = completed(board, user, 0.9)
    withdraw_job(job, by=user)
    rebuild_entries(board)
    assert (entries(), history()) == ([], [])


@pytest.mark.parametrize("status", [status for status in Status if status != Status.COMPLETED])
def test_only_a_completed_run_is_withdrawn(status):
    job = JobFactory(status=status)
    with pytest.raises(Conflict, match="Only a completed run"):
        withdraw_job(job, by=job.user)
    with pytest.raises(IntegrityError, match="job_withdrawn_could_rank"), transaction.atomic():
        Job.objects.filter(pk=job.pk).update(withdrawn_at=timezone.now())


def test_only_its_owner_withdraws_it_or_counts_it_again(board):
    user = UserFactory()
    job = completed(board, user, 0.9)
    for by in (UserFactory(), UserFactory(is_staff=True, is_superuser=True)):
        for act in (withdraw_job, restore_job):
            with pytest.raises(Forbidden):
                act(job, by=by)
    assert (entries(), may_withdraw(job, user), may_withdraw(job, UserFactory())) == ([job.pk], True, False)


def test_each_is_done_once(board):
    user = UserFactory()
    job = completed(board, user, 0.9)
    with pytest.raises(Conflict) as refusal:
        restore_job(job, by=user)
    assert refusal.value.code == "not_withdrawn"
    withdraw_job(job, by=user)
    with pytest.raises(Conflict) as refusal:
        withdraw_job(job, by=user)
    assert refusal.value.code == "already_withdrawn"


def test_a_trial_and_a_disqualified_run_have_nothing_to_withdraw(board):
    trial = JobFactory(leaderboard=board, status="completed", trial=True)
    void = completed(board, UserFactory(), 0.9)
    disqualify(board, user_id=void.user_id, job_id=void.pk, reason="Leaked.", by=None)
    for job, code in ((trial, "is_trial"), (void, "disqualified")):
        with pytest.raises(Conflict) as refusal:
            withdraw_job(job, by=job.user)
        assert (refusal.value.code, may_withdraw(Job.objects.get(pk=job.pk), job.user)) == (code, False)


def test_a_withdrawn_run_that_operators_disqualify_stays_off_either_way(board):
    user = UserFactory()
    job = completed(board, user, 0.9)
    withdraw_job(job, by=user)
    disqualify(board, user_id=user.pk, job_id=job.pk, reason="Leaked.", by=None)
    with pytest.raises(Conflict):
        restore_job(job, by=user)
    reinstate(board, user_id=user.pk, job_id=job.pk)
    assert entries() == []
    restore_job(job, by=user)
    assert entries() == [job.pk]


@pytest.mark.parametrize("shut", ["closed", "switched off", "paused"])
def test_the_standings_of_a_board_that_is_not_open_stay(board, shut):
    user = UserFactory()
    first, best = completed(board, user, 0.5), completed(board, user, 0.9)
    withdraw_job(first, by=user)
    if shut == "paused":
        pause(board, reason="Moving.", by=None)
    else:
        board.closes_at = timezone.now() - timedelta(seconds=1) if shut == "closed" else None
        board.takes_submissions = shut != "switched off"
        board.save()
    for act, job in ((withdraw_job, best), (restore_job, first)):
        with pytest.raises(Conflict) as refusal:
            act(job, by=user)
        assert refusal.value.code == "leaderboard_closed"
    assert (entries(), may_withdraw(best, user)) == ([best.pk], False)


def test_a_run_is_withdrawn_a_bounded_number_of_times(board):
    job = completed(board, UserFactory(), 0.9)
    moment = timezone.now()
    Withdrawal.objects.bulk_create(Withdrawal(job=job, restored_at=moment) for _ in range(MOST_WITHDRAWALS - 1))
    withdraw_job(job, by=job.user)
    restore_job(job, by=job.user)
    with pytest.raises(Conflict) as refusal:
        withdraw_job(job, by=job.user)
    assert refusal.value.code == "too_many_withdrawals"


def test_a_trial_never_ranks_and_runs_again_as_a_trial(board):
    trial = completed(board, UserFactory(), 0.9)
    Entry.objects.all().delete()
    Job.objects.filter(pk=trial.pk).update(trial=True)
    assert (record_score(trial.pk), rebuild_entries(board), entries()) == (False, 0, [])
    trial.refresh_from_db()
    assert rerun_job(trial, by=None).trial is True


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_withdrawal_and_a_job_that_completes_at_once_agree(board):
    """Whichever comes first, the entry is the better of those that count, and computing it anew changes nothing."""
    for round_ in range(20):
        user = UserFactory()
        best = completed(board, user, 0.9)
        late = running(user=user, leaderboard=board)
        at_once(
            lambda user=user, best=best: withdraw_job(best, by=user),
            lambda late=late, round_=round_: complete(late, 0.95 if round_ % 2 else 0.5),
        )
        assert Entry.objects.get(user=user).job_id == late.pk
        assert Standing.objects.get(user=user, ended_at=None).job_id == late.pk
        rebuild_entries(board, user_id=user.pk)
        assert Entry.objects.get(user=user).job_id == late.pk


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_of_many_withdrawals_and_restorals_at_once_the_entry_follows_the_last(board):
    user = UserFactory()
    first, best = completed(board, user, 0.5), completed(board, user, 0.9)

    def flip(act, job):
        def call():
            try:
                act(job, by=user)
            except Conflict as refusal:
                return refusal.code
            return "done"

        return call

    for _ in range(5):
        answers = at_once(
            *[flip(withdraw_job, best), flip(restore_job, best)] * 2,
            flip(withdraw_job, first),
            lambda: rebuild_entries(board),
        )
        assert set(answers) - {"done", "already_withdrawn", "not_withdrawn", 0, 1} == set()
        best.refresh_from_db()
        first.refresh_from_db()
        stands = best if best.withdrawn_at is None else first if first.withdrawn_at is None else None
        assert entries() == ([stands.pk] if stands else [])
        assert best.withdrawals.filter(restored_at=None).count() == int(best.withdrawn_at is not None)
        if first.withdrawn_at:
            restore_job(first, by=user)
