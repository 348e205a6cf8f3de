"""All runs of a board as a file, from the command and in the console."""

import csv
import io
import json

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from accounts.tests.factories import UserFactory
from jobs.tests.factories import JobFactory
from leaderboard_site.tests.operating import signed_in
from leaderboards.tests.factories import LeaderboardFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def board():
    board = LeaderboardFactory(slug="textures")
    user = UserFactory(username="ada", first_name="愛田")
    JobFactory(
        user=user, leaderboard=board, status="completed", score=0.5, metrics={"image_auc": 0.5, "own": 1.5},
        params={"lr": 0.1, "net": "=cmd()"}, config={"seed": 3},
    )  # fmt: skip
    JobFactory(user=user, leaderboard=board, status="failed", error_code="timeout")
    JobFactory(leaderboard=LeaderboardFactory())
    return board


def printed(*arguments):
    out = io.StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def test_every_run_with_metrics_params_and_config(board):
    text = printed("leaderboard", "textures", "--runs", "--csv")
    assert text.startswith("\ufeffjob_id,status,")
    first, second = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    assert {name: first[name] for name in ("status", "user_id", "name", "score", "config", "metrics.seconds")} == {
        "status": "completed", "user_id": "ada", "name": "愛田", "score": "0.5", "config": '{"seed": 3}',
        "metrics.seconds": "",
    }  # fmt: skip
    assert (first["metrics.image_auc"], first["metrics.own"]) == ("0.5", "1.5")
    assert (first["params.lr"], first["params.net"], first["created_at"][-1]) == ("0.1", "'=cmd()", "Z")
    assert (second["status"], second["error_code"], second["params.lr"]) == ("failed", "timeout", "")
    records = json.loads(printed("leaderboard", "textures", "--runs", "--json"))
    assert [(one["status"], one["params"], one["config"]) for one in records] == [
        ("completed", {"lr": 0.1, "net": "=cmd()"}, {"seed": 3}),
        ("failed", {}, {}),
    ]


def test_a_name_beyond_the_columns_is_not_lost(board, monkeypatch):
    monkeypatch.setattr("jobs.runs_export.MOST_NAMES", 1)
    first, _ = csv.DictReader(io.StringIO(printed("leaderboard", "textures", "--runs", "--csv").removeprefix("\ufeff")))
    assert (first["params.lr"], json.loads(first["params.(others)"])) == ("0.1", {"net": "=cmd()"})


def test_the_number_of_queries_does_not_grow_with_the_runs(board, django_assert_num_queries):
    for count in (0, 3):
        JobFactory.create_batch(count, leaderboard=board, status="completed", score=0.1)
        with django_assert_num_queries(2):
            printed("leaderboard", "textures", "--runs", "--json")


@pytest.mark.parametrize(
    "options", [["--runs"], ["--runs", "--csv", "--all"], ["--runs", "--json", "--metric", "seconds"]]
)
def test_what_does_not_go_together_is_refused(board, options):
    with pytest.raises(CommandError, match="--"):
        printed("leaderboard", "textures", *options)


def test_operators_who_see_all_jobs_download_it(board):
    address = reverse("admin:leaderboard_runs", args=[board.pk, "csv"])
    client, _ = signed_in("leaderboards.view_leaderboard", "jobs.view_job")
    page = client.get(reverse("admin:leaderboards_leaderboard_change", args=[board.pk])).content.decode()
    assert address in page
    answer = client.get(address)
    assert answer["Content-Disposition"] == 'attachment; filename="textures-runs.csv"'
    assert b"".join(answer.streaming_content).decode() == printed("leaderboard", "textures", "--runs", "--csv")
    other, _ = signed_in("leaderboards.view_leaderboard")
    assert other.get(address).status_code == 403
    assert address not in other.get(reverse("admin:leaderboards_leaderboard_change", args=[board.pk])).content.decode()
