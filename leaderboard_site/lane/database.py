"""The lane's way to PostgreSQL: Django's connection of the thread, past the ORM, with statements prepared once."""

from typing import Any

from django.db import Error, InterfaceError, OperationalError, connection
from psycopg import Cursor


def cursor() -> Cursor[Any]:
    """A cursor with server-side binding, so that its statements are planned once a connection; Django's own never are.

    A connection that is broken is closed by `forget`, so that the next call makes a new one.
    """
    connection.ensure_connection()
    raw = connection.connection
    if raw.prepare_threshold is None:
        raw.prepare_threshold = 0
    return Cursor(raw)


def rows(query: str, *values: Any) -> list[tuple[Any, ...]]:
    with cursor() as found:
        return found.execute(query, values).fetchall()


def is_answer_lost(error: Error) -> bool:
    """Whether it is open what the server did: what it refuses by itself, it says with a code."""
    code = getattr(error.__cause__, "sqlstate", None)
    return isinstance(error, OperationalError | InterfaceError) and (code is None or code[:2] in ("08", "57"))


def forget() -> None:
    """After an error: whatever state the connection is in, it is not used again."""
    if not connection.in_atomic_block:
        connection.close()
