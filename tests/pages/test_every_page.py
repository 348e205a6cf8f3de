"""Every page of the URL configuration: none is forgotten by the checks of pages, and none asks the database more for more rows.

A new address is either in the demonstration's pages, which `make screenshots` and the accessibility test walk, or here with
the reason why it is no page.
"""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import resolve
from django.utils import timezone

from accounts.tests.factories import ApiTokenFactory, UserFactory
from jobs.models import JobProgress
from jobs.tests.factories import JobAttemptFactory, JobFactory, LogChunkFactory
from leaderboard_site import page_urls
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory
from submissions.tests.factories import SubmissionFactory
from tests.pages.demo import Demo, make_demo
from tests.routes import routes

pytestmark = pytest.mark.django_db
FORM, PART, FILE = "takes a form and sends one on", "a part of a page", "a file or picture"
NO_PAGES = {
    **dict.fromkeys(
        ["set_language", "set_time_zone", "logout", "revoke_token", "run_submission", "cancel_job", "run_again", "check_config",
         "withdraw_job", "rename_submission"],
        FORM,
    ),
    "create_token": "the answer to a form; test_quality walks it",
    **dict.fromkeys(["job_state", "job_log", "job_runtime"], PART),
    **dict.fromkeys(
        ["job_log_text", "job_curves", "artifact", "leaderboard_export", "leaderboard_badge", "submission_config", "submission_archive"],
        FILE,
    ),
    **dict.fromkeys(["mlflow", "mlflow_part"], "MLflow's own pages"),
}  # fmt: skip


def resolved(url):
    return resolve(url.partition("?")[0]).url_name


def test_no_page_is_forgotten():
    demo = make_demo()
    walked = {resolved(url) for name, url in demo.pages().items() if name != "not-found"}
    walked |= {resolved(url) for url in Demo.PUBLIC.values()}
    every = {name for _route, name in routes(page_urls.urlpatterns)}
    assert sorted(every - walked - set(NO_PAGES)) == []
    assert sorted((walked | set(NO_PAGES)) - every) == []


# What each page asks of the database: session and user are two of them.
QUERIES = {
    "home": 7, "leaderboard": 9, "leaderboard, by another metric": 10, "leaderboard, of a day": 9,
    "leaderboard_history": 15, "submit": 23, "jobs": 4, "submissions": 5, "runs": 4, "submission": 5, "submission_files": 3, "delete_submission": 9, "job": 14,
    "job, running": 7, "job_state": 5, "job_log": 4, "job_runtime": 4, "job_files": 3, "view_file": 3, "compare": 4,
    "compare, to choose": 3, "account": 6, "profile": 2, "password": 2,
}  # fmt: skip


def a_world_of(count):
    """A person, and `count` of everything that a page lists."""
    user = UserFactory()
    board = LeaderboardFactory(slug="many", metrics=[{"name": f"m{number}"} for number in range(count)])
    for number in range(count):
        other = LeaderboardFactory(slug=f"board-{number}")
        SubmissionFactory(user=user, leaderboard=other)
        ApiTokenFactory(user=user, name=f"token {number}")
        job = JobFactory(
            user=UserFactory(),
            leaderboard=board,
            status="completed",
            score=0.1 + number / 100,
            metrics={"m0": 0.1 + number / 100},
        )
        EntryFactory(leaderboard=board, job=job, score=job.score)
    submission = SubmissionFactory(user=user, leaderboard=board)
    files = [
        {"path": f"{number}.{kind}", "bytes": 9, "sha256": "", "name": "x"}
        for number in range(count)
        for kind in ("png", "csv")
    ]
    jobs = [
        JobFactory(
            user=user, leaderboard=board, submission=submission, status="completed", score=0.9, artifacts=files,
            metrics={f"m{number}": 0.9 for number in range(count)}, params={f"p{number}": number for number in range(count)},
            run_id=uuid4().hex, experiment_id="1",
        )
        for number in range(max(2, count))
    ]  # fmt: skip
    EntryFactory(leaderboard=board, job=jobs[0], score=0.9)
    for job in jobs:
        JobProgress.objects.create(job=job, attempt=1, curves=[{"name": "loss", "points": [[0, 1.0, 0.1]]}])
        JobAttemptFactory(job=job, outcome="completed", ended_at=job.finished_at)
    running = JobFactory(user=user, leaderboard=board, submission=submission, status="running")
    for number in range(count):
        JobAttemptFactory(job=running, number=number + 2)
        LogChunkFactory(job=running, attempt=1, offset=number, content=b"\n")
    return user, board, jobs, running


@pytest.mark.parametrize("count", [1, 30])
def test_a_page_asks_the_same_of_the_database_for_one_row_and_for_thirty(client, count):
    user, board, jobs, running = a_world_of(count)
    other = SubmissionFactory(user=user, leaderboard=board)
    client.force_login(user)
    address = board.get_absolute_url()
    yesterday = (timezone.now() - timedelta(days=1)).date()
    pages = {
        "home": "/",
        "leaderboard": address,
        "leaderboard, by another metric": f"{address}?metric=m0&q=a",
        "leaderboard, of a day": f"{address}?as_of={yesterday}",
        "leaderboard_history": f"{address}history/",
        "submit": "/submit/?leaderboard=many",
        "jobs": "/jobs/",
        "submissions": "/submissions/",
        "runs": "/mlflow/",
        "submission": jobs[0].submission.get_absolute_url(),
        "submission_files": f"{jobs[0].submission.get_absolute_url()}files/",
        "delete_submission": f"{other.get_absolute_url()}delete/",
        "job": jobs[0].get_absolute_url(),
        "job, running": running.get_absolute_url(),
        "job_state": f"{running.get_absolute_url()}state/",
        "job_log": f"{running.get_absolute_url()}log/",
        "job_runtime": f"{running.get_absolute_url()}runtime/",
        "job_files": f"{jobs[0].get_absolute_url()}artifacts/",
        "view_file": f"{jobs[0].get_absolute_url()}view/0.png",
        "compare": "/compare/?" + "&".join(f"job={job.pk}" for job in jobs[:8]),
        "compare, to choose": "/compare/",
        "account": "/account/",
        "profile": "/account/profile/",
        "password": "/account/password/",
    }
    asked = {}
    for name, url in pages.items():
        with CaptureQueriesContext(connection) as queries:
            assert client.get(url).status_code == 200, name
        asked[name] = len(queries)
    assert asked == QUERIES
    walked = {name.partition(",")[0] for name in pages}
    # What else there is needs stored files, or nobody who is signed in.
    assert {name for _route, name in routes(page_urls.urlpatterns)} - walked - set(NO_PAGES) == {
        "login",
        "sign_up",
        "compare_code",
        "submission_file",
    }
