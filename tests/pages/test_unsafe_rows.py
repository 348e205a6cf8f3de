"""A result of a run without a sandbox is marked wherever its row stands: page, past board, exports, API."""

import csv
import io
import json

import pytest
from django.test import Client
from django.utils import timezone

from accounts.tests.factories import UserFactory
from leaderboards.models import Leaderboard, Standing
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory

pytestmark = pytest.mark.django_db
WORDS = {"en": "no sandbox", "ja": "サンドボックスなし"}


@pytest.fixture
def board():
    board = LeaderboardFactory(slug="bricks")
    for name, score, isolation in (("safe", 0.9, "bubblewrap"), ("unsafe", 0.8, "unsafe-local")):
        EntryFactory(leaderboard=board, score=score, job__user__username=name, job__isolation=isolation)
    return board


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("query", ["", "?as_of=TODAY", "?q=unsafe"])
def test_the_row_is_marked_by_word_and_picture(client, board, language, query):
    Standing.objects.update(began_at=timezone.now())
    address = board.get_absolute_url() + query.replace("TODAY", timezone.localdate().isoformat())
    page = client.get(address, headers={"Accept-Language": language}).content.decode()
    rows = page[page.index("<tbody") :].split("<tr")
    marked = {
        name: next(row for row in rows if f">{name}<" in row)
        for name in ("unsafe", *([] if "q=" in query else ["safe"]))
    }
    assert {name: (WORDS[language] in row, "icon-warning" in row) for name, row in marked.items()} == {
        name: (name == "unsafe",) * 2 for name in marked
    }


def test_files_and_the_api_say_how_each_run_was_kept_apart(client, board):
    address, api = board.get_absolute_url(), "/api/leaderboards/bricks/entries"
    said = [("safe", "bubblewrap"), ("unsafe", "unsafe-local")]

    def text(path):
        return b"".join(client.get(path)).decode()

    for path in (f"{address}export.csv", f"{api}?format=csv"):
        assert [(row["user_id"], row["isolation"]) for row in csv.DictReader(io.StringIO(text(path)))] == said
    for path in (f"{address}export.json", api):
        assert [(row["user_id"], row["isolation"]) for row in json.loads(text(path))["entries"]] == said


def test_a_past_row_whose_job_is_gone_says_nothing(client, board):
    Standing.objects.update(began_at=timezone.now(), job=None)
    rows = client.get(f"/api/leaderboards/bricks/entries?as_of={timezone.localdate()}").json()["entries"]
    assert [(row["job_id"], row["isolation"]) for row in rows] == [(None, "")] * 2


def test_an_empty_home_says_to_each_what_can_be_done():
    Leaderboard.objects.all().delete()
    making = "/admin/leaderboards/leaderboard/add/"
    told = {}
    lookers = {"visitor": None, "person": UserFactory(), "staff": UserFactory(is_staff=True), "operator": UserFactory(is_staff=True, is_superuser=True)}  # fmt: skip
    for who, user in lookers.items():
        client = Client()
        if user:
            client.force_login(user)
        page = client.get("/").content.decode()
        told[who] = ("/login/" in page, "has to make one" in page, making in page)
    assert told == {
        "visitor": (True, False, False),
        "person": (False, True, False),
        "staff": (False, True, False),
        "operator": (False, False, True),
    }
