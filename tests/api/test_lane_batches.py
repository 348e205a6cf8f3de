"""Submissions of many people that come in together: one transaction, and nobody's trouble is another's."""

import json
import threading
from contextlib import contextmanager

import psycopg
import pytest
from django.core.files.storage import storages
from django.db import OperationalError, connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from accounts.services import create_token
from accounts.tests.factories import UserFactory
from leaderboard_site.lane import record, submit
from leaderboard_site.lane.calls import SUBMIT, recognise
from leaderboard_site.lane.desk import answer_all
from submissions import storage as storage_module
from submissions.models import Submission
from submissions.tests.factories import SubmissionFactory
from tests.api.conftest import left_files

pytestmark = pytest.mark.django_db(transaction=True)


def form(content=b"print()", name="main.py", **fields):
    parts = [f'name="{key}"\r\n\r\n{value}'.encode() for key, value in fields.items()]
    parts.append(f'name="files"; filename="{name}"\r\n\r\n'.encode() + content)
    return b"".join(b"--b\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts) + b"--b--\r\n"


def uploads(*wanted):
    """The calls of tokens and bodies."""
    kind = "multipart/form-data; boundary=b"
    return [
        recognise(
            "POST",
            "/api/submissions",
            {"host": "localhost", "authorization": f"Bearer {secret}", "content-type": kind},
            body,
        )
        for secret, body in wanted
    ]


def token(user):
    return create_token(user, name="x")[1]


def stored():
    return sorted(row.object_name for row in Submission.objects.all())


@pytest.fixture
def on_disk():
    """The names of the files that have come since the test began."""
    before = {*left_files()}
    return lambda: sorted(path.name for path in {*left_files()} - before)


@pytest.fixture
def people():
    return [UserFactory() for _ in range(3)]


@contextmanager
def locked(user):
    """Somebody else's hold on the person's row; it ends with the block."""
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}) as outside:
        outside.execute("SELECT FROM accounts_user WHERE id = %s FOR UPDATE", [user.pk])
        yield outside


def test_many_peoples_submissions_are_one_transaction_and_quotas_hold_within_it(people, on_disk, settings, monkeypatch):
    """Of one person who has two left four come, with two tokens: the first two pass, as if they had come one by one."""
    settings.SUBMISSIONS_PER_HOUR = 3
    SubmissionFactory(user=people[0])
    secrets = [token(one) for one in people]
    order = [secrets[0], secrets[1], token(people[0]), secrets[0], secrets[2], secrets[0]]
    calls = uploads(*((secret, form(b"#%d" % number)) for number, secret in enumerate(order)))
    transactions, commit = [], BaseDatabaseWrapper._commit
    monkeypatch.setattr(BaseDatabaseWrapper, "_commit", lambda self: (transactions.append(1), commit(self)))
    answers = answer_all(SUBMIT, calls)
    assert [answer is not None and answer.status for answer in answers] == [201, 201, 201, False, 201, False]
    assert len(transactions) == 1
    told = [json.loads(answer.body)["submission_id"] for answer in answers if answer]
    rows = {str(row.pk): row for row in Submission.objects.filter(pk__in=told)}
    assert [rows[one].user for one in told] == [people[0], people[1], people[0], people[2]]
    contents = [storages["submissions"].open(rows[one].object_name).read() for one in told]
    assert [b"#%d" % number in content for number, content in zip((0, 1, 2, 4), contents, strict=True)] == [True] * 4
    assert on_disk() == sorted(row.object_name for row in rows.values())


def test_nobody_has_more_looked_into_than_their_quota_lets_in(people, settings, monkeypatch):
    """Sixty archives of one person would hold everybody up, if only to be refused."""
    settings.SUBMISSIONS_PER_HOUR = 3
    SubmissionFactory(user=people[0])
    looked, packed = [], submit._packed
    monkeypatch.setattr(submit, "_packed", lambda wish, *whose: (looked.append(whose[0]), packed(wish, *whose))[1])
    secrets = [token(one) for one in people[:2]]
    answers = answer_all(SUBMIT, uploads(*[(secrets[0], form())] * 60, (secrets[1], form())))
    assert [number for number, answer in enumerate(answers) if answer] == [0, 1, 60]
    assert looked == [people[0].pk] * 2 + [people[1].pk]


def test_what_is_refused_among_others_leaves_nothing_and_spoils_nobodys(people, on_disk):
    secrets = [token(one) for one in people]
    calls = uploads(
        (secrets[0], form(metadata='{"a": "\\ud800"}')),
        (secrets[0], form(paths='["\\ud800.py"]')),
        (secrets[0], form(metadata='{"a": "\\u0000"}')),
        ("lb_nobody", form()),
        (secrets[1], form(b"PK", "code.zip")),
        (secrets[2], form(metadata='{"名": ["\u2028", 0.5]}')),
    )
    answers = answer_all(SUBMIT, calls)
    assert [answer is not None for answer in answers] == [False] * 5 + [True]
    [row] = Submission.objects.all()
    assert (row.metadata, on_disk()) == ({"名": ["\u2028", 0.5]}, stored())


def test_who_is_locked_by_another_is_left_to_the_site_and_holds_nobody_up(people, on_disk):
    calls = uploads(*((token(one), form()) for one in people))
    with locked(people[1]):
        answers = answer_all(SUBMIT, calls)
    assert [answer is not None for answer in answers] == [True, False, True]
    assert on_disk() == stored()
    assert Submission.objects.count() == 2


@pytest.mark.parametrize("waits", [False, True])
def test_the_time_for_locks_holds_for_both_ways_to_lock(people, waits):
    with transaction.atomic(), connection.cursor() as cursor:
        assert record._lock({people[0].pk}, waits=waits) == {people[0].pk}
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("200ms" if waits else "2s",)


def test_a_lock_that_goes_soon_is_waited_for(people, monkeypatch):
    monkeypatch.setattr(record, "LAST_LOCK_TIMEOUT", "20s")
    calls = uploads(*((token(one), form()) for one in people))
    with locked(people[1]) as outside:
        timer = threading.Timer(0.3, outside.rollback)
        timer.start()
        answers = answer_all(SUBMIT, calls)
        timer.join()
    assert [answer.status for answer in answers] == [201] * 3


def test_whatever_goes_wrong_later_what_is_committed_is_answered(people, on_disk, monkeypatch):
    insert, times = record._insert, []

    def fails_the_second_time(one):
        times.append(1)
        if len(times) == 2:
            raise TypeError("unforeseen")
        return insert(one)

    monkeypatch.setattr(record, "_insert", fails_the_second_time)
    monkeypatch.setattr(record, "LAST_LOCK_TIMEOUT", "20s")
    calls = uploads(*((token(one), form()) for one in people))
    with locked(people[1]) as outside:
        timer = threading.Timer(0.3, outside.rollback)
        timer.start()
        answers = answer_all(SUBMIT, calls)
        timer.join()
    assert [answer is not None for answer in answers] == [True, False, True]
    assert (on_disk(), len(times)) == (stored(), 2)


def test_a_commit_whose_answer_is_lost_is_never_tried_again(people, on_disk, monkeypatch):
    """The rows may stand, so the files stay, and the site must not make them a second time."""
    commit = BaseDatabaseWrapper._commit

    def lost(self):
        commit(self)
        raise OperationalError("the connection is lost")

    calls = uploads(*((token(one), form()) for one in people))
    monkeypatch.setattr(BaseDatabaseWrapper, "_commit", lost)
    answers = answer_all(SUBMIT, calls)
    monkeypatch.undo()
    assert [(answer.status, json.loads(answer.body)["code"]) for answer in answers] == [(503, "unavailable")] * 3
    assert len(stored()) == 3
    assert on_disk() == stored()


def test_a_statement_that_takes_too_long_is_told_and_leaves_nothing(people, on_disk, monkeypatch):
    monkeypatch.setattr(record, "_insert", lambda _: connection.cursor().execute("SELECT pg_sleep(20)"))
    calls = uploads(*((token(one), form()) for one in people))
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '300ms'")
    answers = answer_all(SUBMIT, calls)
    assert [answer.status for answer in answers] == [503] * 3
    assert (on_disk(), stored()) == ([], [])


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_disk_that_fails_one_keeps_none(people, on_disk, monkeypatch, call):
    """What was written is not known to be on disk; the site tries each alone, and says what is wrong."""
    real, times = getattr(storage_module.os, call), []

    def fails_the_second_time(*given):
        times.append(1)
        if len(times) == 2:
            raise OSError("no room")
        return real(*given)

    monkeypatch.setattr(storage_module.os, call, fails_the_second_time)
    calls = uploads(*((token(one), form()) for one in people))
    answers = answer_all(SUBMIT, calls)
    monkeypatch.undo()
    assert (answers, on_disk(), stored()) == ([None] * 3, [], [])


def test_every_file_and_then_its_folder_is_synced_before_any_row(people, monkeypatch):
    real, synced = storage_module.os.fsync, []

    def remembered(descriptor):
        synced.append(storage_module.os.readlink(f"/proc/self/fd/{descriptor}"))
        return real(descriptor)

    insert = record._insert
    monkeypatch.setattr(storage_module.os, "fsync", remembered)
    monkeypatch.setattr(record, "_insert", lambda rows: (synced.append("rows"), insert(rows))[1])
    answers = answer_all(SUBMIT, uploads(*((token(one), form()) for one in people)))
    monkeypatch.undo()
    assert [answer.status for answer in answers] == [201] * 3
    folder = storages["submissions"].location
    assert sorted(synced[:-2]) == [f"{folder}/{name}" for name in stored()]
    assert synced[-2:] == [folder, "rows"]
