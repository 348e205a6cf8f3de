"""/api/leaderboards: what is shown to whom, the order, the bounds, and a CSV that no spreadsheet will run."""

import csv
import io
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.tests.factories import UserFactory
from jobs.tests.factories import JobFactory
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory
from tests.api.conftest import Api, refusal

pytestmark = pytest.mark.django_db


@pytest.fixture
def board(db):
    return LeaderboardFactory(slug="textures", title="Textures")


def slugs(api):
    return {row["slug"] for row in api.get("/api/leaderboards").json()}


def test_each_reader_sees_the_boards_that_are_theirs(nobody, api):
    for visibility in ("public", "members", "hidden"):
        LeaderboardFactory(slug=visibility, visibility=visibility)
    operator = Api(UserFactory(is_staff=True, is_superuser=True))
    assert slugs(nobody) == {"default", "public"}
    assert slugs(api) == {"default", "public", "members"}
    assert slugs(operator) == {"default", "public", "members", "hidden"}
    for reader, slug in ((nobody, "members"), (nobody, "hidden"), (api, "hidden"), (api, "nowhere")):
        for path in (f"/api/leaderboards/{slug}", f"/api/leaderboards/{slug}/entries"):
            assert refusal(reader.get(path)) == (404, "not_found")
    assert operator.get("/api/leaderboards/hidden/entries").status_code == 200


def test_one_board_with_its_metrics_in_order(nobody, board):
    answer = nobody.get("/api/leaderboards/textures")
    empty = {"unit": "", "minimum": None, "maximum": None, "label": "", "direction": "higher", "is_required": False}
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "slug": "textures", "title": "Textures", "description": "", "rules": "", "dataset": "", "scorer": "", "score_version": None, "opens_at": None,
            "closes_at": None, "takes_submissions": True, "writable_code": False,
            "metrics": [
                {**empty, "name": "image_auc", "label": "Image AUROC"},
                {**empty, "name": "seconds", "unit": "s", "direction": "lower"},
            ],
        },
    )  # fmt: skip


def test_entries_best_first_with_shared_ranks(nobody, board):
    now = timezone.now()
    made = [
        EntryFactory(leaderboard=board, score=score, submitted_at=now - timedelta(minutes=minutes))
        for score, minutes in ((0.5, 1), (0.9, 1), (0.9, 2), (0.7, 9))
    ]
    answer = nobody.get("/api/leaderboards/textures/entries").json()
    assert {key: answer[key] for key in ("leaderboard", "metric", "direction")} == {
        "leaderboard": "textures", "metric": "image_auc", "direction": "higher",
    }  # fmt: skip
    shown = [(row["rank"], row["user_id"], row["value"]) for row in answer["entries"]]
    names = [entry.user.username for entry in made]
    assert shown == [(1, names[2], 0.9), (1, names[1], 0.9), (3, names[3], 0.7), (4, names[0], 0.5)]
    assert answer["entries"][0] == {
        "rank": 1, "user_id": names[2], "display_name": names[2], "submission_name": None, "is_baseline": False, "value": 0.9, "score": 0.9, "metrics": {"image_auc": 0.9, "seconds": 10.0},
        "job_id": str(made[2].job_id), "submitted_at": made[2].submitted_at.isoformat().replace("+00:00", "Z"),
        "wall_seconds": None, "peak_memory_bytes": None, "isolation": "", "runs": 1, "withdrawn": 0,
    }  # fmt: skip


def test_another_metric_in_its_own_direction(nobody, board):
    for seconds, score in ((3.0, 0.1), (1.0, 0.2), (2.0, 0.3)):
        EntryFactory(leaderboard=board, score=score, job__metrics={"image_auc": score, "seconds": seconds})
    EntryFactory(leaderboard=board, score=0.4, job__metrics={"image_auc": 0.4})
    answer = nobody.get("/api/leaderboards/textures/entries", {"metric": "seconds"}).json()
    assert (answer["metric"], answer["direction"]) == ("seconds", "lower")
    assert [(row["rank"], row["value"]) for row in answer["entries"]] == [(1, 1.0), (2, 2.0), (3, 3.0)]


@pytest.mark.parametrize("metric", ["nope", "score", "image_auc ", "job__metrics"])
def test_an_unknown_metric_is_400(nobody, board, metric):
    assert refusal(nobody.get("/api/leaderboards/textures/entries", {"metric": metric})) == (400, "bad_metric")


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "1.0", "٣", "9" * 30])
def test_a_limit_out_of_bounds_is_400(nobody, board, limit):
    answer = nobody.get("/api/leaderboards/textures/entries", {"limit": limit})
    assert (answer.status_code, answer.json()) == (
        400,
        {"code": "bad_limit", "message": f"limit: must be a number from 1 to 1000, not {limit[:20]!r}."},
    )


@pytest.mark.parametrize(("limit", "rows"), [("1", 1), ("2", 2), ("1000", 3), ("", 3)])
def test_a_limit_within_bounds(nobody, board, limit, rows):
    for score in (0.1, 0.2, 0.3):
        EntryFactory(leaderboard=board, score=score)
    answer = nobody.get("/api/leaderboards/textures/entries", {"limit": limit}).json()
    assert [row["value"] for row in answer["entries"]] == [0.3, 0.2, 0.1][:rows]


def test_a_board_without_metrics_has_no_entries(nobody):
    LeaderboardFactory(slug="bare", metrics=[])
    answer = nobody.get("/api/leaderboards/bare/entries").json()
    assert answer == {
        "leaderboard": "bare", "metric": "", "direction": "higher", "as_of": None, "next": None, "entries": [],
    }  # fmt: skip


def test_the_same_queries_at_1_and_30_rows(nobody, board, django_assert_num_queries):
    for rows in (1, 30):
        for _ in range(rows - board.entries.count()):
            EntryFactory(leaderboard=board)
        with django_assert_num_queries(5):  # board, metrics, baselines, entries, counts of runs
            assert len(nobody.get("/api/leaderboards/textures/entries").json()["entries"]) == rows
    for boards in (2, 30):
        while len(nobody.get("/api/leaderboards").json()) < boards:
            LeaderboardFactory()
        with django_assert_num_queries(2):  # boards, metrics
            assert len(nobody.get("/api/leaderboards").json()) == boards


def test_a_misspelt_parameter_is_answered_with_the_nearest_name(nobody, board):
    answer = nobody.get("/api/leaderboards/textures/entries", {"colunm": "seconds"})
    assert refusal(answer) == (400, "unknown_parameter")
    assert "'colunm' is no parameter of this call. Did you mean column? Known are metric, q" in answer.json()["message"]


# --- CSV -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [{"query": {"format": "csv"}}, {"Accept": "text/csv"}])
def test_csv_with_names_that_look_like_formulas(nobody, board, by):
    names = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1+1", "＠SUM(A1)", 'a",=1', "岡田"]
    for number, name in enumerate(names):
        metrics = {"image_auc": -0.1 * number, "=cmd|' /C calc'!A0": 1.0}
        EntryFactory(leaderboard=board, score=-0.1 * number, job__user__username=name, job__metrics=metrics)
    answer = nobody.get("/api/leaderboards/textures/entries", **by)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/csv; charset=utf-8")
    assert answer.content.startswith(b"\xef\xbb\xbfrank,")  # or Excel would not read it as UTF-8
    rows = list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))
    head = ["rank", "user_id", "score", "image_auc", "'=cmd|' /C calc'!A0", "job_id", "submitted_at", "wall_seconds"]
    assert rows[0] == [*head, "isolation", "runs", "withdrawn", "display_name", "submission_name"]
    inert = ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\t=1", "'\r=1", "'＝1+1", "'＠SUM(A1)", 'a",=1', "岡田"]
    assert [row[1] for row in rows[1:]] == inert
    assert [(row[0], row[2]) for row in rows[2:4]] == [("2", "-0.1"), ("3", "-0.2")]  # numbers stay numbers


@pytest.mark.parametrize("query", [{"metric": "x", "format": "csv"}, {"limit": "0", "format": "csv"}])
def test_refusals_have_their_one_shape_also_for_csv(nobody, board, query):
    assert refusal(nobody.get("/api/leaderboards/textures/entries", query))[0] == 400
    assert refusal(nobody.get("/api/leaderboards/nowhere/entries", {"format": "csv"})) == (404, "not_found")
    assert refusal(nobody.client.options("/api/leaderboards/textures/entries?format=csv"))[0] == 405
    assert refusal(nobody.get("/api/leaderboards/textures/entries", {"format": "xml"})) == (404, "not_found")


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("leaderboards/textures/entries", "metric, q, of, min, max, as_of, after, before, column, limit, format"),
        ("leaderboards", "format"),
        ("jobs", "status, cursor, limit, format"),
        ("submissions", "cursor, limit, format"),
        ("jobs/{job}/logs", "offset, format"),
    ],
)
def test_a_parameter_that_a_call_does_not_have_is_refused_by_name(api, board, path, known):
    path = "/api/" + path.format(job=JobFactory(user=api.user).pk)
    answer = api.get(path, {"xyzzy": "seconds"})
    told = f"'xyzzy' is no parameter of this call; known are {known}."
    assert refusal(answer) == (400, "unknown_parameter") and told in answer.json()["message"]
    assert api.get(path, {"format": "json"}).status_code == 200
