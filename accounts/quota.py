"""Counting within a sliding hour.

Two limits hold: `quota` things that count, and TIMES_IN_ALL times as many in all. A run that never began, or that the
platform failed, does not count (`Job.costs_quota`); the second limit bounds what such runs take of storage and queue.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

HOUR = timedelta(hours=1)
TIMES_IN_ALL = 3


def seconds_until_free(counted: QuerySet[Any], quota: int) -> int:
    """Whole seconds until so many of the counted rows (by `created_at`) have left the hour that one more is allowed.

    With a quota of 0 none ever is: a full hour.
    """
    times = list(counted.order_by("-created_at").values_list("created_at", flat=True)[:quota])
    if not times:
        return int(HOUR.total_seconds())
    return max(1, math.ceil((times[-1] + HOUR - timezone.now()).total_seconds()))


@dataclass(frozen=True)
class Wait:
    """The time until one more is allowed."""

    seconds: int

    @property
    def until(self) -> datetime:
        return timezone.now() + timedelta(seconds=self.seconds)


@dataclass(frozen=True)
class HourlyUse:
    """Rows of the last hour, those of them that count, and how many may count."""

    sent: QuerySet[Any]
    counted: QuerySet[Any]
    quota: int

    @cached_property
    def _counts(self) -> tuple[int, int]:
        return self.counted.count(), self.sent.count()

    def left(self) -> int:
        """Return how many more are allowed now."""
        counted, sent = self._counts
        return max(0, min(self.quota - counted, self.quota * TIMES_IN_ALL - sent))

    def used(self) -> int:
        return self.quota - self.left()

    def reached(self) -> int:
        """Return the limit that is used up, while none is left: the quota, or that of all that was sent."""
        return self.quota if self._counts[0] >= self.quota else self.quota * TIMES_IN_ALL

    def wait(self) -> Wait | None:
        """Return how long to wait for one more; None while one is left."""
        return None if self.left() else Wait(self.seconds_until_free())

    def seconds_until_free(self) -> int:
        """Return after how many seconds one more is allowed, while none is left."""
        waits = [
            seconds_until_free(rows, most)
            for rows, count, most in (
                (self.counted, self._counts[0], self.quota),
                (self.sent, self._counts[1], self.quota * TIMES_IN_ALL),
            )
            if count >= most
        ]
        return max(waits, default=1)

    def seconds_until_back(self) -> int | None:
        """Return after how many seconds the earliest that counts is out of the hour; None when none counts."""
        used = self._counts[0]
        return seconds_until_free(self.counted, used) if used else None
