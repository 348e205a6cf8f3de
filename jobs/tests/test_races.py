"""Races with real threads on real connections: whoever comes second finds nothing to do."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from accounts.refusals import Forbidden, QuotaExceeded
from accounts.tests.factories import UserFactory
from jobs import claiming, reconciler, services, steering, transitions
from jobs.models import FINAL, ErrorCode, Job, JobAttempt, Status, TrackingOutbox
from jobs.tests.factories import JobFactory, WorkerFactory
from jobs.transitions import Evidence
from leaderboards.models import Entry, Metric
from leaderboards.services import rebuild_entries
from leaderboards.tests.factories import EntryFactory
from leaderboards.versioning import change
from leaderboards.yaml_file import export_leaderboard, import_leaderboard
from submissions.tests.factories import SubmissionFactory

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def at_once(*calls):
    """All calls in threads of their own, let go together; their answers, or the refusal that came."""
    barrier = threading.Barrier(len(calls))

    def one(call):
        try:
            connection.ensure_connection()
            barrier.wait(30)
            return call()
        except (Forbidden, QuotaExceeded) as refusal:
            return refusal
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(one, call) for call in calls]]


def running(**fields):
    job = JobFactory(status="running", **fields)
    JobAttempt.objects.create(job=job, number=1, worker_name="w")
    return job


def complete(job, score=0.5):
    return transitions.complete(
        job, attempt=1, params={}, metrics={"image_auc": score}, score=score, artifacts=[], evidence=Evidence()
    )


def waiting_for_rows():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted")
        return cursor.fetchone()[0]


def wait_until(is_so):
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def later(seconds, call):
    def wait_and_call():
        time.sleep(seconds)
        return call()

    return wait_and_call


def test_thirty_claims_of_one_job_give_it_to_one():
    job, worker = JobFactory(), WorkerFactory()
    won = at_once(*[lambda: claiming.claim(job.pk, worker_id=worker.pk, worker_name="w")] * 30)
    assert sum(one is not None for one in won) == 1
    job.refresh_from_db()
    assert (job.attempt, job.attempts.count()) == (1, 1)


def test_thirty_workers_that_ask_for_the_next_get_ten_jobs_once_each():
    jobs, worker = JobFactory.create_batch(10), WorkerFactory()
    ask = lambda: claiming.claim_next(worker_id=worker.pk, worker_name="w", resource_classes=["small"])  # noqa: E731
    got = [job.pk for job in at_once(*[ask] * 30) if job is not None]
    assert sorted(got) == sorted(job.pk for job in jobs)


def test_two_hundred_cancels_around_the_finish_end_in_one_of_the_two():
    chance = random.Random(7)
    ends = {"completed": 0, "cancelled": 0}
    board = JobFactory().leaderboard
    user = UserFactory()
    for _ in range(200):
        job = running(leaderboard=board, user=user)

        def finish(job=job):
            return complete(job) or transitions.finish_cancelled(job.pk, attempt=1)

        cancelled, finished = at_once(
            later(chance.uniform(0, 0.003), lambda job=job: transitions.cancel(job.pk, by=job.user)),
            later(chance.uniform(0, 0.003), finish),
        )
        assert finished is True
        job.refresh_from_db()
        has_result = (
            TrackingOutbox.objects.filter(job=job).exists(),
            bool(job.metrics),
            job.score is not None,
        )
        assert has_result == ((job.status == "completed"),) * 3
        assert cancelled == (Status.RUNNING if job.status == "cancelled" else None)
        assert job.attempts.get().outcome == job.status
        ends[job.status] += 1
        assert not Entry.objects.filter(job__status="cancelled").exists()
    assert min(ends.values()) > 10, f"the moments did not lie around the finish: {ends}"


def test_reconciler_with_a_stale_look_does_not_undo_a_finish(monkeypatch):
    job = running()
    Job.objects.filter(pk=job.pk).update(lease_until=Now() - timedelta(seconds=1))
    guarded = transitions.requeue_lost

    def finished_between_look_and_write(job_id, *, attempt):
        assert complete(job)
        return guarded(job_id, attempt=attempt)

    monkeypatch.setattr(transitions, "requeue_lost", finished_between_look_and_write)
    assert reconciler.requeue_lost_jobs() == {}
    job.refresh_from_db()
    assert (job.status, job.attempts.get().outcome) == ("completed", "completed")


def test_reconciler_with_a_stale_look_does_not_take_the_next_attempt(monkeypatch):
    job = running()
    Job.objects.filter(pk=job.pk).update(lease_until=Now() - timedelta(seconds=1))
    guarded = transitions.requeue_lost

    def claimed_again_between_look_and_write(job_id, *, attempt):
        assert guarded(job_id, attempt=attempt) == "pending"
        Job.objects.filter(pk=job_id).update(available_at=Now())
        assert claiming.claim(job_id, worker_id=WorkerFactory().pk, worker_name="w2")
        Job.objects.filter(pk=job_id).update(lease_until=Now() - timedelta(seconds=1))
        return guarded(job_id, attempt=attempt)

    monkeypatch.setattr(transitions, "requeue_lost", claimed_again_between_look_and_write)
    assert reconciler.requeue_lost_jobs() == {}
    job.refresh_from_db()
    assert (job.status, job.attempt) == ("running", 2)


def test_finish_and_reconciler_at_once_leave_one_of_them():
    for _ in range(40):
        job = running()
        Job.objects.filter(pk=job.pk).update(lease_until=Now() - timedelta(seconds=1))
        finished, taken = at_once(lambda: complete(job), lambda: transitions.requeue_lost(job.pk, attempt=1))  # noqa: B023
        assert finished == (taken is None)
        job.refresh_from_db()
        assert job.status == ("completed" if finished else "pending")
        assert TrackingOutbox.objects.filter(job=job).exists() == finished


@pytest.mark.parametrize("direction", ["higher", "lower"])
def test_two_completions_of_one_person_leave_the_better_entry(direction):
    board = JobFactory(leaderboard__metrics=[{"name": "image_auc", "direction": direction}]).leaderboard
    for _ in range(20):
        user = UserFactory()
        jobs = [running(user=user, leaderboard=board) for _ in range(4)]
        assert at_once(*[lambda job=job, n=n: complete(job, n / 10) for n, job in enumerate(jobs)]) == [True] * 4
        assert Entry.objects.get(user=user).score == (0.3 if direction == "higher" else 0.0)


def test_a_job_that_completes_while_its_board_ranks_anew_stands_by_what_ranks_then():
    job = running()
    metrics = job.leaderboard.metrics
    finish = lambda: transitions.complete(  # noqa: E731
        job,
        attempt=1,
        params={},
        metrics={"image_auc": 0.9, "seconds": 2.0},
        score=0.9,
        artifacts=[],
        evidence=Evidence(),
    )
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            metrics.filter(name="image_auc").update(position=9)
            rebuild_entries(job.leaderboard)
            done = pool.submit(at_once, finish)
            wait_until(lambda: done.done() or waiting_for_rows() == 1)
        assert done.result(30) == [True]
    assert Entry.objects.get().score == 2.0


def test_a_job_is_taken_while_its_board_is_replaced_and_neither_waits_for_the_other():
    """Each would hold what the other needs at its end: the board's row, and that of the person whose entry is made anew."""
    entry = EntryFactory()
    submission = SubmissionFactory(user=entry.user, leaderboard=entry.leaderboard)
    text = export_leaderboard(entry.leaderboard).replace("direction: higher", "direction: lower")
    with ThreadPoolExecutor(1) as pool, transaction.atomic():
        import_leaderboard(text, replace=True)
        [(job, is_new)] = pool.submit(at_once, post(submission)).result(30)
    assert (is_new, Job.objects.get(pk=job.pk).status, Entry.objects.count()) == (True, "pending", 1)


def test_give_back_and_cancel_at_once_end_cancelled():
    for _ in range(60):
        job = running()
        cancelled, _ = at_once(
            lambda: transitions.cancel(job.pk, by=job.user),  # noqa: B023
            lambda: transitions.give_back(job, attempt=1, code=ErrorCode.INTERNAL, reason="drained"),  # noqa: B023
        )
        job.refresh_from_db()
        assert cancelled in (Status.CANCELLED, Status.RUNNING)
        assert job.status == "cancelled"
        assert job.cancel_requested_by == job.user


def test_cancel_is_never_lost_while_the_job_changes_hands():
    """Given back and claimed again, over and over: a cancel that was answered is always remembered."""
    worker = WorkerFactory()
    for _ in range(40):
        job = running()

        def changes(job=job):
            for attempt in (1, 2, 3):
                transitions.give_back(job, attempt=attempt, code=ErrorCode.INTERNAL, reason="drained")
                if not claiming.claim(job.pk, worker_id=worker.pk, worker_name="w"):
                    return

        at_once(changes, later(random.uniform(0, 0.01), lambda job=job: transitions.cancel(job.pk, by=job.user)))
        job.refresh_from_db()
        assert job.status == "cancelled" or job.cancel_requested_at is not None


def post(submission, **fields):
    return lambda: services.enqueue_job(submission.user, submission.pk, **fields)


@pytest.mark.parametrize(("quota", "accepted"), [({"concurrent_jobs": 3}, 3), ({"concurrent_jobs": 99}, 10)])
def test_forty_posts_at_the_edge_of_the_quota(quota, accepted, settings):
    settings.SUBMISSIONS_PER_HOUR = 10
    submission = SubmissionFactory(user=UserFactory(**quota))
    answers = at_once(*[post(submission)] * 40)
    assert Job.objects.count() == sum(isinstance(answer, tuple) for answer in answers) == accepted
    refused = [answer for answer in answers if isinstance(answer, QuotaExceeded)]
    assert len(refused) == 40 - accepted
    assert all(isinstance(answer.retry_after, int) and answer.retry_after > 0 for answer in refused)


def test_who_asks_while_they_are_banned_gets_no_job():
    """They were let in before, and wait for their own row, which the ban holds."""
    submission = SubmissionFactory()
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            steering.ban(submission.user, by=UserFactory(), reason="Mining coins.")
            asked = pool.submit(at_once, *[post(submission)] * 4)
            wait_until(lambda: waiting_for_rows() == 4)
        assert [type(answer) for answer in asked.result(30)] == [Forbidden] * 4
    assert not Job.objects.exists()


def test_twenty_posts_with_one_key_are_one_job():
    answers = at_once(*[post(SubmissionFactory(), idempotency_key="once")] * 20)
    assert len({job.pk for job, _ in answers}) == Job.objects.count() == 1
    assert sum(is_new for _, is_new in answers) == 1


def test_everybody_at_once_on_few_jobs_ends_each_once():
    """Claims, finishes, cancels and a judge of leases that run out at once, until all is final."""
    worker = WorkerFactory()
    jobs = JobFactory.create_batch(12, priority=0)
    stop = threading.Event()

    def work():
        while not stop.is_set():
            job = claiming.claim_next(worker_id=worker.pk, worker_name="w", resource_classes=["small"])
            if job is None:
                time.sleep(0.005)
                continue
            time.sleep(random.uniform(0, 0.02))
            if random.random() < 0.3:
                continue  # dies
            attempt = job.attempt
            transitions.complete(
                job,
                attempt=attempt,
                params={},
                metrics={"image_auc": 0.5},
                score=0.5,
                artifacts=[],
                evidence=Evidence(),
            ) or transitions.finish_cancelled(job.pk, attempt=attempt)

    def judge():
        while not stop.is_set():
            for job_id, attempt in list(Job.objects.filter(status="running").values_list("pk", "attempt")):
                Job.objects.filter(pk=job_id, status="running").update(lease_until=Now() - timedelta(seconds=1))
                transitions.requeue_lost(job_id, attempt=attempt)
            Job.objects.filter(status="pending").update(available_at=Now())
            time.sleep(0.01)

    def cancel():
        for job in random.sample(jobs, 4):
            time.sleep(0.02)
            transitions.cancel(job.pk, by=job.user)
        deadline = time.monotonic() + 30
        while Job.objects.exclude(status__in=FINAL).exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        stop.set()

    at_once(work, work, work, judge, cancel)
    assert not Job.objects.exclude(status__in=FINAL).exists()
    completed = set(Job.objects.filter(status="completed").values_list("pk", flat=True))
    assert set(TrackingOutbox.objects.values_list("job_id", flat=True)) == completed
    assert set(Entry.objects.values_list("job_id", flat=True)) == completed
    for job in Job.objects.prefetch_related("attempts"):
        assert [attempt.number for attempt in job.attempts.all()] == list(range(1, job.attempt + 1))
        assert job.losses <= 3


def test_a_change_that_takes_another_back_at_once_computes_the_entries_again():
    board, user = JobFactory().leaderboard, UserFactory()
    best, worst = (running(leaderboard=board, user=user) for _ in range(2))
    assert complete(best, 0.9) and complete(worst, 0.1)

    def rank_by(direction):
        try:
            write = Metric.objects.filter(leaderboard=board, name="image_auc").update
            return change(board, lambda: write(direction=direction), by=None)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as thread:
        with transaction.atomic():
            change(board, lambda: board.metrics.filter(name="image_auc").update(direction="lower"), by=None)
            second = thread.submit(rank_by, "higher")
            wait_until(lambda: waiting_for_rows() > 0)
        assert second.result(10) == 1
    assert Entry.objects.get().job_id == best.pk
