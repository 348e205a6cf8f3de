"""/healthz and /readyz tell the truth, part by part, and in time."""

import threading
import time

import pytest
from django.db import OperationalError

from leaderboard_site import health
from leaderboard_site.lane import desk
from leaderboard_site.lane.calls import HEALTH, recognise_probe

pytestmark = pytest.mark.django_db
WELL = {"status": "ok", "database": "ok", "schema": "ok", "redis": "ok", "storage": "ok", "mlflow": "ok"}


@pytest.fixture
def parts(monkeypatch):
    """Checks that a test can replace; all well at first (MLflow may still be starting)."""
    found = {name: lambda: None for name in ("redis", "storage", "mlflow")}
    monkeypatch.setattr(health, "_beside", {name: health.Part(lambda name=name: found[name]()) for name in found})
    return found


def broken():
    raise OSError("secret detail")


def ask(client):
    response = client.get("/readyz")
    return response.status_code, response.json()


def test_all_is_well(client, parts):
    assert ask(client) == (200, WELL)


@pytest.mark.parametrize(("name", "status"), [("storage", 503), ("redis", 200), ("mlflow", 200)])
def test_a_part_that_is_away_is_named(client, parts, name, status):
    parts[name] = broken
    word = "down" if status == 503 else "degraded"
    assert ask(client) == (status, WELL | {"status": word, name: "down"})


def test_the_real_redis_and_storage_answer(client, monkeypatch):
    monkeypatch.setattr(health, "_mlflow", lambda: None)
    answer = ask(client)[1]
    assert (answer["redis"], answer["storage"]) == ("ok", "ok")


def test_without_the_database_it_is_not_ready_and_still_alive(client, parts, monkeypatch):
    def away():
        raise OperationalError("password in here")

    monkeypatch.setattr(health, "_database", away)
    assert ask(client) == (503, WELL | {"status": "down", "database": "down", "schema": "down"})
    assert client.get("/healthz").json() == {"status": "ok"}


def test_the_lane_says_it_in_the_sites_words(client):
    headers = {"host": "localhost", "x-request-id": "a"}
    [ours] = desk.answer_all(HEALTH, [recognise_probe("GET", headers)])
    theirs = client.get("/healthz", headers=headers)
    assert (ours.status, ours.body, dict(ours.headers)) == (200, theirs.content, dict(theirs.headers))
    assert recognise_probe("GET", {"host": "elsewhere.example"}) is None


def test_a_database_that_lacks_a_migration_is_not_ready(client, parts, monkeypatch):
    from django.db.migrations.recorder import MigrationRecorder

    monkeypatch.setattr(health, "_schema", health._Schema())
    MigrationRecorder.Migration.objects.filter(app="jobs", name="0003_guard").delete()
    assert ask(client) == (503, WELL | {"status": "down", "schema": "down"})


def test_a_part_that_hangs_is_down_in_time_and_hangs_one_thread_alone(client, parts, monkeypatch):
    monkeypatch.setattr(health, "PATIENCE_SECONDS", 0.2)
    release, asked = threading.Event(), []

    def hangs():
        asked.append(1)
        release.wait(30)

    parts["storage"] = hangs
    began = time.monotonic()
    assert [ask(client)[1]["storage"] for _ in range(3)] == ["down"] * 3
    assert (len(asked), time.monotonic() - began < 20) == (1, True)
    release.set()
    parts["storage"] = lambda: None
    time.sleep(0.2)
    assert ask(client)[1]["storage"] == "ok"
