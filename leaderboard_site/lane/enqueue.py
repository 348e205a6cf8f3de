"""POST /api/jobs: the jobs of many people in one transaction, by the function that `enqueue_job` calls for one.

One statement and a commit, however many. Calls of a person whose row another transaction holds are tried again. Calls that
get no new job (a quota is used up, the leaderboard is closed, the key was used before) fall through to Django, which asks
again and explains the refusal.
"""

import logging
import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import Error, transaction
from django.utils import timezone

from accounts.http import BODY
from accounts.refusals import RequestRefused
from core.untrusted import load_json
from jobs import queue
from jobs.models import Status
from jobs.new_jobs import Outcome, enqueue_jobs, job_request
from jobs.services import check_request, request_digest
from leaderboard_site.lane.answers import Answer, answer, away
from leaderboard_site.lane.calls import Call
from leaderboard_site.lane.database import cursor, forget, is_answer_lost, is_too_slow

logger = logging.getLogger(__name__)

ALLOW = "GET, POST, HEAD, OPTIONS"
KNOWN = frozenset(["submission_id", "config", "resource_class", "trial"])
# A lock that another batch holds is gone when that has committed.
TRIES = 3
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(slots=True)
class Wish:
    """A call whose body is as it must be."""

    number: int
    call: Call
    submission_id: str
    config: dict[str, Any]
    resource_class: str
    trial: bool


def answer_all(calls: list[Call]) -> list[Answer | None]:
    """Return an answer to each call, None where Django has to answer. A person's jobs are counted one after the other."""
    answers: list[Answer | None] = [None] * len(calls)
    wishes = [wish for number, call in enumerate(calls) if (wish := _wish(number, call)) is not None]
    for _ in range(TRIES):
        if not wishes:
            break
        try:
            locked, made = _enqueue(wishes)
        except Exception as error:  # whatever it is, it must not take the answers along of those that are committed
            # Nothing of these is committed, but what came before is: Django has the rest alone.
            logger.warning("the lane leaves %d jobs to the site: %r", len(wishes), error)
            forget()
            if is_too_slow(error):  # the site would wait as long
                for wish in wishes:
                    answers[wish.number] = away(wish.call, allow=ALLOW)
            break
        for number, one in made.items():
            answers[number] = one
        wishes = [wish for wish in wishes if wish.number not in locked]
    return answers


def _wish(number: int, call: Call) -> Wish | None:
    """What a plain body asks for; None for every other, right or wrong."""
    try:
        sent = load_json(call.body, BODY)
        if not isinstance(sent, dict) or not KNOWN.issuperset(sent):
            return None
        submission_id, config = sent.get("submission_id"), sent.get("config", {})
        resource_class, trial = sent.get("resource_class", "small"), sent.get("trial", False)
        if not isinstance(submission_id, str) or not _ID.fullmatch(submission_id):
            return None
        if not isinstance(config, dict) or not isinstance(resource_class, str) or not isinstance(trial, bool):
            return None
        check_request(config, resource_class, call.idempotency_key)
    except (ValueError, RequestRefused):
        return None
    return Wish(number, call, submission_id, config, resource_class, trial)


def _enqueue(wishes: list[Wish]) -> tuple[set[int], dict[int, Answer]]:
    """Return the numbers of those whose person could be locked, and the answers to those whose job is committed."""
    answers: dict[int, Answer] = {}
    locked: set[int] = set()
    is_written = False
    try:
        with transaction.atomic():
            for outcome in _ask(wishes):
                wish = wishes[outcome.number - 1]
                if outcome.refusal != "locked":
                    locked.add(wish.number)
                if outcome.is_new and outcome.job_id and outcome.made_at:
                    created_at = timezone.localtime(outcome.made_at)
                    content = {"job_id": outcome.job_id, "status": Status.PENDING.value, "created_at": created_at}
                    answers[wish.number] = answer(wish.call, 202, content, allow=ALLOW)
                    queue.push_after_commit(outcome.job_id, wish.resource_class)
            is_written = True
    except Error as error:
        if not (is_written and is_answer_lost(error)):
            raise
        # They may be committed: a second try by the site would make them twice.
        forget()
        answers = {wish.number: away(wish.call, allow=ALLOW) for wish in wishes if wish.number in answers}
    return locked, answers


def _ask(wishes: list[Wish]) -> list[Outcome]:
    requests = [
        job_request(
            token_digest=wish.call.digest,
            submission_id=wish.submission_id,
            config=wish.config,
            resource_class=wish.resource_class,
            trial=wish.trial,
            idempotency_key=wish.call.idempotency_key,
            request_digest=_digest(wish),
            request_id=wish.call.request_id,
        )
        for wish in wishes
    ]
    with cursor() as asked:
        return enqueue_jobs(asked, requests, waits=False)


def _digest(wish: Wish) -> str:
    if not wish.call.idempotency_key:
        return ""
    return request_digest(UUID(wish.submission_id), wish.config, wish.resource_class, trial=wish.trial)
