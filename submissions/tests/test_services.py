"""A submission is recorded only when its object is stored, and stored only when it is recorded."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.files.storage import storages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection

from accounts.refusals import QuotaExceeded, Unavailable
from accounts.tests.factories import UserFactory
from leaderboards.tests.factories import LeaderboardFactory
from submissions.models import Submission
from submissions.services import create_submission
from submissions.storage import DurableFileSystemStorage
from tests.api.conftest import left_files


def submit(user):
    return create_submission(user, files=[SimpleUploadedFile("main.py", b"")], leaderboard="board")


@pytest.fixture
def board(db):
    return LeaderboardFactory(slug="board")


def test_a_storage_that_is_away_refuses_and_records_nothing(board, monkeypatch):
    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(DurableFileSystemStorage, "_save", full)
    before = left_files()
    with pytest.raises(Unavailable) as refused:
        submit(UserFactory())
    assert (refused.value.code, Submission.objects.count(), left_files()) == ("storage_unavailable", 0, before)


def test_a_record_that_fails_takes_its_object_along(board, monkeypatch):
    def broken(*given, **fields):
        raise RuntimeError

    monkeypatch.setattr(Submission, "save", broken)
    before = left_files()
    with pytest.raises(RuntimeError):
        submit(UserFactory())
    assert left_files() == before


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_twenty_at_once_pass_the_quota_ten_times_and_leave_ten_objects(board):
    user, before, start = UserFactory(), left_files(), threading.Barrier(20)

    def one(_):
        start.wait()
        try:
            return submit(user).object_name
        except QuotaExceeded as refused:
            return refused.code
        finally:
            connection.close()

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(one, range(20)))
    assert answers.count("hourly_limit") == 10
    assert len(left_files()) - len(before) == Submission.objects.count() == 10
    assert all(storages["submissions"].exists(name) for name in answers if name != "hourly_limit")
