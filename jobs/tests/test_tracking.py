"""A completed job's run in a real MLflow: one, whatever got lost."""

from datetime import timedelta

import pytest
from django.conf import settings
from django.db.models.functions import Now
from django.utils import timezone

from jobs import tracking
from jobs.mlflow_names import flatten
from jobs.mlflow_run import JOB_TAG
from jobs.models import Job, JobProgress, TrackingOutbox
from jobs.tests.factories import JobFactory


@pytest.mark.parametrize(
    ("params", "flat"),
    [
        ({}, {}),
        ({"a": 1, "b": "x", "c": None, "d": [1, 2]}, {"a": "1", "b": "x", "c": "None", "d": "[1, 2]"}),
        ({"model": {"layers": 2, "opt": {"lr": 0.1}}}, {"model.layers": "2", "model.opt.lr": "0.1"}),
        ({"empty": {}}, {"empty": "{}"}),
        ({"a b/c:d": 1, "日本": 2, "x$y": 3}, {"a b/c:d": "1", "日本": "2", "x_y": "3"}),
        ({"": 1}, {"_": "1"}),
        ({"n" * 300: 1}, {"n" * 250: "1"}),
        (
            {"a/../b": 1, "a//b/.": 2, "../../": 3, "x" * 249 + "//": 4},
            {"a/b": "1", "a/b_2": "2", "_": "3", "x" * 249: "4"},
        ),
        ({"a": {"b": 1}, "a.b": 2}, {"a.b": "1", "a.b_2": "2"}),  # MLflow refuses one name with two values
    ],
)
def test_flatten(params, flat):
    assert dict(flatten(params)) == flat
    assert len(list(flatten(params))) == len(flat)


def outbox(**fields):
    job = JobFactory(status="completed", **fields)
    return TrackingOutbox.objects.create(job=job)


def runs(job):
    client = tracking._client()
    experiment = client.get_experiment_by_name(f"{settings.MLFLOW_EXPERIMENT_PREFIX}{job.leaderboard.slug}")
    return client.search_runs([experiment.experiment_id], f"tags.`{JOB_TAG}` = '{job.pk}'") if experiment else []


def due():
    TrackingOutbox.objects.update(next_try_at=Now())


@pytest.mark.django_db
@pytest.mark.slow
@pytest.mark.usefixtures("mlflow_url")
class TestAgainstMlflow:
    def test_publish_makes_one_run(self):
        job = outbox(params={"k": {"n": 2}}, metrics={"image_auc": 0.9, "seconds": 3.0}, request_id="r-7").job
        assert tracking.publish_due() == (1, 0)
        (run,) = runs(job)
        assert (run.data.metrics, run.data.params) == ({"image_auc": 0.9, "seconds": 3.0}, {"k.n": "2"})
        assert (run.info.status, run.data.tags["leadersboard.request_id"]) == ("FINISHED", "r-7")
        job.refresh_from_db()
        assert (job.run_id, job.experiment_id) == (run.info.run_id, run.info.experiment_id)
        assert TrackingOutbox.objects.count() == 0
        TrackingOutbox.objects.create(job=job)  # again, as after a commit that was lost
        assert tracking.publish_due() == (1, 0)
        assert len(runs(job)) == 1

    def test_publish_brings_the_curves(self):
        began = timezone.now() - timedelta(seconds=60)
        row = outbox(metrics={"image_auc": 0.9, "seconds": 3.0}, created_at=began, finished_at=timezone.now())
        points = [[step, 1 / (step + 1), step / 10] for step in range(250)]
        curves = [{"name": name, "points": points} for name in ("image_auc", "train/loss", "c", "d", "e")]
        JobProgress.objects.create(job=row.job, attempt=1, fraction=1, curves=curves)
        assert tracking.publish_due() == (1, 0), TrackingOutbox.objects.values("last_error")
        (run,) = runs(row.job)
        assert run.data.metrics == {
            "image_auc": 0.9,
            "seconds": 3.0,
            **dict.fromkeys(["train/loss", "c", "d", "e"], 1 / 250),
        }
        history = tracking._client().get_metric_history(run.info.run_id, "train/loss")
        assert [(one.step, one.value) for one in history] == [(step, value) for step, value, _ in points]
        assert history[10].timestamp - history[0].timestamp == 1000
        TrackingOutbox.objects.create(job=row.job)
        assert tracking.publish_due() == (1, 0)
        assert len(tracking._client().get_metric_history(run.info.run_id, "train/loss")) == 250

    def test_publish_leaves_the_curves_of_an_earlier_attempt(self):
        row = outbox(attempt=2)
        JobProgress.objects.create(job=row.job, attempt=1, curves=[{"name": "loss", "points": [[0, 1.0, 0.0]]}])
        assert tracking.publish_due() == (1, 0)
        assert "loss" not in runs(row.job)[0].data.metrics

    def test_publish_of_metrics_that_mlflow_cannot_name(self):
        row = outbox(metrics={"image_auc": 0.9, "a$": 1.0, "a%": 2.0, "../up": 3.0, "a//b": 4.0})
        assert tracking.publish_due() == (1, 0), TrackingOutbox.objects.values("last_error")
        assert runs(row.job)[0].data.metrics == {"image_auc": 0.9, "a_": 1.0, "a__2": 2.0, "up": 3.0, "a/b": 4.0}

    def test_publish_after_a_lost_answer_finds_the_run(self, monkeypatch):
        row = outbox()
        create = tracking._create

        def lost(client, experiment_id, row):
            create(client, experiment_id, row)
            raise OSError("the answer was lost")

        monkeypatch.setattr(tracking, "_create", lost)
        assert tracking.publish_due() == (0, 1)
        monkeypatch.setattr(tracking, "_create", create)
        due()
        assert tracking.publish_due() == (1, 0)
        assert len(runs(row.job)) == 1

    def test_publish_waits_for_a_creation_that_may_still_appear(self):
        row = outbox()
        TrackingOutbox.objects.update(create_sent_at=Now())
        assert tracking.publish_due() == (0, 1)
        assert runs(row.job) == []
        TrackingOutbox.objects.update(create_sent_at=Now() - timedelta(seconds=tracking.LATE_SECONDS + 1))
        due()
        assert tracking.publish_due() == (1, 0)
        assert len(runs(row.job)) == 1

    def test_publish_leaves_the_older_of_two(self):
        row = outbox()
        client = tracking._client()
        experiment = tracking._experiment(client, f"{settings.MLFLOW_EXPERIMENT_PREFIX}{row.job.leaderboard.slug}")
        made = [
            client.create_run(experiment, start_time=when, tags={JOB_TAG: str(row.job_id)}) for when in (2000, 1000)
        ]
        assert tracking.publish_due() == (1, 0)
        assert [run.info.run_id for run in runs(row.job)] == [made[1].info.run_id]

    def test_publish_of_names_that_meet_does_not_stay_for_ever(self):
        row = outbox(params={"a": {"b": 1}, "a.b": 2, "x$": 1, "x%": 2})
        assert tracking.publish_due() == (1, 0), TrackingOutbox.objects.values("last_error")
        assert len(runs(row.job)[0].data.params) == 4


@pytest.mark.django_db
def test_publish_with_mlflow_away_postpones(settings):
    settings.MLFLOW_TRACKING_URI = "http://127.0.0.1:9"
    rows = [outbox(), outbox()]
    assert tracking.publish_due() == (0, 1)
    row = TrackingOutbox.objects.get(tries=1)
    assert row.next_try_at > row.created_at and row.last_error
    assert Job.objects.filter(run_id="").count() == len(rows)
