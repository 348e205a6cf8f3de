"""Jobs for tests in any status, inserted as transitions would leave them (a trigger forbids shortcuts)."""

from datetime import timedelta

import factory
from django.utils import timezone

from jobs.models import FINAL, PLATFORM_FAULTS, ErrorCode, Job, JobAttempt, JobLogChunk, Status, Worker


class WorkerFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Worker

    name = factory.Sequence(lambda n: f"worker-{n}")
    hostname = "host"
    pid = 4242


def _has_run(job) -> bool:
    return job.status != Status.PENDING


def _error(job) -> str:
    return {Status.FAILED: ErrorCode.EXIT_NONZERO, Status.CANCELLED: ErrorCode.CANCELLED}.get(job.status, "")


def _metrics(job) -> dict[str, float]:
    if job.score is None:
        return {}
    ranking = job.leaderboard.metrics.first()
    return {"seconds": 10.0, (ranking.name if ranking else "image_auc"): job.score}


class JobFactory(factory.django.DjangoModelFactory):
    """`JobFactory(status="completed", score=0.9)`. Its submission is the same user's, to the same board.

    A completed job has the score as what ranks on its board but no entry: EntryFactory makes those.
    """

    class Meta:
        model = Job

    user = factory.SubFactory("accounts.tests.factories.UserFactory")
    leaderboard = factory.SubFactory("leaderboards.tests.factories.LeaderboardFactory")
    submission = factory.SubFactory(
        "submissions.tests.factories.SubmissionFactory",
        user=factory.SelfAttribute("..user"),
        leaderboard=factory.SelfAttribute("..leaderboard"),
    )
    status = Status.PENDING
    created_at = factory.LazyFunction(timezone.now)
    attempt = factory.LazyAttribute(lambda job: int(_has_run(job)))
    started_at = factory.LazyAttribute(lambda job: job.created_at + timedelta(seconds=1) if _has_run(job) else None)
    lease_until = factory.LazyAttribute(
        lambda job: timezone.now() + timedelta(seconds=90) if job.status == Status.RUNNING else None
    )
    finished_at = factory.LazyAttribute(
        lambda job: job.created_at + timedelta(seconds=11) if job.status in FINAL else None
    )
    error_code = factory.LazyAttribute(_error)
    costs_quota = factory.LazyAttribute(lambda job: job.error_code not in PLATFORM_FAULTS)
    score = factory.LazyAttribute(lambda job: 0.9 if job.status == Status.COMPLETED else None)
    metrics = factory.LazyAttribute(_metrics)


class JobAttemptFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = JobAttempt

    job = factory.SubFactory(JobFactory, status=Status.RUNNING)
    number = 1
    worker_name = "worker-0"


class LogChunkFactory(factory.django.DjangoModelFactory):
    """A piece of a running job's log: `content` is bytes, `offset` where it begins."""

    class Meta:
        model = JobLogChunk

    job = factory.SubFactory(JobFactory, status=Status.RUNNING)
    attempt = factory.SelfAttribute("job.attempt")
    offset = 0
    content = b"hello\n"
