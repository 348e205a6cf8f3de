"""`create_leaderboard` with times, rules and drafts; `set_quota`."""

import io
import json

import pytest
from django.core.management import CommandError, call_command

from accounts.models import OperatorAction, User
from accounts.tests.factories import UserFactory
from jobs.tests.factories import WorkerFactory
from leaderboards.models import Leaderboard
from leaderboards.yaml_file import export_leaderboard

pytestmark = pytest.mark.django_db


def call(*arguments):
    out, err = io.StringIO(), io.StringIO()
    call_command(*map(str, arguments), stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_times_rules_and_a_draft(tmp_path):
    rules = tmp_path / "rules.md"
    rules.write_text("\ufeffOne *run* a day.\n", encoding="utf-8")
    times = ("--opens-at", "2027-01-01T09:00:00+09:00", "--closes-at", "2027-01-31T00:00:00Z")
    out, _ = call("create_leaderboard", "b", "--metric", "m", *times, "--rules", f"@{rules}", "--draft")
    board = Leaderboard.objects.get(slug="b")
    assert [str(board.opens_at), str(board.closes_at)] == ["2027-01-01 00:00:00+00:00", "2027-01-31 00:00:00+00:00"]
    assert (board.rules, board.is_draft) == ("One *run* a day.\n", True)
    assert "is a draft" in out
    call("create_leaderboard", "c", "--metric", "m", "--rules", "As they are.")
    assert Leaderboard.objects.filter(slug="c", rules="As they are.", is_draft=False).exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--closes-at", "2027-01-31T09:00:00"], "--closes-at: must be a time with its zone.* not .* without a zone"),
        (["--opens-at", "tomorrow"], "--opens-at: must be a time with its zone.* not 'tomorrow'"),
        (
            ["--opens-at", "2027-01-31T09:00Z", "--closes-at", "2027-01-30T09:00Z"],
            "closes_at: Must be after the opening",
        ),
        (["--closes-at", "9999-12-31T00:00Z"], "closes_at: The year must be"),
        (["--rules", "@/nowhere.md"], "--rules: /nowhere.md cannot be read"),
        (["--rules", "@/nowhere.md", "--from-yaml", "-"], "--rules: not with --from-yaml"),
    ],
)
def test_what_is_wrong_is_named(options, message):
    with pytest.raises(CommandError, match=message):
        call("create_leaderboard", "b", "--metric", "m", *options) if "--from-yaml" not in options else call(
            "create_leaderboard", *options
        )
    assert not Leaderboard.objects.filter(slug="b").exists()


def test_a_file_makes_a_draft_on_request(tmp_path):
    file = tmp_path / "board.yaml"
    file.write_text("leadersboard: 1\nslug: b\ntitle: x\n")
    call("create_leaderboard", "--from-yaml", file, "--draft")
    assert Leaderboard.objects.get(slug="b").is_draft
    call("create_leaderboard", "--from-yaml", file, "--replace")
    assert "draft: false" in export_leaderboard(Leaderboard.objects.get(slug="b"))


def test_what_no_worker_has_is_a_warning():
    WorkerFactory(state="idle", inventory={"datasets": ["here"], "ground_truths": {}, "scorers": {"regression": [1]}})
    assert call("create_leaderboard", "a", "--metric", "m", "--dataset", "here")[1] == ""
    _, err = call(
        "create_leaderboard",
        "b",
        "--metric",
        "r2",
        "--dataset",
        "bottles",
        "--scorer",
        "regression",
        "--ground-truth",
        "t",
    )
    assert err.splitlines() == [
        "No running worker has the data set bottles: its jobs would wait.",
        "No running worker has the ground truth t: its jobs would wait.",
    ]


def test_without_a_worker_this_machine_is_looked_at(settings, tmp_path):
    settings.DATASET_ROOT = settings.GROUND_TRUTH_ROOT = settings.SCORER_ROOT = tmp_path
    _, err = call("create_leaderboard", "b", "--metric", "m", "--scorer", "own/x", "--ground-truth", "t")
    assert [line.partition(" on this")[0] for line in err.splitlines()] == [
        f"ground_truth: there is no {tmp_path}/t",
        f"scorer: there is no {tmp_path}/x",
    ]


def own_quota():
    return User.objects.values_list("submissions_per_hour", "concurrent_jobs").get(username="ada")


def test_a_quota_is_set_shown_and_given_back():
    UserFactory(username="ada")
    call("set_quota", "ada", "--submissions-per-hour", 40, "--reason", "final week")
    assert own_quota() == (40, None)
    call("set_quota", "ada", "--concurrent-jobs", 0)
    assert own_quota() == (40, 0)
    told = json.loads(call("set_quota", "ada", "--json")[0])
    assert told == {"user": "ada", "submissions_per_hour": 40, "concurrent_jobs": 0,
                    "own": ["submissions_per_hour", "concurrent_jobs"]}  # fmt: skip
    call("set_quota", "ada", "--default", "--concurrent-jobs", 3)
    assert own_quota() == (None, 3)
    assert "concurrent jobs: 3 (ada's own)" in call("set_quota", "ada")[0]
    recorded = OperatorAction.objects.order_by("id").values_list("action", "reason", "details__to")
    assert next(iter(recorded)) == ("change_quota", "final week", {"submissions_per_hour": 40, "concurrent_jobs": None})
    assert len(recorded) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody", "--default"], "no user 'nobody'"),
        (["ada", "--concurrent-jobs", "-1"], "--concurrent-jobs: from 0 to 10000, not -1"),
        (["ada", "--submissions-per-hour", "100001"], "--submissions-per-hour: from 0 to 100000"),
        (["ada", "--reason", "x"], "--reason: of which change"),
    ],
)
def test_a_wrong_quota_is_refused(arguments, message):
    UserFactory(username="ada")
    with pytest.raises(CommandError, match=message):
        call("set_quota", *arguments)
    assert own_quota() == (None, None) and not OperatorAction.objects.exists()
