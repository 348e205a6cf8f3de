"""Everything that can end a command, each with its exit code."""

from __future__ import annotations

from http.client import HTTPException

COMPLETED, NOT_COMPLETED, USAGE, REFUSED, UNREACHABLE, THIS_MACHINE, CLIENT_FAULT = range(7)
INTERRUPTED, PIPE_CLOSED = 130, 141


class Wrong(Exception):
    """What was asked for on the command line cannot be done."""


class LocalFault(Exception):
    """This machine cannot do it: its disk, a file, its standard output.

    Not an OSError: those that pass through urllib become faults of the network.
    """


class PipeClosed(Exception):
    """The reader of standard output has gone (`| head`)."""


class NoAnswer(OSError):
    """The site could not be reached, or its answer is none of a LeadersBoard site."""


class Refused(Exception):
    """The site refused; the message is its own."""

    def __init__(self, status: int, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after

    @property
    def is_passing(self) -> bool:
        """Whether the same may work in a while."""
        return self.status in (502, 503, 504)


def reason(error: BaseException) -> str:
    """Return an error's own words, without Python's number in front."""
    inner = getattr(error, "reason", None)
    if isinstance(inner, BaseException):
        return reason(inner)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
    return str(error) or (HTTPException.__name__ if isinstance(error, HTTPException) else type(error).__name__)
