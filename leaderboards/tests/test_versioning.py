"""Score versions: which one a board gets, what an organizer changes, which scores rank, and what a change is said to do."""

from dataclasses import replace

import pytest
from django.db import IntegrityError, transaction
from django.db.models import F

from accounts.refusals import Conflict
from accounts.tests.factories import UserFactory
from jobs import claiming, transitions
from jobs.models import Job, Worker
from jobs.tests.factories import JobFactory, WorkerFactory
from jobs.transitions import Evidence, Scored
from leaderboards.models import Entry, Leaderboard, Metric, ScoreVersion, Standing
from leaderboards.ranking_state import ranking_state
from leaderboards.score_contents import choose, contents_of
from leaderboards.services import copy_leaderboard, create_leaderboard
from leaderboards.versioning import adopted, begin, change, preview, rule_of, settle

pytestmark = pytest.mark.django_db
OLD, NEW = "a" * 64, "b" * 64


def announcing(truth=OLD, **fields):
    """A live worker that has the labels with this digest."""
    inventory = {"ground_truths": {"labels": truth} if truth else {}, "scorers": {"regression": [1], "own/x": "c" * 64}}
    return WorkerFactory(state="idle", inventory=inventory, **fields)


@pytest.fixture
def board():
    metrics = [{"name": "r2", "maximum": 1}, {"name": "rmse", "direction": "lower"}]
    return create_leaderboard(slug="b", title="B", scorer="regression", ground_truth="labels", metrics=metrics)


@pytest.fixture
def worker():
    return announcing()


def current(board):
    return Leaderboard.objects.select_related("score_version").get(pk=board.pk).score_version


def completed(board, score, *, user=None, metrics=None):
    """A job that a worker scored as the board is now."""
    board = Leaderboard.objects.get(pk=board.pk)
    job = JobFactory(leaderboard=board, user=user or UserFactory())
    held = claiming.claim(job.pk, worker_id=WorkerFactory(state="stopped").pk, worker_name="w")
    scored = Scored(board.scorer, board.ground_truth, {}, board.score_version_id)
    metrics = metrics or {"r2": score, "rmse": 1 - score}
    arguments = {"params": {}, "artifacts": [], "evidence": Evidence(), "scored": scored}
    assert transitions.complete(held, attempt=1, metrics=metrics, score=score, **arguments)
    return Job.objects.get(pk=job.pk)


def adopt(board, digest):
    write = lambda: begin(board, adopted(board, ground_truth_digest=digest), by=None, reason="corrected")  # noqa: E731
    return change(board, write, by=None, reason="corrected")


def go_back(board, number):
    version = board.score_versions.get(number=number)
    return change(board, lambda: choose(board, version, by=None, reason="back"), by=None, reason="back")


def ranked(board):
    return list(Entry.objects.filter(leaderboard=board).order_by("-score").values_list("job_id", flat=True))


# --- Which version a board has ---------------------------------------------------------------------------------------
def test_new_board_takes_the_digest_that_all_workers_announce(worker, board, settings):
    announcing(hostname="other")
    announcing(truth="")  # has no such folder
    WorkerFactory(state="idle")  # has announced nothing
    announcing(truth=NEW, disabled_at="2026-01-01T00:00:00Z")
    settle()
    version = current(board)
    assert (version.number, version.scorer_version, version.ground_truth_digest) == (1, 1, OLD)
    assert version.parameters == {
        "digits": settings.SCORING_DIGITS,
        "limits": {"r2": [None, 1.0], "rmse": [0.0, None]},
    }
    assert not version.is_assumed


def test_workers_that_disagree_leave_the_digest_to_the_organizer(board):
    announcing(), announcing(truth=NEW)
    settle()
    assert current(board).ground_truth_digest == ""
    adopt(board, NEW)
    assert current(board).ground_truth_digest == NEW


def test_labels_that_change_on_workers_change_no_version(worker, board):
    settle()
    Worker.objects.update(inventory={"ground_truths": {"labels": NEW}})
    assert settle() == 0
    assert (current(board).number, current(board).ground_truth_digest) == (1, OLD)


def test_settling_is_idempotent_and_costs_one_query(worker, board, django_assert_num_queries):
    Leaderboard.objects.filter(pk=board.pk).update(score_version=None)
    ScoreVersion.objects.all().delete()
    assert settle() == 1
    with django_assert_num_queries(1):
        assert settle() == 0
    Leaderboard.objects.filter(pk=board.pk).update(scorer="", ground_truth="")
    settle()
    assert current(board) is None and ScoreVersion.objects.count() == 1


def test_own_scorer_takes_its_digest(worker):
    made = create_leaderboard(slug="o", title="O", scorer="own/x", ground_truth="labels", metrics=[{"name": "s"}])
    version = current(made)
    assert (version.scorer_version, version.scorer_digest, version.ground_truth_digest) == (None, "c" * 64, OLD)


def test_copy_has_the_same_contents_and_counts_from_one(worker, board):
    adopt(board, NEW)
    copy = copy_leaderboard(board)
    assert current(copy).number == 1 and contents_of(current(copy)) == contents_of(current(board))


# --- What makes another version --------------------------------------------------------------------------------------
def written(**fields):
    return lambda board: Leaderboard.objects.filter(pk=board.pk).update(**fields)


def of_metric(name, **fields):
    return lambda board: Metric.objects.filter(leaderboard=board, name=name).update(**fields)


@pytest.mark.parametrize(
    ("write", "number"),
    [
        (written(scorer="classification"), 2),
        (written(ground_truth="others"), 2),
        (of_metric("r2", maximum=0.9), 2),
        (lambda board: board.metrics.create(name="mae", position=9, minimum=0), 1),
        (lambda board: board.metrics.filter(name="rmse").delete(), 1),
        (of_metric("r2", direction="lower"), 1),
        (of_metric("rmse", is_required=True), 1),
    ],
)
def test_what_makes_another_version(worker, board, write, number):
    change(board, lambda: write(board), by=None)
    assert current(board).number == number


def test_limits_of_a_new_metric_join_the_version_and_then_stay(worker, board):
    change(board, lambda: board.metrics.create(name="mae", position=9, minimum=0), by=None)
    assert current(board).limits["mae"] == [0, None]
    change(board, lambda: of_metric("mae", minimum=1)(board), by=None)
    assert current(board).number == 2
    change(board, lambda: of_metric("mae", minimum=0)(board), by=None)
    assert current(board).number == 1


def test_same_contents_are_the_same_version(worker, board):
    settle()
    adopt(board, NEW)
    assert current(board).number == 2
    adopt(board, OLD)
    assert current(board).number == 1 and ScoreVersion.objects.count() == 2
    with pytest.raises(Conflict, match="version 1 has the same contents"):
        adopt(board, OLD)


def test_beginning_anew_takes_the_latest_scorer_and_digits(worker, board, settings, monkeypatch):
    from leaderboards import score_contents

    settle()
    settings.SCORING_DIGITS = 3
    built_in = score_contents.BUILT_IN
    monkeypatch.setitem(built_in, "regression", replace(built_in["regression"], versions=(1, 2)))
    assert settle() == 0
    change(board, lambda: begin(board, by=None, reason=""), by=None)
    version = current(board)
    assert (version.number, version.scorer_version, version.digits) == (2, 2, 3)


# --- Which scores rank -----------------------------------------------------------------------------------------------
def test_corrected_labels_take_old_scores_off_the_board_and_going_back_revives_them(worker, board):
    settle()
    old = completed(board, 0.9)
    assert ranked(board) == [old.pk]
    adopt(board, NEW)
    assert ranked(board) == []
    new = completed(board, 0.5, user=old.user)
    assert ranked(board) == [new.pk]
    told = ranking_state(Job.objects.get(pk=old.pk), None)
    assert told.reason == "Not on the board: scored with score version 1; the board ranks version 2."
    go_back(board, 1)
    assert ranked(board) == [old.pk]
    assert ranking_state(Job.objects.get(pk=old.pk), None).code == "entry"


def test_history_of_a_version_whose_jobs_are_pruned_comes_back_with_it(worker, board):
    settle()
    user = UserFactory()
    first, best = completed(board, 0.5, user=user), completed(board, 0.9, user=user)
    Job.objects.filter(pk=first.pk).delete()
    adopt(board, NEW)
    new = completed(board, 0.1, user=user)
    shown = Leaderboard.objects.get(pk=board.pk).current_standings
    assert list(shown.values_list("job", "score")) == [(new.pk, 0.1)]
    go_back(board, 1)
    shown = Leaderboard.objects.get(pk=board.pk).current_standings.order_by("began_at")
    assert list(shown.values_list("job", "score")) == [(None, 0.5), (best.pk, 0.9)]
    assert Standing.objects.filter(leaderboard=board, ended_at=None).count() == 1


def test_score_version_of_an_ended_job_stays(worker, board):
    job = completed(board, 0.9)
    adopt(board, NEW)
    with pytest.raises(IntegrityError, match="is final"), transaction.atomic():
        Job.objects.filter(pk=job.pk).update(score_version=current(board))


def test_result_of_a_worker_that_knows_no_versions_gets_the_current_one(board):
    job = JobFactory(leaderboard=board)
    claiming.claim(job.pk, worker_id=WorkerFactory().pk, worker_name="w")
    ended = {"status": "completed", "lease_until": None, "finished_at": F("started_at"), "score": 0.5}
    Job.objects.filter(pk=job.pk).update(**ended, metrics={"r2": 0.5}, scorer="regression", ground_truth="labels")
    assert Job.objects.get(pk=job.pk).score_version == current(board)


# --- What a change would do ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("write", "stay", "moved", "reason"),
    [
        (
            of_metric("r2", direction="lower"),
            3,
            2,
            "2 of 3 rows would change places, because a lower r2 would be better.",
        ),
        (of_metric("rmse", position=-0), 3, 0, None),
        (
            of_metric("r2", position=9),
            2,
            0,
            "1 of 3 rows would leave the board, because rmse would rank instead of r2; ",
        ),
        (of_metric("rmse", is_required=True), 2, 0, "because runs without rmse would not rank."),
        (of_metric("r2", maximum=0.9), 0, 0, "only scores of version 2 would rank, not those of version 1."),
        (written(ground_truth="others"), 0, 0, "3 of 3 rows would leave the board, because only scores of version 2"),
        (written(scorer="", ground_truth=""), 0, 0, "because runs would report their own metrics"),
        (lambda board: board.metrics.all().delete(), 0, 0, "because no metric would rank"),
        (written(title="Other"), 3, 0, None),
    ],
)
def test_preview_says_what_a_change_does_and_changes_nothing(worker, board, write, stay, moved, reason):
    jobs = [completed(board, 0.9), completed(board, 0.5), completed(board, 0.1, metrics={"r2": 0.1})]
    before, rule = ranked(board), rule_of(board)
    found = preview(board, lambda: write(board))
    if reason is None:
        assert not found.is_needed
    else:
        assert (found.rows, found.stay, found.moved) == (3, stay, moved)
        assert found.is_needed and reason in " ".join(found.sentences())
    assert ranked(board) == before == [job.pk for job in jobs] and rule_of(board) == rule
    assert ScoreVersion.objects.count() == 1


def test_preview_gives_up_on_a_board_that_takes_too_long(worker, board, monkeypatch):
    from leaderboards import versioning

    completed(board, 0.9)
    monkeypatch.setattr(versioning, "_COMPARE", "SELECT 1, 1, 1, 1 FROM pg_sleep(9) /* {best}{was}{order} */")
    monkeypatch.setattr(versioning, "PREVIEW_MILLISECONDS", 100)
    found = preview(board, lambda: written(ground_truth="others")(board))
    assert found.is_needed and "too many runs to count" in found.sentences()[0]
