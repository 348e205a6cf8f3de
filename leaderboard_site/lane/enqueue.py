"""POST /api/jobs: the jobs of many people in one transaction, each under its person's row lock, as `enqueue_job` makes one.

Two statements and a commit, however many: lock the people, then insert what their quotas and leaderboards allow. A person
whose row is locked by somebody else is passed over, twice; whoever gets no row (a quota used up, a closed leaderboard, a
foreign submission, a key that was used before) is the site's: it looks again, under the same lock, and says why.
"""

import json
import logging
import re
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db import Error, transaction
from django.utils import timezone

from accounts.http import BODY
from accounts.quota import TIMES_IN_ALL
from accounts.refusals import RequestRefused
from core.untrusted import load_json
from jobs import queue
from jobs.models import Job, Status
from jobs.services import check_request, request_digest
from leaderboard_site.lane.answers import Answer, answer, away
from leaderboard_site.lane.calls import Call
from leaderboard_site.lane.database import columns_and_values, cursor, forget, is_answer_lost, is_too_slow
from leaderboards.openness import open_sql

logger = logging.getLogger(__name__)

ALLOW = "GET, POST, HEAD, OPTIONS"
KNOWN = frozenset(["submission_id", "config", "resource_class", "trial"])
LOCK_TIMEOUT = "2s"
# A lock that another batch holds is gone when that has committed.
TRIES = 3
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

# In the order of the ids: two batches at once lock in one order. No wait for a lock stops the people behind.
_LOCK = """
SELECT asked.number, person.id, person.concurrent_jobs, person.submissions_per_hour,
       set_config('lock_timeout', %s, true)
FROM unnest(%s::text[]) WITH ORDINALITY AS asked(digest, number)
JOIN accounts_apitoken token ON token.digest = asked.digest AND token.revoked_at IS NULL
    AND (token.expires_at IS NULL OR token.expires_at > statement_timestamp())
JOIN accounts_user person ON person.id = token.user_id AND person.is_active
ORDER BY person.id
FOR UPDATE OF person SKIP LOCKED
"""
# The same conditions as jobs/services.py; a test holds both to the same limits. Each count is one of an index, up to the quota.
_INSERT = """
INSERT INTO jobs_job ({columns})
SELECT {values}
FROM unnest(%s::uuid[], %s::bigint[], %s::uuid[], %s::text[], %s::text[], %s::bool[], %s::text[], %s::text[], %s::text[], %s::int[], %s::int[])
    AS asked(id, user_id, submission_id, config, resource_class, trial, idempotency_key, request_digest, request_id, at_once, an_hour)
CROSS JOIN LATERAL (
    SELECT leaderboard_id FROM submissions_submission
    WHERE id = asked.submission_id AND user_id = asked.user_id AND deleted_at IS NULL LIMIT 1
) submission
CROSS JOIN LATERAL (
    SELECT FROM leaderboards_leaderboard open_board WHERE id = submission.leaderboard_id AND {is_open} LIMIT 1
) board
WHERE (asked.idempotency_key IS NULL OR NOT EXISTS (
        SELECT FROM jobs_job WHERE user_id = asked.user_id AND idempotency_key = asked.idempotency_key))
    AND (SELECT count(*) FROM (
            SELECT FROM jobs_job WHERE user_id = asked.user_id AND status = 'pending' AND NOT is_by_operator
            ORDER BY priority, created_at, id LIMIT asked.at_once) waiting)
        + (SELECT count(*) FROM jobs_job WHERE user_id = asked.user_id AND status = 'running' AND NOT is_by_operator)
        < asked.at_once
    AND (SELECT count(*) FILTER (WHERE costs_quota) < asked.an_hour AND count(*) < asked.an_hour * {times_in_all} FROM (
            SELECT costs_quota FROM jobs_job WHERE user_id = asked.user_id AND NOT is_by_operator
            AND created_at > statement_timestamp() - interval '1 hour'
            ORDER BY created_at DESC, id DESC LIMIT asked.an_hour * {times_in_all}) recent)
RETURNING id, created_at
"""
_ASKED = {
    "id": "asked.id",
    "user_id": "asked.user_id",
    "submission_id": "asked.submission_id",
    "leaderboard_id": "submission.leaderboard_id",
    "config": "asked.config::jsonb",
    "resource_class": "asked.resource_class",
    "trial": "asked.trial",
    "idempotency_key": "asked.idempotency_key",
    "request_digest": "asked.request_digest",
    "request_id": "asked.request_id",
    "pushed_at": "statement_timestamp()",
}


@dataclass(slots=True)
class Wish:
    """A call whose body is as it must be."""

    number: int
    call: Call
    submission_id: str
    config: dict[str, Any]
    resource_class: str
    trial: bool
    tries: int = 0


def answer_all(calls: list[Call]) -> list[Answer | None]:
    """An answer to each, None where the site must. Of one token one job a transaction: each is counted before the next."""
    answers: list[Answer | None] = [None] * len(calls)
    wishes = [wish for number, call in enumerate(calls) if (wish := _wish(number, call)) is not None]
    while wishes:
        # The last in wins, so that of one token the first call does.
        first = {wish.call.digest: wish for wish in reversed(wishes)}
        try:
            looked_at, made = _enqueue(list(first.values()))
        except Exception as error:  # whatever it is, it must not take the answers along of those that are committed
            # Nothing of these is committed, but what came before is: the site has the rest alone.
            logger.warning("the lane leaves %d jobs to the site: %r", len(wishes), error)
            forget()
            if is_too_slow(error):  # the site would wait as long
                for wish in wishes:
                    answers[wish.number] = away(wish.call, allow=ALLOW)
            break
        for number, one in made.items():
            answers[number] = one
        for wish in first.values():
            wish.tries += 1
        over = {wish.number for wish in first.values() if wish.number in looked_at or wish.tries >= TRIES}
        # Whom one job was refused, the site has all others of: they would hold up everybody else's answers.
        refused = {wish.call.digest for wish in first.values() if wish.number in over and wish.number not in made}
        wishes = [wish for wish in wishes if wish.number not in over and wish.call.digest not in refused]
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
    """Whose person could be locked, and the answers to those whose job is committed."""
    answers: dict[int, Answer] = {}
    looked_at: set[int] = set()
    is_written = False
    try:
        with transaction.atomic():
            locked = _lock(wishes)
            looked_at = {wish.number for wish, _, _ in locked.values()}
            made = _insert(locked) if locked else {}
            for wish, job_id in ((wish, job_id) for job_id, (wish, _, _) in locked.items() if job_id in made):
                content = {"job_id": job_id, "status": Status.PENDING.value, "created_at": _local(made[job_id])}
                answers[wish.number] = answer(wish.call, 202, content, allow=ALLOW)
                queue.push_after_commit(job_id, wish.resource_class)
            is_written = True
    except Error as error:
        if not (is_written and is_answer_lost(error)):
            raise
        # They may be committed: a second try by the site would make them twice.
        forget()
        answers = {wish.number: away(wish.call, allow=ALLOW) for wish in wishes if wish.number in answers}
    return looked_at, answers


def _lock(wishes: list[Wish]) -> dict[UUID, tuple[Wish, int, tuple[int, int]]]:
    """By the id that its job will have: the wish, whose it is, and its quotas. Of one person one."""
    found: dict[int, tuple[UUID, tuple[Wish, int, tuple[int, int]]]] = {}
    with cursor() as asked:
        asked.execute(_LOCK, (LOCK_TIMEOUT, [wish.call.digest for wish in wishes]))
        for number, user_id, at_once, an_hour, _ in asked.fetchall():
            quotas = (
                settings.CONCURRENT_JOBS if at_once is None else at_once,
                settings.SUBMISSIONS_PER_HOUR if an_hour is None else an_hour,
            )
            found.setdefault(user_id, (uuid4(), (wishes[number - 1], user_id, quotas)))
    return dict(found.values())


def _insert(locked: dict[UUID, tuple[Wish, int, tuple[int, int]]]) -> dict[UUID, datetime]:
    rows = [
        (job_id, user_id, wish.submission_id, json.dumps(wish.config), wish.resource_class, wish.trial,
         wish.call.idempotency_key, _digest(wish), wish.call.request_id, *quotas)
        for job_id, (wish, user_id, quotas) in locked.items()
    ]  # fmt: skip
    with cursor() as asked:
        asked.execute(_statement(), [*(list(column) for column in zip(*rows, strict=True))])
        return dict(asked.fetchall())


def _digest(wish: Wish) -> str:
    if not wish.call.idempotency_key:
        return ""
    return request_digest(UUID(wish.submission_id), wish.config, wish.resource_class, trial=wish.trial)


@cache
def _statement() -> str:
    columns, values = columns_and_values(Job, _ASKED)
    return _INSERT.format(columns=columns, values=values, is_open=open_sql("open_board"), times_in_all=TIMES_IN_ALL)


def _local(moment: datetime) -> datetime:
    """As the serializer shows times: in the site's time zone."""
    return timezone.localtime(moment)
