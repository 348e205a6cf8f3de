"""The one family of errors that a service raises to refuse a request; only the edges translate it to HTTP."""


class RequestRefused(Exception):
    """A refusal that the user can understand: a stable code and a sentence naming field, rule and value.

    `status` is the HTTP status that the edges answer with; `retry_after` the seconds until it may work.
    """

    status = 400

    def __init__(self, code: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after


class InvalidInput(RequestRefused):
    status = 400


class NotFound(RequestRefused):
    status = 404


class Conflict(RequestRefused):
    """The object's state does not allow it."""

    status = 409


class TooLarge(RequestRefused):
    status = 413


class QuotaExceeded(RequestRefused):
    status = 429


class Unavailable(RequestRefused):
    """A part that this request needs is down."""

    status = 503
