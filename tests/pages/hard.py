"""Data that pages are not made for and must bear: very long names, names from right to left, 200 metrics, 10 000 people."""

from datetime import timedelta
from uuid import uuid4

from django.utils import timezone

from accounts.models import User
from accounts.tests.factories import UserFactory
from jobs.models import Job
from jobs.tests.factories import JobFactory
from leaderboards.models import Entry, Leaderboard, Standing
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory
from submissions.models import Submission

RIGHT_TO_LEFT = ["محمد-الفارابي", "שרה.כהן", "فاطمة_الزهراء"]
LONGEST = "a-very-long-name-" * 8 + "x" * 14
MANY = 10_000


def many_people(board: Leaderboard, people: int = MANY) -> None:
    """A board with that many entries, which came in no order of their scores; made in a few statements."""
    now = timezone.now()
    users = User.objects.bulk_create(
        [User(username=f"{board.slug}-{number:05}", password="!") for number in range(people)], batch_size=2000
    )
    sent = [
        Submission(id=uuid4(), user=user, leaderboard=board, kind="tar", size_bytes=1, sha256="0" * 64, object_name=f"hard/{user.pk}", manifest=[], created_at=now - timedelta(minutes=number * 7919 % people))
        for number, user in enumerate(users)
    ]  # fmt: skip
    Submission.objects.bulk_create(sent, batch_size=2000)
    jobs = []
    for number, (user, submission) in enumerate(zip(users, sent, strict=True)):
        score = round(1 - number / (2 * people), 6)
        jobs.append(
            Job(id=uuid4(), user=user, leaderboard=board, submission=submission, status="completed", score=score, metrics={"image_auc": score, "seconds": 10.0 + number % 977},
                wall_seconds=10.0 + number % 977, peak_memory_bytes=2**30, created_at=submission.created_at, started_at=submission.created_at, finished_at=submission.created_at)
        )  # fmt: skip
    Job.objects.bulk_create(jobs, batch_size=2000)
    shared = [
        {"leaderboard": board, "user": job.user, "job": job, "score": job.score, "submitted_at": job.created_at}
        for job in jobs
    ]
    Entry.objects.bulk_create([Entry(**fields) for fields in shared], batch_size=2000)
    Standing.objects.bulk_create(
        [Standing(**fields, began_at=fields["submitted_at"], metrics=fields["job"].metrics, wall_seconds=fields["job"].wall_seconds) for fields in shared],
        batch_size=2000,
    )  # fmt: skip


def entry(board: Leaderboard, username: str, value: float) -> Job:
    user = User.objects.filter(username=username).first() or UserFactory(username=username)
    metrics = {metric.name: value for metric in board.metrics.all()}
    job = JobFactory(user=user, leaderboard=board, status="completed", score=value, metrics=metrics, wall_seconds=61.5)
    EntryFactory(leaderboard=board, job=job, score=value)
    return job


def make_hard(user: User, *, people: int = MANY) -> dict[str, str]:
    """The pages to look at, by name; the user stands on each of the boards."""
    wide = LeaderboardFactory(
        slug="hard-wide",
        title="W" * 60 + " a title of two hundred letters " + "i" * 108,
        description="d" * 400,
        metrics=[{"name": f"metric_{number:03}", "label": f"Metric {number} of a long name", "unit": "ms"} for number in range(200)],
    )  # fmt: skip
    for number, name in enumerate([*RIGHT_TO_LEFT, LONGEST, user.username]):
        last = entry(wide, name, [0.98765432, 0.5, 12345.678, 1e-9, 3.0][number])
    right = LeaderboardFactory(
        slug="hard-right", title="لوحة المتصدرين: الكشف عن العيوب", description="**النص** من اليمين إلى اليسار."
    )
    for number, name in enumerate([*RIGHT_TO_LEFT, user.username]):
        entry(right, name, 0.9 - number / 10)
    long = LeaderboardFactory(slug="hard-long", title="Ten thousand people")
    many_people(long, people)
    entry(long, user.username, 0.7501234)
    return {
        "hard-home": "/",
        "hard-wide": "/leaderboards/hard-wide/",
        "hard-wide-all": "/leaderboards/hard-wide/?" + "&".join(f"column=metric_{n:03}" for n in range(20)),
        "hard-right": "/leaderboards/hard-right/",
        "hard-long": "/leaderboards/hard-long/",
        "hard-long-near": "/leaderboards/hard-long/?near=me",
        "hard-long-history": "/leaderboards/hard-long/history/",
        "hard-jobs": "/jobs/",
        "hard-submissions": "/submissions/",
        "hard-submit": "/submit/?leaderboard=hard-wide",
        "hard-job": last.get_absolute_url(),
    }
