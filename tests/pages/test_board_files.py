"""A board as a file, and its badge for other pages."""

import csv
import io
import json
from xml.etree import ElementTree

import pytest

from accounts.tests.factories import UserFactory
from leaderboards.badge import badge_svg, text_width
from leaderboards.models import Standing
from leaderboards.services import mark_baseline
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory
from tests.pages.boards import BASE, people

pytestmark = pytest.mark.django_db


# --- Exports -------------------------------------------------------------------------------------------------------


def exported(client, board, kind, **parameters):
    response = client.get(f"{board.get_absolute_url()}export.{kind}", parameters)
    assert (response.status_code, response.streaming) == (200, True)
    content = b"".join(response.streaming_content)
    # Without the byte order mark Excel would not read it as UTF-8.
    assert content.startswith(b"\xef\xbb\xbf") == (kind == "csv")
    return response, content.decode("utf-8-sig")


@pytest.mark.parametrize(
    "parameters",
    [{}, {"q": "ann"}, {"metric": "seconds", "max": "3"}, {"as_of": "2026-11-20"}, {"column": "seconds"}],
    ids=str,
)
def test_an_export_is_the_view(client, board, four, parameters):
    Standing.objects.update(began_at=BASE)
    page = client.get(board.get_absolute_url(), parameters)
    expected = [(row.rank, row.username) for row in page.context["page"].rows]
    names = [metric.name for metric in page.context["selected"].columns]
    response, text = exported(client, board, "csv", **parameters)
    head, *rows = csv.reader(io.StringIO(text, newline=""))
    costs = [
        "wall_seconds",
        "peak_memory_bytes",
        "submitted_at",
        "job_id",
        "isolation",
        "display_name",
        "submission_name",
    ]
    assert head == ["rank", "user_id", "baseline", *names, *costs]
    assert [(int(row[0]), row[1]) for row in rows] == expected
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    _, text = exported(client, board, "json", **parameters)
    found = json.loads(text)
    assert [(row["rank"], row["user_id"]) for row in found["entries"]] == expected
    assert [list(row["metrics"]) for row in found["entries"]] == [names] * len(expected)
    assert (found["metric"], found["as_of"]) == (parameters.get("metric", "image_auc"), parameters.get("as_of"))
    assert f"export.csv{'?' if parameters else ''}" in page.content.decode()


def test_an_export_runs_no_formula_and_has_all_pages(client, board):
    people(board, *[(f"={number}+1", 1.0 - number / 100, 1.0) for number in range(60)])
    _, text = exported(client, board, "csv")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["user_id"] for row in rows] == [f"'={number}+1" for number in range(60)]
    assert rows[59]["rank"] == "60"
    empty = LeaderboardFactory(metrics=[])
    assert json.loads(exported(client, empty, "json")[1])["entries"] == []
    assert client.get(f"{board.get_absolute_url()}export.xlsx").status_code == 404


@pytest.mark.parametrize("count", [1, 30])
def test_an_export_costs_the_same_number_of_queries(client, board, django_assert_num_queries, count):
    people(board, *[(f"p{number}", 0.5, 1.0) for number in range(count)])
    for parameters in ({}, {"q": "p"}):
        with django_assert_num_queries(4):  # board, metrics, baselines, entries
            assert len(json.loads(exported(client, board, "json", **parameters)[1])["entries"]) == count


# --- The badge -----------------------------------------------------------------------------------------------------


def test_the_badge_tells_the_leader_or_a_persons_rank(client, board, four):
    url = f"{board.get_absolute_url()}badge.svg"
    response = client.get(url)
    assert (response.status_code, response.headers["Content-Type"]) == (200, "image/svg+xml; charset=utf-8")
    assert "Bricks: ann · 0.9000" in response.content.decode()
    assert "Bricks: #2 · 0.8000" in client.get(url, {"user": "Anna"}).content.decode()
    assert client.get(url, {"user": "nobody"}).status_code == 404
    mark_baseline(board, user_id=four["ann"].user_id, label="PaDiM")
    assert "Bricks: bob · 0.8000" in client.get(url).content.decode()
    assert "Bricks: PaDiM · 0.9000" in client.get(url, {"user": "ann"}).content.decode()


def test_a_public_badge_may_be_cached_and_embedded_anywhere(client, board, four):
    url = f"{board.get_absolute_url()}badge.svg"
    client.force_login(four["ann"].user)
    response = client.get(url)
    assert response.headers["Cache-Control"] == "public, max-age=300"
    assert "Cookie" not in response.headers.get("Vary", "")
    assert response.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    again = client.get(url, headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    EntryFactory(leaderboard=board, score=0.99)
    assert client.get(url, headers={"If-None-Match": response.headers["ETag"]}).status_code == 200


def test_another_boards_badge_is_for_those_who_see_the_board(client):
    board = LeaderboardFactory(visibility="members")
    url = f"{board.get_absolute_url()}badge.svg"
    assert client.get(url).status_code == 404
    client.force_login(UserFactory())
    response = client.get(url)
    assert response.headers["Cache-Control"] == "private, max-age=300"
    assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_a_badge_is_xml_whatever_the_words_are():
    for words in ("<script>alert(1)</script>&\"'", "岡田さんの異常検知" * 9, "\x00\x1b\ud800x", "مرحبا", ""):
        svg = badge_svg(words, words)
        root = ElementTree.fromstring(svg)
        assert root.tag.endswith("svg") and "<script" not in svg


def test_japanese_is_as_wide_as_it_is_high():
    assert (text_width("異常検知"), text_width("")) == (44.0, 0.0)
    assert text_width("が") == text_width("か\u3099") == 11.0


@pytest.mark.parametrize("count", [1, 30])
def test_a_badge_costs_the_same_number_of_queries(client, board, django_assert_num_queries, count):
    people(board, *[(f"p{number}", 0.5, 1.0) for number in range(count)])
    url = f"{board.get_absolute_url()}badge.svg"
    with django_assert_num_queries(4):  # board, metrics, baselines, leader
        client.get(url)
    with django_assert_num_queries(5):  # and the rank
        client.get(url, {"user": "p0"})
