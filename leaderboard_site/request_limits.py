"""Limits on a request's headers, applied before anything parses them.

Several parsers of the standard library take time that grows with the square of a header's length: for cookies with
backslashes, and for a media type with semicolons. A server also joins a header that is sent a hundred times into one
value, which its own limit on a single header does not see.
"""

from collections.abc import Callable, Iterable
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.http import parse_header_parameters

from leaderboard_site.errors import bad_header

Environ = dict[str, Any]

# gunicorn's limit for one header, here for all headers of one name together.
HEADER_CHARACTERS = 8190
# Headers that hold a media type and its parameters.
MEDIA_TYPE_CHARACTERS = {"CONTENT_TYPE": 255, "HTTP_ACCEPT": 1000}
# The site's own cookies contain no backslashes.
COOKIE_BACKSLASHES = 100
_REFUSED = "leaderboard_site.refused_header"


def drop_large_headers(environ: Environ) -> str:
    """Remove each header that exceeds a limit. Return the name of the first one, "" if there is none."""
    dropped: str = environ.get(_REFUSED, "")
    for key in [key for key, value in environ.items() if _is_header(key) and not _is_small(key, value)]:
        del environ[key]
        dropped = dropped or key.removeprefix("HTTP_").replace("_", "-").title()
    environ[_REFUSED] = dropped
    return dropped


def _is_header(key: str) -> bool:
    return key.startswith("HTTP_") or key == "CONTENT_TYPE"


def _is_small(key: str, value: str) -> bool:
    if len(value) > MEDIA_TYPE_CHARACTERS.get(key, HEADER_CHARACTERS):
        return False
    if key == "HTTP_COOKIE":
        return value.count("\\") <= COOKIE_BACKSLASHES
    return key != "CONTENT_TYPE" or _is_media_type(value)


def _is_media_type(value: str) -> bool:
    try:
        parse_header_parameters(value)
    except ValueError:  # an encoding that Python does not know, with which Django could not even make a request
        return False
    return True


class LimitedApplication:
    """The WSGI application behind the limits, because Django parses the media type while it makes the request."""

    def __init__(self, site: Callable[[Environ, Callable[..., Any]], Iterable[bytes]]) -> None:
        self._site = site

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        drop_large_headers(environ)
        return self._site(environ, start_response)


class RequestLimitsMiddleware:
    """Refuse a request that had a header dropped."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        name = drop_large_headers(request.META)
        return bad_header(request, name) if name else self.get_response(request)
