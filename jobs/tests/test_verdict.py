"""What each end of a run means for its job."""

import json

import pytest

from accounts.tests.factories import UserFactory
from jobs import claiming, transitions
from jobs.execution.spec import Result
from jobs.execution.told import Told
from jobs.models import Job
from jobs.tests.factories import JobFactory, WorkerFactory
from jobs.transitions import Evidence
from jobs.verdict import Failure, Success, judge
from leaderboards.models import Entry, Metric
from leaderboards.services import rebuild_entries

pytestmark = pytest.mark.django_db


@pytest.fixture
def board():
    board = JobFactory().leaderboard
    Metric.objects.filter(leaderboard=board, name="image_auc").update(minimum=0, maximum=1)
    return board


def verdict(board, tmp_path, metrics=None, *, params=None, reason="exited", exit_code=0, **result):
    file = tmp_path / "metrics.json"
    file.write_text(json.dumps({"params": params or {"k": 1}, "metrics": metrics or {}}))
    ended = Result(reason, exit_code=exit_code, **result)
    return judge(ended, board, metrics_file=file)


def test_verdict_success(board, tmp_path):
    found = verdict(board, tmp_path, {"image_auc": 0.9, "seconds": 3})
    assert found == Success({"k": 1}, {"image_auc": 0.9, "seconds": 3}, 0.9)


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("timeout", "timeout"),
        ("cpu_limit", "timeout"),
        ("out_of_memory", "out_of_memory"),
        ("log_limit", "log_limit"),
        ("disk_limit", "disk_limit"),
    ],
)
def test_verdict_of_a_limit(board, tmp_path, reason, code):
    assert verdict(board, tmp_path, {"image_auc": 0.9}, reason=reason, detail="why") == Failure(code, "why")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"reason_line": "KeyError: 'x'"}, "KeyError: 'x' (exit code 3)"),
        ({"last_line": "no data"}, "exit code 3. Its last line: no data"),
        ({}, "exit code 3."),
        ({"reason_line": "Bad: \x1b]0;title\x07\u202e\x1b[31m" + "x" * 900}, f"Bad: {'x' * 295} (exit code 3)"),
    ],
)
def test_verdict_of_an_error_is_the_programs_own_reason(board, tmp_path, words, message):
    found = verdict(board, tmp_path, {"image_auc": 1}, exit_code=3, detail="exit code 3", **words)
    assert found == Failure("exit_nonzero", message)


def test_verdict_of_missing_and_broken_metrics(board, tmp_path):
    assert verdict(board, tmp_path, metrics_error="missing").code == "missing_metrics"
    assert verdict(board, tmp_path, metrics_error="it is a link").code == "bad_metrics"


@pytest.mark.parametrize(
    ("limits", "value", "kept"),
    [
        ((0, 1), 0, 0),
        ((0, 1), 1, 1),
        ((0, 1), 1.000000119, 1),
        ((0, 1), -1e-7, 0),
        ((0, None), -1e-7, 0),
        ((0, 1000), -1e-7, 0),
        ((None, 1e12), 1e12 + 1e5, 1e12),
        ((None, 1e-8), 1e-8 + 1e-15, 1e-8),
        ((-1, None), -1.0000005, -1),
    ],
)
def test_verdict_clamps_what_rounding_puts_beyond_a_limit(board, tmp_path, limits, value, kept):
    Metric.objects.filter(leaderboard=board).update(minimum=limits[0], maximum=limits[1])
    judged = verdict(board, tmp_path, {"image_auc": value})
    assert (judged.metrics, judged.score, judged.notes) == ({"image_auc": kept}, kept, ())


@pytest.mark.parametrize(
    ("limits", "value", "rule"),
    [
        ((0, 1), 1.000002, "must be at most 1.0, not 1.000002"),
        ((0, 1), -2e-6, "must be at least 0.0, not -2e-06"),
        ((0, 1e-8), -1e-9, "must be at least 0.0, not -1e-09"),
        ((0, 1e9), -0.01, "must be at least 0.0, not -0.01"),
        ((None, 1e-8), 2e-8, "must be at most 1e-08, not 2e-08"),
        ((None, 1e12), 1e12 + 2e6, "must be at most 1000000000000.0, not 1000002000000.0"),
    ],
)
def test_verdict_of_the_ranking_metric_out_of_range(board, tmp_path, limits, value, rule):
    Metric.objects.filter(leaderboard=board).update(minimum=limits[0], maximum=limits[1])
    assert verdict(board, tmp_path, {"image_auc": value}) == Failure(
        "bad_metrics", f"metrics.json: metrics.image_auc {rule}."
    )


def test_verdict_leaves_out_what_does_not_rank(board, tmp_path):
    Metric.objects.create(leaderboard=board, name="pixel_pro", maximum=1, position=2)
    metrics = {"image_auc": 0.9, "pixel_pro": 1.5, "秒": 1e16, "\u202e": 1, "text": "x", "seconds": 3}
    judged = verdict(board, tmp_path, metrics, params={"good": 1, "深い": [[[[[1]]]]]})
    assert (judged.score, judged.metrics, judged.params) == (0.9, {"image_auc": 0.9, "seconds": 3}, {"good": 1})
    assert judged.notes == (
        "Left out of metrics.json: metrics.pixel_pro must be at most 1.0, not 1.5.",
        "Left out of metrics.json: metrics.秒 is 1e+16: larger than 1e+15.",
        "Left out of metrics.json: metrics has the name '\\u202e': names are 1 to 100 printable characters of any script, "
        "without a space at either end.",
        "Left out of metrics.json: metrics.text must be a number, not a text.",
        "Left out of metrics.json: params.深い[0][0][0][0] is nested deeper than 4 levels.",
    )


def test_notes_are_bounded(board, tmp_path):
    judged = verdict(board, tmp_path, {"image_auc": 0.9, **{f"m{number}": None for number in range(100)}})
    assert (len(judged.notes), judged.notes[-1]) == (21, "And 80 more.")


def test_verdict_without_the_ranking_metric(board, tmp_path):
    board.requires_score = True
    assert verdict(board, tmp_path, {"seconds": 3}).message == (
        "metrics.json: it lacks metrics.image_auc, required by this leaderboard; it has metrics.seconds."
    )
    board.requires_score = False
    assert verdict(board, tmp_path, {"seconds": 3}) == Success(
        {"k": 1}, {"seconds": 3}, None, ("It does not rank: it lacks image_auc, required by this leaderboard.",)
    )
    assert verdict(board, tmp_path, {"seconds": 3, "image_auc": 7}).score is None
    assert verdict(board, tmp_path, {}).message == "metrics.json: metrics holds no number: at least one is needed."


def test_of_many_metrics_that_lack_the_first_are_named_and_the_others_counted(board, tmp_path):
    for position in range(2, 16):
        Metric.objects.create(leaderboard=board, name=f"m{position}", is_required=True, position=position)
    told = verdict(board, tmp_path, {"seconds": 3}).message
    names = ", ".join(["metrics.image_auc", *(f"metrics.m{number}" for number in range(2, 11))])
    assert told == (
        f"metrics.json: it lacks {names}, and 5 more, required by this leaderboard; it has metrics.seconds."
    )


def test_not_a_number_fails_the_run_whichever_metric_it_is(board, tmp_path):
    assert verdict(board, tmp_path, {"image_auc": 0.9, "loss": float("nan")}).message == (
        "metrics.json: metrics.loss is nan: only finite numbers are allowed."
    )


def test_verdict_names_every_required_metric_that_lacks_and_every_problem(board, tmp_path):
    for position, name in enumerate(["brick_auc", "grass_auc", "wood_auc"], 2):
        Metric.objects.create(leaderboard=board, name=name, maximum=1, is_required=True, position=position)
    partial = {"image_auc": 0.9, "brick_auc": 0.8, "grass_auc": None, "秒": "x"}
    assert verdict(board, tmp_path, partial).message == (
        "metrics.json: metrics.grass_auc must be a number, not null; it lacks metrics.wood_auc, required by this "
        "leaderboard; it has metrics.image_auc, metrics.brick_auc; metrics.秒 must be a number, not a text."
    )
    board.requires_score = False
    judged = verdict(board, tmp_path, partial)
    assert (judged.metrics, judged.score) == ({"image_auc": 0.9, "brick_auc": 0.8}, 0.9)
    assert judged.notes[0] == "It does not rank: it lacks grass_auc, wood_auc, required by this leaderboard."
    whole = {"image_auc": 0.9, "brick_auc": 0.8, "grass_auc": 0.8, "wood_auc": 1}
    assert verdict(board, tmp_path, whole) == Success({"k": 1}, whole, 0.9)


@pytest.mark.parametrize("raw", ["no JSON", '{"params": {}}', None])
def test_nothing_in_metrics_json_fails_a_run_that_is_scored(board, tmp_path, raw):
    board.scorer = "regression"
    (tmp_path / "metrics.json").write_text(raw or "")
    ended = Result("exited", exit_code=0, metrics_error=None if raw else Told("too large"))
    judged = judge(ended, board, metrics_file=tmp_path / "metrics.json")
    assert (judged.metrics, judged.score) == ({}, None)
    assert judged.notes[0].startswith("metrics.json was not read: ")


def test_partial_run_never_ranks_where_each_category_is_required(board, tmp_path):
    for position, name in enumerate(["brick_auc", "grass_auc", "wood_auc"], 2):
        Metric.objects.create(leaderboard=board, name=name, is_required=True, position=position)
    board.requires_score = False
    user = UserFactory()

    def complete(metrics):
        job = JobFactory(leaderboard=board, user=user)
        job = claiming.claim(job.pk, worker_id=WorkerFactory().pk, worker_name="w")
        judged = verdict(board, tmp_path, metrics)
        evidence = Evidence(notes=judged.notes)
        assert transitions.complete(
            job, attempt=1, params={}, metrics=judged.metrics, score=judged.score, artifacts=[], evidence=evidence
        )
        return Job.objects.get(pk=job.pk)

    partial = complete({"image_auc": 0.99, "brick_auc": 0.99})
    assert partial.notes_in_words == ["It does not rank: it lacks grass_auc, wood_auc, required by this leaderboard."]
    assert rebuild_entries(board) == 0
    whole = complete({"image_auc": 0.5, "brick_auc": 0.5, "grass_auc": 0.5, "wood_auc": 0.5})
    assert list(Entry.objects.values_list("job", flat=True)) == [whole.pk]
    complete({"image_auc": 1, "brick_auc": 1, "grass_auc": 1})
    assert rebuild_entries(board) == 1
    assert list(Entry.objects.values_list("job", flat=True)) == [whole.pk]
