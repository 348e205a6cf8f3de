"""The hourly quotas, as the database counts them (jobs/migrations/0023_enqueue_jobs.sql: hourly_use).

Two limits hold in a sliding hour: the quota itself, and three times as many in all. A run that never began, or that the
platform failed, does not count (`Job.costs_quota`); the second limit bounds what such runs take of storage and queue.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from django.conf import settings
from django.db import connection
from django.utils import timezone

from accounts.models import User

_HOURLY_USE = """
SELECT quota, remaining, reached, seconds_until_free, seconds_until_back
FROM hourly_use(%s, %s, %s, statement_timestamp())
"""


@dataclass(frozen=True)
class Wait:
    """The time until one more is allowed."""

    seconds: int

    @property
    def until(self) -> datetime:
        return timezone.now() + timedelta(seconds=self.seconds)


@dataclass(frozen=True)
class HourlyUse:
    """A person's use of one quota in the last hour."""

    quota: int
    remaining: int
    reached: int  # the limit that is used up, while none is left: the quota, or that of all that was sent
    free_seconds: float | None
    back_seconds: float | None

    def left(self) -> int:
        """Return how many more are allowed now."""
        return self.remaining

    def used(self) -> int:
        return self.quota - self.remaining

    def wait(self) -> Wait | None:
        """Return how long to wait for one more; None while one is left."""
        return None if self.left() else Wait(self.seconds_until_free())

    def seconds_until_free(self) -> int:
        """Return after how many seconds one more is allowed, while none is left."""
        return whole_seconds(self.free_seconds)

    def seconds_until_back(self) -> int | None:
        """Return after how many seconds the earliest that counts is out of the hour; None when none counts."""
        return None if self.back_seconds is None else whole_seconds(self.back_seconds)


def hourly_use(kind: Literal["job", "submission"], user: User) -> HourlyUse:
    """Return the user's use of the hourly quota of jobs or of submissions."""
    with connection.cursor() as cursor:
        cursor.execute(_HOURLY_USE, [kind, user.pk, settings.SUBMISSIONS_PER_HOUR])
        return HourlyUse(*cursor.fetchone())


def whole_seconds(seconds: float | None) -> int:
    """Return the seconds as people wait them: whole, at least one."""
    return max(1, math.ceil(seconds or 0))
