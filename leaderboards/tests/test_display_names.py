"""Display names are shown wherever people are, and found; names of submissions are their owner's and the operators' to see."""

import json

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import connection
from django.test import Client

from accounts.admin_base import people_named
from accounts.models import User
from accounts.services import create_token
from accounts.tests.factories import UserFactory
from jobs.tests.factories import JobFactory
from leaderboards.badge import badge_text
from leaderboards.changes import changes, records
from leaderboards.services import rebuild_entries
from leaderboards.tests.factories import LeaderboardFactory
from submissions.admin import submissions_named
from submissions.tests.factories import SubmissionFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def board():
    board = LeaderboardFactory(slug="textures")
    people = [("okada", "岡田 花子", "PatchCore"), ("ann", "Ann_100%", ""), ("bob", "", "")]
    for number, (username, name, submission) in enumerate(people):
        user = UserFactory(username=username, first_name=name)
        JobFactory(
            user=user, leaderboard=board, status="completed", score=0.9 - number / 10, submission__name=submission
        )
    rebuild_entries(board)
    return board


def found(client, query):
    return [row["user_id"] for row in client.get("/api/leaderboards/textures/entries", {"q": query}).json()["entries"]]


@pytest.mark.parametrize(
    ("query", "people"),
    [
        ("岡田", ["okada"]),
        ("花", ["okada"]),
        ("KADA", ["okada"]),
        ("ann_100%", ["ann"]),
        ("_", ["ann"]),
        ("bob", ["bob"]),
        ("か\u3099", []),
    ],
)
def test_a_search_finds_usernames_and_display_names(client, board, query, people):
    assert found(client, query) == people
    page = client.get(board.get_absolute_url(), {"q": query})
    assert [row.username for row in page.context["page"].rows] == people


def test_a_search_finds_a_name_that_is_typed_in_another_form(client, board):
    User.objects.filter(username="bob").update(first_name="が")
    assert found(client, "か\u3099") == ["bob"]


def test_an_account_from_before_is_found_by_both_its_names(client, board):
    User.objects.filter(username="bob").update(first_name="Bob", last_name="Stone")
    assert found(client, "bob stone") == ["bob"]
    assert User.objects.get(username="bob").full_label == "Bob Stone (bob)"


def test_people_are_called_by_their_display_names(client, board):
    rows = client.get(board.get_absolute_url()).context["page"].rows
    assert [(row.name, row.handle) for row in rows] == [("岡田 花子", "okada"), ("Ann_100%", "ann"), ("bob", "")]
    assert {change.name for change in changes(board).people} == {"岡田 花子", "Ann_100%", "bob"}
    assert records(board)[-1].name == "岡田 花子"
    assert badge_text(board, None).startswith("岡田 花子 · ")
    assert "岡田 花子" in client.get("/").content.decode()
    entries = client.get("/api/leaderboards/textures/entries").json()["entries"]
    assert [row["display_name"] for row in entries] == ["岡田 花子", "Ann_100%", "bob"]


@pytest.mark.parametrize(
    ("who", "name"), [("okada", "PatchCore"), ("bob", None), ("operator", "PatchCore"), (None, None)]
)
def test_the_name_of_a_submission_is_its_owners_and_the_operators_to_see(board, who, name):
    client, headers = Client(), {}
    if who:
        user = (
            UserFactory(username=who, is_staff=True, is_superuser=True)
            if who == "operator"
            else User.objects.get(username=who)
        )
        client.force_login(user)
        headers = {"Authorization": f"Bearer {create_token(user, name='test')[1]}"}
    page = client.get(board.get_absolute_url()).content.decode()
    export = json.loads(b"".join(client.get(f"{board.get_absolute_url()}export.json").streaming_content))
    table = b"".join(client.get(f"{board.get_absolute_url()}export.csv").streaming_content).decode()
    api = Client(headers=headers).get("/api/leaderboards/textures/entries").json()
    assert ("PatchCore" in page, "PatchCore" in table) == (name is not None,) * 2
    assert [content["entries"][0]["submission_name"] for content in (export, api)] == [name, name]


def test_the_console_finds_people_and_submissions_by_their_names(client, board):
    okada = User.objects.get(username="okada")
    assert people_named("岡田", AnonymousUser()) == [okada.pk]
    assert people_named("ANN_", AnonymousUser()) == [User.objects.get(username="ann").pk]
    assert people_named("", AnonymousUser()) != []
    [submission] = okada.submissions.all()
    assert submissions_named("patch") == [submission.pk]
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    for model in ("jobs/job", "submissions/submission"):
        for query in ("patch", "岡田"):
            page = client.get(f"/admin/{model}/", {"q": query}).content.decode()
            assert ("岡田 花子 (okada)" in page, "PatchCore" in page, "Ann_100%" in page) == (True, True, False)


@pytest.mark.parametrize(
    ("find", "index"),
    [
        (lambda: people_named("Zo", AnonymousUser()), "user_display_name"),
        (lambda: submissions_named("Zo"), "submission_by_name"),
    ],
)
def test_the_console_searches_by_an_index(find, index):
    UserFactory.create_batch(5)
    SubmissionFactory.create_batch(5)
    with connection.execute_wrapper(Explained()), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
        Explained.plans.clear()
        find()
    assert any(index in plan and "Index Cond" in plan for plan in Explained.plans)


class Explained:
    """Keep the plan of each statement."""

    plans: list[str] = []

    def __call__(self, execute, sql, params, many, context):
        if sql.startswith("SELECT"):
            with connection.connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN {sql}", params)
                self.plans.append("\n".join(row[0] for row in cursor.fetchall()))
        return execute(sql, params, many, context)
