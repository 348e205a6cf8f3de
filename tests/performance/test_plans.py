"""What each hot path asks of PostgreSQL stays small on a filled site: no table that grows is read through or sorted.

Every statement that a path sends is explained as it was executed, on twenty thousand jobs. Counted is what each step of its
plan read, not its time.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client

import jobs.waiting
from accounts.models import User
from accounts.services import create_token
from benchmarks.fixture import fill_rows
from jobs import claiming, reconciler, retention, services, stuck, tally, transitions
from jobs.dependencies import count_ends
from jobs.models import Job, Status, TrackingOutbox
from jobs.tests.factories import WorkerFactory
from jobs.waiting import waiting
from leaderboard_site import views
from leaderboard_site.metrics import site as site_metrics
from submissions.services import refuse_over_quota

pytestmark = pytest.mark.django_db
JOBS = 20_000
GROWING = {
    "accounts_user", "accounts_apitoken", "jobs_job", "jobs_jobattempt", "jobs_joblogchunk", "jobs_jobprogress",
    "jobs_trackingoutbox", "leaderboards_entry", "leaderboards_standing", "submissions_submission",
}  # fmt: skip
# People without jobs, so that their table is none that is best read through.
_MORE_PEOPLE = """
INSERT INTO accounts_user (username, password, first_name, last_name, email, is_superuser, is_staff, is_active, date_joined)
SELECT 'guest' || n, '!', '', '', '', false, false, true, now() FROM generate_series(1, 5000) n
"""
# What one step of a plan may read. A page shows 25 to 100 rows, a person has 100 jobs, a board 200 people here.
MOST_ROWS = 1000
SCANS = ("seqscan",)
# For a few rows that are looked up in a table of entries, of which there are few here.
SCANS_AND_JOINS = ("seqscan", "hashjoin", "mergejoin")


@pytest.fixture(scope="module")
def filled(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """A site with a history, for all tests of this module; taken back at the end."""
    with django_db_blocker.unblock(), transaction.atomic():
        with connection.cursor() as cursor:
            fill_rows(cursor, JOBS)
            cursor.execute(_MORE_PEOPLE)
            cursor.execute("ANALYZE")
        yield
        transaction.set_rollback(True)


@pytest.fixture
def site(filled: None, db: None) -> None:
    """The filled site; each test's own changes are taken back by `db`."""


@contextmanager
def statements() -> Iterator[list[tuple[str, Any]]]:
    """What is sent to the database meanwhile."""
    sent: list[tuple[str, Any]] = []

    def note(execute: Callable[..., Any], query: Any, values: Any, many: bool, context: Any) -> Any:
        text = query.as_string(connection.connection) if hasattr(query, "as_string") else str(query)
        if text.lstrip().split(None, 1)[0].upper() in ("SELECT", "UPDATE", "DELETE", "WITH", "INSERT") and not many:
            sent.append((text, values))
        return execute(query, values, many, context)

    with connection.execute_wrapper(note):
        yield sent


def steps(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", []):
        yield from steps(inner)


def explained(query: str, values: Any, without: tuple[str, ...]) -> list[dict[str, Any]]:
    """The steps of the statement, with what they really read; what it writes is taken back."""
    savepoint = transaction.savepoint()
    with connection.cursor() as cursor:
        # At this size reading a table through, by itself or for a join, is often the cheapest; asked is whether there is
        # another way. benchmarks/growth.py sees what is chosen on a site of a million jobs.
        for way in without:
            cursor.execute(f"SET LOCAL enable_{way} = off")
        cursor.execute("EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) " + query, values)
        (found,) = cursor.fetchone()
    transaction.savepoint_rollback(savepoint)
    return list(steps((json.loads(found) if isinstance(found, str) else found)[0]["Plan"]))


def faults(query: str, values: Any, without: tuple[str, ...]) -> list[str]:
    found = []
    for step in explained(query, values, without):
        loops = step["Actual Loops"]
        rows = (step["Actual Rows"] + step.get("Rows Removed by Filter", 0)) * loops
        if step["Node Type"] == "Seq Scan" and step["Relation Name"] in GROWING and rows > 100:
            found.append(f"reads {step['Relation Name']} through, {rows:.0f} rows")
        elif rows > MOST_ROWS:
            what = step.get("Index Name") or step.get("Relation Name") or ""
            found.append(f"{step['Node Type']} {what} of {rows:.0f} rows")
    return found


def hold(act: Callable[[], Any], *, without: tuple[str, ...] = SCANS) -> None:
    """Do it twice, for what is cached; each statement of the second time must be small."""
    savepoint = transaction.savepoint()
    act()
    transaction.savepoint_rollback(savepoint)
    savepoint = transaction.savepoint()
    with statements() as sent:
        act()
    transaction.savepoint_rollback(savepoint)
    assert sent, "it asked the database nothing"
    bad = {query[:2000]: told for query, values in sent if (told := faults(query, values, without))}
    assert not bad, json.dumps(bad, indent=1)


PAGES = {
    "home": ("nobody", "/"),
    "home, signed in": ("person", "/"),
    "board": ("nobody", "/leaderboards/board1/"),
    "board, signed in": ("person", "/leaderboards/board1/"),
    "board's history": ("nobody", "/leaderboards/board1/history/"),
    "board's badge": ("nobody", "/leaderboards/board1/badge.svg"),
    "my jobs": ("person", "/jobs/"),
    "my submissions": ("person", "/submissions/"),
    "my runs in MLflow": ("person", "/mlflow/"),
    "a pending job": ("person", "/jobs/{pending}/"),
    "a finished job": ("person", "/jobs/{completed}/"),
    "a job's state": ("person", "/jobs/{pending}/state/"),
    "a comparison": ("person", "/compare/?job={completed}"),
    "account": ("person", "/account/"),
    "API: jobs": ("token", "/api/jobs"),
    "API: a job": ("token", "/api/jobs/{completed}"),
    "API: status": ("token", "/api/jobs/{pending}/status"),
    "API: submissions": ("token", "/api/submissions"),
    "API: leaderboards": ("token", "/api/leaderboards"),
    "API: entries": ("token", "/api/leaderboards/board1/entries"),
    "status page": ("operator", "/admin/status/"),
    "admin: jobs": ("operator", "/admin/jobs/job/"),
    "admin: jobs of a status": ("operator", "/admin/jobs/job/?status__exact=cancelled"),
    "admin: a job": ("operator", "/admin/jobs/job/{completed}/change/"),
    "admin: submissions": ("operator", "/admin/submissions/submission/"),
    "admin: attempts": ("operator", "/admin/jobs/jobattempt/"),
    "admin: entries": ("operator", "/admin/leaderboards/entry/"),
    "admin: users": ("operator", "/admin/accounts/user/"),
    "admin: tokens": ("operator", "/admin/accounts/apitoken/"),
}


@pytest.fixture
def person(site: None) -> User:
    return User.objects.get(pk=Job.objects.filter(status="pending").order_by("-created_at").values("user")[:1])


@pytest.mark.parametrize("name", PAGES)
def test_page_reads_little(name: str, person: User, monkeypatch: pytest.MonkeyPatch) -> None:
    # Lists of the console count so far and no further; stuck jobs are looked for among so many of the latest.
    monkeypatch.setattr("accounts.admin_base.CappedPaginator.CAP", 500)
    monkeypatch.setattr(stuck, "LOOKED_AT", 50)
    monkeypatch.setattr(views, "PEOPLE_COUNTED", 20)
    who, address = PAGES[name]
    known = {
        status: Job.objects.filter(user=person, status=status).order_by("-created_at").values_list("pk", flat=True)[0]
        for status in ("pending", "completed")
    }
    client = Client()
    if who == "token":
        client = Client(headers={"Authorization": f"Bearer {create_token(person, name='plans')[1]}"})
    elif who != "nobody":
        user = person if who == "person" else User.objects.create_superuser("plans-operator", password="x")
        client.force_login(user, backend="accounts.backends.ThrottledBackend")

    def get() -> None:
        answer = client.get(address.format(**known))
        assert answer.status_code == 200, answer.status_code
        b"".join(answer.streaming_content) if answer.streaming else answer.content  # type: ignore[attr-defined]

    hold(get, without=SCANS_AND_JOINS if name == "status page" else SCANS)


def _claim() -> Job:
    worker = WorkerFactory()
    job = claiming.claim_next(worker_id=worker.pk, worker_name=worker.name, resource_classes=["small", "medium"])
    assert job is not None
    return job


def _complete() -> None:
    job = _claim()
    result = {"params": {}, "metrics": {"image_auc": 0.5}, "score": 0.5, "artifacts": []}
    assert transitions.complete(job, attempt=job.attempt, evidence=transitions.Evidence(), **result)


def _fail() -> None:
    job = _claim()
    evidence = transitions.Evidence()
    assert transitions.fail(job, attempt=job.attempt, code="exit_nonzero", message="x", evidence=evidence)


def _first(**fields: Any) -> Job:
    return Job.objects.filter(**fields).select_related("leaderboard", "user", "submission").earliest("created_at")


STEPS: dict[str, Callable[[], Any]] = {
    "claim": _claim,
    "heartbeat": lambda: transitions.heartbeat(_first(status="running").pk, 1),
    "complete": _complete,
    "fail": _fail,
    "cancel": lambda: transitions.cancel(_first(status="pending").pk, by=None),
    "why a job waits": lambda: (jobs.waiting._views.clear(), waiting(_first(status="pending"))),
    "quota of jobs": lambda: services._check_quotas(_first(status="pending").user),
    "quota of submissions": lambda: refuse_over_quota(_first(status="pending").user),
    "reconciler: lost jobs": reconciler.requeue_lost_jobs,
    "reconciler: calls": reconciler.push_again,
    "reconciler: stale rows": reconciler.clear_stale_rows,
    "reconciler: stuck jobs": stuck.stuck_jobs,
    "metrics": site_metrics.read,
}


@pytest.mark.parametrize("name", STEPS)
def test_step_of_a_job_reads_little(name: str, site: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stuck, "LOOKED_AT", 50)
    monkeypatch.setattr("jobs.queue.push", lambda job_id, resource_class: True)
    hold(STEPS[name], without=SCANS_AND_JOINS if "stuck" in name else SCANS)


def test_tally_reads_its_batch_and_no_more(site: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "BATCH", 500)
    hold(lambda: tally.tally_endings(settled_seconds=0))


def test_hours_are_counted_from_the_last_one_on(site: None) -> None:
    count_ends()
    hold(count_ends)


def test_outbox_takes_what_is_due_whatever_else_waits(site: None) -> None:
    late = Job.objects.filter(status=Status.COMPLETED).values_list("pk", flat=True)[:5000]
    TrackingOutbox.objects.bulk_create(TrackingOutbox(job_id=job) for job in late)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE jobs_trackingoutbox")
    due = TrackingOutbox.objects.filter(next_try_at__lte=transitions.Now()).order_by("next_try_at")
    hold(lambda: list(due.values_list("pk")[:50]))


@pytest.mark.parametrize("days", [89, 1000], ids=["some", "none"])
def test_retention_goes_by_batches(days: int, site: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_delete_files", lambda job: None)
    monkeypatch.setattr(retention, "BATCH", 50)
    old_jobs, jobless = retention.old(days)
    hold(lambda: (list(old_jobs[:50]), list(jobless[:50])), without=SCANS_AND_JOINS)
