"""Trial runs, withdrawn runs and why a run is on the board or not, by the API and the participants' program."""

import hashlib
import json
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.tests.factories import UserFactory
from jobs.models import Job
from jobs.services import request_digest
from jobs.tests.factories import JobFactory
from leaderboards.models import Entry
from leaderboards.run_counts import MOST_RUNS, run_counts
from leaderboards.services import rebuild_entries
from leaderboards.tests.factories import LeaderboardFactory
from submissions.tests.factories import SubmissionFactory
from tests.api.conftest import Api, refusal

pytestmark = pytest.mark.django_db


@pytest.fixture
def submission(user):
    return SubmissionFactory(user=user)


def enqueue(api, submission, trial, key):
    return api.post("/api/jobs", {"submission_id": str(submission.pk), "trial": trial}, Idempotency_Key=key)


def completed(board, user, score, **fields):
    return JobFactory(user=user, leaderboard=board, status="completed", score=score, **fields)


def test_a_key_of_before_trials_still_answers_with_its_job(api, submission):
    """The stored digest of a run that ranks is what it always was."""
    digest = hashlib.sha256(json.dumps([str(submission.pk), {}, "small"], sort_keys=True).encode()).hexdigest()
    assert request_digest(submission.pk, {}, "small", trial=False) == digest
    old = JobFactory(submission=submission, user=api.user, idempotency_key="old", request_digest=digest)
    assert api.enqueue(submission, Idempotency_Key="old").json()["job_id"] == str(old.pk)


@pytest.mark.parametrize("first", [True, False])
def test_a_key_is_for_a_trial_or_for_a_run_that_ranks(api, submission, first):
    made = enqueue(api, submission, first, "k").json()
    assert enqueue(api, submission, first, "k").json() == made
    assert refusal(enqueue(api, submission, not first, "k")) == (409, "idempotency_conflict")
    shown = api.get(f"/api/jobs/{made['job_id']}").json()
    assert (shown["trial"], shown["ranking"]) == (first, None)
    assert api.get("/api/jobs").json()["results"][0]["trial"] is first


def test_a_trial_counts_against_the_quota_like_any_other(api, submission):
    assert [enqueue(api, submission, True, str(n)).status_code for n in range(4)] == [202] * 3 + [429]


def test_a_trial_of_a_closed_board_is_409(api, user):
    board = LeaderboardFactory(closes_at=timezone.now() - timedelta(seconds=1))
    answer = enqueue(api, SubmissionFactory(user=user, leaderboard=board), True, "k")
    assert refusal(answer) == (409, "leaderboard_closed")


def test_withdrawing_and_counting_again(api, user):
    board = LeaderboardFactory()
    first, best = completed(board, user, 0.5), completed(board, user, 0.9)
    rebuild_entries(board)
    shown = api.get(f"/api/jobs/{best.pk}").json()["ranking"]
    assert shown == {
        "counts": True, "is_on_board": True, "rank": 1, "code": "entry", "reason": "On the board, rank 1.",
        "entry_job_id": str(best.pk),
    }  # fmt: skip
    answer = api.post(f"/api/jobs/{best.pk}/withdraw")
    assert (answer.status_code, answer.json()["ranking"]["code"]) == (200, "withdrawn")
    assert answer.json()["withdrawn_at"] is not None
    assert refusal(api.post(f"/api/jobs/{best.pk}/withdraw")) == (409, "already_withdrawn")
    [entry] = api.get(f"/api/leaderboards/{board.slug}/entries").json()["entries"]
    assert (entry["job_id"], entry["runs"], entry["withdrawn"]) == (str(first.pk), 2, 1)
    answer = api.post(f"/api/jobs/{best.pk}/restore")
    assert (answer.status_code, answer.json()["ranking"], answer.json()["withdrawn_at"]) == (200, shown, None)
    assert refusal(api.post(f"/api/jobs/{best.pk}/restore")) == (409, "not_withdrawn")


@pytest.mark.parametrize("action", ["withdraw", "restore"])
def test_others_runs_are_not_there_and_operators_may_not(api, action):
    foreign = completed(LeaderboardFactory(), UserFactory(), 0.9)
    assert refusal(api.post(f"/api/jobs/{foreign.pk}/{action}")) == (404, "not_found")
    operator = Api(UserFactory(is_staff=True, is_superuser=True))
    assert refusal(operator.post(f"/api/jobs/{foreign.pk}/{action}")) == (403, "forbidden")
    foreign.refresh_from_db()
    assert foreign.withdrawn_at is None


def test_the_sentence_is_in_the_language_of_the_request(api, user):
    job = completed(LeaderboardFactory(), user, 0.9, trial=True)
    english, japanese = (
        api.get(f"/api/jobs/{job.pk}", Accept_Language=language).json()["ranking"]["reason"]
        for language in ("en", "ja")
    )
    assert english.startswith("Not on the board: this is a trial run.")
    assert japanese.isascii() is False


def test_runs_are_counted_up_to_a_bound_and_trials_are_none():
    board, user, busy = LeaderboardFactory(), UserFactory(), UserFactory()
    moment = timezone.now()
    for fields in ({}, {"withdrawn_at": moment}, {"trial": True}, {"score": None}):
        completed(board, user, **{"score": 0.5, **fields})
    JobFactory(user=user, leaderboard=board, status="failed")
    completed(LeaderboardFactory(), user, 0.5)
    template = completed(board, busy, 0.5)
    fields = {
        field.attname: getattr(template, field.attname) for field in Job._meta.concrete_fields if field.name != "id"
    }
    Job.objects.bulk_create(Job(**fields) for _ in range(MOST_RUNS))
    counted = run_counts(board, [user.pk, busy.pk])
    assert (counted[user.pk].runs, counted[user.pk].withdrawn, counted[user.pk].has_more) == (3, 1, False)
    assert (counted[busy.pk].runs, counted[busy.pk].withdrawn, counted[busy.pk].has_more) == (MOST_RUNS, 0, True)
    assert run_counts(board, []) == {}


def test_a_past_board_counts_no_runs(nobody):
    board, user = LeaderboardFactory(), UserFactory()
    completed(board, user, 0.5, created_at=timezone.now() - timedelta(days=3))
    rebuild_entries(board)
    day = (timezone.now() - timedelta(days=1)).date()
    [entry] = nobody.get(f"/api/leaderboards/{board.slug}/entries", {"as_of": str(day)}).json()["entries"]
    assert (entry["runs"], entry["withdrawn"], Entry.objects.count()) == (None, None, 1)
