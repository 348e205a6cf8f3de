"""Why a completed job is or is not on the board: the sentence and the SQL rule must say the same."""

import itertools

import pytest
from django.db import connection

from accounts.tests.factories import UserFactory
from jobs.models import Job
from jobs.tests.factories import JobFactory
from leaderboards.history import COUNTS, RANKING
from leaderboards.models import Disqualification, Leaderboard, ScoreVersion
from leaderboards.ranking_state import ranking_state
from leaderboards.services import mark_baseline, rebuild_entries
from leaderboards.tests.factories import LeaderboardFactory
from submissions.tests.factories import SubmissionFactory

pytestmark = pytest.mark.django_db
METRICS = [{"name": "auc", "label": "AUROC"}, {"name": "pro", "is_required": True}]
RELATED = ("leaderboard__score_version", "score_version", "disqualification")


def scored_board(**fields):
    """A board with a scorer whose current score version is 2: (board, the versions by number)."""
    board = LeaderboardFactory(metrics=METRICS, scorer="regression", ground_truth="labels", **fields)
    versions = {
        number: ScoreVersion.objects.create(
            leaderboard=board, number=number, scorer="regression", ground_truth="labels"
        )
        for number in (1, 2)
    }
    Leaderboard.objects.filter(pk=board.pk).update(score_version=versions[2])
    board.refresh_from_db()
    return board, versions


def state_of(job, viewer=None):
    return ranking_state(Job.objects.select_related(*RELATED).get(pk=job.pk), viewer)


def counted(jobs):
    """The ids of those that the SQL rule counts."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT job.id FROM jobs_job job {RANKING} WHERE {COUNTS} AND job.id = ANY(%s)", [jobs])
        return {row[0] for row in cursor.fetchall()}


def test_the_sentence_and_the_rule_agree_on_every_combination():
    board, versions = scored_board()
    submission = SubmissionFactory(leaderboard=board)
    template = JobFactory(submission=submission, user=submission.user, leaderboard=board, status="completed")
    marks = [{}, {"trial": True}, {"withdrawn_at": template.created_at}]
    scorers, labels = ["regression", "classification", ""], ["labels", "others"]
    metrics = [{"auc": 0.5, "pro": 0.5}, {"auc": 0.0}, {"pro": 0.5}, {"auc": None, "pro": 0.5}, {"other": 1.0}, {}]
    fields = {field.attname: getattr(template, field.attname) for field in Job._meta.concrete_fields}
    del fields["id"]
    jobs, void = [], []
    for mark, scorer, ground_truth, version, values, is_void in itertools.product(
        marks, scorers, labels, [versions[2].pk, versions[1].pk, None], metrics, [False, True]
    ):
        job = Job(**{**fields, **mark, "scorer": scorer, "ground_truth": ground_truth, "metrics": values})
        job.score_version_id = version
        jobs.append(job)
        void += [Disqualification(job=job, reason="Leaked.")] if is_void else []
    Job.objects.bulk_create(jobs)
    Disqualification.objects.bulk_create(void)
    by_sql = counted([job.pk for job in jobs])
    assert len(by_sql) == 1
    for job in Job.objects.select_related(*RELATED).filter(pk__in=[job.pk for job in jobs]):
        job.leaderboard = board
        state = ranking_state(job, None)
        assert state.counts == (job.pk in by_sql), (state, job.__dict__)
        assert state.reason.endswith(".")


def test_a_board_without_a_scorer_counts_what_runs_report():
    board = LeaderboardFactory()
    job = JobFactory(leaderboard=board, status="completed")
    scored = JobFactory(leaderboard=board, status="completed", scorer="regression", ground_truth="labels")
    assert counted([job.pk, scored.pk]) == {job.pk}
    assert [state_of(each).code for each in (job, scored)] == ["missing_entry", "other_scorer"]
    board.metrics.all().delete()
    assert (counted([job.pk]), state_of(job).code) == (set(), "no_metric")


def completed(board, version, **fields):
    metrics = fields.pop("metrics", {"auc": 0.5, "pro": 0.5})
    return JobFactory(
        leaderboard=board, status="completed", scorer="regression", ground_truth="labels", metrics=metrics,
        score_version=version, **fields,
    )  # fmt: skip


def test_each_reason_is_one_sentence_with_a_code():
    board, versions = scored_board()
    one, two = versions[1], versions[2]
    void = completed(board, two)
    Disqualification.objects.create(job=void, reason="Used the test images.")
    states = [
        state_of(job)
        for job in (
            void,
            completed(board, two, withdrawn_at=void.created_at),
            completed(board, two, trial=True),
            completed(board, one),
            completed(board, None),
            completed(board, two, metrics={"pro": 0.5}),
            completed(board, two, metrics={"auc": 0.5}),
        )
    ]
    no = "Not on the board: "
    assert [(state.code, state.reason.removeprefix(no)) for state in states] == [
        ("disqualified", "disqualified by the operators. Used the test images."),
        ("withdrawn", "withdrawn by its owner."),
        ("trial", "this is a trial run. To rank, run it again without the trial option."),
        ("other_score_version", "scored with score version 1; the board ranks version 2."),
        ("other_score_version", "scored with score version –; the board ranks version 2."),
        ("missing_ranking_metric", "the board ranks by AUROC, which this run does not have."),
        ("missing_required_metric", "it lacks the required metric pro."),
    ]


def test_a_run_that_counts_has_its_rank_or_names_the_better_one():
    board, user = LeaderboardFactory(), UserFactory()
    others = [JobFactory(leaderboard=board, status="completed", score=score) for score in (0.9, 0.8)]
    first, equal, worse = (
        JobFactory(user=user, leaderboard=board, status="completed", score=score) for score in (0.5, 0.5, 0.1)
    )
    rebuild_entries(board)
    best = state_of(first)
    assert (best.reason, best.rank, best.is_on_board) == ("On the board, rank 3.", 3, True)
    short = str(first.pk)[:8]
    assert state_of(equal).reason == f"Not on the board: run {short} has the same score and came first."
    assert state_of(worse).reason == f"Not on the board: run {short} is better."
    assert (state_of(worse).entry_job_id, state_of(worse).is_on_board) == (first.pk, False)
    mark_baseline(board, user_id=others[0].user_id)
    assert state_of(others[0]).reason == "On the board as a baseline, without a rank."
    assert state_of(first).rank == 2


def test_the_rank_on_a_hidden_board_is_for_operators_alone():
    board = LeaderboardFactory(visibility="hidden")
    job = JobFactory(leaderboard=board, status="completed")
    rebuild_entries(board)
    owner, operator = state_of(job, job.user), state_of(job, UserFactory(is_staff=True, is_superuser=True))
    assert (owner.reason, owner.rank) == ("On the board.", None)
    assert operator.rank == 1


def test_it_costs_the_same_whatever_it_finds(django_assert_max_num_queries):
    board, user = LeaderboardFactory(), UserFactory()
    best, worse = (JobFactory(user=user, leaderboard=board, status="completed", score=score) for score in (0.5, 0.1))
    rebuild_entries(board)
    for job in (best, worse):
        found = Job.objects.select_related(*RELATED).get(pk=job.pk)
        with django_assert_max_num_queries(6):
            ranking_state(found, user)
