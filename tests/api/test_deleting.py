"""A deleted submission by the API and the pages: what deletes it, and what its old addresses answer."""

import pytest
from django.test import Client
from django.utils import timezone

from accounts.tests.factories import UserFactory
from jobs.deleting import delete_submission
from jobs.models import Job
from jobs.tests.factories import JobFactory
from leaderboards.tests.factories import EntryFactory
from submissions.models import Submission
from tests.api.conftest import Api, refusal

pytestmark = pytest.mark.django_db


@pytest.fixture
def job(user):
    return JobFactory(user=user, status="completed", submission__name="PatchCore")


@pytest.fixture
def owner(user):
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def deleted(job):
    delete_submission(job.submission, by=job.user)
    return Job.objects.get()


def test_the_api_deletes_it_and_says_why_it_does_not(api, job):
    address = f"/api/submissions/{job.submission_id}"
    assert refusal(Api(UserFactory()).client.delete(address)) == (404, "not_found")
    operator = Api(UserFactory(is_staff=True, is_superuser=True))
    assert refusal(operator.client.delete(address)) == (403, "forbidden")
    running = JobFactory(user=job.user, submission=job.submission, status="running")
    assert refusal(api.client.delete(address)) == (409, "job_active")
    Job.objects.filter(pk=running.pk).update(
        status="cancelled", error_code="cancelled", lease_until=None, finished_at=timezone.now()
    )
    assert api.client.delete(address).status_code == 204
    assert refusal(api.client.delete(address)) == (410, "deleted")


def test_the_page_says_what_goes_and_asks(owner, job):
    EntryFactory(job=job, leaderboard=job.leaderboard, user=job.user, score=job.score)
    address = f"/submissions/{job.submission_id}/delete/"
    page = owner.get(address).content.decode()
    assert 'id="is-entry"' in page
    assert "PatchCore" in page
    assert Submission.objects.get().deleted_at is None
    listed = owner.post(address, follow=True)
    assert (listed.redirect_chain[0][0], Submission.objects.get().deleted_at is None) == ("/submissions/", False)
    assert f"submission-{job.submission_id}" not in listed.content.decode()
    assert f"job-{job.pk}" in owner.get("/jobs/").content.decode()


def test_the_page_says_why_it_cannot_be(owner, user):
    running = JobFactory(user=user, status="running")
    for send in (owner.get, owner.post):
        answer = send(f"/submissions/{running.submission_id}/delete/")
        assert (answer.status_code, b"Cancel it first" in answer.content) == (409, True)


def test_its_record_stays_readable(api, deleted):
    shown = api.get(f"/api/jobs/{deleted.pk}").json()
    assert (shown["status"], shown["score"], shown["submission_name"], shown["config"]) == ("completed", None, "", {})
    assert shown["submission_deleted_at"] is not None
    assert shown["ranking"]["code"] == "deleted"
    assert api.get(f"/api/jobs/{deleted.pk}/status").json()["status"] == "completed"
    assert api.get("/api/submissions").json()["results"] == []
    assert len(api.get("/api/jobs").json()["results"]) == 1


@pytest.mark.parametrize("part", ["logs", "progress", "results", "artifacts/a.txt"])
def test_what_it_left_is_gone_from_the_api(api, deleted, part):
    assert refusal(api.get(f"/api/jobs/{deleted.pk}/{part}")) == (410, "deleted")


@pytest.mark.parametrize("part", ["cancel", "withdraw", "restore"])
def test_nothing_more_is_done_to_it(api, deleted, part):
    assert refusal(api.post(f"/api/jobs/{deleted.pk}/{part}")) == (410, "deleted")


def test_it_is_not_run_by_either_way(api, site, deleted):
    answers = [one.enqueue(deleted.submission_id) for one in (api, site)]
    assert [refusal(answer) for answer in answers] == [(410, "deleted")] * 2
    assert api.client.answered == 0


PAGES = [
    "/jobs/{job}/", "/jobs/{job}/state/", "/jobs/{job}/log/", "/jobs/{job}/log.txt", "/jobs/{job}/curves.csv", "/jobs/{job}/artifacts/",
    "/jobs/{job}/artifacts/a.txt", "/jobs/{job}/view/a.txt", "/compare/?job={job}", "/compare/code/?job={job}&job={other}",
    "/submissions/{submission}/", "/submissions/{submission}/delete/",
]  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_its_old_pages_say_that_it_is_deleted(owner, user, deleted, page):
    other = JobFactory(user=user, status="completed")
    answer = owner.get(page.format(job=deleted.pk, submission=deleted.submission_id, other=other.pk))
    assert (answer.status_code, b"deleted submission" in answer.content) == (410, True)


@pytest.mark.parametrize(
    "page", ["/jobs/{job}/cancel/", "/jobs/{job}/withdraw/", "/jobs/{job}/again/", "/submissions/{submission}/name/"]
)
def test_its_old_forms_say_that_it_is_deleted(owner, deleted, page):
    answer = owner.post(page.format(job=deleted.pk, submission=deleted.submission_id), follow=True)
    assert (answer.status_code, b"deleted submission" in answer.content) == (410, True)
    assert Job.objects.count() == 1


def test_the_console_shows_the_record(client, deleted):
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    assert b"its owner deleted it" in client.get(f"/admin/jobs/job/{deleted.pk}/change/").content
    assert client.get(f"/admin/submissions/submission/{deleted.submission_id}/change/").status_code == 200
    assert client.get("/jobs/").status_code == 200
