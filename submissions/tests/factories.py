"""Submissions for tests: a record of `main.py` and `config.yaml`. No stored object stands behind it, except for `stored_submission`."""

import hashlib
import io
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import factory
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.utils import timezone

from submissions.archive import write_archive
from submissions.models import Submission


class SubmissionFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Submission

    id = factory.LazyFunction(uuid4)
    user = factory.SubFactory("accounts.tests.factories.UserFactory")
    leaderboard = factory.SubFactory("leaderboards.tests.factories.LeaderboardFactory")
    kind = Submission.Kind.TAR
    object_name = factory.LazyAttribute(lambda submission: f"{submission.id}.tar")
    size_bytes = 2048
    sha256 = factory.LazyAttribute(lambda made: hashlib.sha256(made.object_name.encode()).hexdigest())
    manifest = factory.LazyFunction(lambda: [{"path": "config.yaml", "bytes": 24}, {"path": "main.py", "bytes": 1024}])
    created_at = factory.LazyFunction(timezone.now)


def stored_submission(files: Mapping[str, bytes], **fields: Any) -> Submission:
    """Store these files and make the record of them."""
    archive = io.BytesIO()
    manifest = write_archive(archive, [(path, io.BytesIO(content)) for path, content in files.items()])
    content = archive.getvalue()
    name = storages["submissions"].save(f"{uuid4()}.tar", ContentFile(content))
    made: Submission = SubmissionFactory(
        object_name=name,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        manifest=[{"path": entry.path, "bytes": entry.bytes} for entry in manifest],
        **fields,
    )
    return made
