"""Bring a site back from an archive: verify it whole, refuse what would destroy or not fit, then files, then the database."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dj_database_url
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader

from jobs.models import TrackingOutbox
from leaderboard_site.backup import databases
from leaderboard_site.backup.archive import ArchiveReader, BackupError
from leaderboard_site.backup.create import _name
from leaderboard_site.backup.files import STORAGE_ERRORS, kept_storages, put_back, stored_names
from leaderboards.models import DEFAULT_SLUG

_REPUBLISH = f"""
INSERT INTO {TrackingOutbox._meta.db_table} (job_id, created_at, next_try_at, tries, last_error)
SELECT id, statement_timestamp(), statement_timestamp(), 0, '' FROM jobs_job WHERE status = 'completed'
ON CONFLICT (job_id) DO NOTHING
"""  # noqa: S608 - our own table's name
# Whether anybody has put anything into the site: the default leaderboard comes with the first migration.
_IN_USE = """
SELECT EXISTS (SELECT 1 FROM accounts_user) OR EXISTS (SELECT 1 FROM submissions_submission)
    OR EXISTS (SELECT 1 FROM leaderboards_leaderboard WHERE slug <> %s)
"""


def restore_backup(
    path: Path, *, force: bool = False, progress: Callable[[str, int], None] = lambda name, size: None
) -> dict[str, Any]:
    """Restore everything in the archive; what was done. Raises BackupError before anything is touched, or says how far it came.

    `force` replaces a site that has something in it, and one whose parts still run.
    """
    reader = ArchiveReader(path)
    parts = reader.verify(progress)
    _refuse_newer(reader.manifest)
    if not force:
        _refuse_in_use()
    database = settings.DATABASES["default"] | _name()
    connection.close()
    # Files before rows: should this be cut off, no row names a file that is not there.
    try:
        files = _put_files_back(reader, progress)
    except STORAGE_ERRORS as error:
        raise BackupError(f"A file cannot be stored: {error}. The database is as it was.") from error
    with reader.open("database.dump") as stream:
        databases.restore(database, stream)
    runs = _restore_mlflow(reader, progress)
    call_command("migrate", verbosity=0, interactive=False)
    republished = 0
    if runs != "restored":
        with connection.cursor() as cursor:
            cursor.execute(_REPUBLISH)
            republished = cursor.rowcount
    return {
        "parts_verified": parts, "files": files, "mlflow": runs, "runs_to_make_again": republished,
        "counts": reader.manifest["counts"], "snapshot_at": reader.manifest["snapshot_at"],
    }  # fmt: skip


def _refuse_newer(manifest: dict[str, Any]) -> None:
    loader = MigrationLoader(None)
    known = {f"{app}.{name}" for app, name in loader.disk_migrations}
    replaced = {f"{app}.{name}" for migration in loader.disk_migrations.values() for app, name in migration.replaces}
    newer = [name for name in manifest["migrations"] if name not in known | replaced]
    if newer:
        raise BackupError(
            f"The backup is of a newer version ({manifest['version']}): this code does not know the migration {newer[0]}. "
            "Install that version, then restore."
        )


def _refuse_in_use() -> None:
    tables = connection.introspection.table_names()
    if "accounts_user" in tables:
        with connection.cursor() as cursor:
            cursor.execute(_IN_USE, [DEFAULT_SLUG])
            if cursor.fetchone()[0]:
                raise BackupError(
                    "This site has something in it, and a restore would replace it. Take a backup of it first, then "
                    "restore with --force."
                )
    for alias, storage in kept_storages().items():
        if next(stored_names(storage), None) is not None:
            raise BackupError(
                f"The storage {alias!r} holds files already. Restore with --force to put these beside them."
            )
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND backend_type = 'client backend'"
        )
        if others := cursor.fetchone()[0]:
            raise BackupError(
                f"{others} other connections to the database are open: stop web, workers and reconcilers first (the servers "
                "themselves must run: `make services`). --force restores all the same."
            )


def _put_files_back(reader: ArchiveReader, progress: Callable[[str, int], None]) -> int:
    count = 0
    for alias, storage in kept_storages().items():
        prefix = f"files/{alias}/"
        for name in reader.names(prefix):
            with reader.open(name) as source:
                put_back(storage, name.removeprefix(prefix), source)
            count += 1
            progress(name, 0)
    unknown = {name.split("/")[1] for name in reader.names("files/")} - set(kept_storages())
    if unknown:
        raise BackupError(
            f"The archive holds files of the storage {sorted(unknown)[0]!r}, which these settings do not name."
        )
    return count


def _restore_mlflow(reader: ArchiveReader, progress: Callable[[str, int], None]) -> str:
    """`restored`, or why not."""
    if not reader.manifest["mlflow"]["database"]:
        return "not in the backup"
    if not settings.MLFLOW_DATABASE_URL:
        return "in the backup, but MLFLOW_DATABASE_URL does not say where to"
    with reader.open("mlflow/database.dump") as stream:
        databases.restore(dict(dj_database_url.parse(settings.MLFLOW_DATABASE_URL)), stream)
    root = settings.MLFLOW_ARTIFACT_ROOT
    prefix = "mlflow/artifacts/"
    for name in reader.names(prefix):
        if not root:
            return "restored, but for its files: MLFLOW_ARTIFACT_ROOT does not say where to"
        target = (Path(root) / name.removeprefix(prefix)).resolve()
        if not target.is_relative_to(Path(root).resolve()):
            raise BackupError(f"{name} leads out of {root}.")
        target.parent.mkdir(parents=True, exist_ok=True)
        with reader.open(name) as source, target.open("wb") as file:
            while chunk := source.read(1024 * 1024):
                file.write(chunk)
        progress(name, 0)
    return "restored"
