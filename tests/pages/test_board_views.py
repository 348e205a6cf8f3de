"""A board filtered, ordered and paged, its columns, baselines and words: what each address shows, and what it costs."""

from datetime import timedelta

import pytest

from accounts.tests.factories import UserFactory
from leaderboards.queries import Ranking
from leaderboards.selection import Selection
from leaderboards.services import mark_baseline
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory
from tests.pages.boards import BASE

pytestmark = pytest.mark.django_db


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
        ({"q": "a\0"}, "q: must not contain the NUL character."),
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


# --- Words ---------------------------------------------------------------------------------------------------------


def test_rules_and_description_are_markdown_that_can_run_nothing(client):
    text = "**b** <script>alert(1)</script> [x](javascript:alert(1))\n\n| a | b |\n|---|---|\n| 1 | 2 |"
    page = client.get(LeaderboardFactory(description=text, rules=text).get_absolute_url()).content.decode()
    assert page.count("<strong>b</strong>") == 2 and page.count("<td>1</td>") == 2
    assert "<script>alert" not in page and 'href="javascript' not in page
