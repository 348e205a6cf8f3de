"""The order in which pending jobs are claimed, and what a claim costs."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from accounts.tests.factories import UserFactory
from jobs import claiming
from jobs.models import Job
from jobs.tests.factories import JobFactory, WorkerFactory
from jobs.waiting import waiting

pytestmark = pytest.mark.django_db


def claimed_order():
    worker = WorkerFactory()
    order = []
    while job := claiming.claim_next(worker_id=worker.pk, worker_name="w", resource_classes=["small"]):
        order.append(job.pk)
    return order


def queue_up(plan, **people):
    """`plan` is a string: a letter a job, in the order of their coming; a capital is a re-run."""
    start = Now() - timedelta(hours=1)
    jobs = []
    for number, letter in enumerate(plan):
        user = people.setdefault(letter.lower(), None) or UserFactory()
        people[letter.lower()] = user
        made = JobFactory(user=user, priority=int(letter.isupper()))
        Job.objects.filter(pk=made.pk).update(created_at=start + timedelta(seconds=number))
        jobs.append(made.pk)
    return jobs


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ("aaab", "abaa"),  # one person's many do not hold up another's first
        ("aabbcc", "abcabc"),
        ("Aab", "abA"),  # a re-run stands behind all new work
        ("Abb", "bbA"),
        ("aaaaaabc", "abcaaaaa"),
    ],
)
def test_claim_next_goes_round_between_people(plan, expected):
    jobs = queue_up(plan)
    assert "".join(plan[jobs.index(pk)] for pk in claimed_order()) == expected


def test_claim_next_serves_whoever_waited_longest():
    recent, long_ago = UserFactory(), UserFactory()
    for user, hours in ((recent, 1), (long_ago, 2)):
        started = Now() - timedelta(hours=hours)
        Job.objects.filter(pk=JobFactory(user=user, status="completed").pk).update(started_at=started)
    jobs = queue_up("abcabc", a=recent, b=long_ago)
    assert "".join("abcabc"[jobs.index(pk)] for pk in claimed_order()) == "cbacba"


@pytest.mark.parametrize(
    "plan",
    [
        *["a", "aaab", "aabbcc", "abcabcc", "cabA", "AaBbb", "aabbabab"],
        *["abba", "aaabAB"],
    ],
)
def test_told_position_is_the_real_order(plan):
    jobs = queue_up(plan)
    told = {pk: waiting(Job.objects.get(pk=pk)).position for pk in jobs}
    real = {pk: number for number, pk in enumerate(claimed_order(), 1)}
    assert told == real


def test_claim_is_one_statement(django_assert_num_queries):
    job, worker = JobFactory(config={"a": [1, None]}, submission__metadata={"b": 1}), WorkerFactory()
    able = {job.leaderboard_id: 0}
    with django_assert_num_queries(1):
        claimed = claiming.claim_next(
            worker_id=worker.pk, worker_name="w", resource_classes=["small", "medium"], boards=able
        )
        submission, leaderboard = claimed.submission, claimed.leaderboard
    worker.refresh_from_db()
    assert (claimed, worker.state) == (job, "running")
    for made in (claimed, submission, leaderboard):
        # As any other query gives it: every field, after its own converters.
        read = type(made).objects.get(pk=made.pk)
        for field in made._meta.concrete_fields:
            assert getattr(made, field.attname) == getattr(read, field.attname), field
    assert (claimed.deadline_at - claimed.started_at).total_seconds() == claiming._allowance("small")
    assert list(claimed.attempts.values_list("number", "worker_name", "outcome")) == [(1, "w", "running")]


def test_claim_of_nothing_leaves_the_worker_idle(django_assert_num_queries):
    worker = WorkerFactory(state="idle")
    with django_assert_num_queries(1):
        assert claiming.claim_next(worker_id=worker.pk, worker_name="w", resource_classes=["small"], boards={}) is None
    worker.refresh_from_db()
    assert worker.state == "idle"
