"""A board filtered, ordered, paged, dated, exported and as a badge: what each address shows, and what it costs."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest
from django.utils import timezone

from accounts.models import User
from accounts.tests.factories import UserFactory
from jobs.tests.factories import JobFactory
from leaderboards.badge import badge_svg, text_width
from leaderboards.models import Standing
from leaderboards.queries import Ranking
from leaderboards.selection import Selection
from leaderboards.services import mark_baseline
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory, StandingFactory

pytestmark = pytest.mark.django_db
BASE = datetime(2026, 10, 1, 12, tzinfo=UTC)


def people(board, *given):
    """Entries of (name, score, seconds), submitted one minute after another."""
    return {
        name: EntryFactory(
            leaderboard=board, score=score, job__user__username=name, submitted_at=BASE + timedelta(minutes=index),
            job__metrics={"image_auc": score, "seconds": seconds}, job__wall_seconds=seconds,
        )
        for index, (name, score, seconds) in enumerate(given)
    }  # fmt: skip


@pytest.fixture
def board(db):
    return LeaderboardFactory(slug="bricks", title="Bricks")


@pytest.fixture
def four(board):
    return people(board, ("ann", 0.9, 4.0), ("bob", 0.8, 3.0), ("Anna", 0.8, 2.0), ("dan", 0.7, 1.0))


def shown(client, board, **parameters):
    response = client.get(board.get_absolute_url(), parameters)
    assert response.status_code == 200
    return [(row.rank, row.username) for row in response.context["page"].rows]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, [(1, "ann"), (2, "bob"), (2, "Anna"), (4, "dan")]),
        ({"q": "ann"}, [(1, "ann"), (2, "Anna")]),
        ({"q": " ANN "}, [(1, "ann"), (2, "Anna")]),
        ({"q": "%"}, []),
        ({"min": "0.8"}, [(1, "ann"), (2, "bob"), (2, "Anna")]),
        ({"max": ".8"}, [(2, "bob"), (2, "Anna"), (4, "dan")]),
        ({"of": "seconds", "min": "2", "max": "3e0"}, [(2, "bob"), (2, "Anna")]),
        ({"metric": "seconds"}, [(1, "dan"), (2, "Anna"), (3, "bob"), (4, "ann")]),
        ({"metric": "seconds", "q": "ann"}, [(2, "Anna"), (4, "ann")]),
        ({"metric": "seconds", "min": "2.5"}, [(3, "bob"), (4, "ann")]),
        ({"metric": "seconds", "of": "image_auc", "max": "0.75"}, [(1, "dan")]),
        ({"q": "", "min": "", "max": "", "as_of": "", "of": "seconds"}, [(1, "ann"), (2, "bob"), (2, "Anna"), (4, "dan")]),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_a_filter_keeps_the_ranks_of_the_whole_board(client, board, four, parameters, expected):
    assert shown(client, board, **parameters) == expected


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"metric": "nonsense"}, "metric: must be one of image_auc, seconds, not &#x27;nonsense&#x27;."),
        ({"of": "x"}, "of: must be one of"),
        ({"column": "x"}, "column: must be one of"),
        ({"column": [f"m{number}" for number in range(21)]}, "column: at most 20 at once."),
        ({"min": "x"}, "min: must be a number, not &#x27;x&#x27;."),
        ({"min": "nan"}, "min: must be a number"),
        ({"max": "1e999"}, "max: must be a number"),
        ({"max": "１"}, "max: must be a number"),
        ({"min": "2", "max": "1"}, "min: must not be larger than max."),
        ({"as_of": "yesterday"}, "as_of: must be a day such as 2026-11-01, not &#x27;yesterday&#x27;."),
        ({"as_of": "2026-13-01"}, "as_of: must be a day"),
        ({"as_of": "20261101"}, "as_of: must be a day"),
        ({"as_of": "9999-12-31"}, "as_of: must lie between 2000-01-01 and today, not on 9999-12-31."),
        ({"as_of": "0001-01-01"}, "as_of: must lie between"),
        ({"after": "x"}, "after: must be a place on this leaderboard."),
        ({"after": "nan~1~1"}, "after: must be a place"),
        ({"before": "1.0~99999999999999999~1"}, "before: must be a place"),
        ({"q": "x" * 151}, "q: at most 150 characters."),
        ({"q": "a\0"}, "q: at most"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value)[:40],
)
def test_what_cannot_be_shown_is_refused_with_the_reason(client, board, four, parameters, words):
    url = board.get_absolute_url()
    response = client.get(url, parameters)
    assert response.status_code == 400
    assert words in response.content.decode()
    part = client.get(url, parameters, headers={"HX-Request": "true"})
    assert (part.status_code, words in part.content.decode()) == (400, True)
    assert client.get(f"{url}export.csv", parameters).status_code == 400


def test_for_htmx_only_the_ranking_is_sent(client, board, four):
    url = board.get_absolute_url()
    part = client.get(url, {"q": "ann"}, headers={"HX-Request": "true"})
    assert part.content.decode().lstrip().startswith('<div id="ranking">')
    assert "HX-Request" in part.headers["Vary"] and "HX-Request" in client.get(url).headers["Vary"]


# --- Pages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parameters", [{}, {"metric": "seconds"}, {"min": "0"}], ids=str)
def test_pages_follow_each_other_with_the_right_ranks_both_ways(client, board, parameters):
    # Each value is held by seven people, so that pages begin within ties.
    users = UserFactory.create_batch(120)
    people_ = [EntryFactory(
        leaderboard=board, score=1.0 - index // 7 / 100, job__user=user, submitted_at=BASE - timedelta(minutes=index),
        job__metrics={"image_auc": 0.0, "seconds": 1.0 + index // 7},
    ) for index, user in enumerate(users)]  # fmt: skip
    mark_baseline(board, user_id=people_[60].user_id)
    mark_baseline(board, user_id=people_[3].user_id)
    everybody = list(Ranking(Selection(board, board.metric_list[1 if "metric" in parameters else 0])).stream())
    expected = [(row.rank, row.username) for row in everybody]
    ranks = [rank for rank, _ in expected if rank]
    # 118 ranked in groups of seven, but for the two groups that a baseline is in.
    assert (len(ranks), ranks[:8], ranks[-1]) == (118, [1] * 6 + [7] * 2, 118)
    url, pages, place = board.get_absolute_url(), [], {}
    while True:
        response = client.get(url, {**parameters, **place})
        pages.append(response)
        if response.context["page"].following is None:
            break
        place = {"after": str(response.context["page"].following)}
    found = [[(row.rank, row.username) for row in page.context["page"].rows] for page in pages]
    assert ([row for page in found for row in page], [len(page) for page in found]) == (expected, [50, 50, 20])
    assert pages[0].context["page"].previous is None
    back = client.get(url, {**parameters, "before": str(pages[2].context["page"].previous)})
    assert [(row.rank, row.username) for row in back.context["page"].rows] == found[1]
    first = client.get(url, {**parameters, "before": str(back.context["page"].previous)})
    assert [(row.rank, row.username) for row in first.context["page"].rows] == found[0]
    assert first.context["page"].previous is None


def test_beyond_the_last_page_there_is_a_way_back(client, board, four):
    response = client.get(board.get_absolute_url(), {"after": "0.0~0~1"})
    assert (response.status_code, "Nobody stands this far down" in response.content.decode()) == (200, True)


# --- Columns -------------------------------------------------------------------------------------------------------


def test_of_many_metrics_some_are_shown_and_the_others_chosen(client):
    names = [f"metric_{number:03}" for number in range(200)]
    board = LeaderboardFactory(metrics=[{"name": name, "label": f"Category {name}"} for name in names])
    values = {name: index / 7 for index, name in enumerate(names)}
    for number in range(50):
        EntryFactory(leaderboard=board, score=0.5, job__metrics=values, job__user__username=f"{number}" + "x" * 140)

    def columns(**parameters):
        response = client.get(board.get_absolute_url(), parameters)
        # With its stylesheet, script and htmx (90 kB) a page stays below 150 kB as it is sent, compressed or not.
        return [metric.name for metric in response.context["selected"].columns], len(response.content)

    shown_, size = columns()
    assert (shown_, size < 150_000) == (names[:8], True)
    assert columns(metric="metric_150")[0] == [*names[:8], "metric_150"]
    assert columns(column=["metric_007", "metric_003"])[0] == ["metric_000", "metric_003", "metric_007"]
    assert columns(column=names[:20])[1] < 200_000


# --- Baselines -----------------------------------------------------------------------------------------------------


def test_a_baseline_stands_in_its_place_without_a_rank(client, board, four):
    mark_baseline(board, user_id=four["bob"].user_id, label="PaDiM")
    assert shown(client, board) == [(1, "ann"), (None, "bob"), (2, "Anna"), (3, "dan")]
    page = client.get(board.get_absolute_url()).content.decode()
    assert page.count('class="baseline"') == 1 and "PaDiM" in page and ">bob<" not in page
    assert shown(client, board, q="padim") == [(None, "bob")]
    assert shown(client, board, min="0.75", metric="image_auc") == [(1, "ann"), (None, "bob"), (2, "Anna")]
    client.force_login(four["bob"].user)
    assert client.get(board.get_absolute_url()).context["mine"].rank is None


def test_a_baseline_leads_no_board(client, board, four):
    mark_baseline(board, user_id=four["ann"].user_id)
    cards = {card.board.slug: card for card in client.get("/").context["cards"]}
    assert (cards["bricks"].leader.user.username, cards["bricks"].people) == ("bob", 3)


# --- As of a day ---------------------------------------------------------------------------------------------------


@pytest.fixture
def dated(board):
    """ann 0.5 from the 1st, 0.9 from the 10th; bob 0.7 from the 5th; a pruned period of eve's before the 5th."""
    ann, bob, eve = (UserFactory(username=name) for name in ("ann", "bob", "eve"))

    def period(user, score, first, last=None):
        job = JobFactory(user=user, leaderboard=board, status="completed", score=score, created_at=day(first))
        return StandingFactory(
            job=job, leaderboard=board, score=score, began_at=day(first), ended_at=last and day(last),
            submitted_at=day(first),
        )  # fmt: skip

    def day(number):
        return datetime(2026, 10, number, 12, tzinfo=UTC)

    period(ann, 0.5, 1, 10)
    period(bob, 0.7, 5)
    gone = period(eve, 0.6, 2, 5)
    period(ann, 0.9, 10)
    gone.job.delete()
    return board


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ("2026-09-30", []),
        ("2026-10-01", [(1, "ann", 0.5)]),
        ("2026-10-04", [(1, "eve", 0.6), (2, "ann", 0.5)]),
        ("2026-10-05", [(1, "bob", 0.7), (2, "ann", 0.5)]),
        ("2026-10-10", [(1, "ann", 0.9), (2, "bob", 0.7)]),
    ],
)
def test_the_board_as_it_stood_on_a_day(client, dated, day, expected):
    response = client.get(dated.get_absolute_url(), {"as_of": day})
    assert [(row.rank, row.username, row.value) for row in response.context["page"].rows] == expected
    text = response.content.decode()
    assert f"<strong>{day}</strong>" in text
    assert 'id="history"' not in text and response.context["runs"] is None
    filtered = client.get(dated.get_absolute_url(), {"as_of": day, "q": "ann"})
    ranks = [(row.rank, row.username, row.value) for row in filtered.context["page"].rows]
    assert ranks == [row for row in expected if row[1] == "ann"]


# --- Exports -------------------------------------------------------------------------------------------------------


def exported(client, board, kind, **parameters):
    response = client.get(f"{board.get_absolute_url()}export.{kind}", parameters)
    assert (response.status_code, response.streaming) == (200, True)
    return response, b"".join(response.streaming_content).decode()


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
    costs = ["wall_seconds", "peak_memory_bytes", "submitted_at", "job_id", "isolation"]
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


# --- The week and the charts ---------------------------------------------------------------------------------------


def week(board):
    """ann rose from 2 to 1 this week, bob fell without a change, cleo is new."""
    now = timezone.now()
    for name, score, began, ended in [
        ("ann", 0.5, 30, 2), ("ann", 0.9, 2, None), ("bob", 0.7, 20, None), ("cleo", 0.6, 1, None),
    ]:  # fmt: skip
        user = User.objects.filter(username=name).first() or UserFactory(username=name)
        moment = now - timedelta(days=began)
        job = JobFactory(
            user=user, leaderboard=board, status="completed", score=score, created_at=moment, wall_seconds=score * 10
        )
        if ended is None:
            EntryFactory(leaderboard=board, job=job, score=score, submitted_at=moment)
            Standing.objects.filter(job=job).update(began_at=moment)
        else:
            StandingFactory(
                job=job, leaderboard=board, score=score, began_at=moment, ended_at=now - timedelta(days=ended)
            )


def test_what_changed_this_week(client, board):
    week(board)
    response = client.get(f"{board.get_absolute_url()}history/")
    found = response.context["changes"]
    assert [(one.name, one.before, one.score, one.rank_before, one.rank, one.is_new) for one in found.people] == [
        ("cleo", None, 0.6, None, 3, True),
        ("ann", 0.5, 0.9, 2, 1, False),
    ]
    assert found.people[1].ranks_gained == 1
    assert "rank 2 to 1" in response.content.decode()


def test_the_progress_chart_has_each_persons_steps_and_the_records(client, board):
    week(board)
    base = EntryFactory(leaderboard=board, score=0.65)
    mark_baseline(board, user_id=base.user_id, label="PaDiM")
    response = client.get(f"{board.get_absolute_url()}history/")
    chart = response.context["progress"]
    assert [(point.name, point.value) for point in chart.points] == [("ann", 0.5), ("bob", 0.7), ("ann", 0.9)]
    assert {series.name: [point.value for point in series.points] for series in chart.people} == {
        "ann": [0.5, 0.9], "bob": [0.7], "cleo": [0.6],
    }  # fmt: skip
    assert [(line.name, line.value) for line in chart.references] == [("PaDiM", 0.65)]
    assert "nan" not in response.content.decode().lower().split('<svg class="chart"')[1]


def test_the_cost_chart_marks_the_pareto_front(client, board, four):
    chart = client.get(f"{board.get_absolute_url()}history/").context["cost"]
    # Anna is as good as bob in less time: nobody beats her, ann or dan in both.
    assert [(point.name, point.is_on_line) for point in chart.points] == [
        ("dan", True), ("Anna", True), ("bob", False), ("ann", True),
    ]  # fmt: skip
    by_seconds = client.get(f"{board.get_absolute_url()}history/", {"metric": "seconds"}).context["cost"]
    assert next((point.name, point.is_on_line) for point in by_seconds.points) == ("dan", True)
    assert client.get(f"{board.get_absolute_url()}history/", {"metric": "x"}).status_code == 400


def test_an_empty_history_says_so(client, board):
    page = client.get(f"{board.get_absolute_url()}history/").content.decode()
    assert "No entry came or improved in the last seven days." in page and '<svg class="chart"' not in page
    assert client.get(f"{LeaderboardFactory(metrics=[]).get_absolute_url()}history/").status_code == 200


@pytest.mark.parametrize("count", [1, 30])
def test_the_history_costs_the_same_number_of_queries(client, board, django_assert_num_queries, count):
    people(board, *[(f"p{number}", 0.5 + number / 100, 1.0 + number) for number in range(count)])
    # Board, metrics; baselines twice and the best rows; changes: latest, rows now, rows then, ranks now and
    # baselines then (ranks then only of people who were there); steps, records.
    with django_assert_num_queries(12):
        client.get(f"{board.get_absolute_url()}history/")


# --- The badge -----------------------------------------------------------------------------------------------------


def test_the_badge_tells_the_leader_or_a_persons_rank(client, board, four):
    url = f"{board.get_absolute_url()}badge.svg"
    response = client.get(url)
    assert (response.status_code, response.headers["Content-Type"]) == (200, "image/svg+xml; charset=utf-8")
    assert "Bricks: ann · 0.9000" in response.content.decode()
    assert "Bricks: #2 · 0.8000" in client.get(url, {"user": "Anna"}).content.decode()
    assert client.get(url, {"user": "nobody"}).status_code == 404
    assert client.get(url, {"user": "a\0"}).status_code == 404
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


# --- Words ---------------------------------------------------------------------------------------------------------


def test_rules_and_description_are_markdown_that_can_run_nothing(client):
    text = "**b** <script>alert(1)</script> [x](javascript:alert(1))\n\n| a | b |\n|---|---|\n| 1 | 2 |"
    page = client.get(LeaderboardFactory(description=text, rules=text).get_absolute_url()).content.decode()
    assert page.count("<strong>b</strong>") == 2 and page.count("<td>1</td>") == 2
    assert "<script>alert" not in page and 'href="javascript' not in page
