"""docker/health.py, with which containers say that they are well."""

import importlib.util
import socket
import sys
from types import ModuleType

import pytest
from django.db import connection

from jobs import reconciler
from jobs.models import Worker

from .conftest import ROOT


@pytest.fixture
def health(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("health", ROOT / "docker" / "health.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    parameters = connection.get_connection_params()
    address = f"postgresql:///{parameters['dbname']}?host={parameters['host']}&port={parameters['port']}&user={parameters['user']}"
    monkeypatch.setenv("DATABASE_URL", address)
    monkeypatch.delenv("DATABASE_URL_FILE", raising=False)
    return module


def outcome(health: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str) -> int:
    monkeypatch.setattr(sys, "argv", ["health.py", name])
    return int(health.main())


def test_leader_lock_is_the_reconcilers(health):
    assert health.LEADER_LOCK == reconciler.LEADER_LOCK


@pytest.mark.django_db(transaction=True)
def test_worker_is_well_while_its_heart_beats(health, monkeypatch):
    assert outcome(health, monkeypatch, "worker") == 1
    worker = Worker.objects.create(name="w", hostname=socket.gethostname(), pid=1)
    assert outcome(health, monkeypatch, "worker") == 0
    with connection.cursor() as cursor:
        cursor.execute("UPDATE jobs_worker SET heartbeat_at = now() - interval '91 seconds'")
    assert outcome(health, monkeypatch, "worker") == 1
    monkeypatch.setenv("LEASE_SECONDS", "120")
    assert outcome(health, monkeypatch, "worker") == 0
    Worker.objects.filter(pk=worker.pk).update(hostname="another")
    assert outcome(health, monkeypatch, "worker") == 1


@pytest.mark.django_db(transaction=True)
def test_reconciler_is_well_while_one_leads(health, monkeypatch):
    assert outcome(health, monkeypatch, "reconciler") == 1
    assert reconciler.leads()
    try:
        assert outcome(health, monkeypatch, "reconciler") == 0
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock_all()")


def test_nothing_that_listens_is_not_well(health, monkeypatch, capsys):
    monkeypatch.setitem(health.CHECKS, "web", lambda: health.answers(1, "/healthz"))
    assert outcome(health, monkeypatch, "web") == 1
    assert "refused" in capsys.readouterr().out
