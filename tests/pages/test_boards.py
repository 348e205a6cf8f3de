"""Home and leaderboards: who sees which, who stands where, and what it costs to say so."""

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.tests.factories import UserFactory
from jobs.tests.factories import JobFactory
from leaderboard_site import views
from leaderboards.models import Baseline, Entry, Leaderboard, Standing
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory

pytestmark = pytest.mark.django_db


def ranks(response):
    return [(row.rank, row.username) for row in response.context["page"].rows]


def test_home_shows_a_boards_leader_people_and_what_runs(client):
    board = LeaderboardFactory(title="Bricks")
    EntryFactory(leaderboard=board, score=0.5)
    best = EntryFactory(leaderboard=board, score=0.75)
    JobFactory(leaderboard=board, status="running")
    cards = {card.board.title: card for card in client.get("/").context["cards"]}
    card = cards["Bricks"]
    assert (card.leader, card.people, card.running, card.pending) == (best, 2, 1, 0)
    assert "0.7500" in client.get("/").content.decode()


def test_home_counts_a_boards_people_so_far_and_no_further(client, monkeypatch):
    board = LeaderboardFactory(title="Bricks")
    for _ in range(3):
        EntryFactory(leaderboard=board)
    Baseline.objects.create(leaderboard=board, user=Entry.objects.filter(leaderboard=board)[0].user)
    for most, told in ((3, "2 people"), (2, "2 people"), (1, "over 1 people")):
        monkeypatch.setattr(views, "PEOPLE_COUNTED", most)
        assert f"</svg>{told}</span>" in client.get("/").content.decode().replace("\n", "")


def test_the_leader_of_a_lower_is_better_board_has_the_lowest_score(client):
    board = LeaderboardFactory(metrics=[{"name": "ms", "direction": "lower"}])
    best = EntryFactory(leaderboard=board, score=1.0)
    EntryFactory(leaderboard=board, score=2.0)
    cards = {card.board.pk: card for card in client.get("/").context["cards"]}
    assert cards[board.pk].leader == best


@pytest.mark.parametrize(
    ("visibility", "who", "status"),
    [
        ("public", "anonymous", 200),
        ("public", "member", 200),
        ("members", "anonymous", 404),
        ("members", "member", 200),
        ("hidden", "member", 404),
        ("hidden", "staff", 200),
    ],
)
def test_a_board_is_seen_by_those_it_is_for(client, visibility, who, status):
    board = LeaderboardFactory(visibility=visibility, title="Sealed")
    if who != "anonymous":
        client.force_login(UserFactory(is_staff=who == "staff", is_superuser=who == "staff"))
    assert client.get(board.get_absolute_url()).status_code == status
    assert ("Sealed" in client.get("/").content.decode()) == (status == 200)


def test_equal_scores_share_a_rank(client):
    board = LeaderboardFactory()
    for name, score in (("a", 0.9), ("b", 0.8), ("c", 0.9), ("d", 0.7)):
        EntryFactory(leaderboard=board, score=score, job__user__username=name)
    assert ranks(client.get(board.get_absolute_url())) == [(1, "a"), (1, "c"), (3, "b"), (4, "d")]


def test_sorting_by_another_metric_respects_its_direction(client):
    board = LeaderboardFactory()
    for name, score, seconds in (("slow", 0.9, 30.0), ("fast", 0.8, 2.0)):
        metrics = {"image_auc": score, "seconds": seconds}
        EntryFactory(leaderboard=board, score=score, job__user__username=name, job__metrics=metrics)
    url = board.get_absolute_url()
    assert ranks(client.get(url)) == [(1, "slow"), (2, "fast")]
    assert ranks(client.get(f"{url}?metric=seconds")) == [(1, "fast"), (2, "slow")]


def following(response):
    return {"after": str(response.context["page"].following)}


def previous(response):
    return {"before": str(response.context["page"].previous)}


def test_my_row_is_marked_and_shown_also_when_it_stands_on_another_page(client):
    board = LeaderboardFactory()
    for number in range(51):
        EntryFactory(leaderboard=board, score=0.9 - number / 1000)
    mine = EntryFactory(leaderboard=board, score=0.1)
    client.force_login(mine.user)
    url = board.get_absolute_url()
    first = client.get(url)
    assert (len(first.context["page"].rows), first.context["mine"].rank) == (50, 52)
    assert first.content.decode().count('class="mine"') == 0 and 'class="own-bar"' in first.content.decode()
    second = client.get(url, following(first))
    assert [row.rank for row in second.context["page"].rows] == [51, 52]
    assert second.content.decode().count('class="mine"') == 1
    near = client.get(url, {"near": "me"})
    assert [row.rank for row in near.context["page"].rows] == list(range(42, 53))
    assert (near.context["is_mine_here"], near.context["mine"].rank) == (True, 52)


def test_a_job_is_linked_only_for_those_who_may_open_it(client):
    entry = EntryFactory()
    url, job_url = entry.leaderboard.get_absolute_url(), entry.job.get_absolute_url()
    assert job_url not in client.get(url).content.decode()
    client.force_login(UserFactory())
    assert job_url not in client.get(url).content.decode()
    client.force_login(entry.user)
    assert job_url in client.get(url).content.decode()


def test_a_description_is_markdown_that_can_run_nothing(client):
    text = "**bold** <script>alert(1)</script> [x](javascript:alert(1)) ![y](data:text/html,z)"
    page = client.get(LeaderboardFactory(description=text).get_absolute_url()).content.decode()
    assert "<strong>bold</strong>" in page
    assert "<script>alert" not in page and 'href="javascript' not in page and 'src="data' not in page


def test_names_are_escaped(client):
    entry = EntryFactory(job__user__username="<img src=x>", leaderboard__title="<b>t")
    page = client.get(entry.leaderboard.get_absolute_url()).content.decode()
    assert "<img src=x>" not in page and "<b>t" not in page


@pytest.mark.parametrize(
    "board",
    [
        {"metrics": []},
        {"takes_submissions": False},
        {"closes_at": timezone.now() - timedelta(days=1)},
    ],
    ids=["without metrics", "that takes nothing", "that has closed"],
)
def test_an_odd_empty_board_still_has_a_page(client, board):
    response = client.get(LeaderboardFactory(**board).get_absolute_url())
    assert response.status_code == 200
    assert response.context["is_open"] == ("metrics" in board)


@pytest.mark.parametrize("count", [1, 30])
def test_home_costs_the_same_number_of_queries(client, django_assert_num_queries, count):
    Leaderboard.objects.all().delete()
    for _ in range(count):
        EntryFactory()
    # Boards, metrics, leaders, people, jobs at work.
    with django_assert_num_queries(5):
        client.get("/")


def test_home_without_a_board_says_what_to_do(client):
    Leaderboard.objects.all().delete()
    assert "/login/" in client.get("/").content.decode()


@pytest.mark.parametrize(
    ("days", "written"), [(1, r">\d{4}-\d\d-\d\d \d\d:\d\d UTC</text>"), (30, r">\d{4}-\d\d-\d\d</text>")]
)
def test_the_chart_of_the_best_tells_hours_where_days_say_too_little(client, days, written):
    entry = EntryFactory()
    Standing.objects.update(began_at=timezone.now() - timedelta(days=days))
    page = client.get(f"{entry.leaderboard.get_absolute_url()}history/").text
    assert len(re.findall(written, page)) == 2
