"""Submissions for tests: a record of `main.py` and `config.yaml`; no stored object stands behind it."""

import hashlib
from uuid import uuid4

import factory
from django.utils import timezone

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
