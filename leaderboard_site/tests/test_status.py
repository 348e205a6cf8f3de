"""The status page: what it shows, that it costs the same with any number of jobs, and that it waits for nobody."""

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts.models import OperatorAction
from accounts.tests.factories import UserFactory
from jobs import dependencies, queue
from jobs.models import Dependency, HourlyEnds, Job, TrackingOutbox, Worker
from jobs.stuck import KINDS, stuck_jobs
from jobs.tests.factories import JobFactory, WorkerFactory
from leaderboards.models import Disqualification, Entry
from leaderboards.services import pause
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory

pytestmark = pytest.mark.django_db
QUERIES = 27  # with the session, the user and seven kinds of stuck jobs


@pytest.fixture
def operator(client):
    user = UserFactory(is_staff=True, is_superuser=True)
    client.force_login(user)
    return user


def ago(seconds):
    return timezone.now() - timedelta(seconds=seconds)


@pytest.fixture
def page(client, operator):
    return lambda: client.get(reverse("admin:status")).content.decode()


def test_all_is_well_with_a_worker_and_nothing_stuck(page, client, operator, monkeypatch):
    monkeypatch.setattr("leaderboard_site.console.status.has_leader", lambda: True)
    for name in dependencies.CHECKS:
        dependencies.record(name, is_up=True, detail={"milliseconds": 1})
    WorkerFactory(resource_classes=["small"], state="idle")
    assert "All is well." in page()
    assert "Nothing is stuck." in page()


def test_a_late_class_a_part_that_is_down_and_no_reconciler_are_counted(page, settings):
    settings.QUEUE_TARGET_SECONDS = 60
    JobFactory(created_at=ago(30), pushed_at=timezone.now())
    JobFactory(created_at=ago(90), resource_class="medium", pushed_at=timezone.now())
    dependencies.record("mlflow", is_up=False, detail={"error": "URLError: refused"})
    html = page()
    # small: nobody serves it; medium: late (and nobody serves it); MLflow; the reconciler
    assert "4 things are not as they should be." in html
    assert "URLError: refused" in html
    assert "No reconciler leads" in html


def test_jobs_that_no_worker_can_run_are_told_and_counted(page, client, operator, monkeypatch):
    monkeypatch.setattr("leaderboard_site.console.status.has_leader", lambda: True)
    for name in dependencies.CHECKS:
        dependencies.record(name, is_up=True, detail={"milliseconds": 1})
    worker = WorkerFactory(hostname="atlas", resource_classes=["small"], state="idle")
    JobFactory(leaderboard=LeaderboardFactory(title="Bricks", dataset="bricks"), pushed_at=timezone.now())
    html = page()
    assert "All is well." not in html and "1 thing is not as it should be." in html
    assert "Jobs that no worker can run" in html and "<strong>atlas</strong>: the data set bricks" in html
    own_page = reverse("admin:jobs_worker_change", args=[worker.pk])
    assert "<strong>Bricks</strong>: the data set bricks" in client.get(own_page).content.decode()
    found = {"datasets": ["bricks"], "ground_truths": {"labels": "a1" * 32}, "scorers": {"regression": [1, 2]}}
    Worker.objects.update(inventory=found)
    assert "All is well." in page()
    html = client.get(own_page).content.decode()
    assert "labels (a1a1a1a1a1a1)" in html and "regression (1, 2)" in html and "a1" * 7 not in html


def test_workers_show_machine_gpu_job_executor_and_limits(page):
    worker = WorkerFactory(
        name="gpu-7", hostname="atlas", state="running", executor="bubblewrap", resource_classes=["small"],
        sandbox_report=[{"name": "loopback", "contained": True}, {"name": "mount", "contained": False}],
        machine={"cpus": 8, "memory_bytes": 64 * 2**30, "load": 1.5, "disk": {"free_bytes": 2**30, "total_bytes": 2**40}},
        gpus=[{"name": "H200", "memory_used_bytes": 2**30, "memory_total_bytes": 141 * 2**30, "utilization": 0.5}],
    )  # fmt: skip
    job = JobFactory(status="running", worker=worker, user__username="ada")
    html = page()
    for text in ("gpu-7", "atlas", "bubblewrap", "8 CPU", "H200", "50 %", "open: mount", "ada", str(job.pk)[:8]):
        assert text in html, text


def test_pauses_are_told(page, operator):
    pause(LeaderboardFactory(title="Bricks"), reason="The truth is wrong.", by=operator)
    html = page()
    assert "Bricks" in html
    assert "The truth is wrong." in html


@pytest.mark.parametrize("rows", [1, 40])
def test_the_page_costs_the_same_with_any_number_of_rows(client, operator, rows):
    board = LeaderboardFactory()
    for status in ("pending", "running", "completed", "failed"):
        JobFactory.create_batch(rows, status=status, leaderboard=board, worker=WorkerFactory())
    JobFactory.create_batch(rows, status="running", lease_until=ago(3600))
    EntryFactory.create_batch(rows, leaderboard=board)
    client.get(reverse("admin:status"))
    with CaptureQueriesContext(
        connection,
    ) as queries:
        client.get(reverse("admin:status"))
    assert len(queries) == QUERIES


def test_the_page_asks_no_other_machine(client, operator, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("asked")

    monkeypatch.setattr(queue, "connection", refuse)
    monkeypatch.setattr(dependencies, "urlopen", refuse)
    monkeypatch.setattr(dependencies.shutil, "disk_usage", refuse)
    assert client.get(reverse("admin:status")).status_code == 200
    assert client.get(reverse("admin:status_part")).status_code == 200


@pytest.mark.parametrize("name", ["status", "status_part"])
@pytest.mark.parametrize(
    ("permissions", "status"), [((), 403), (("view_worker",), 403), (("view_job",), 200), (None, 302)]
)
def test_the_page_is_for_those_who_may_see_jobs(client, name, permissions, status):
    user = UserFactory(is_staff=permissions is not None)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="jobs", codename__in=permissions or ()))
    client.force_login(user)
    assert client.get(reverse(f"admin:{name}")).status_code == status


# --- Stuck ---------------------------------------------------------------------------------------------------------
def lease_over():
    return JobFactory(status="running", lease_until=ago(3600), worker=WorkerFactory())


def uncalled():
    return JobFactory(created_at=ago(3600), available_at=ago(3600), pushed_at=None)


def not_stopping():
    return JobFactory(status="running", cancel_requested_at=ago(3600), worker=WorkerFactory())


def without_entry():
    job = JobFactory(status="completed", score=0.5)
    TrackingOutbox.objects.create(job=job)
    return job


def without_run():
    job = JobFactory(status="completed", score=0.5)
    Entry.objects.create(
        leaderboard=job.leaderboard, user=job.user, job=job, score=0.5, submitted_at=job.submission.created_at
    )
    return job


def behind():
    job = without_run()
    TrackingOutbox.objects.create(job=job, created_at=ago(7200), next_try_at=timezone.now() + timedelta(hours=1))
    return job


def refused():
    job = without_run()
    TrackingOutbox.objects.create(job=job, refusals=5, next_try_at=timezone.now() + timedelta(hours=1), last_error="no")
    return job


MAKERS = {
    one.__name__: one for one in (lease_over, uncalled, not_stopping, without_entry, without_run, behind, refused)
}


def test_every_kind_of_stuck_job_is_tried_here():
    assert set(MAKERS) == set(KINDS)


def found():
    return [(one.kind.code, one.job.pk) for one in stuck_jobs()]


@pytest.mark.parametrize("code", sorted(MAKERS))
def test_a_stuck_job_is_found_mended_by_one_click_and_recorded(client, operator, page, code, settings):
    job = MAKERS[code]()
    assert found() == [(code, job.pk)]
    assert str(KINDS[code].remedy) in page()
    answer = client.post(reverse("admin:status_mend"), {"job": job.pk, "kind": code})
    assert (answer.status_code, answer["Location"]) == (302, reverse("admin:status"))
    action = OperatorAction.objects.get()
    assert (action.user, action.action, action.object_id) == (operator, f"mend_{code}", str(job.pk))
    job.refresh_from_db()
    if code in ("behind", "refused"):
        assert TrackingOutbox.objects.get().next_try_at <= timezone.now()
    elif code == "not_stopping":
        assert job.worker.stop_requested_at is not None
    else:
        assert found() == []


def test_what_is_as_it_should_be_is_not_stuck():
    JobFactory(pushed_at=timezone.now())
    JobFactory(available_at=timezone.now() + timedelta(hours=1), pushed_at=None)
    JobFactory(status="running")
    JobFactory(status="running", cancel_requested_at=timezone.now())
    JobFactory(status="failed")
    waiting = without_run()
    TrackingOutbox.objects.create(job=waiting)
    JobFactory(status="completed", score=None, run_id="r")
    out = JobFactory(status="completed", score=0.5, run_id="r")
    Disqualification.objects.create(job=out, reason="x")
    assert found() == []


@pytest.mark.parametrize(("permissions", "status"), [(["view_job"], 403), (["view_job", "change_job"], 302), ([], 403)])
def test_only_those_who_may_change_jobs_mend(client, permissions, status):
    job, user = lease_over(), UserFactory(is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(user)
    assert client.post(reverse("admin:status_mend"), {"job": job.pk, "kind": "lease_over"}).status_code == status
    assert OperatorAction.objects.count() == (status == 302)
    assert Job.objects.get().status == ("pending" if status == 302 else "running")


@pytest.mark.parametrize(("job", "kind", "status"), [("x", "lease_over", 404), (None, "nothing", 302), (None, "", 302)])
def test_rubbish_mends_nothing(client, operator, job, kind, status):
    target = lease_over()
    answer = client.post(reverse("admin:status_mend"), {"job": job or target.pk, "kind": kind})
    assert (answer.status_code, OperatorAction.objects.count()) == (status, 0)


# --- The records ---------------------------------------------------------------------------------------------------
def test_a_part_is_recorded_with_since_when():
    began = ago(100)
    dependencies.record("redis", is_up=True, detail={}, at=began)
    dependencies.record("redis", is_up=True, detail={"version": "9"}, at=ago(50))
    assert Dependency.objects.get().since == began
    down = ago(30)
    dependencies.record("redis", is_up=False, detail={"error": "away"}, at=down)
    row = Dependency.objects.get()
    assert (row.is_up, row.since, row.detail) == (False, down, {"error": "away"})
    for number in range(60):
        dependencies.record("redis", is_up=bool(number % 2), detail={})
    assert len(Dependency.objects.get().changes) == dependencies.KEPT_CHANGES


def test_a_check_that_fails_is_recorded_and_never_raises(monkeypatch):
    monkeypatch.setitem(dependencies.CHECKS, "redis", lambda: 1 / 0)
    dependencies.check("redis")
    row = Dependency.objects.get()
    assert (row.is_up, row.detail["error"]) == (False, "ZeroDivisionError: division by zero")


@pytest.mark.parametrize("name", ["postgresql", "redis", "storage"])
def test_the_real_parts_are_up(name):
    dependencies.check(name)
    row = Dependency.objects.get()
    assert (row.is_up, "error" in row.detail) == (True, False)


def test_an_outage_of_the_database_is_written_down_afterwards():
    dependencies.record("postgresql", is_up=True, detail={}, at=ago(1000))
    dependencies.record_outage(ago(60))
    row = Dependency.objects.get()
    assert row.is_up
    assert [one["is_up"] for one in row.changes] == [True, False]


def test_ends_are_counted_by_the_hour_once():
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    for status, hours in (("completed", 0), ("completed", 0), ("failed", 2), ("failed", 30)):
        JobFactory(
            status=status,
            created_at=hour - timedelta(hours=hours, seconds=60),
            finished_at=hour - timedelta(hours=hours),
        )
    for _ in range(2):
        dependencies.count_ends()
    rows = list(HourlyEnds.objects.exclude(count=0).order_by("hour").values_list("hour", "status", "count"))
    assert rows == [(hour - timedelta(hours=2), "failed", 1), (hour, "completed", 2)]
    HourlyEnds.objects.create(hour=hour - timedelta(hours=100), status="failed", count=1)
    dependencies.count_ends()
    assert not HourlyEnds.objects.filter(hour__lt=hour - timedelta(hours=48)).exists()
