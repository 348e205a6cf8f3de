"""What failed by the platform's fault: counted by leaderboard, with the cause for operators and nothing of it for others."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from accounts.services import create_token
from accounts.tests.factories import UserFactory
from jobs import transitions
from jobs.execution.told import Told
from jobs.models import ErrorCode, Job
from jobs.platform_faults import platform_faults
from jobs.tests.factories import JobAttemptFactory, JobFactory
from jobs.transitions import Evidence
from leaderboard_site.doctor.findings import Found
from leaderboard_site.doctor.work import faults
from leaderboard_site.metrics import site
from leaderboards.tests.factories import LeaderboardFactory

pytestmark = pytest.mark.django_db
CAUSE = "ValueError: the mask masks/bottle/0007.png cannot be read"
SENTENCE = Told("The leaderboard's scorer broke. It did not cost you quota; the operators have its log.")


def failed(board, code=ErrorCode.SCORER_FAILED, *, hours_ago=1.0, **fields):
    return JobFactory(
        leaderboard=board,
        status="failed",
        error_code=code,
        created_at=timezone.now() - timedelta(hours=hours_ago),
        **fields,
    )


def broken(board):
    """A job whose scorer broke, ended as the worker ends it."""
    job = JobFactory(leaderboard=board, status="running")
    JobAttemptFactory(job=job, number=job.attempt)
    told = {"code": ErrorCode.SCORER_FAILED, "message": SENTENCE, "evidence": Evidence()}
    assert transitions.fail(job, attempt=job.attempt, cause=CAUSE, **told)
    return Job.objects.get(pk=job.pk)


def test_faults_of_a_day_are_counted_by_leaderboard_and_code():
    bricks, cables = LeaderboardFactory(slug="bricks"), LeaderboardFactory(slug="cables")
    failed(bricks, hours_ago=20)
    last = failed(bricks, hours_ago=2)
    failed(bricks, ErrorCode.INTERNAL, hours_ago=3)
    failed(cables, ErrorCode.IMAGE_UNUSABLE, hours_ago=4)
    failed(bricks, hours_ago=25)  # too long ago
    failed(cables, ErrorCode.EXIT_NONZERO)  # the participant's fault
    assert [(one.board.slug, one.code, one.jobs, one.is_repeated) for one in platform_faults()] == [
        ("bricks", "scorer_failed", 2, True), ("bricks", "internal", 1, False), ("cables", "image_unusable", 1, False),
    ]  # fmt: skip
    assert platform_faults()[0].last_job == last.pk


def test_the_cause_is_that_of_the_last_job():
    broken(LeaderboardFactory())
    assert [one.cause for one in platform_faults()] == [CAUSE]


def test_a_message_that_cannot_be_shown_apart_keeps_its_place():
    job = JobFactory(status="running")
    JobAttemptFactory(job=job, number=job.attempt)
    told = {"code": ErrorCode.INTERNAL, "message": "plain text", "evidence": Evidence()}
    transitions.fail(job, attempt=job.attempt, cause=CAUSE, **told)
    assert (job.attempts.get().detail, job.attempts.get().cause) == ("internal: plain text", "")


@pytest.mark.parametrize("boards", [1, 3])
def test_any_number_of_leaderboards_costs_three_queries(django_assert_num_queries, boards):
    for _ in range(boards):
        broken(LeaderboardFactory())
    with django_assert_num_queries(3):
        assert len(platform_faults()) == boards


def test_only_operators_read_the_cause(client):
    job = broken(LeaderboardFactory())
    operator = UserFactory(is_staff=True, is_superuser=True)
    client.force_login(operator)
    assert CAUSE in client.get(reverse("admin:jobs_job_change", args=[job.pk])).content.decode()
    client.force_login(job.user)
    _token, secret = create_token(job.user, name="t")
    headers = {"Authorization": f"Bearer {secret}"}
    shown = [client.get(address).content.decode() for address in (job.get_absolute_url(), "/jobs/")]
    shown += [
        Client().get(address, headers=headers).content.decode()
        for address in (f"/api/jobs/{job.pk}", f"/api/jobs/{job.pk}/status", "/api/jobs")
    ]
    assert not any("mask" in text for text in shown)
    assert escape(SENTENCE) in shown[0]


def test_the_status_page_counts_repeated_faults_as_trouble(client):
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    board = LeaderboardFactory(title="Bricks")
    before = client.get(reverse("admin:status")).context["troubles"]
    broken(board)
    assert client.get(reverse("admin:status")).context["troubles"] == before
    broken(board)
    answer = client.get(reverse("admin:status"))
    assert answer.context["troubles"] == before + 1
    assert CAUSE in answer.content.decode()
    assert f"?error_code__exact=scorer_failed&amp;leaderboard={board.pk}" in answer.content.decode()


def test_metrics_and_doctor_name_the_leaderboard():
    board = LeaderboardFactory(slug="bricks")
    broken(board)
    broken(board)
    (gauge,) = [metric for metric in site.read() if metric.name == "leadersboard_platform_faults"]
    assert [(sample.labels, sample.value) for sample in gauge.samples] == [
        ({"leaderboard": "bricks", "code": "scorer_failed"}, 2)
    ]
    found = Found("faults")
    faults(found)
    assert [one.what.partition(", the last")[0] for one in found.findings] == [
        "bricks: 2 jobs ended as scorer_failed within 24 hours"
    ]
    assert CAUSE in found.findings[0].what


def test_the_doctor_is_content_with_a_single_fault():
    broken(LeaderboardFactory())
    found = Found("faults")
    faults(found)
    assert [one.state for one in found.findings] == ["ok"]
