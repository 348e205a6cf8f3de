"""Tell MLflow's being away from its refusal of one thing, and put both into words that name no address."""

import json
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from jobs.execution.told import Told as _

MOST_CHARACTERS = 200
# Answers of a proxy for a server that is away, or of MLflow to everyone: too many requests, a wrong secret, a host that is
# not allowed.
AWAY_STATUSES = {401, 403, 408, 429, 502, 503, 504}
_STATUS = re.compile(r"too many (\d{3}) error responses")


def is_away(error: BaseException) -> bool:
    """Tell whether MLflow could not be asked at all: refused, timed out, or turned away before it."""
    from requests import exceptions

    if any(isinstance(cause, exceptions.ConnectionError | exceptions.Timeout) for cause in _causes(error)):
        return True
    # The whole API is missing at this address.
    return status_of(error) in AWAY_STATUSES or getattr(error, "error_code", "") == "ENDPOINT_NOT_FOUND"


def is_refused(error: BaseException) -> bool:
    """Tell whether MLflow, or its client, refused what was sent; the same again would be refused again."""
    status = status_of(error)
    if status is None:
        return isinstance(error, ValueError | OverflowError | TypeError)
    return 400 <= status < 500 and not is_away(error)


def status_of(error: BaseException) -> int | None:
    """Return the status that MLflow answered with; None when it gave none."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import HTTPError, RetryError

    for cause in _causes(error):
        if isinstance(cause, HTTPError) and cause.response is not None:
            return int(cause.response.status_code)
        if isinstance(cause, RetryError):
            found = _STATUS.search(str(cause))
            return int(found[1]) if found else HTTPStatus.INTERNAL_SERVER_ERROR
    if isinstance(error, MlflowException) and error.error_code != "INTERNAL_ERROR":
        return int(error.get_http_status_code())
    return None


def in_words(error: BaseException) -> _:
    """Say why, for the owner of a job too: an address of the site's network is nothing for them."""
    if isinstance(error, FileNotFoundError):
        return _("the stored file is missing")
    if is_away(error):
        return _("MLflow did not answer")
    if message := _message(error):
        return _("MLflow refuses it: %(message)s", message=message)
    status = status_of(error)
    if status is not None:
        return _("MLflow answered with status %(status)d", status=status)
    if isinstance(error, OSError):
        return _("the stored file cannot be read")
    return _("it cannot be sent: %(kind)s", kind=type(error).__name__)


def _message(error: BaseException) -> str:
    """Return what MLflow says is wrong, without its advice for programs."""
    from mlflow.exceptions import MlflowException

    text = ""
    response = getattr(error, "response", None)
    if response is not None:
        text = str(_json(response.text).get("message", ""))
    elif isinstance(error, MlflowException) and error.error_code != "INTERNAL_ERROR":
        text = error.message.removeprefix(f"{error.error_code}: ")
    return text.strip().partition("\n")[0][:MOST_CHARACTERS]


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and what it came from: MLflow's client raises its own error for one of `requests`."""
    for _number in range(10):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__
