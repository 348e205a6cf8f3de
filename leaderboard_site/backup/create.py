"""Make an archive of the whole site while it runs."""

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dj_database_url
from django.apps import apps
from django.conf import settings
from django.db import connection, transaction
from django.db.migrations.recorder import MigrationRecorder

from leaderboard_site.backup import databases
from leaderboard_site.backup.archive import FORMAT, PRODUCT, ArchiveWriter, BackupError
from leaderboard_site.backup.files import STORAGE_ERRORS, copy_all, kept_storages, named_files

MOST_NAMED = 100
NEVER_INCLUDED = [
    "the settings and their secrets (.env, SECRET_KEY, passwords of servers): keep them yourself",
    "the data sets below DATASET_ROOT: copy them yourself",
    "hidden labels and scorers below GROUND_TRUTH_ROOT and SCORER_ROOT: copy them yourself",
    "Redis: wake-up calls alone, which the reconciler sends again",
    "the sessions' usability under another SECRET_KEY: people sign in again",
]


def default_name() -> str:
    return f"leadersboard-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.zip"


def create_backup(target: Path, *, progress: Callable[[str, int], None] = lambda name, size: None) -> dict[str, Any]:
    """Write the archive; its manifest. Raises BackupError, and then there is no archive."""
    try:
        with ArchiveWriter(target, progress) as writer:
            manifest = _add_all(writer)
            writer.finish(manifest)
    except STORAGE_ERRORS as error:
        raise BackupError(f"A stored file cannot be read, or the archive not written: {error}.") from error
    return manifest


def _add_all(writer: ArchiveWriter) -> dict[str, Any]:
    named, about = _add_database(writer)
    stored: dict[str, dict[str, int]] = {}
    for alias, storage in kept_storages().items():
        sizes: list[int] = []
        present = list(
            copy_all(storage, lambda name, file: sizes.append(writer.add(f"files/{alias}/{name}", file)))  # noqa: B023
        )
        stored[alias] = {"files": len(present), "bytes": sum(sizes)}
        named -= {(alias, name) for name in present}
    if named:
        named &= set(named_files())  # what was deleted since the snapshot is not missing
    mlflow = _add_mlflow(writer)
    return {
        "product": PRODUCT,
        "format": FORMAT,
        "version": settings.SPECTACULAR_SETTINGS["VERSION"],
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "site_url": settings.SITE_URL,
        **about,
        "files": stored,
        "missing_files": {
            "count": len(named),
            "first": sorted(f"{alias}/{name}" for alias, name in named)[:MOST_NAMED],
        },
        "mlflow": mlflow,
        "not_included": [*NEVER_INCLUDED, *([mlflow["why_not"]] if mlflow["why_not"] else [])],
    }


def _add_database(writer: ArchiveWriter) -> tuple[set[tuple[str, str]], dict[str, Any]]:
    """Dump it; the files that its rows name, and what the manifest says of it. All of one moment."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            cursor.execute("SELECT pg_export_snapshot(), current_setting('server_version_num')::int, now()")
            snapshot, version, moment = cursor.fetchone()
        with databases.dump(
            settings.DATABASES["default"] | _name(), server_version=version, snapshot=snapshot
        ) as stream:
            writer.add("database.dump", stream)
        recorder = MigrationRecorder(connection)
        applied = sorted(recorder.applied_migrations())
        counts = {
            label: apps.get_model(label).objects.count()
            for label in (
                "accounts.User",
                "leaderboards.Leaderboard",
                "leaderboards.Entry",
                "submissions.Submission",
                "jobs.Job",
            )
        }
        statuses = Counter(dict(_statuses()))
        named = set(named_files())
    about = {
        "snapshot_at": moment.isoformat(timespec="seconds"),
        "postgresql": version,
        "migrations": [f"{app}.{name}" for app, name in applied],
        "counts": counts,
        "jobs_by_status": statuses,
    }
    return named, about


def _name() -> dict[str, Any]:
    """The database that this process is connected to, which in a test is another than the settings say."""
    return {"NAME": connection.settings_dict["NAME"]}


def _statuses() -> list[tuple[str, int]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT status, count(*) FROM jobs_job GROUP BY status ORDER BY status")
        return cursor.fetchall()


def _add_mlflow(writer: ArchiveWriter) -> dict[str, Any]:
    """MLflow's records and files where settings say that they are; what is not there is said in words."""
    told: dict[str, Any] = {"database": False, "artifacts": 0, "why_not": ""}
    missing = []
    with ExitStack() as stack:
        if settings.MLFLOW_DATABASE_URL:
            database = dict(dj_database_url.parse(settings.MLFLOW_DATABASE_URL))
            version = stack.enter_context(databases.connect(database)).info.server_version
            with databases.dump(database, server_version=version) as stream:
                writer.add("mlflow/database.dump", stream)
            told["database"] = True
        else:
            missing.append("its database (set MLFLOW_DATABASE_URL)")
    root = settings.MLFLOW_ARTIFACT_ROOT
    if root and Path(root).is_dir():
        for path in sorted(Path(root).rglob("*")):
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    writer.add(f"mlflow/artifacts/{path.relative_to(root)}", file)
                told["artifacts"] += 1
    else:
        missing.append("its files (set MLFLOW_ARTIFACT_ROOT where they are a folder that this machine has)")
    if missing:
        told["why_not"] = f"MLflow: {' and '.join(missing)}; runs are made again from the jobs after a restore"
    return told
