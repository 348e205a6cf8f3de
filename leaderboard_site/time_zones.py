"""In which time zone a page tells its times: the reader's, as the language is theirs. The database and the API keep UTC.

A cookie says which, and no table: it is the browser's matter, visitors have one too, and no page pays a query for it.
`CHOSEN` is what somebody chose on the account page, `SEEN` what the page's script saw; without either it is the site's.
"""

import zoneinfo
from functools import lru_cache

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from core.time_zones import zone_named

CHOSEN, SEEN = "time_zone", "time_zone_seen"
_YEAR_SECONDS = 365 * 24 * 3600


@lru_cache(maxsize=1)
def zone_names() -> list[str]:
    """What can be chosen: places of continents and oceans, and UTC."""
    regions = (
        "Africa/",
        "America/",
        "Antarctica/",
        "Asia/",
        "Atlantic/",
        "Australia/",
        "Europe/",
        "Indian/",
        "Pacific/",
    )
    return ["UTC", *sorted(name for name in zoneinfo.available_timezones() if name.startswith(regions))]


def chosen_zone(request: HttpRequest) -> str:
    """The name that was chosen; "" where nothing, or nothing good, was."""
    name = request.COOKIES.get(CHOSEN, "")
    return name if zone_named(name) else ""


def zone_of(request: HttpRequest) -> zoneinfo.ZoneInfo | None:
    """The zone of the request's reader; None where only the site's is known."""
    return zone_named(request.COOKIES.get(CHOSEN, "")) or zone_named(request.COOKIES.get(SEEN, ""))


def choose_zone(response: HttpResponse, name: str) -> None:
    """Have the browser keep the choice; "" takes it back, so that what its script sees counts again."""
    if not name:
        response.delete_cookie(CHOSEN, samesite="Lax")
        return
    response.set_cookie(
        CHOSEN, name, max_age=_YEAR_SECONDS, samesite="Lax", httponly=True, secure=settings.SESSION_COOKIE_SECURE
    )
