"""What a scorer's end means, and which jobs count on a board that has one."""

import ast
import json
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from accounts.tests.factories import UserFactory
from core.folder_digest import FolderDigests
from jobs import claiming, transitions
from jobs.execution.spec import Result
from jobs.mlflow_run import _curve_name
from jobs.models import Job, Worker
from jobs.scoring import Rejected, ScorerBroke, read_scores
from jobs.stuck import KINDS
from jobs.tests.factories import JobFactory, WorkerFactory
from jobs.transitions import Evidence, Scored
from leaderboard_site.doctor.findings import Found
from leaderboard_site.doctor.scoring import scoring as doctor
from leaderboards.checks import hidden_labels_lie_apart
from leaderboards.models import Entry, Leaderboard, Metric, ScoreVersion, Standing
from leaderboards.score_contents import fit
from leaderboards.scoring import BUILT_IN
from leaderboards.services import copy_leaderboard, rebuild_entries
from leaderboards.tests.factories import LeaderboardFactory, ScoreVersionFactory
from leaderboards.yaml_file import export_leaderboard, import_leaderboard

pytestmark = pytest.mark.django_db


@pytest.fixture
def board():
    board = LeaderboardFactory(
        scorer="regression", ground_truth="labels", metrics=[{"name": "r2"}, {"name": "rmse", "direction": "lower"}]
    )
    Metric.objects.filter(leaderboard=board, name="r2").update(maximum=1)
    return board


def read(board, tmp_path, document, **result):
    file = tmp_path / "metrics.json"
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    return read_scores(Result(**{"reason": "exited", "exit_code": 0, **result}), file, board)


@pytest.mark.parametrize(("digits", "kept"), [(4, 0.1235), (1, 0.1), (15, 0.123456789)])
def test_scores_are_rounded_as_their_version_says(board, tmp_path, digits, kept):
    fit(board).parameters["digits"] = digits
    measured = {"r2": 0.123456789, "rmse": 12345.0, "more": 1.0}
    found = read(board, tmp_path, {"params": {}, "metrics": measured})
    assert found.metrics == {"r2": kept, "rmse": float(f"{12345.0:.{digits}g}")}


@pytest.mark.parametrize("metrics", [{}, {"rmse": 1.0}, {"r2": True}, {"r2": "1"}, {"r2": None}])
def test_scores_without_a_ranking_number_are_the_scorers_fault(board, tmp_path, metrics):
    with pytest.raises(ScorerBroke):
        read(board, tmp_path, {"params": {}, "metrics": metrics})


@pytest.mark.parametrize(
    ("value", "limit", "kept"), [(1.0, 1, 1.0), (1 + 1.2e-7, 1, 1.0), (1.00004, 1, 1.0), (0.98765, 0.98766, 0.98766)]
)
def test_score_that_float32_or_rounding_puts_beyond_a_limit_is_clamped(board, tmp_path, value, limit, kept):
    Metric.objects.filter(leaderboard=board, name="r2").update(maximum=limit)
    assert read(board, tmp_path, {"metrics": {"r2": value}}).metrics == {"r2": kept}


def test_score_out_of_range_is_the_submissions_fault_and_shows_no_further_digits(board, tmp_path):
    Metric.objects.filter(leaderboard=board, name="rmse").update(minimum=0)
    with pytest.raises(Rejected, match=r"^r2 must be at most 1\.0, not 1\.123$"):
        read(board, tmp_path, {"metrics": {"r2": 1.123456789}})
    found = read(board, tmp_path, {"metrics": {"r2": 0.5, "rmse": -1.23456789, "x": -1.23456789}})
    assert found.metrics == {"r2": 0.5}
    assert found.notes == ("Left out of the scores: rmse must be at least 0.0, not -1.235.",)
    found = read(board, tmp_path, '{"metrics": {"r2": 0.5, "rmse": NaN, "secret": NaN}}')
    assert found.notes == ("Left out of the scores: the scorer gave no valid rmse.",)


def test_score_without_a_required_metric_is_the_scorers_fault_or_does_not_rank(board, tmp_path):
    Metric.objects.filter(leaderboard=board, name="rmse").update(is_required=True)
    with pytest.raises(ScorerBroke, match="requires rmse, but the scorer regression gives r2, not rmse"):
        read(board, tmp_path, {"metrics": {"r2": 0.5}})
    with pytest.raises(ScorerBroke, match="requires r2, rmse, but the scorer regression gives x, not r2"):
        read(board, tmp_path, {"metrics": {"x": 0.5}})
    board.requires_score = False
    found = read(board, tmp_path, {"metrics": {"r2": 0.5}})
    assert (found.metrics, found.notes) == (
        {"r2": 0.5},
        ("It does not rank: it lacks rmse, required by this leaderboard.",),
    )


def test_what_a_scorer_gives_beyond_the_boards_metrics_is_kept_apart_rounded_and_bounded(board, tmp_path):
    Metric.objects.create(leaderboard=board, name="木_r2", position=2)
    categories = {"木": {"r2": 0.123456, "own": 2}, "b": {"r2": "x"}, "\u202e": {"r2": 1}, "c": 3}
    document = {"metrics": {"r2": 0.5, "kind/scratch": 0.123456}, "categories": categories}
    found = read(board, tmp_path, document)
    assert found.metrics == {"r2": 0.5, "木_r2": 0.1235}
    assert found.details == {
        "categories": {"木": {"r2": 0.1235, "own": 2.0}},
        "other": {"kind/scratch": 0.1235},
        "left_out": 3,
    }
    assert found.notes == ()
    document["categories"] = {f"c{number}": {f"m{metric}": 1 for metric in range(10)} for number in range(300)}
    document["metrics"] |= {f"image {number}": 1 for number in range(900)}
    details = read(board, tmp_path, document).details
    assert len(details["categories"]) == 100 and "other" not in details
    assert sum(map(len, details["categories"].values())) == 1000


@pytest.mark.parametrize("reason", ["timeout", "out_of_memory", "cpu_limit", "log_limit", "disk_limit"])
def test_scorer_at_a_limit_broke_whatever_it_left(board, tmp_path, reason):
    with pytest.raises(ScorerBroke, match=reason):
        read(board, tmp_path, {"params": {}, "metrics": {"r2": 1.0}}, reason=reason)


def claimed(board, **fields):
    job = JobFactory(leaderboard=board, **fields)
    return claiming.claim(job.pk, worker_id=WorkerFactory().pk, worker_name="w")


def completed(board, score, scored=None, **fields):
    job = claimed(board, **fields)
    arguments = {"params": {}, "metrics": {"r2": score}, "score": score, "artifacts": [], "evidence": Evidence()}
    scored = scored or Scored(board.scorer, board.ground_truth, {"r2": 0.99})
    assert transitions.complete(job, attempt=1, scored=scored, **arguments)
    return Job.objects.get(pk=job.pk)


@pytest.mark.parametrize("other", [Scored(), Scored("regression", "older-labels"), Scored("own/x", "labels")])
def test_job_scored_in_another_way_completes_and_counts_for_nothing(board, other):
    job = completed(board, 0.9, other)
    assert (job.status, job.score) == ("completed", 0.9)
    assert not Entry.objects.filter(leaderboard=board).exists()
    assert rebuild_entries(board) == 0 and not Standing.objects.exists()
    assert not KINDS["without_entry"].find().exists()


def test_entries_follow_a_change_of_how_the_board_is_scored(board):
    Metric.objects.filter(leaderboard=board, name="rmse").update(minimum=0)  # as the scorer declares it
    fit(board)
    user = UserFactory()
    plain = completed(board, 0.99, Scored(), user=user)
    scored = completed(board, 0.5, user=user)
    assert Entry.objects.get(leaderboard=board).job_id == scored.pk
    before = export_leaderboard(board)
    changed = before.replace("scorer: regression", "scorer: ''")
    import_leaderboard(changed.replace("ground_truth: labels", "ground_truth: ''"), replace=True)
    assert Entry.objects.get(leaderboard=board).job_id == plain.pk
    import_leaderboard(before, replace=True)
    assert Entry.objects.get(leaderboard=board).job_id == scored.pk


def test_scoring_begins_under_the_guard_and_renews_the_lease(board):
    job = claimed(board)
    before = Job.objects.get(pk=job.pk)
    assert not transitions.begin_scoring(job.pk, 2)
    assert transitions.begin_scoring(job.pk, 1)
    after = Job.objects.get(pk=job.pk)
    assert after.lease_until > before.lease_until and after.scoring_started_at is not None
    transitions.cancel(job.pk, by=None)
    assert not transitions.begin_scoring(job.pk, 1)


def test_deadline_allows_for_the_scorer(board, settings):
    settings.SCORING_LIMITS = {**settings.SCORING_LIMITS, "wall_seconds": 10_000}
    with_scorer, without = claimed(board), claimed(LeaderboardFactory())
    spans = [job.deadline_at - job.started_at for job in Job.objects.filter(pk__in=[with_scorer.pk, without.pk])]
    assert (max(spans) - min(spans)).total_seconds() == pytest.approx(10_000, abs=5)


def test_next_attempt_has_not_begun_to_score(board):
    job = claimed(board)
    transitions.begin_scoring(job.pk, 1)
    transitions.give_back(job, attempt=1, code="internal", reason="stopped")
    version = ScoreVersionFactory(leaderboard=board)
    able = WorkerFactory(
        inventory={"scorers": {"regression": [1]}, "ground_truths": {"labels": version.ground_truth_digest}}
    )
    again = claiming.claim_next(worker_id=able.pk, worker_name="w", resource_classes=["small"])
    assert (again.pk, again.attempt, again.scoring_started_at) == (job.pk, 2, None)


def test_curve_of_the_runs_own_never_stands_under_a_scorers_metric(board):
    job = completed(board, 0.5)
    assert (_curve_name(job, "r2"), _curve_name(job, "loss")) == ("self_reported/r2", "loss")
    job.scorer = ""
    assert _curve_name(job, "r2") == "r2"


def test_scorer_and_labels_go_into_a_copy_and_the_file(board):
    made = copy_leaderboard(board)
    assert (made.scorer, made.ground_truth) == ("regression", "labels")
    assert "scorer: regression\nground_truth: labels\n" in export_leaderboard(board)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--scorer", "regression"], "belong together"),
        (["--ground-truth", "x"], "belong together"),
        (["--scorer", "magic", "--ground-truth", "x"], "One of anomaly_detection, classification, regression, or own/"),
        (["--scorer", "own/../x", "--ground-truth", "x"], "One of anomaly_detection"),
        (["--scorer", "regression", "--ground-truth", "../datasets"], "nothing that climbs"),
        (["--scorer", "regression", "--ground-truth", "/etc"], "nothing that climbs"),
    ],
)
def test_command_refuses_half_a_scorer_and_paths_that_climb(options, told):
    with pytest.raises(CommandError, match=told):
        call_command("create_leaderboard", "x", "--metric", "r2", *options)
    assert not Leaderboard.objects.filter(slug="x").exists()


def test_labels_must_lie_apart_from_what_runs_see(settings, tmp_path):
    settings.GROUND_TRUTH_ROOT = tmp_path / "truth"
    assert hidden_labels_lie_apart(None) == []
    for name in ("DATASET_ROOT", "SCORER_ROOT", "WORK_ROOT", "ARTIFACT_ROOT", "UPLOAD_ROOT", "STATIC_ROOT"):
        kept = getattr(settings, name)
        for overlapping in (tmp_path / "truth", tmp_path / "truth" / "inner", tmp_path):
            setattr(settings, name, overlapping)
            assert [error.id for error in hidden_labels_lie_apart(None)] == ["leaderboards.E001"], (name, overlapping)
        setattr(settings, name, kept)
    (tmp_path / "truth").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "truth")
    settings.DATASET_ROOT = tmp_path / "link" / "data"
    assert "DATASET_ROOT" in hidden_labels_lie_apart(None)[0].msg


def test_doctor_finds_labels_that_are_missing_open_or_seen_by_runs(board, settings, tmp_path):
    settings.GROUND_TRUTH_ROOT, settings.DATASET_ROOT = tmp_path / "truth", tmp_path / "data"
    Leaderboard.objects.filter(pk=board.pk).update(dataset="numbers")

    def found():
        report = Found("scoring")
        doctor(report)
        return [(finding.state, finding.what) for finding in report.findings]

    (tmp_path / "data" / "numbers" / "part" / "ground_truth").mkdir(parents=True)
    (tmp_path / "truth").mkdir(mode=0o700)
    state, what = found()[0]
    assert state == "warning" and "is not on this machine" in what
    (tmp_path / "truth" / "labels").mkdir()
    assert any("has no labels.csv" in what for _, what in found())
    (tmp_path / "truth" / "labels" / "labels.csv").write_text("id,value\n1,2\n")
    assert any("part/ground_truth" in what for _, what in found())
    (tmp_path / "data" / "numbers" / "part" / "ground_truth").rename(tmp_path / "data" / "numbers" / "part" / "other")
    assert "no score version" in found()[0][1]
    digest = FolderDigests(tmp_path / "kept").state(tmp_path / "truth" / "labels").digest
    ScoreVersionFactory(leaderboard=board, ground_truth_digest=digest)
    assert [state for state, _ in found()] == ["ok"]
    ScoreVersion.objects.update(ground_truth_digest="1" * 64)
    assert "differs from score version 1" in found()[0][1]
    ScoreVersion.objects.update(ground_truth_digest=digest)
    WorkerFactory(inventory={"scorers": {"regression": [1]}})
    assert ("wrong", f"{board.slug}: no live worker can run its jobs; one lacks the data set numbers") in found()
    Worker.objects.all().delete()
    (tmp_path / "data" / "numbers" / "copy.txt").write_text("id,value\n1,2\n")
    assert any("copy.txt" in what for _, what in found())
    (tmp_path / "truth").chmod(0o755)
    assert any("others on this machine can enter" in what for _, what in found())


def test_doctor_looks_whether_the_platforms_scorer_can_import_what_it_needs(settings, tmp_path):
    settings.GROUND_TRUTH_ROOT, settings.DATASET_ROOT = tmp_path / "truth", tmp_path / "data"
    (tmp_path / "truth").mkdir(mode=0o700)
    (tmp_path / "truth" / "labels").mkdir()
    (tmp_path / "truth" / "labels" / "labels.csv").write_text("image,defect,mask,height,width\n")
    board = LeaderboardFactory(scorer="anomaly_detection", ground_truth="labels", metrics=[{"name": "image_auc"}])
    digest = FolderDigests(tmp_path / "kept").state(tmp_path / "truth" / "labels").digest
    ScoreVersionFactory(leaderboard=board, ground_truth_digest=digest)

    def found():
        report = Found("scoring")
        doctor(report)
        return [(finding.state, finding.what, finding.mend) for finding in report.findings]

    assert [state for state, _, _ in found()] == ["ok"]
    bare = tmp_path / "runner" / "bin" / "python"
    bare.parent.mkdir(parents=True)
    bare.write_text(f'#!/bin/sh\nexec {settings.RUNNER_PYTHON} -S "$@"\n')
    bare.chmod(0o755)
    settings.RUNNER_PYTHON = str(bare)
    ((state, what, mend),) = found()
    assert state == "wrong" and f"needs numpy and cv2, and RUNNER_PYTHON ({bare}) says: ModuleNotFoundError" in what
    assert "requirements/runner.txt" in mend
    # In a container it is the image's Python that counts: the engine is asked, with the image that would score.
    (tmp_path / "podman").write_text('#!/bin/sh\necho "ImportError: $*" >&2; exit 1\n')
    (tmp_path / "podman").chmod(0o755)
    settings.EXECUTOR, settings.CONTAINER_ENGINE = "container", str(tmp_path / "podman")
    settings.SCORING_IMAGE = "localhost/scoring:1"
    ((state, what, mend),) = found()
    assert (state, "and the image localhost/scoring:1 says: ImportError: " in what) == ("wrong", True)
    assert what.endswith("localhost/scoring:1 -c import numpy, cv2") and "--network none" in what
    assert "SCORING_IMAGE" in mend


def test_what_the_platforms_scorers_import_is_known():
    folder = Path(settings.BASE_DIR, "scorers")
    for scorer in BUILT_IN.values():
        tree = list(ast.walk(ast.parse((folder / f"{scorer.name}.py").read_text())))
        names = {alias.name for node in tree if isinstance(node, ast.Import) for alias in node.names}
        names |= {str(node.module).partition(".")[0] for node in tree if isinstance(node, ast.ImportFrom)}
        ours = {path.stem for path in folder.glob("*.py")}
        assert names - sys.stdlib_module_names - ours == set(scorer.modules), scorer.name
