"""The lane's way to PostgreSQL: Django's connection of the thread, past the ORM, with statements prepared once."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db import Error, InterfaceError, OperationalError, connection
from django.db.models import Model
from psycopg import Cursor, sql

_TOO_SLOW = "57014"
_thread = threading.local()


def limit_statements() -> None:
    """From now on no statement of this thread may take longer than LANE_STATEMENT_SECONDS: every call behind it waits."""
    _thread.is_limited = True


@contextmanager
def cursor() -> Iterator[Cursor[Any]]:
    """A cursor with server-side binding, so that its statements are planned once a connection; Django's own never are.

    Raises Django's errors. A connection that is broken is closed by `forget`, so that the next call makes a new one.
    """
    connection.ensure_connection()
    raw = connection.connection
    with connection.wrap_database_errors, Cursor(raw) as found:
        if raw.prepare_threshold is None:
            raw.prepare_threshold = 0
            if getattr(_thread, "is_limited", False):
                most = str(int(settings.LANE_STATEMENT_SECONDS * 1000))
                found.execute("SELECT set_config('statement_timeout', %s, false)", [most])
        _thread.uses = getattr(_thread, "uses", 0) + 1
        if _thread.uses % settings.PLANS_KEPT_FOR == 0:
            found.execute("DISCARD PLANS", prepare=False)
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


def is_too_slow(error: BaseException) -> bool:
    """Whether PostgreSQL gave the statement up; it has done nothing then."""
    return getattr(error.__cause__, "sqlstate", None) == _TOO_SLOW


def forget() -> None:
    """After an error: whatever state the connection is in, it is not used again."""
    if not connection.in_atomic_block:
        connection.close()
