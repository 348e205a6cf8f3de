"""The lane's answers: the body as REST framework renders it, and every header that the site's middleware puts on."""

import json
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils import translation

from leaderboard_site.errors import DATABASE_AWAY
from leaderboard_site.lane.calls import Call
from leaderboard_site.middleware import CONTENT_SECURITY_POLICY, PERMISSIONS_POLICY
from leaderboard_site.polling import API_VARY, CACHE_CONTROL, has_it, tag_of

_PHRASES = {
    200: "200 OK",
    201: "201 Created",
    202: "202 Accepted",
    304: "304 Not Modified",
    503: "503 Service Unavailable",
}
Headers = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Answer:
    status: int
    body: bytes
    common: Headers
    request_id: str
    tag: str = ""

    @property
    def line(self) -> str:
        return _PHRASES[self.status]

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [*self.common, *self._own]

    @property
    def _own(self) -> Headers:
        own: Headers = (("X-Request-ID", self.request_id),)
        if self.tag:
            own = (("ETag", self.tag), *own)
        # With a 304 it would be the length of what was not sent.
        return own if self.status == 304 else (("Content-Length", str(len(self.body))), *own)

    def message(self, server: str) -> bytes:
        """The whole answer as bytes; `server` is what the web server says of itself, its lines ended."""
        head = f"HTTP/1.1 {_PHRASES[self.status]}\r\n{server}{_as_lines(self.common)}"
        for name, value in self._own:
            head += f"{name}: {value}\r\n"
        return f"{head}\r\n".encode("latin-1") + self.body


def answer(call: Call, status: int, content: dict[str, Any], *, allow: str, more: Headers = ()) -> Answer:
    return Answer(status, render(content), _headers(allow, call.is_secure, more), call.request_id)


def poll_answer(call: Call, content: dict[str, Any], *, allow: str) -> Answer:
    """As PollMiddleware has it: with its tag, or 304 for who has it already."""
    body = render(content)
    tag = tag_of(body)
    if call.if_none_match and has_it(call.if_none_match, tag):
        return Answer(304, b"", _unchanged(call.is_secure), call.request_id, tag)
    return Answer(200, body, _polled(allow, call.is_secure), call.request_id, tag)


@cache
def _polled(allow: str, is_secure: bool) -> Headers:
    changed = {"Vary": ", ".join([*API_VARY, "Origin"]), "Cache-Control": CACHE_CONTROL}
    return tuple((name, changed.get(name, value)) for name, value in _headers(allow, is_secure, ()))


@cache
def _unchanged(is_secure: bool) -> Headers:
    return tuple(one for one in _polled("", is_secure) if one[0] not in ("Content-Type", "Allow"))


def page_answer(call: Call, content: dict[str, Any]) -> Answer:
    """Return JSON with the headers of an address outside the API."""
    return Answer(200, json.dumps(content).encode(), _page_headers(call.language, call.is_secure), call.request_id)


@cache
def _page_headers(language: str, is_secure: bool) -> Headers:
    common = [one for one in _headers("", is_secure, ()) if one[0] not in ("Allow", "Vary", "Cache-Control")]
    return (*common, ("Vary", "Accept-Language"), ("Content-Language", language))


def away(call: Call, *, allow: str) -> Answer:
    """What the site says when the database has gone in the middle of a write."""
    with translation.override(call.language):
        content = {"code": "unavailable", "message": str(DATABASE_AWAY)}
    return answer(call, 503, content, allow=allow, more=(("Retry-After", "10"), ("Content-Language", call.language)))


@cache
def _headers(allow: str, is_secure: bool, more: Headers) -> Headers:
    """In the order in which the middleware sets them; a test compares them with an answer of the whole site."""
    found = [
        ("Content-Type", "application/json"),
        ("Allow", allow),
        *more,
        ("Vary", "Origin"),
        ("X-Frame-Options", settings.X_FRAME_OPTIONS),
    ]
    if is_secure and settings.SECURE_HSTS_SECONDS:
        words = "; includeSubDomains" if settings.SECURE_HSTS_INCLUDE_SUBDOMAINS else ""
        words += "; preload" if settings.SECURE_HSTS_PRELOAD else ""
        found.append(("Strict-Transport-Security", f"max-age={settings.SECURE_HSTS_SECONDS}{words}"))
    return (
        *found,
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", settings.SECURE_REFERRER_POLICY),
        ("Cross-Origin-Opener-Policy", settings.SECURE_CROSS_ORIGIN_OPENER_POLICY),
        ("Content-Security-Policy", CONTENT_SECURITY_POLICY),
        ("Permissions-Policy", PERMISSIONS_POLICY),
        ("Cache-Control", "no-store"),
    )


@cache
def _as_lines(headers: Headers) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers)


def render(content: dict[str, Any]) -> bytes:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), default=_as_json, allow_nan=False)
    # As REST framework does: JSON allows these two in a string, JavaScript did not.
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode()


def _as_json(value: object) -> str:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        text = value.isoformat()
        return f"{text[:-6]}Z" if text.endswith("+00:00") else text
    raise TypeError(type(value).__name__)
