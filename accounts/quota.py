"""Counting within a sliding hour."""

import math
from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

HOUR = timedelta(hours=1)


def seconds_until_free(counted: QuerySet[Any], quota: int) -> int:
    """Whole seconds until so many of the counted rows (by `created_at`) have left the hour that one more is allowed.

    With a quota of 0 none ever is: a full hour.
    """
    times = list(counted.order_by("-created_at").values_list("created_at", flat=True)[:quota])
    if not times:
        return int(HOUR.total_seconds())
    return max(1, math.ceil((times[-1] + HOUR - timezone.now()).total_seconds()))
