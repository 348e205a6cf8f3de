"""`manage.py jobs`: lists, one job whole, cancelling and running again by operators, with a record."""

import io
import json
from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts.models import OperatorAction
from accounts.tests.factories import UserFactory
from jobs.models import Job
from jobs.tests.factories import JobAttemptFactory, JobFactory, LogChunkFactory

pytestmark = pytest.mark.django_db


def call(*arguments):
    out = io.StringIO()
    call_command("jobs", *map(str, arguments), stdout=out)
    return out.getvalue()


@pytest.fixture
def operator():
    user = UserFactory(username="op", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="change_job"))
    return user


def test_the_list_is_newest_first_and_filtered():
    now = timezone.now()
    old = JobFactory(status="failed", error_code="timeout", created_at=now - timedelta(hours=3))
    new = JobFactory(resource_class="medium", created_at=now - timedelta(minutes=1))
    assert call("list", "--ids").split() == [str(new.pk), str(old.pk)]
    for arguments, found in [
        (["--status", "failed"], [old]), (["--error", "timeout"], [old]), (["--class", "medium"], [new]),
        (["--user", old.user.username], [old]), (["--leaderboard", new.leaderboard.slug], [new]),
        (["--since", "2h"], [new]), (["--since", "1d"], [new, old]), (["--limit", "1"], [new]), (["--status", "cancelled"], []),
    ]:  # fmt: skip
        assert call("list", "--ids", *arguments).split() == [str(job.pk) for job in found]


def test_the_list_as_a_table_and_as_json(django_assert_num_queries):
    jobs = [JobFactory(status="completed", score=0.5) for _ in range(3)]
    lines = call("list").splitlines()
    assert lines[0].split() == ["job", "status", "person", "leaderboard", "class", "score", "error", "by", "created"]
    assert len(lines) == 4
    with django_assert_num_queries(1):
        told = json.loads(call("list", "--json"))
    assert {row["job_id"] for row in told} == {str(job.pk) for job in jobs}
    assert set(told[0]) == {
        "job_id", "status", "user", "leaderboard", "resource_class", "score", "error_code", "attempt", "created_at",
        "started_at", "finished_at", "rerun_of", "started_by_operator", "operator_reason", "trial", "withdrawn_at",
        "submission_name",
    }  # fmt: skip


def test_one_job_whole():
    notes = [
        {
            "text": "%(path)s was left out: %(why)s.",
            "values": {"path": "a.png", "why": {"text": "too large", "values": {}}},
        }
    ]
    job = JobFactory(status="running", request_id="r-1", config={"seed": 3}, notes=notes)
    JobAttemptFactory(job=job, worker_name="worker-9")
    LogChunkFactory(job=job, content=b"said\n")
    shown = call("show", job.pk, "--log")
    assert all(word in shown for word in (str(job.pk), "r-1", "{'seed': 3}", "running on worker-9", "--- log\nsaid"))
    assert "note                 a.png was left out: too large.\n" in shown
    told = json.loads(call("show", job.pk, "--log", "--json"))
    assert told["notes"] == ["a.png was left out: too large."]
    assert (told["config"], told["log"], told["attempts"][0]["worker"]) == ({"seed": 3}, "said\n", "worker-9")
    assert "log" not in json.loads(call("show", job.pk, "--json"))
    assert json.loads(call("show", JobFactory().pk, "--json"))["waiting"]


def test_cancel_is_recorded_with_who_and_why(operator):
    jobs = [JobFactory(), JobFactory(status="running")]
    told = json.loads(call("cancel", *[job.pk for job in jobs], "--as", "op", "--reason", "wrong data", "--json"))
    assert [one["status"] for one in told] == ["cancelled", "running"]
    assert [Job.objects.get(pk=job.pk).cancel_requested_by for job in jobs] == [operator] * 2
    actions = OperatorAction.objects.values_list("username", "action", "reason")
    assert list(actions) == [("op", "cancel_job", "wrong data")] * 2


def test_without_a_name_the_command_line_did_it():
    call("cancel", JobFactory().pk)
    assert OperatorAction.objects.get().username == ""


def test_rerun_makes_a_new_job_behind_new_work(operator):
    job = JobFactory(status="failed")
    told = json.loads(call("rerun", job.pk, "--as", "op", "--json"))
    again = Job.objects.get(pk=told[0]["new_job_id"])
    assert (again.rerun_of, again.priority, again.status) == (job, 1, "pending")
    assert OperatorAction.objects.get().username == "op"


def test_what_is_refused_is_told_and_the_rest_is_done():
    ended, waits = JobFactory(status="completed"), JobFactory()
    out = io.StringIO()
    with pytest.raises(CommandError, match="1 of 2 refused, the others are done"):
        call_command("jobs", "cancel", str(ended.pk), str(waits.pk), stdout=out)
    assert "already ended" in out.getvalue()
    assert Job.objects.get(pk=waits.pk).status == "cancelled"
    with pytest.raises(CommandError, match="1 of 1 refused; nothing was done"):
        call_command("jobs", "cancel", str(ended.pk), stdout=out)


def test_the_jobs_of_a_class_that_the_settings_no_longer_have_are_listed():
    job = JobFactory(resource_class="retired")
    assert call("list", "--ids", "--class", "retired").split() == [str(job.pk)]


@pytest.mark.parametrize("who", ["participant", "staff-without-permission", "left", "nobody"])
def test_only_operators_can_be_named(operator, who):
    UserFactory(username="participant")
    UserFactory(username="staff-without-permission", is_staff=True)
    UserFactory(username="left", is_staff=True, is_superuser=True, is_active=False)
    job = JobFactory()
    with pytest.raises(CommandError, match="no active operator"):
        call("cancel", job.pk, "--as", who)
    assert (Job.objects.get().status, OperatorAction.objects.count()) == ("pending", 0)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["show", "7"], "no job's id"),
        (["show", uuid4()], "There is no job"),
        (["cancel"], "required"),
        (["list", "--since", "yesterday"], "--since: a number"),
        (["list", "--limit", "0"], "--limit: from 1"),
        (["list", "--status", "done"], "invalid choice"),
        (["explode"], "invalid choice"),
        ([], "required"),
    ],
    ids=range(8),
)
def test_bad_input_says_what_is_wrong(arguments, word):
    with pytest.raises(CommandError, match=word):
        call(*arguments)


def test_nothing_is_touched_when_one_id_is_wrong():
    job = JobFactory()
    with pytest.raises(CommandError):
        call("cancel", job.pk, uuid4())
    assert Job.objects.get().status == "pending"
