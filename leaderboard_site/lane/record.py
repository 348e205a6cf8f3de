"""The rows of submissions whose files are on disk, of many people in one transaction, each under its person's row lock.

Two statements and a commit, however many: lock the people, then insert what their quotas let in. Whoever's row is locked by
somebody else is passed over, and asked for once more. Who gets no row is the site's: it looks again, and says why.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from uuid import UUID

from django.conf import settings
from django.db import Error, transaction

from leaderboard_site.lane.database import columns_and_values, cursor, forget, is_answer_lost, is_too_slow
from submissions.archive import ManifestEntry
from submissions.models import Submission
from submissions.services import Form

logger = logging.getLogger(__name__)

# How long one statement waits for a lock: everybody else's rows wait with it.
LOCK_TIMEOUT = "2s"
LAST_LOCK_TIMEOUT = "200ms"

# The time limit is set while the arguments are read, before the function waits.
_LOCK = """
SELECT person FROM lock_people(
    %s::bigint[], waits => CASE WHEN set_config('lock_timeout', %s, true) IS NOT NULL THEN %s::boolean END
)
"""
# `before`: how many of the same person come before it in the batch. Where one of those got no row, it is counted too: what
# is refused for that is looked at again by the site.
_INSERT = """
INSERT INTO submissions_submission ({columns}) SELECT {values}
FROM unnest({arrays}) AS asked({names})
JOIN accounts_user person ON person.id = asked.user_id AND person.is_active
CROSS JOIN LATERAL hourly_use('submission', asked.user_id, %s, statement_timestamp()) use
WHERE asked.before < use.remaining RETURNING id, created_at
"""
_GIVEN = {
    "id": "uuid", "user_id": "bigint", "leaderboard_id": "bigint", "name": "text", "entrypoint": "text",
    "config_file": "text", "metadata": "jsonb", "kind": "text", "object_name": "text", "size_bytes": "bigint", "sha256": "text",
    "root_folder": "text", "manifest": "jsonb", "has_writable_code": "boolean",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stored:
    """What is on disk, and all that its row says."""

    id: UUID
    user_id: int
    board_id: int
    form: Form
    name: str
    size: int
    sha256: str
    root: str
    manifest: list[ManifestEntry]


@dataclass(slots=True)
class Recorded:
    """When each row was made; those that may have been (the answer to the commit was lost); those given up as too slow."""

    made: dict[UUID, datetime]
    uncertain: set[UUID]
    too_slow: set[UUID]


def record_all(stored: Sequence[Stored]) -> Recorded:
    """Whatever goes wrong, what is committed is told. In none of the three: no row was made, and the site must look."""
    result = Recorded({}, set(), set())
    left = list(stored)
    for is_last in (False, True):
        if not left:
            break
        is_written = False
        made: dict[UUID, datetime] = {}
        try:
            with transaction.atomic():
                locked = _lock({one.user_id for one in left}, waits=is_last)
                now = [one for one in left if one.user_id in locked]
                made = _insert(now) if now else {}
                is_written = True
        except Exception as error:  # whatever it is, it must not take the answers along of those that are committed
            logger.warning("the lane leaves %d submissions to the site: %r", len(left), error)
            forget()
            if is_written and isinstance(error, Error) and is_answer_lost(error):
                result.uncertain.update(made)
            elif is_too_slow(error):  # the site would wait as long
                result.too_slow.update(one.id for one in left)
            break
        result.made.update(made)
        left = [one for one in left if one.user_id not in locked]
    return result


def _lock(people: set[int], *, waits: bool) -> set[int]:
    with cursor() as asked:
        asked.execute(_LOCK, [list(people), LAST_LOCK_TIMEOUT if waits else LOCK_TIMEOUT, waits])
        return {person for (person,) in asked.fetchall()}


def _insert(stored: list[Stored]) -> dict[UUID, datetime]:
    before: dict[int, int] = {}
    rows = []
    for one in stored:
        nth = before.get(one.user_id, 0)
        before[one.user_id] = nth + 1
        manifest = [{"path": entry.path, "bytes": entry.bytes} for entry in one.manifest]
        form = one.form
        rows.append(
            (one.id, one.user_id, one.board_id, form.name, form.entrypoint, form.config_file, json.dumps(form.metadata), form.kind.value,
             one.name, one.size, one.sha256, one.root, json.dumps(manifest), form.has_writable_code, nth)
        )  # fmt: skip
    values = [list(column) for column in zip(*rows, strict=True)]
    with cursor() as asked:
        asked.execute(_statement(), [*values, settings.SUBMISSIONS_PER_HOUR])
        return dict(asked.fetchall())


@cache
def _statement() -> str:
    given = {name: f"asked.{name}::{kind}" for name, kind in _GIVEN.items()}
    columns, values = columns_and_values(Submission, given)
    # As text where the column is JSON: an array of JSON has no plain way in.
    kinds = ["text" if kind == "jsonb" else kind for kind in _GIVEN.values()]
    arrays = ", ".join(f"%s::{kind}[]" for kind in [*kinds, "int"])
    return _INSERT.format(columns=columns, values=values, arrays=arrays, names=", ".join([*_GIVEN, "before"]))
