"""Metric names of any script: on a board's page, in its exports and its file, in the API, and in what SQL reads of them."""

import csv
import io
from urllib.parse import quote

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command

from jobs.tests.factories import JobFactory
from leaderboards.models import Leaderboard, Metric
from leaderboards.services import rebuild_entries
from leaderboards.tests.factories import LeaderboardFactory
from leaderboards.yaml_file import export_leaderboard, import_leaderboard

pytestmark = pytest.mark.django_db
NAMES = ["画像 AUC", "0", "１２", "50% 'a\"b\\\\", "=1+1", "＝SUM(A1)", "{{ 1 }}<b>&amp;", "🎯", "é", "x" * 100]


@pytest.fixture
def board():
    board = LeaderboardFactory(metrics=[{"name": name} for name in NAMES])
    for number in (1, 2, 3):
        values = {name: number if place % 2 else -number for place, name in enumerate(NAMES)}
        JobFactory(leaderboard=board, status="completed", score=-number, metrics=values)
    assert rebuild_entries(board) == 3
    return board


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_of_any_name_sorts_filters_and_is_exported(client, board, name):
    sign = 1 if NAMES.index(name) % 2 else -1
    address, asked = board.get_absolute_url(), {"metric": name, "of": name, "min": "-2", "max": "2", "column": name}
    page = client.get(address, asked)
    assert page.status_code == 200
    ranked = [row.value for row in page.context["page"].rows]
    assert ranked == sorted((sign * number for number in (1, 2)), reverse=True)
    assert f"metric={quote(name, safe='')}".replace("%20", "+").replace("%2F", "/") in page.content.decode()
    entries = client.get(f"/api/leaderboards/{board.slug}/entries", asked).json()
    assert [(entries["metric"], row["value"]) for row in entries["entries"]] == [(name, value) for value in ranked]
    text = b"".join(client.get(f"{address}export.csv", asked).streaming_content).decode()
    head, *rows = csv.reader(io.StringIO(text, newline=""))
    column = head.index(f"'{name}" if name[0] in "=＝" else name)
    assert [float(row[column]) for row in rows] == ranked
    for part in (f"{address}history/", address):
        assert client.get(part, {"metric": name}).status_code == 200


def test_a_name_in_an_address_may_be_decomposed(client, board):
    assert client.get(board.get_absolute_url(), {"metric": "e\u0301"}).context["selected"].metric.name == "é"


def test_names_go_through_the_file_and_the_command(board):
    text = export_leaderboard(board)
    made, _ = import_leaderboard(text, slug="again")
    assert [metric.name for metric in made.metrics.all()] == NAMES
    call_command("create_leaderboard", "by-command", "--metric", "画像 AUC:lower:%")
    metric = Metric.objects.get(leaderboard=Leaderboard.objects.get(slug="by-command"))
    assert (metric.name, metric.direction, metric.unit) == ("画像 AUC", "lower", "%")


@pytest.mark.parametrize("name", [" a", "a ", "a\n", "a\u200b", "\u202ea", "\ue000", "e\u0301", "x" * 101, "a\u00a0b"])
def test_a_board_refuses_other_names_with_the_rule(board, name):
    with pytest.raises(ValidationError) as refused:
        Metric(leaderboard=board, name=name).full_clean()
    assert "100" in str(refused.value.messages)


def test_a_board_says_which_metrics_are_required(client, board):
    assert 'id="required-metrics"' not in client.get(board.get_absolute_url()).content.decode()
    board.metrics.filter(name="é").update(is_required=True)
    html = client.get(board.get_absolute_url()).content.decode()
    assert "<code>画像 AUC</code>, <code>é</code></p>" in html
    metrics = client.get(f"/api/leaderboards/{board.slug}").json()["metrics"]
    assert [metric["name"] for metric in metrics if metric["is_required"]] == ["é"]
