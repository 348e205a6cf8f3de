"""Whose numbers they are, on pages and in the API; and who sees the scorer's log."""

import io
import re
from datetime import timedelta

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.core.management import call_command
from django.utils import timezone

from accounts.tests.factories import ApiTokenFactory, UserFactory
from jobs.mlflow_run import _results
from jobs.models import Job
from jobs.retention import _named_files, prune_jobs
from jobs.tests.factories import JobFactory
from leaderboard_site.backup.files import named_files
from leaderboards.models import Leaderboard
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory

pytestmark = pytest.mark.django_db
LOG = "label of 17: <b>cat</b>"


@pytest.fixture
def job():
    board = LeaderboardFactory(scorer="regression", ground_truth="labels", metrics=[{"name": "r2"}])
    name = storages["artifacts"].save("results/x/1/scorer-log.txt", ContentFile(LOG.encode()))
    return JobFactory(
        leaderboard=board, status="completed", score=0.5, metrics={"r2": 0.5}, self_reported={"r2": 0.99},
        scorer="regression", ground_truth="labels", scorer_log_name=name, scoring_seconds=1.5,
        scoring_started_at=timezone.now(), created_at=timezone.now() - timedelta(days=1),
    )  # fmt: skip


def page(client, user, address):
    client.force_login(user)
    answer = client.get(address)
    assert answer.status_code == 200
    return answer.content.decode()


def test_pages_say_whose_numbers_they_are(client, job):
    text = page(client, job.user, job.get_absolute_url())
    assert "by the platform, on hidden labels" in text and "Measured by the platform’s scorer regression" in text
    assert 'id="self-reported"' in text and "0.99" in text
    board = page(client, job.user, job.leaderboard.get_absolute_url())
    assert (
        "scored by the platform on hidden labels" in board and "predictions.csv with the columns id and value" in board
    )
    plain = JobFactory(status="completed", user=job.user)
    text = page(client, job.user, plain.get_absolute_url())
    assert "self-reported" in text and "As the run reported it." in text and 'id="self-reported"' not in text
    assert ">self-reported<" in page(client, job.user, plain.leaderboard.get_absolute_url())


def test_page_of_a_running_job_says_that_it_is_scored(client, job):
    running = JobFactory(
        leaderboard=job.leaderboard, user=job.user, status="running", scoring_started_at=timezone.now()
    )
    assert ">Scoring<" in page(client, job.user, running.get_absolute_url())
    Job.objects.filter(pk=running.pk).update(scoring_started_at=None)
    assert ">Scoring<" not in page(client, job.user, running.get_absolute_url())


def test_pages_are_in_japanese_too(client, job):
    client.force_login(job.user)
    text = client.get(job.get_absolute_url(), headers={"accept-language": "ja"}).content.decode()
    assert "採点プログラム regression" in text and "自身の申告" in text


def test_api_says_whose_numbers_they_are(client, job):
    headers = {"authorization": "Bearer lb_results"}
    ApiTokenFactory(user=job.user, secret="lb_results")
    results = client.get(f"/api/jobs/{job.pk}/results", headers=headers).json()
    assert (results["metrics"], results["self_reported"], results["scorer"]) == (
        {"r2": 0.5},
        {"r2": 0.99},
        "regression",
    )
    detail = client.get(f"/api/jobs/{job.pk}", headers=headers).json()
    assert (detail["scorer"], detail["scoring_seconds"]) == ("regression", 1.5) and detail["scoring_started_at"]
    board = client.get(f"/api/leaderboards/{job.leaderboard.slug}").json()
    assert board["scorer"] == "regression" and "ground_truth" not in board
    assert LOG not in str(results) + str(detail)


def test_scorers_log_is_for_operators_alone(client, job):
    operator = UserFactory(is_staff=True, is_superuser=True)
    text = page(client, operator, f"/admin/jobs/job/{job.pk}/change/")
    assert "label of 17: &lt;b&gt;cat&lt;/b&gt;" in text
    for address in (job.get_absolute_url(), f"{job.get_absolute_url()}log/", f"{job.get_absolute_url()}files/"):
        client.force_login(job.user)
        assert "label of 17" not in client.get(address).content.decode()
    out = io.StringIO()
    call_command("jobs", "show", str(job.pk), "--scorer-log", stdout=out)
    assert LOG in out.getvalue()


def test_console_says_that_the_scorer_does_not_give_the_ranking_metric(client):
    board = LeaderboardFactory(scorer="anomaly_detection", ground_truth="labels", metrics=[{"name": "image_auroc"}])
    broken = JobFactory(leaderboard=board, status="failed", error_code="scorer_failed")
    operator = UserFactory(is_staff=True, is_superuser=True)
    said = "pixel_pro, not image_auroc; did you mean image_auc?"
    assert said in page(client, operator, f"/admin/jobs/job/{broken.pk}/change/")
    assert said not in page(client, broken.user, broken.get_absolute_url())


def test_scorers_log_is_kept_backed_up_and_goes_with_its_job(job):
    assert ("artifacts", job.scorer_log_name) in set(named_files())
    assert job.scorer_log_name in _named_files(str(job.pk))  # what the sweep leaves alone
    prune_jobs(days=0)
    assert not Job.objects.filter(pk=job.pk).exists() and not storages["artifacts"].exists(job.scorer_log_name)


def test_console_computes_entries_again_when_the_scorer_changes(client, job):
    from leaderboards.services import rebuild_entries

    board = job.leaderboard
    assert rebuild_entries(board) == 1
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    form = client.get(f"/admin/leaderboards/leaderboard/{board.pk}/change/").context["adminform"].form
    data = {name: form.initial.get(name) or "" for name in form.fields} | {"scorer": "", "ground_truth": ""}
    data |= {"opens_at_0": "", "opens_at_1": "", "closes_at_0": "", "closes_at_1": "", "takes_submissions": "on"}
    for prefix in ("metrics", "baselines"):
        data |= {f"{prefix}-TOTAL_FORMS": "0", f"{prefix}-INITIAL_FORMS": "0"}
    answer = client.post(f"/admin/leaderboards/leaderboard/{board.pk}/change/", data)
    assert "1 of 1 rows would leave the board, because " in answer.content.decode() and board.entries.exists()
    answer = client.post(f"/admin/leaderboards/leaderboard/{board.pk}/change/", dict(answer.context["sent"]))
    assert answer.status_code == 302, answer.context and answer.context["adminform"].form.errors
    board.refresh_from_db()
    assert board.scorer == "" and not board.entries.exists()


def test_old_jobs_are_as_they_were(client):
    plain = JobFactory(status="completed", created_at=timezone.now() - timedelta(days=1))
    plain.refresh_from_db()
    assert (plain.scorer, plain.self_reported, plain.scorer_log_name) == ("", {}, "")


@pytest.mark.parametrize("publishes", [False, True])
def test_participants_see_categories_of_the_boards_metrics_where_it_publishes_them(client, job, publishes):
    Leaderboard.objects.update(publishes_categories=publishes)
    details = {
        "categories": {"木材": {"r2": 0.12345, "secret": 0.77777}, "kind/scratch": {"secret": 0.77777}},
        "other": {"brick_image_7": 0.77777},
        "left_out": 3,
    }
    Job.objects.filter(pk=job.pk).update(detail_metrics=details)
    job = Job.objects.get(pk=job.pk)
    EntryFactory(job=job, leaderboard=job.leaderboard)
    ApiTokenFactory(user=job.user, secret="lb_details")
    headers = {"authorization": "Bearer lb_details"}
    detail = client.get(f"/api/jobs/{job.pk}", headers=headers).json()
    assert detail["categories"] == ({"木材": {"r2": 0.123}} if publishes else None)
    assert dict(_results(job)) == {
        "r2": 0.5,
        "self_reported/r2": 0.99,
        **({"categories/木材/r2": 0.123} if publishes else {}),
    }
    board = job.leaderboard.get_absolute_url()
    html = page(client, job.user, job.get_absolute_url())
    assert ('id="categories"' in html, "木材" in html, ">0.123<" in html) == (publishes,) * 3
    seen = html + str(detail) + page(client, job.user, f"/compare/?job={job.pk}&job={JobFactory(user=job.user).pk}")
    for address in (
        f"/api/jobs/{job.pk}/results",
        f"/api/jobs/{job.pk}/status",
        f"/api{board}entries",
        f"{board}history/",
    ):
        seen += client.get(address.replace("//", "/"), headers=headers).content.decode()
    for kind in ("csv", "json"):
        seen += b"".join(client.get(f"{board}export.{kind}").streaming_content).decode()
    assert not re.search("0.7777|0.12345|secret|scratch|image_7", seen)
    operator = UserFactory(is_staff=True, is_superuser=True)
    html = page(client, operator, f"/admin/jobs/job/{job.pk}/change/")
    assert all(text in html for text in ("木材", "0.12345", "kind/scratch", "secret", "brick_image_7", "3 more values"))
