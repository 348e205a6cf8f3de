"""PostgreSQL, Redis, MLflow and the stored files."""

import os
import time
import uuid
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import Storage
from django.db import OperationalError, connection
from django.db.migrations.loader import MigrationLoader
from redis.exceptions import RedisError

from core.sizes import human_bytes
from jobs import mlflow_credentials, queue
from leaderboard_site.backup.files import STORAGE_ERRORS, kept_storages
from leaderboard_site.doctor.findings import Found

OLDEST_POSTGRESQL = 14
SKEW_SECONDS = 5.0
CONNECTIONS_SHARE = 0.8
_NEEDED_TRIGGER = "jobs_job_guard"


def postgresql(found: Found) -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT current_setting('server_version_num')::int, current_setting('server_version'), "
                "pg_encoding_to_char(encoding), current_setting('max_connections')::int, "
                "(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'), "
                "current_setting('fsync'), current_setting('synchronous_commit'), pg_database_size(datname) "
                "FROM pg_database WHERE datname = current_database()"
            )
            row = cursor.fetchone()
    except OperationalError as error:
        mend = "make services (embedded), or start the server and look at DATABASE_URL"
        found.wrong(f"does not answer: {str(error).strip().splitlines()[0]}", mend)
        return
    number, version, encoding, most, used, fsync, commit, size = row
    if number < OLDEST_POSTGRESQL * 10000:
        found.wrong(f"is version {version}", f"upgrade it to {OLDEST_POSTGRESQL} or newer")
    else:
        found.ok(f"version {version}, {human_bytes(size)}")
    if encoding != "UTF8":
        found.wrong(f"encodes in {encoding}", "make the database with ENCODING 'UTF8'")
    if used > most * CONNECTIONS_SHARE:
        found.warning(f"{used} of {most} connections are in use", "raise max_connections, or run fewer web threads")
    if fsync != "on" or commit == "off":
        found.wrong(
            f"fsync is {fsync} and synchronous_commit {commit}: what was answered 201 can be lost",
            "ALTER SYSTEM SET fsync = on; ALTER SYSTEM SET synchronous_commit = on; SELECT pg_reload_conf();",
        )


def schema(found: Found) -> None:
    loader = MigrationLoader(connection)
    applied = set(loader.applied_migrations)
    pending = sorted(".".join(node) for node in loader.graph.nodes if node not in applied)
    unknown = sorted(
        ".".join(node) for node in applied - set(loader.disk_migrations) if node[0] in loader.migrated_apps
    )
    if pending:
        found.wrong(f"{len(pending)} migrations are not applied, the first: {pending[0]}", "manage.py migrate")
    elif unknown:
        found.warning(f"{unknown[0]} was applied by a newer version than this code", "install the version that made it")
    else:
        found.ok(f"{len(applied)} migrations are applied")
    with connection.cursor() as cursor:
        cursor.execute("SELECT tgenabled FROM pg_trigger WHERE tgname = %s", [_NEEDED_TRIGGER])
        row = cursor.fetchone()
        if not pending and (row is None or row[0] == "D"):
            found.wrong(
                "the trigger that keeps final statuses is not on", "ALTER TABLE jobs_job ENABLE TRIGGER jobs_job_guard"
            )
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace "
            "AND NOT (has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT') "
            "AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE')) LIMIT 1"
        )
        if (row := cursor.fetchone()) is not None:
            found.wrong(
                f"the user may not read and write {row[0]}", f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {_user()}"
            )


def _user() -> str:
    return str(settings.DATABASES["default"].get("USER") or "the site's user")


def clock(found: Found) -> None:
    """Leases are the database's time, so a wrong clock loses no job; tokens, cookies and TLS still need it right."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        sent = time.time()
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())")
        theirs = float(cursor.fetchone()[0])
        skew = theirs - (sent + time.time()) / 2
    if abs(skew) > SKEW_SECONDS:
        found.wrong(f"this machine's clock is {abs(skew):.1f} s {'behind' if skew > 0 else 'ahead of'} the database's",
                    "timedatectl set-ntp true, on both")  # fmt: skip
    else:
        found.ok(f"within {abs(skew):.2f} s of the database's")


def redis(found: Found) -> None:
    client = queue.connection()
    try:
        info: dict[str, Any] = client.info()
        key = f"leadersboard:doctor:{uuid.uuid4()}"
        client.set(key, "1", ex=10)
        client.delete(key)
    except RedisError as error:
        found.wrong(
            f"does not answer: {error}. Jobs still start, up to POLL_SECONDS later",
            "make services (embedded), or start it and look at REDIS_URL",
        )
        return
    found.ok(f"version {info.get('valkey_version') or info.get('redis_version')}")
    if not int(info.get("aof_enabled", 0)):
        found.warning("keeps nothing on disk (jobs are not lost, but called later)", "start it with --appendonly yes")
    if (policy := info.get("maxmemory_policy", "noeviction")) != "noeviction":
        found.warning(f"may drop calls: maxmemory-policy is {policy}", "CONFIG SET maxmemory-policy noeviction")
    address = urlsplit(settings.REDIS_URL)
    if address.hostname not in (None, "localhost", "127.0.0.1", "::1") and not address.password:
        found.wrong(
            "is reached over the network without a password", "set requirepass, and redis://:PASSWORD@... as REDIS_URL"
        )


def mlflow(found: Found) -> None:
    url = mlflow_credentials.url()
    asked = Request(f"{url}/version", headers=mlflow_credentials.authorization())  # noqa: S310 - a setting
    try:
        with urlopen(asked, timeout=10) as answer:  # noqa: S310 - a setting
            version = answer.read(50).decode("ascii", "replace")
    except HTTPError as error:
        found.wrong(
            f"{url} answers {error.code} {error.reason}. Jobs complete all the same; their runs wait in the outbox",
            "give the site the secret of MLflow's server: MLFLOW_TRACKING_PASSWORD_FILE",
        )
        return
    except OSError as error:
        found.wrong(
            f"{url.rpartition('//')[2]} does not answer: {error}. Jobs complete all the same; their runs wait in the outbox",
            "make services (embedded), or start it and look at MLFLOW_TRACKING_URI",
        )
        return
    if _answers_without_secret(url):
        found.warning(
            "answers without a secret: every program that reaches its port can read and change every run",
            "start it as docker/mlflow-server does, with MLFLOW_TRACKING_PASSWORD_FILE",
        )
    found.ok(f"version {version}")


def _answers_without_secret(url: str) -> bool:
    try:
        with urlopen(f"{url}/version", timeout=10):  # noqa: S310 - a setting
            return True
    except OSError:
        return False


def storage(found: Found) -> None:
    """Write, read and delete in each place, as the site does."""
    for alias, place in kept_storages().items():
        began = time.monotonic()
        try:
            _try(place)
        except STORAGE_ERRORS as error:
            found.wrong(f"{alias}: {type(error).__name__}: {error}", _mend_storage(alias))
            continue
        found.ok(f"{alias}: written, read and deleted in {(time.monotonic() - began) * 1000:.0f} ms ({_where(place)})")


def _try(place: Storage) -> None:
    content = os.urandom(4096)
    name = place.save(f"doctor/{uuid.uuid4()}", ContentFile(content))
    try:
        with place.open(name) as stored:
            if stored.read() != content:
                raise OSError("what was read is not what was written")
    finally:
        place.delete(name)
    if place.exists(name):
        raise OSError("a deleted file is still there")


def _where(place: Any) -> str:
    return str(getattr(place, "bucket_name", "") or getattr(place, "location", ""))


def _mend_storage(alias: str) -> str:
    if settings.STORAGE == "s3":
        return "look at S3_BUCKET, S3_ENDPOINT_URL and the key: it needs to list, get, put and delete in the bucket"
    root = settings.UPLOAD_ROOT if alias == "submissions" else settings.ARTIFACT_ROOT
    return f"mkdir -p {root} && chown -R $(id -u) {root}"
