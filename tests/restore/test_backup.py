"""`backup` and `restore` on a real database and real files; the whole drill with servers and MLflow is drill.py."""

import io
import json
import zipfile

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from accounts.models import User
from jobs.models import Job, TrackingOutbox
from jobs.tests.factories import JobFactory
from leaderboard_site.backup import databases
from leaderboard_site.backup.archive import CHECKSUMS, MANIFEST, ArchiveReader, ArchiveWriter, BackupError
from leaderboards.models import Entry, Leaderboard
from leaderboards.tests.factories import EntryFactory
from submissions.models import Submission


def nothing(name, size):
    pass


def call(*arguments):
    out = io.StringIO()
    call_command(*map(str, arguments), stdout=out, stderr=io.StringIO())
    return out.getvalue()


# --- the archive ---------------------------------------------------------------------------------------------------
@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "a.zip"
    with ArchiveWriter(path, nothing) as writer:
        writer.add("one", io.BytesIO(b"1" * 3_000_000))
        writer.add("mlflow/artifacts/日本\u2028#.txt", io.BytesIO(b"2"))
        writer.finish({"product": "leadersboard", "format": 1, "version": "0"})
    return path


def test_an_archive_is_its_owners_alone_and_whole(archive):
    assert archive.stat().st_mode & 0o777 == 0o600
    assert ArchiveReader(archive).verify(nothing) == 2
    assert sorted(archive.parent.iterdir()) == [archive]


def test_what_breaks_off_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), ArchiveWriter(tmp_path / "b.zip", nothing) as writer:
        writer.add("one", io.BytesIO(b"1"))
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def repacked(archive, **changes):
    """The archive with parts changed (None: left out), as somebody who can write zips would."""
    with zipfile.ZipFile(archive) as old:
        parts = {name: old.read(name) for name in old.namelist()} | changes
    with zipfile.ZipFile(archive, "w") as new:
        for name, content in parts.items():
            if content is not None:
                new.writestr(name, content)
    return archive


@pytest.mark.parametrize(
    "changes", [{"one": b"2"}, {"one": None}, {"more": b""}, {CHECKSUMS: None}, {CHECKSUMS: b""}], ids=range(5)
)
def test_a_changed_part_is_found(archive, changes):
    with pytest.raises(BackupError, match=r"damaged or changed|not those of"):
        ArchiveReader(repacked(archive, **changes)).verify(nothing)


def test_a_flipped_bit_is_found(archive):
    content = bytearray(archive.read_bytes())
    content[1_500_000] ^= 1
    archive.write_bytes(content)
    with pytest.raises(BackupError, match="one"):
        ArchiveReader(archive).verify(nothing)


@pytest.mark.parametrize(
    ("manifest", "word"),
    [
        ({"product": "other"}, "no backup of this product"),
        ({"product": "leadersboard", "format": 2, "version": "9"}, "has format 2; this version reads 1"),
    ],
)
def test_another_product_and_a_newer_format_are_refused(archive, manifest, word):
    with pytest.raises(BackupError, match=word):
        ArchiveReader(repacked(archive, **{MANIFEST: json.dumps(manifest)}))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"x" * 1000])
def test_rubbish_is_no_archive(tmp_path, content):
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(CommandError, match="no backup of this product"):
        call("restore", tmp_path / "x.zip", "--verify")


# --- a site --------------------------------------------------------------------------------------------------------
@pytest.fixture
def site(transactional_db, settings, tmp_path):
    """Some rows with their files, in folders of their own; MLflow out of reach."""
    settings.MLFLOW_DATABASE_URL = settings.MLFLOW_ARTIFACT_ROOT = ""
    folders = {alias: tmp_path / alias for alias in ("submissions", "artifacts")}
    plain = {"BACKEND": "submissions.storage.DurableFileSystemStorage"}
    settings.STORAGES = {
        **settings.STORAGES,
        **{alias: {**plain, "OPTIONS": {"location": str(folder)}} for alias, folder in folders.items()},
        "default": {**plain, "OPTIONS": {"location": str(folders["artifacts"])}},
    }
    Leaderboard.objects.all().delete()
    entry = EntryFactory(score=0.75)
    log = storages["artifacts"].save("results/1/log.txt", ContentFile(b"the log\n"))
    Job.objects.filter(pk=entry.job_id).update(log_name=log)
    storages["submissions"].save(entry.job.submission.object_name, ContentFile(b"the code"))
    (folders["submissions"] / "incoming").mkdir()
    (folders["submissions"] / "incoming" / "upload.tmp").write_bytes(b"under way")
    JobFactory(status="running", submission=entry.job.submission, user=entry.user, leaderboard=entry.leaderboard)
    return entry


def state():
    return [list(model.objects.order_by("pk").values()) for model in (User, Submission, Job, Entry)]


def wipe():
    for model in (Entry, Job, Submission, Leaderboard, User):
        model.objects.all().delete()
    for alias in ("submissions", "artifacts"):
        for name in list(names(alias)):
            storages[alias].delete(name)


def names(alias):
    from leaderboard_site.backup.files import stored_names

    return sorted(stored_names(storages[alias]))


def test_there_and_back(site, tmp_path):
    before, files = state(), {alias: names(alias) for alias in ("submissions", "artifacts")}
    assert files["artifacts"] == ["results/1/log.txt"]
    manifest = json.loads(call("backup", tmp_path, "--json"))
    assert (manifest["counts"]["jobs.Job"], manifest["jobs_by_status"]) == (2, {"completed": 1, "running": 1})
    assert manifest["missing_files"] == {"count": 0, "first": []}
    assert manifest["files"] == {"artifacts": {"files": 1, "bytes": 8}, "submissions": {"files": 1, "bytes": 8}}
    assert any(line.startswith("MLflow: its database") for line in manifest["not_included"])
    wipe()
    done = json.loads(call("restore", manifest["path"], "--json"))
    assert state() == before
    assert {alias: names(alias) for alias in files} == files
    with storages["artifacts"].open("results/1/log.txt") as stored:
        assert stored.read() == b"the log\n"
    # MLflow's runs are not in it: they are made again from the jobs.
    assert (done["mlflow"], done["runs_to_make_again"]) == ("not in the backup", 1)
    assert TrackingOutbox.objects.get().job_id == site.job_id
    # The guard of final statuses came back too.
    with pytest.raises(Exception, match="is final"):
        Job.objects.filter(pk=site.job_id).update(score=1.0)


def test_a_site_in_use_is_replaced_only_by_force(site, tmp_path):
    call("backup", tmp_path / "b.zip")
    newcomer = User.objects.create(username="newcomer")
    with pytest.raises(CommandError, match="has something in it"):
        call("restore", tmp_path / "b.zip")
    assert User.objects.filter(pk=newcomer.pk).exists()
    call("restore", tmp_path / "b.zip", "--force")
    assert not User.objects.filter(pk=newcomer.pk).exists()


def test_files_alone_are_something_too(site, tmp_path):
    call("backup", tmp_path / "b.zip")
    for model in (Entry, Job, Submission, Leaderboard, User):
        model.objects.all().delete()
    with pytest.raises(CommandError, match="The storage 'submissions' holds files"):
        call("restore", tmp_path / "b.zip")


def test_a_newer_schema_is_refused_before_anything_is_touched(site, tmp_path, monkeypatch):
    applied = MigrationRecorder.applied_migrations
    monkeypatch.setattr(
        MigrationRecorder, "applied_migrations", lambda self: {**applied(self), ("jobs", "9999_future"): None}
    )
    call("backup", tmp_path / "b.zip")
    monkeypatch.undo()
    before = state()
    with pytest.raises(CommandError, match=r"newer version.*jobs\.9999_future"):
        call("restore", tmp_path / "b.zip", "--force")
    assert state() == before


def test_a_dump_that_cannot_be_restored_leaves_the_database_as_it_was(site, tmp_path, monkeypatch):
    monkeypatch.setattr("leaderboard_site.backup.create.databases.dump", _rubbish)
    call("backup", tmp_path / "b.zip")
    before = state()
    with pytest.raises(CommandError, match="the database is as it was"):
        call("restore", tmp_path / "b.zip", "--force")
    assert state() == before


class _rubbish:
    def __init__(self, *given, **named):
        pass

    def __enter__(self):
        return io.BytesIO(b"PGDMP" + b"\x00" * 5000)

    def __exit__(self, *given):
        pass


def test_a_restore_that_was_killed_is_no_hindrance_to_the_next(site, tmp_path):
    call("backup", tmp_path / "b.zip")
    before = state()
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER SCHEMA public RENAME TO {databases.ASIDE}")
        cursor.execute("CREATE SCHEMA public")
    connection.close()
    call("restore", tmp_path / "b.zip", "--force")
    assert state() == before


def test_a_file_that_is_gone_is_told_and_the_rest_is_kept(site, tmp_path):
    storages["artifacts"].delete("results/1/log.txt")
    with pytest.raises(CommandError, match=r"1 files .* artifacts/results/1/log\.txt"):
        call("backup", tmp_path / "b.zip")
    assert json.loads(call("restore", tmp_path / "b.zip", "--verify", "--json"))["counts"]["jobs.Job"] == 2


def test_bad_targets_are_refused(site, tmp_path):
    (tmp_path / "there.zip").write_text("mine")
    for target, word in [(tmp_path / "there.zip", "is there already"), (tmp_path / "no" / "b.zip", "mkdir -p")]:
        with pytest.raises(CommandError, match=word):
            call("backup", target)
    assert (tmp_path / "there.zip").read_text() == "mine"


def test_pg_dump_must_not_be_older_than_the_server():
    with pytest.raises(BackupError, match=r"PostgreSQL 99 or newer is needed\. Found, but too old"):
        databases.program("pg_dump", 990001)


def test_no_password_is_in_a_command_line_or_leaks_from_around():
    given = {
        "HOST": "h",
        "PORT": 1,
        "USER": "u",
        "PASSWORD": "p",
        "NAME": "n",
        "OPTIONS": {"sslmode": "require", "x": 1},
    }
    found = {name: value for name, value in databases.environment(given).items() if name.startswith("PG")}
    assert found == {
        "PGHOST": "h", "PGPORT": "1", "PGUSER": "u", "PGPASSWORD": "p", "PGDATABASE": "n", "PGSSLMODE": "require",
    }  # fmt: skip
