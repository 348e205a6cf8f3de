"""The wake-up call: quick to give up, and what others plant in Redis is never run."""

import pickle
import signal
import socket
import threading
import time
import uuid

import pytest
from django.db import connection, transaction
from redis import Redis

from jobs import claiming, queue
from jobs.models import Job
from jobs.tests.factories import JobFactory
from jobs.worker import make_worker


@pytest.fixture
def redis(settings):
    client = Redis.from_url(settings.REDIS_URL)
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Each test with a connection and a breaker of its own."""
    monkeypatch.setattr(queue, "_connection", None)
    monkeypatch.setattr(queue, "_broken_until", 0.0)


def push():
    began = time.monotonic()
    answer = queue.push(uuid.uuid4(), "small")
    return answer, time.monotonic() - began


def test_push_lays_the_id_on_the_classes_list_as_json(redis):
    job_id = uuid.uuid4()
    assert queue.push(job_id, "small")
    assert redis.lrange("rq:queue:small", 0, -1) == [str(job_id).encode()]
    assert queue.push(job_id, "small")  # twice is harmless
    message = redis.hgetall(f"rq:job:{job_id}")
    assert b"jobs.tasks.run_job" in message[b"description"]
    assert not message[b"data"].startswith(b"\x80"), "pickle"


def test_push_to_a_refusing_redis_gives_up_at_once_and_then_asks_no_more(settings, tmp_path, monkeypatch):
    settings.REDIS_URL = f"unix://{tmp_path}/none.sock"
    assert push()[0] is False
    asked = []
    monkeypatch.setattr(queue, "connection", lambda: asked.append(1))
    assert push()[0] is False and not asked
    monkeypatch.setattr(queue, "_broken_until", 0.0)
    with pytest.raises(TypeError):
        push()  # after the pause it asks again
    assert asked == [1]


def test_push_to_a_silent_redis_takes_less_than_two_seconds(settings, tmp_path):
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen(50)
        settings.REDIS_URL = f"unix://{tmp_path}/s"
        answer, seconds = push()
    assert answer is False
    assert seconds < 2
    assert push()[1] < 0.05


@pytest.mark.django_db(transaction=True)
def test_push_goes_out_after_the_commit_alone(redis):
    job_id = uuid.uuid4()
    with transaction.atomic():
        queue.push_after_commit(job_id, "small")
        assert redis.llen("rq:queue:small") == 0
    assert redis.llen("rq:queue:small") == 1
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        queue.push_after_commit(job_id, "small")
        raise ZeroDivisionError
    assert redis.llen("rq:queue:small") == 1


class Planted:
    def __reduce__(self):
        import os

        return os.system, ("touch /tmp/leadersboard-planted",)


PLANTED = [pickle.dumps(Planted()), b'["os.system", null, ["touch /tmp/leadersboard-planted"], {}]', b"\xff\x00", b""]


def test_worker_drops_planted_messages_unread(redis, tmp_path):
    worker = make_worker(["small"])
    for number, data in enumerate(PLANTED):
        key = f"rq:job:{number}"
        redis.hset(key, mapping={"data": data, "origin": "small", "status": "queued"})
        redis.rpush("rq:queue:small", str(number))
        worker._wait()
        assert not redis.exists(key) and redis.llen("rq:queue:small") == 0
    redis.rpush("rq:queue:small", b"\xff" * 5000)
    worker._wait()
    from pathlib import Path

    assert not Path("/tmp/leadersboard-planted").exists()


def test_worker_outlives_a_queue_of_the_wrong_type_and_a_redis_that_is_gone(redis, settings, tmp_path):
    settings.POLL_SECONDS = 0.05
    worker = make_worker(["small"])
    redis.set("rq:queue:small", "not a list")
    worker._wait()
    settings.REDIS_URL = f"unix://{tmp_path}/none.sock"
    gone = make_worker(["small"])
    gone._wait()


@pytest.mark.django_db(transaction=True)
def test_fifty_calls_for_one_job_run_it_once(redis):
    job = JobFactory()
    for _ in range(50):
        assert queue.push(job.pk, "small")
    claimed = []

    def look():
        try:
            for _ in range(13):
                claimed.append(claiming.claim(job.pk, worker_id=None, worker_name="w"))
        finally:
            connection.close()

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(one is not None for one in claimed) == 1
    assert Job.objects.get().attempt == 1


@pytest.mark.django_db
def test_a_signal_is_heard_as_soon_as_the_row_is_seen(monkeypatch):
    """Whoever sees the row may end the worker: by the way of every signal, and not so that its row stays."""
    worker = make_worker(["small"])
    make_row, before = worker._make_row, {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}

    def seen_and_told_to_end():
        row = make_row()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)  # tests have more threads than a worker then
        return row

    early = []
    monkeypatch.setattr(worker, "_make_row", seen_and_told_to_end)
    signal.signal(signal.SIGTERM, lambda *_: early.append(1))
    try:
        assert worker._appear().pk
        assert (worker._is_draining, early) == (True, [])
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
