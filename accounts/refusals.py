"""The one family of errors that a service raises to refuse a request; only the edges translate it to HTTP."""

from typing import Any

from django.utils.translation import gettext

from core.untrusted import TextRefused


class RequestRefused(Exception):
    """A refusal that the user can understand: a stable code and a sentence naming field, rule and value.

    The sentence is a lazy translation with named parameters (`_("at most %(most)d"), most=3`): it is put into words when
    it is shown, in the language of who reads it. `field` is the field of the request that is wrong and is never
    translated. `status` is the HTTP status that the edges answer with; `retry_after` the seconds until it may work.
    """

    status = 400

    def __init__(
        self, code: str, sentence: object, *, field: str = "", retry_after: int | None = None, **parameters: Any
    ) -> None:
        super().__init__(code)
        self.code = code
        self.field = field
        self.retry_after = retry_after
        self.parameters = parameters
        self._sentence = sentence

    @property
    def sentence(self) -> str:
        """What is wrong, in the language that is active now."""
        return str(self._sentence) % self.parameters if self.parameters else str(self._sentence)

    @property
    def message(self) -> str:
        """The sentence behind the name of its field, which is how programs get it."""
        return f"{self.field}: {self.sentence}" if self.field else self.sentence

    def __str__(self) -> str:
        return self.message


class InvalidInput(RequestRefused):
    status = 400


class Forbidden(RequestRefused):
    """The user may see the object, but not do this."""

    status = 403


class NotFound(RequestRefused):
    status = 404


class Conflict(RequestRefused):
    """The object's state does not allow it."""

    status = 409


class Gone(RequestRefused):
    """The object was there, and its owner has deleted what it held."""

    status = 410


class TooLarge(RequestRefused):
    status = 413


class QuotaExceeded(RequestRefused):
    status = 429


class Unavailable(RequestRefused):
    """A part that this request needs is down."""

    status = 503


def reason_of(error: ValueError) -> object:
    """Return why a text from outside was refused, with its line, in the reader's language; other errors are in English."""
    if not isinstance(error, TextRefused):
        return error
    return _Reason(error)


class _Reason:
    """A reason that is translated when it is shown, like the sentence around it."""

    def __init__(self, error: TextRefused) -> None:
        self._error = error

    def __str__(self) -> str:
        reason = gettext(self._error.sentence) % self._error.values
        if self._error.line is None:
            return reason
        return gettext("%(reason)s, line %(line)d") % {"reason": reason, "line": self._error.line}
