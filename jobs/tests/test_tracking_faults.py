"""Publishing what MLflow does not take: nothing overwritten, nothing blocked, everything left out named."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.utils import timezone

from jobs import tracking
from jobs.mlflow_names import artifact_names, flatten
from jobs.models import Job, JobProgress, TrackingOutbox
from jobs.tests.factories import JobFactory
from jobs.tests.test_tracking import due, runs


@pytest.mark.parametrize(
    "names",
    [
        {"a/b.txt": "a/b.txt", "100%.png": "100%.png", ".hidden": ".hidden", "誤差：λ.txt": "誤差：λ.txt"},
        {"log.txt": "log.txt", "logs/log.txt": "logs/log.txt"},
        {"A.txt": "A.txt", "a.txt": "a.txt"},
        {"leadersboard": "leadersboard_2", "LeadersBoard/log.txt": "LeadersBoard_2/log.txt"},
        {"leadersboard/log.txt": "leadersboard_3/log.txt", "leadersboard_2/x": "leadersboard_2/x"},
        {"a/leadersboard/x": "a/leadersboard/x"},
        {"a#b.txt": "a_b_2.txt", "a?b.txt": "a_b_3.txt", "a_b.txt": "a_b.txt"},
        {"%41": "_41", "%4": "%4", "%%41.x": "%_41.x"},
        {"C:/x": "C_/x", "file:x": "file_x", "12:30": "12:30", " x": "_x"},
        {"a#/x": "a__2/x", "a?/x": "a__3/x", "a_/y": "a_/y"},
        {"a": "a", "a/b": "a_2/b"},
    ],
)
def test_artifact_names(names):
    assert artifact_names(names) == names


def test_names_that_meet_in_a_decomposed_form_keep_their_letters():
    assert dict(flatten({"が": 1, "か\u3099": 2})) == {"が": "1", "が_2": "2"}


def left(files, *, log="the log", **fields):
    """Return the outbox row of a completed job that left these files."""
    job = JobFactory(status="completed", **fields)
    save = storages["artifacts"].save
    stored = [
        (path, save(f"results/{job.pk}/1/{number}", ContentFile(content.encode())))
        for number, (path, content) in enumerate(files.items())
    ]
    job.artifacts = [{"path": path, "name": name, "bytes": 1, "sha256": ""} for path, name in stored]
    job.log_name = save(f"results/{job.pk}/1/log.txt", ContentFile(log.encode())) if log else ""
    job.save(update_fields=["artifacts", "log_name"])
    return TrackingOutbox.objects.create(job=job)


def lose(row, path):
    name = next(item["name"] for item in row.job.artifacts if item["path"] == path)
    content = storages["artifacts"].open(name).read()
    storages["artifacts"].delete(name)
    return name, content


def in_mlflow(job, folder):
    """Return the content of each file of the job's run."""
    client, (run,) = tracking._client(), runs(job)
    found = Path(client.download_artifacts(run.info.run_id, "", str(folder)))
    return {str(path.relative_to(found)): path.read_text() for path in found.rglob("*") if path.is_file()}


def tags(job):
    (run,) = runs(job)
    return run.data.tags


@pytest.fixture
def tried(settings):
    """Give up after the first failure of a job's own."""
    settings.TRACKING_TRIES = 1


@pytest.mark.django_db
@pytest.mark.slow
@pytest.mark.usefixtures("mlflow_url")
class TestAgainstMlflow:
    @pytest.mark.parametrize(
        "files",
        [
            {"log.txt": "its own", "leadersboard": "a file"},
            {"log.txt/x": "its own", "leadersboard/log.txt": "its own, too"},
            {
                "A.txt": "A",
                "a.txt": "a",
                "empty": "",
                ".hidden": "h",
                "100%.png": "p",
                "a#1": "1",
                "a#2": "2",
                "a?3": "3",
            },
        ],
    )
    def test_no_name_overwrites_another(self, files, tmp_path):
        row = left(files)
        assert tracking.publish_due() == (1, 0), TrackingOutbox.objects.values("last_error")
        names = artifact_names(files)
        expected = {names[path]: content for path, content in files.items()}
        assert in_mlflow(row.job, tmp_path) == {"leadersboard/log.txt": "the log", **expected}
        changed = {path: name for path, name in names.items() if name != path}
        assert all(f"{name} is {path}" in tags(row.job)["leadersboard.renamed"] for path, name in changed.items())

    def test_a_file_that_is_lost_delays_nobody_and_is_named(self, tried, tmp_path):
        row, other = left({"a.txt": "a", "b.txt": "b"}), left({})
        name, content = lose(row, "a.txt")
        assert tracking.publish_due() == (1, 1)
        assert list(TrackingOutbox.objects.values_list("job_id", "refusals")) == [(row.job_id, 1)]
        assert "artifact a.txt: the stored file is missing" in TrackingOutbox.objects.get().last_error
        assert runs(other.job)
        due()
        assert tracking.publish_due() == (1, 0)
        assert in_mlflow(row.job, tmp_path) == {"leadersboard/log.txt": "the log", "b.txt": "b"}
        assert tags(row.job)["leadersboard.left_out"] == "artifact a.txt: the stored file is missing"
        job = Job.objects.get(pk=row.job_id)
        assert job.run_id
        assert job.notes_in_words == ["The file a.txt is not in MLflow: the stored file is missing."]
        storages["artifacts"].save(name, ContentFile(content))
        TrackingOutbox.objects.create(job=job)
        assert tracking.publish_due() == (1, 0)
        assert "leadersboard.left_out" not in tags(job)
        assert (Job.objects.get(pk=job.pk).notes, len(runs(job))) == ([], 1)

    def test_a_file_that_mlflow_fails_at_is_left_out(self, tried):
        deep = "/".join(["d" * 250] * 20)  # longer than the paths of a file system: MLflow answers 500
        row, other = left({deep: "x", "z.txt": "z"}, params={"lr": 1}), left({})
        assert tracking.publish_due() == (1, 1)
        assert runs(other.job)[0].info.status == "FINISHED"
        due()
        assert tracking.publish_due() == (1, 0), TrackingOutbox.objects.values("last_error")
        (run,) = runs(row.job)
        assert (run.info.status, run.data.params) == ("FINISHED", {"lr": "1"})
        assert run.data.tags["leadersboard.left_out"].endswith("MLflow answered with status 500")
        assert len(Job.objects.get(pk=row.job_id).notes) == 1

    def test_a_param_that_mlflow_refuses_is_left_out_alone(self, tried):
        row = left({}, params={"lr": 0.1, "seed": 1, "z": 2}, metrics={"image_auc": 0.5})
        client = tracking._client()
        experiment = tracking._experiment(client, f"{settings.MLFLOW_EXPERIMENT_PREFIX}{row.job.leaderboard.slug}")
        run_id = tracking._create(client, experiment, row).info.run_id
        client.log_param(run_id, "seed", "another")  # a param of a run never changes
        assert tracking.publish_due() == (0, 1)
        due()
        assert tracking.publish_due() == (1, 0), TrackingOutbox.objects.values("last_error")
        (run,) = runs(row.job)
        assert run.data.params == {"lr": "0.1", "seed": "another", "z": "2"}
        assert run.data.metrics == {"image_auc": 0.5}
        (note,) = Job.objects.get(pk=row.job_id).notes_in_words
        assert note.startswith("The parameter seed is not in MLflow: MLflow refuses it: Changing param values")

    def test_a_step_that_mlflow_cannot_count_is_left_out(self, tried):
        row = left({}, metrics={"image_auc": 0.5})
        points = [[0, 0.5, 0.0], [2**63, 0.5, 1.0]]
        JobProgress.objects.create(job=row.job, attempt=1, curves=[{"name": "loss", "points": points}])
        assert tracking.publish_due() == (0, 1)
        due()
        assert tracking.publish_due() == (1, 0)
        assert runs(row.job)[0].data.metrics == {"image_auc": 0.5, "loss": 0.5}

    def test_a_trial_is_tagged(self):
        row = left({}, trial=True)
        assert tracking.publish_due() == (1, 0)
        found = tags(row.job)
        assert (found["leadersboard.trial"], found["leadersboard.score_version"]) == ("true", "")

    @pytest.mark.parametrize("error", [KeyError("a bug"), None])
    def test_a_job_that_cannot_be_published_is_tried_daily(self, tried, monkeypatch, error):
        row, other = left({}), left({})
        create = tracking._create

        def refuse(client, experiment_id, asked):
            if asked.job_id == row.job_id:
                if error:
                    raise error
                client.get_run("no-such-run")
            return create(client, experiment_id, asked)

        monkeypatch.setattr(tracking, "_create", refuse)
        assert tracking.publish_due() == (1, 1)
        assert runs(other.job)
        due()
        assert tracking.publish_due() == (0, 1)
        waiting = TrackingOutbox.objects.get()
        assert (waiting.job_id, waiting.refusals) == (row.job_id, 2)
        assert timedelta(hours=23) < waiting.next_try_at - timezone.now() < timedelta(hours=25)
        monkeypatch.setattr(tracking, "_create", create)
        due()
        assert tracking.publish_due() == (1, 0)

    def test_a_lost_storage_leaves_nothing_out(self, tried):
        row = left({"a.txt": "a"})
        lose(row, "a.txt")
        storages["artifacts"].delete(row.job.log_name)
        assert tracking.publish_due() == (0, 1)
        assert TrackingOutbox.objects.get().refusals == 0
        TrackingOutbox.objects.update(created_at=timezone.now() - timedelta(days=2), refusals=1)
        due()
        assert tracking.publish_due() == (1, 0)
        assert len(Job.objects.get(pk=row.job_id).notes) == 2


@pytest.mark.django_db
def test_an_mlflow_that_is_away_ends_the_pass_and_is_no_fault_of_the_job(settings):
    settings.MLFLOW_TRACKING_URI = "http://127.0.0.1:9"
    left({}), left({})
    assert tracking.publish_due() == (0, 1)
    assert TrackingOutbox.objects.get(tries=1).refusals == 0
    assert TrackingOutbox.objects.filter(tries=0).count() == 1
