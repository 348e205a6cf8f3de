"""An owner renames a submission: by the API and the page, and its runs in MLflow follow."""

import pytest

from accounts.tests.factories import UserFactory
from jobs import tracking
from jobs.models import TrackingOutbox
from jobs.renaming import rename_submission
from jobs.tests.factories import JobFactory
from jobs.tests.test_tracking import due, outbox, runs
from submissions.models import Submission
from submissions.tests.factories import SubmissionFactory
from tests.api.conftest import Api, refusal

pytestmark = pytest.mark.django_db


def rename(api, submission, body):
    return api.client.patch(f"/api/submissions/{submission.pk}", body, content_type="application/json")


def test_every_representation_has_the_new_name(api, user):
    job = JobFactory(user=user, submission__name="old")
    assert rename(api, job.submission, {"name": " new  name "}).json()["name"] == "new name"
    assert api.get(f"/api/submissions/{job.submission_id}").json()["name"] == "new name"
    assert [row["name"] for row in api.get("/api/submissions").json()["results"]] == ["new name"]
    assert api.get(f"/api/jobs/{job.pk}").json()["submission_name"] == "new name"
    assert [row["submission_name"] for row in api.get("/api/jobs").json()["results"]] == ["new name"]
    assert rename(api, job.submission, {"name": ""}).json()["name"] == ""


@pytest.mark.parametrize(
    ("body", "code"),
    [({}, "invalid"), ({"name": None}, "invalid"), ({"name": "x" * 101}, "bad_name"), ({"name": "a\x1bb"}, "bad_name")],
)
def test_a_bad_name_changes_nothing(api, user, body, code):
    submission = SubmissionFactory(user=user, name="old")
    assert refusal(rename(api, submission, body)) == (400, code)
    assert Submission.objects.get().name == "old"


def test_only_its_owner_renames_it(api):
    submission = SubmissionFactory(name="old")
    assert refusal(rename(api, submission, {"name": "new"})) == (404, "not_found")
    operator = Api(UserFactory(is_staff=True, is_superuser=True))
    assert refusal(rename(operator, submission, {"name": "new"})) == (403, "forbidden")
    assert Submission.objects.get().name == "old"


def test_the_page_renames_and_says_what_is_wrong(client, user):
    submission = SubmissionFactory(user=user)
    client.force_login(user)
    address = f"/submissions/{submission.pk}/name/"
    assert client.post(address, {"name": "<b>new</b>"}, follow=True).content.count(b"<b>new") == 0
    assert Submission.objects.get().label == "<b>new</b>"
    assert b"at most 100 characters" in client.post(address, {"name": "x" * 101}, follow=True).content
    assert client.get(submission.get_absolute_url()).content.count(b"&lt;b&gt;new") >= 2


def test_only_published_runs_are_renamed_and_a_run_on_its_way_has_the_name_anyway(user):
    submission = SubmissionFactory(user=user)
    published = JobFactory(user=user, submission=submission, status="completed", run_id="a")
    waiting = JobFactory(user=user, submission=submission, status="completed")
    JobFactory(user=user, submission=submission, status="failed")
    TrackingOutbox.objects.create(job=waiting)
    for name in ("new", "new", "newer"):
        rename_submission(submission, by=user, name=name)
    rows = TrackingOutbox.objects.values_list("job", "only_name")
    assert dict(rows) == {published.pk: True, waiting.pk: False}


@pytest.mark.slow
@pytest.mark.usefixtures("mlflow_url")
def test_the_run_in_mlflow_has_the_name_and_follows_it(monkeypatch):
    job = outbox(submission__name="PatchCore 画像").job
    assert tracking.publish_due() == (1, 0)
    assert [run.info.run_name for run in runs(job)] == ["PatchCore 画像"]
    rename_submission(job.submission, by=job.user, name="newer")
    find = tracking._find

    def renamed_meanwhile(*given):
        monkeypatch.setattr(tracking, "_find", find)
        rename_submission(Submission.objects.get(), by=job.user, name="newest")
        return find(*given)

    monkeypatch.setattr(tracking, "_find", renamed_meanwhile)
    assert tracking.publish_due() == (1, 0)
    assert [run.info.run_name for run in runs(job)] == ["newer"]
    due()
    assert tracking.publish_due() == (1, 0)
    assert [run.info.run_name for run in runs(job)] == ["newest"]
    assert TrackingOutbox.objects.count() == 0
