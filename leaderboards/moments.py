"""Times as people read them: in the reader's zone, with the zone named."""

from datetime import datetime

from django.utils import timezone


def localized(moment: datetime) -> datetime:
    """Return the time in the reader's zone, or unchanged if it has no date there, at the end of the year 9999."""
    try:
        return timezone.localtime(moment)
    except OverflowError:
        return moment


def zoned(moment: datetime) -> str:
    """Return the time to the second, with its zone: 2026-12-01 18:00:00 JST."""
    return localized(moment).strftime("%Y-%m-%d %H:%M:%S %Z")
