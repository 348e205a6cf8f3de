"""A board over time: as it stood on a day, what changed this week, and its charts."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from accounts.models import User
from accounts.tests.factories import UserFactory
from jobs.tests.factories import JobFactory
from leaderboards.models import Standing
from leaderboards.services import mark_baseline
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory, StandingFactory
from tests.pages.boards import people

pytestmark = pytest.mark.django_db


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
    with django_assert_num_queries(13):
        client.get(f"{board.get_absolute_url()}history/")
