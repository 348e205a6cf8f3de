"""Where calls are answered, one or many at once; and what may be wrong with all of them."""

import logging
from collections.abc import Callable
from time import perf_counter

from django.conf import settings
from django.db import Error

from leaderboard_site.health import ALIVE
from leaderboard_site.lane import database, enqueue, status, submit
from leaderboard_site.lane.answers import Answer, away, page_answer
from leaderboard_site.lane.calls import BODY_MOST_BYTES, ENQUEUE, HEALTH, STATUS, SUBMIT, Call

logger = logging.getLogger(__name__)

_ANSWERS: dict[str, Callable[[list[Call]], list[Answer | None]]] = {
    STATUS: status.answer_all,
    ENQUEUE: enqueue.answer_all,
    SUBMIT: submit.answer_all,
}
_ALLOW = {STATUS: status.ALLOW, ENQUEUE: enqueue.ALLOW, SUBMIT: submit.ALLOW}
# What a server's main loop reads by itself, with bodies of up to BODY_MOST_BYTES.
AT_ONCE = (STATUS, ENQUEUE, SUBMIT, HEALTH)


def may_read(call: Call, length: int) -> bool:
    """Whether the call's body is small enough to be read at once, before it is known what it says."""
    if call.route != SUBMIT:
        return length <= BODY_MOST_BYTES
    if not settings.LANE:
        return False
    try:
        return submit.may_read(call, length)
    except Error:
        database.forget()
        return False


def may_stream(call: Call, length: int) -> bool:
    """Whether a body that is larger is the lane's all the same, read as it comes."""
    if call.route != SUBMIT or not settings.LANE or settings.MAINTENANCE_FILE.exists():
        return False
    try:
        return submit.may_stream(call, length)
    except Error:
        database.forget()
        return False


def answer_all(route: str, calls: list[Call]) -> list[Answer | None]:
    """The answers in the order of the calls; None where the site must answer: it is told nothing, and begins anew."""
    if route == HEALTH:
        # Without the lane and during maintenance too: it asks only whether the process answers.
        return _counted(calls, [page_answer(call, ALIVE) for call in calls])
    if not settings.LANE or settings.MAINTENANCE_FILE.exists():
        return [None] * len(calls)
    try:
        answers = _ANSWERS[route](calls)
    except Error as error:
        # Nothing is committed when this comes here.
        database.forget()
        if not database.is_too_slow(error):
            # The site tries by itself, and says what is wrong if it still is.
            logger.warning("the lane leaves %d calls to the site: %s", len(calls), error)
            return [None] * len(calls)
        # The site would wait as long, in a thread a call.
        logger.warning("a statement for %d calls took too long: %s", len(calls), error)
        answers = [away(call, allow=_ALLOW[route]) for call in calls]
    return _counted(calls, answers)


def _counted(calls: list[Call], answers: list[Answer | None]) -> list[Answer | None]:
    if settings.METRICS:
        _count(calls, answers)
    return answers


def _count(calls: list[Call], answers: list[Answer | None]) -> None:
    # Imported here: who switches metrics off does not pay for the library either.
    from leaderboard_site.metrics.requests import add

    now = perf_counter()
    for call, answer in zip(calls, answers, strict=True):
        if answer is not None:
            add(call.method, call.route, answer.status, now - call.began)
