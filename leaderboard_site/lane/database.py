"""The lane's way to PostgreSQL: Django's connection of the thread, past the ORM, with statements prepared once."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import Error, InterfaceError, OperationalError, connection
from django.db.models import Model
from psycopg import Cursor, sql


@contextmanager
def cursor() -> Iterator[Cursor[Any]]:
    """A cursor with server-side binding, so that its statements are planned once a connection; Django's own never are.

    Raises Django's errors. A connection that is broken is closed by `forget`, so that the next call makes a new one.
    """
    connection.ensure_connection()
    raw = connection.connection
    if raw.prepare_threshold is None:
        raw.prepare_threshold = 0
    with connection.wrap_database_errors, Cursor(raw) as found:
        yield found


def rows(query: str, *values: Any) -> list[tuple[Any, ...]]:
    with cursor() as found:
        return found.execute(query, values).fetchall()


def columns_and_values(model: type[Model], given: dict[str, str]) -> tuple[str, str]:
    """For an INSERT: the given columns, and every other that the database has no default for, as a new row of the model has it."""
    blank = model()
    values = dict(given)
    for field in model._meta.concrete_fields:
        column = str(field.column)
        if column in values or field.has_db_default():
            continue
        value = field.get_default()
        if field.get_internal_type() == "JSONField":
            value = json.dumps(getattr(blank, field.attname))
        values[column] = sql.Literal(value).as_string(None)
    return ", ".join(values), ", ".join(values.values())


def is_answer_lost(error: Error) -> bool:
    """Whether it is open what the server did: what it refuses by itself, it says with a code."""
    code = getattr(error.__cause__, "sqlstate", None)
    return isinstance(error, OperationalError | InterfaceError) and (code is None or code[:2] in ("08", "57"))


def forget() -> None:
    """After an error: whatever state the connection is in, it is not used again."""
    if not connection.in_atomic_block:
        connection.close()
