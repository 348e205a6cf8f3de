"""The page at /mlflow/: a person's runs in MLflow, where MLflow's own first page would list everybody's."""

from datetime import timedelta

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.utils import timezone
from playwright.sync_api import expect

from accounts.tests.factories import UserFactory
from jobs import tracking
from jobs.models import Job, JobProgress, TrackingOutbox
from jobs.queries import mlflow_ui_link
from jobs.tests.factories import JobFactory
from leaderboards.tests.factories import LeaderboardFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner(client):
    user = UserFactory()
    client.force_login(user)
    return user


def recorded(user, number=1, **given):
    made = {"status": "completed", "run_id": f"{number:032x}", "experiment_id": "7"}
    return JobFactory(user=user, **{**made, **given})


def test_the_runs_are_mine_newest_first_and_in_mlflow(client, owner):
    now = timezone.now()
    old = recorded(owner, 1, created_at=now - timedelta(hours=1))
    new = recorded(owner, 2, created_at=now)
    JobFactory(user=owner, status="completed")  # MLflow does not have it yet
    recorded(UserFactory(), 3)
    response = client.get("/mlflow/")
    assert response.context["runs"] == [new, old]
    html = response.text
    for job in (new, old):
        assert f'href="{mlflow_ui_link(job)}"' in html and f'href="{job.get_absolute_url()}"' in html
    assert client.get(f"/mlflow/?leaderboard={old.leaderboard.slug}").context["runs"] == [old]


def test_pages_of_runs_follow_each_other_without_gap_or_double(client, owner):
    moment, board = timezone.now(), LeaderboardFactory()
    made = {recorded(owner, number, leaderboard=board, created_at=moment).pk for number in range(65)}
    seen, url = [], "/mlflow/"
    while url:
        response = client.get(url)
        seen += [job.pk for job in response.context["runs"]]
        url = response.context["older"] and f"/mlflow/?{response.context['older']}"
    assert (len(seen), set(seen)) == (65, made)
    assert client.get("/mlflow/?before=x").status_code == 404


@pytest.mark.usefixtures("owner")
def test_without_runs_the_page_says_how_one_comes(client):
    assert "No runs yet" in client.get("/mlflow/").text
    assert "No such run" in client.get("/mlflow/?leaderboard=nowhere").text


@pytest.mark.parametrize(
    ("sees_all", "public_url", "link"),
    [(False, "", ""), (True, "", "/mlflow/app"), (False, "https://mlflow.example", "https://mlflow.example")],
    ids=["participant", "operator", "an MLflow with its own login"],
)
def test_all_of_mlflow_is_offered_to_who_may_see_it(client, settings, sees_all, public_url, link):
    settings.MLFLOW_PUBLIC_URL = public_url or settings.MLFLOW_PUBLIC_URL
    client.force_login(UserFactory(is_staff=sees_all, is_superuser=sees_all))
    html = client.get("/mlflow/").text
    assert ('id="whole-mlflow"' in html) == bool(link)
    assert not link or f'id="whole-mlflow" href="{link}"' in html
    assert ("stay empty for you" in html) == (not link)
    assert ("mlflow.js" in html) == (not public_url)


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("start", ["job", "list"])
def test_a_link_to_a_run_opens_it_in_mlflow(open_page, settings, live_server, mlflow_url, start):
    """What the link says stands behind a #, which the server does not see."""
    settings.SITE_URL, settings.MLFLOW_PUBLIC_URL = live_server.url, f"{live_server.url}/mlflow"
    job = JobFactory(status="completed", params={"backbone": "resnet-of-this-run"})
    TrackingOutbox.objects.create(job=job)
    assert tracking.publish_due() == (1, 0)
    job = Job.objects.get()
    page = open_page(job.user)
    page.goto(job.get_absolute_url() if start == "job" else "/mlflow/")
    page.click("#open-mlflow" if start == "job" else f"#run-{job.run_id}")
    page.wait_for_url(f"**/mlflow/app#/experiments/{job.experiment_id}/runs/{job.run_id}**")
    expect(page.get_by_text("resnet-of-this-run").first).to_be_visible()
    if start == "list":
        page.go_back()
        expect(page.locator(f"#run-{job.run_id}")).to_be_visible()


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_mlflows_page_of_a_run_shows_its_curves_and_files(open_page, settings, live_server, mlflow_url):
    """Each request that the page needs is on the site's list, with the parameters that the page sends."""
    settings.SITE_URL, settings.MLFLOW_PUBLIC_URL = live_server.url, f"{live_server.url}/mlflow"
    name = storages["artifacts"].save("note.txt", ContentFile(b"written by this run"))
    artifacts = [{"path": "notes/note.txt", "name": name, "size": 19}]
    job = JobFactory(status="completed", metrics={"loss": 0.1}, artifacts=artifacts)
    points = [[step, 1.0 / (step + 1), step] for step in range(30)]
    JobProgress.objects.create(job=job, attempt=1, curves=[{"name": "loss", "points": points}])
    TrackingOutbox.objects.create(job=job)
    assert tracking.publish_due() == (1, 0)
    job = Job.objects.get()
    page = open_page(job.user)
    answers = []
    page.on("response", lambda answer: answers.append((answer.status, answer.request.post_data or answer.url)))
    run = f"/mlflow/app#/experiments/{job.experiment_id}/runs/{job.run_id}"
    page.goto(run)
    expect(page.get_by_text("loss").first).to_be_visible()
    page.goto("about:blank")
    with page.expect_response(lambda answer: "/metrics/get-history-bulk-interval?" in answer.url) as history:
        page.goto(f"{run}/model-metrics")
    assert len(history.value.json()["metrics"]) == 30 + 1, "the curve and the result at its end"
    page.goto("about:blank")
    page.goto(f"{run}/artifacts/notes/note.txt")
    expect(page.get_by_text("written by this run").first).to_be_visible()
    needed = ("graphql", "GetRun", "MlflowGetExperimentQuery", "get-history", "artifacts/list", "get-artifact")
    assert [answer for answer in answers if answer[0] != 200 and any(word in answer[1] for word in needed)] == []


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("sees_all", [False, True], ids=["participant", "operator"])
def test_mlflows_other_places_are_handed_on_to_operators_alone(open_page, settings, live_server, mlflow_url, sees_all):
    settings.SITE_URL, settings.MLFLOW_PUBLIC_URL = live_server.url, f"{live_server.url}/mlflow"
    page = open_page(UserFactory(is_staff=sees_all, is_superuser=sees_all))
    page.goto("/mlflow/#/experiments")
    if sees_all:
        page.wait_for_url("**/mlflow/app#/experiments**")
    else:
        expect(page.locator(".empty h2")).to_have_text("No runs yet")
