"""Processor time of a call, for tests that compare what hostile and ordinary input cost."""

import math
import time
from collections.abc import Callable
from typing import Any

# Nothing counts as quicker: a ratio to a time near the clock's resolution says nothing.
LEAST_SECONDS = 1e-4


def seconds(call: Callable[..., Any], *arguments: Any, enough: float = 0) -> float:
    """Return the least of three measurements, because other programs can only add; or the first below `enough`."""
    least = math.inf
    for _ in range(3):
        began = time.thread_time()
        call(*arguments)
        least = min(least, time.thread_time() - began)
        if least < enough:
            break
    return max(least, LEAST_SECONDS)


def ratio(call: Callable[..., Any], hostile: Any, harmless: Any, *, most: float) -> float:
    """Return how many times as long the hostile input takes; measured no further once it is below `most`."""
    ordinary = seconds(call, harmless)
    return seconds(call, hostile, enough=most * ordinary) / ordinary
