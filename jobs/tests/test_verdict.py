"""What each end of a run means for its job."""

import json

import pytest

from jobs.execution.spec import Result
from jobs.tests.factories import JobFactory
from jobs.verdict import Failure, Success, judge
from leaderboards.models import Metric

pytestmark = pytest.mark.django_db


@pytest.fixture
def board():
    board = JobFactory().leaderboard
    Metric.objects.filter(leaderboard=board, name="image_auc").update(minimum=0, maximum=1)
    return board


def verdict(board, tmp_path, metrics=None, *, reason="exited", exit_code=0, last_line="", **result):
    file = tmp_path / "metrics.json"
    file.write_text(json.dumps({"params": {"k": 1}, "metrics": metrics or {}}))
    ended = Result(reason, exit_code=exit_code, **result)
    return judge(ended, board, metrics_file=file, last_line=last_line)


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


def test_verdict_of_an_error_shows_its_last_line(board, tmp_path):
    found = verdict(board, tmp_path, {"image_auc": 1}, exit_code=3, detail="exit code 3", last_line="KeyError: 'x'")
    assert found == Failure("exit_nonzero", "exit code 3. Its last line: KeyError: 'x'")


def test_verdict_of_missing_and_broken_metrics(board, tmp_path):
    assert verdict(board, tmp_path, metrics_error="missing").code == "missing_metrics"
    assert verdict(board, tmp_path, metrics_error="it is a link").code == "bad_metrics"


@pytest.mark.parametrize("value", [-0.01, 1.01])
def test_verdict_of_a_metric_out_of_range(board, tmp_path, value):
    found = verdict(board, tmp_path, {"image_auc": value})
    assert (found.code, "image_auc" in found.message) == ("bad_metrics", True)


@pytest.mark.parametrize("value", [0, 1])
def test_verdict_of_a_metric_at_the_edge_of_its_range(board, tmp_path, value):
    assert verdict(board, tmp_path, {"image_auc": value}).score == value


def test_verdict_without_the_ranking_metric(board, tmp_path):
    board.requires_score = True
    assert verdict(board, tmp_path, {"seconds": 3}).code == "bad_metrics"
    board.requires_score = False
    assert verdict(board, tmp_path, {"seconds": 3}) == Success({"k": 1}, {"seconds": 3}, None)
