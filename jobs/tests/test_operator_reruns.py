"""Jobs that operators run again: theirs to cancel, said to be theirs everywhere, and no way around a quota."""

import importlib
import json

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import OperatorAction
from accounts.refusals import Forbidden, QuotaExceeded
from accounts.services import create_token
from accounts.tests.factories import UserFactory
from jobs.models import Job
from jobs.services import active_jobs_that_count, cancel_job, jobs_this_hour, rerun_job
from jobs.tests.factories import JobFactory
from leaderboards.models import Disqualification

pytestmark = pytest.mark.django_db
ALONE = "An operator started this job, and only operators can cancel it."


@pytest.fixture
def operator():
    return UserFactory(username="op", is_staff=True, is_superuser=True)


@pytest.fixture
def original():
    return JobFactory(status="completed")


@pytest.fixture
def rerun(original, operator):
    return rerun_job(original, by=operator, reason=" Checked for luck. ")


def signed_in(user):
    client = Client()
    client.force_login(user)
    return client


def api(user):
    return Client(headers={"Authorization": f"Bearer {create_token(user, name='t')[1]}"})


@pytest.mark.parametrize("by", ["operator", "the command line"])
def test_a_rerun_is_its_operators_with_the_reason(original, operator, by):
    again = rerun_job(original, by=operator if by == "operator" else None, reason="Checked.")
    assert (again.is_by_operator, again.operator_reason, again.rerun_of) == (True, "Checked.", original)
    assert again.user == original.user


@pytest.mark.parametrize("status", ["pending", "running"])
def test_the_owner_cannot_cancel_it_and_operators_can(rerun, operator, status):
    if status == "running":
        rerun = JobFactory(status="running", user=rerun.user, is_by_operator=True)
    with pytest.raises(Forbidden) as refused:
        cancel_job(rerun, by=rerun.user)
    assert (refused.value.code, refused.value.message) == ("operators_job", ALONE)
    answer = api(rerun.user).post(f"/api/jobs/{rerun.pk}/cancel")
    assert (answer.status_code, answer.json()["code"], answer.json()["message"]) == (403, "operators_job", ALONE)
    page = signed_in(rerun.user).post(reverse("cancel_job", args=[rerun.pk]), follow=True).content.decode()
    assert ALONE in page and 'id="cancel"' not in page and 'id="only-operators"' in page
    assert Job.objects.get(pk=rerun.pk).cancel_requested_at is None
    assert 'id="cancel"' in signed_in(operator).get(rerun.get_absolute_url()).content.decode()
    cancel_job(rerun, by=operator, reason="Enough.")
    assert Job.objects.get(pk=rerun.pk).cancel_requested_by == operator


def test_an_operator_who_owns_it_cancels_it_and_that_is_recorded(operator):
    other = UserFactory(is_staff=True, is_superuser=True)
    again = rerun_job(JobFactory(status="failed", user=operator), by=other)
    cancel_job(again, by=operator)
    assert OperatorAction.objects.filter(action="cancel_job", username="op").count() == 1


def test_it_says_so_everywhere_and_links_both_ways(original, rerun, operator):
    owner, again, first = original.user, str(rerun.pk), str(original.pk)
    pages = signed_in(owner)
    for path in (rerun.get_absolute_url(), original.get_absolute_url(), reverse("jobs")):
        html = pages.get(path).content.decode()
        assert "Checked for luck." in html and again in html and first in html, path
    console = signed_in(operator)
    for job in (rerun, original):
        html = console.get(reverse("admin:jobs_job_change", args=[job.pk])).content.decode()
        assert "Checked for luck." in html and again in html and first in html
    detail = api(owner).get(f"/api/jobs/{again}").json()
    said = {name: detail[name] for name in ("rerun_of", "started_by_operator", "operator_reason", "reruns")}
    assert said == {
        "rerun_of": first, "started_by_operator": True, "operator_reason": "Checked for luck.", "reruns": []
    }  # fmt: skip
    assert api(owner).get(f"/api/jobs/{first}").json()["reruns"] == [again]
    assert [row["rerun_of"] for row in api(owner).get("/api/jobs").json()["results"]] == [first, None]


def test_the_command_line_says_so(rerun, original, capsys):
    call_command("jobs", "show", str(rerun.pk), "--json")
    shown = json.loads(capsys.readouterr().out)
    assert (shown["started_by_operator"], shown["operator_reason"]) == (True, "Checked for luck.")
    call_command("jobs", "show", str(original.pk), "--json")
    assert json.loads(capsys.readouterr().out)["reruns"] == [str(rerun.pk)]
    call_command("jobs", "list")
    assert "operator" in capsys.readouterr().out.splitlines()[1]


def test_an_operators_own_job_costs_their_quota(operator):
    type(operator).objects.filter(pk=operator.pk).update(submissions_per_hour=2)
    done = JobFactory(status="completed", user=operator)
    again = rerun_job(done, by=operator, reason="mine")
    assert (again.is_by_operator, again.operator_reason) == (False, "")
    assert (jobs_this_hour(operator).used(), active_jobs_that_count(operator)) == (2, 1)
    with pytest.raises(QuotaExceeded):
        rerun_job(done, by=operator)


def test_another_operators_rerun_costs_nothing(rerun):
    assert (jobs_this_hour(rerun.user).used(), active_jobs_that_count(rerun.user)) == (1, 0)


@pytest.mark.parametrize("why", ["trial", "withdrawn", "disqualified", None])
def test_a_rerun_of_what_does_not_rank_does_not_rank(original, operator, why):
    if why == "trial":
        original = JobFactory(status="completed", trial=True)
    elif why == "withdrawn":
        Job.objects.filter(pk=original.pk).update(withdrawn_at=timezone.now())
        original.refresh_from_db()
    elif why == "disqualified":
        Disqualification.objects.create(job=original, reason="x")
    assert rerun_job(original, by=operator).trial is (why is not None)


def test_earlier_reruns_are_marked_by_the_record_of_actions(operator):
    person = UserFactory(is_staff=True)
    jobs = {name: JobFactory(user=person, rerun_of=JobFactory(user=person)) for name in ("op", "own", "cli", "no")}
    for name, user in (("op", operator), ("own", person), ("cli", None)):
        OperatorAction.objects.create(
            user=user, action="rerun_job", kind="jobs.job", reason=f"by {name}", details={"job": str(jobs[name].pk)}
        )
    OperatorAction.objects.create(user=operator, action="rerun_job", kind="jobs.job", details={})
    migration = importlib.import_module("jobs.migrations.0016_operator_reruns")
    with connection.cursor() as cursor:
        cursor.execute(migration.MARK)
    marked = {name: (job.is_by_operator, job.operator_reason) for name, job in (
        (name, Job.objects.get(pk=job.pk)) for name, job in jobs.items())}  # fmt: skip
    assert marked == {"op": (True, "by op"), "own": (False, ""), "cli": (True, "by cli"), "no": (False, "")}
