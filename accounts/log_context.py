"""What every log line of a piece of work carries: the request that began it, the job it is about.

A request's id is stored with the job that it makes, so that the worker's lines and MLflow's run can be found by it.
"""

import logging
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token

LONGEST_REQUEST_ID = 64
_GIVEN_ID = re.compile(rf"[A-Za-z0-9._:-]{{1,{LONGEST_REQUEST_ID}}}")
_fields: ContextVar[dict[str, str] | None] = ContextVar("log_fields", default=None)


def fields() -> dict[str, str]:
    """What the lines of this thread carry now."""
    return _fields.get() or {}


def request_id() -> str:
    """The id of the request in hand; empty outside of one."""
    return fields().get("request_id", "")


def choose_request_id(given: str) -> str:
    """The id that came with the request if it is harmless in a log and a header, else a new one."""
    return given if _GIVEN_ID.fullmatch(given) else uuid.uuid4().hex


def enter(**values: str) -> Token[dict[str, str] | None]:
    """Add fields until `leave`; those that are empty are left out."""
    return _fields.set({**fields(), **{name: value for name, value in values.items() if value}})


def leave(token: Token[dict[str, str] | None]) -> None:
    _fields.reset(token)


@contextmanager
def bound(**values: str) -> Iterator[None]:
    """The same as a block."""
    token = enter(**values)
    try:
        yield
    finally:
        leave(token)


class AddContext(logging.Filter):
    """Puts the fields on each record: `context` as a dict for JSON, `suffix` as text for lines."""

    def filter(self, record: logging.LogRecord) -> bool:
        bound_now = fields()
        suffix = "".join(f" {name}={value}" for name, value in bound_now.items())
        record.__dict__.update(context=bound_now, suffix=suffix)
        return True
