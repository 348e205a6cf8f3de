"""A worker whose statements are prepared, while a migration beside it changes what they answer."""

import psycopg
import pytest
from django.db import NotSupportedError, connection, connections

from jobs.management.commands.worker import prepare_statements
from jobs.tests.factories import JobFactory, WorkerFactory
from jobs.worker import make_worker

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def prepared():
    usual, options = connections["default"], connections.settings["default"]["OPTIONS"]
    before = dict(options)
    prepare_statements()
    yield
    connection.close()
    options.clear()
    options.update(before)
    connections["default"] = usual  # pytest keeps on it what the migrations made


@pytest.fixture
def widened():
    """Widens a column that the claim reads, as a release may; by another connection, as `migrate` has one of its own."""

    def alter(length):
        dsn = connection.connection.info.dsn
        with psycopg.connect(dsn, password=connection.settings_dict["PASSWORD"], autocommit=True) as other:
            other.execute(f"ALTER TABLE jobs_job ALTER COLUMN resource_class TYPE varchar({length})")

    yield lambda: alter(64)
    alter(32)


def test_a_worker_outlives_a_wider_column(prepared, widened, monkeypatch):
    worker = make_worker(["small"])
    worker.row = WorkerFactory(name=worker.name)
    ran = []
    monkeypatch.setattr(
        type(worker), "runner", type("Runs", (), {"run": lambda self, job, claim: ran.append(job.pk)})(), raising=False
    )
    for _ in range(8):
        assert not worker._run_next()
    widened()
    job = JobFactory()
    with pytest.raises(NotSupportedError):
        worker._claim()
    assert not worker._run_next(), "said as a database that is away"
    assert worker._run_next()
    assert ran == [job.pk]
