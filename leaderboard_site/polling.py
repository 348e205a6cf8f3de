"""Answers that are asked for again and again: who has the same one already gets 304 and no body.

The API's statuses, jobs and entries, and what htmx asks for. The tag is made of the answer itself, so nothing can be stale
that a new answer would not show, and who may see it was decided before. The lane makes its own by `tag_of`, too.
"""

import hashlib
import re
from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response, patch_vary_headers
from django.utils.http import parse_etags

from leaderboard_site.middleware import CONSOLE_PREFIX, is_api

POLLED = frozenset(["api-job-status", "api-job", "api-entries"])
CACHE_CONTROL = "private, no-cache"  # kept by who asked, and never used without asking again
API_VARY = ["Accept-Language", "Authorization"]
# An estimate moves with the clock; to the minute it is the same. So the tags are weak.
_ESTIMATE = re.compile(rb'("expected_start":"[0-9T:-]{16})[^"]*')
# A form's token is masked anew each time it is written; what is behind the mask is in the tag by `salt`.
_FORM_TOKEN = re.compile(rb'name="csrfmiddlewaretoken" value="[^"]*"')


def tag_of(body: bytes) -> str:
    return _tag(_ESTIMATE.sub(rb"\1", body))


def tag_of_page(body: bytes, salt: str) -> str:
    return _tag(salt.encode() + b"\0" + _FORM_TOKEN.sub(b"", body))


def _tag(content: bytes) -> str:
    return f'W/"{hashlib.blake2b(content, digest_size=16).hexdigest()}"'


def has_it(if_none_match: str, tag: str) -> bool:
    """Whether the header names the tag: compared as weak ones are."""
    given = parse_etags(if_none_match)
    return "*" in given or tag.removeprefix("W/") in [one.removeprefix("W/") for one in given]


class PollMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if request.method not in ("GET", "HEAD") or response.status_code != 200 or response.streaming:
            return response
        content: bytes = response.content  # type: ignore[attr-defined]
        if is_api(request):
            name = request.resolver_match.url_name if request.resolver_match else ""
            if name not in POLLED or response.headers.get("Content-Type") != "application/json":
                return response
            tag = tag_of(content)
            patch_vary_headers(response, API_VARY)
        elif _is_part(request, response):
            tag = tag_of_page(content, request.META.get("CSRF_COOKIE", ""))
            patch_vary_headers(response, ["HX-Request"])
        else:
            return response
        response.headers["ETag"] = tag
        response.headers["Cache-Control"] = CACHE_CONTROL
        return get_conditional_response(request, etag=tag, response=response)  # type: ignore[arg-type,return-value]


def _is_part(request: HttpRequest, response: HttpResponseBase) -> bool:
    """What htmx asks for, unless its view has said how it may be kept."""
    is_asked_for = getattr(request, "htmx", False) and not request.path_info.startswith(CONSOLE_PREFIX)
    return bool(is_asked_for) and "Cache-Control" not in response.headers
