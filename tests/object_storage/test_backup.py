"""A backup takes the objects with it, and a restore puts them back into an empty bucket."""

import io
import json

from api.conftest import Api
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.core.management import call_command

from accounts.tests.factories import UserFactory
from jobs.models import Job
from jobs.tests.factories import JobFactory
from submissions.models import Submission


def call(*arguments):
    out = io.StringIO()
    call_command(*map(str, arguments), stdout=out, stderr=io.StringIO())
    return json.loads(out.getvalue())


def test_there_and_back(transactional_db, s3, settings, tmp_path):
    settings.MLFLOW_DATABASE_URL = settings.MLFLOW_ARTIFACT_ROOT = ""
    assert Api(UserFactory()).submit().status_code == 201
    made = Submission.objects.get()
    job = JobFactory(submission=made, user=made.user, leaderboard=made.leaderboard, status="completed")
    log = storages["artifacts"].save(f"results/{job.pk}/1/log.txt", ContentFile(b"the log\n" * 100_000))
    Job.objects.filter(pk=job.pk).update(log_name=log)
    objects = s3.names()
    manifest = call("backup", tmp_path, "--json")
    assert (manifest["missing_files"]["count"], len(objects)) == (0, 2)
    s3.empty()
    call("restore", manifest["path"], "--force", "--json")
    assert s3.names() == objects
    with storages["artifacts"].open(log) as stored:
        assert stored.read() == b"the log\n" * 100_000
