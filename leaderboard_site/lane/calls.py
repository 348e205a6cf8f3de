"""What the lane takes: a request whose every header is known and plain, or None.

The same headers decide, whether a request comes as WSGI hands it over or as bytes from the socket (worker.py).
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from accounts import log_context
from accounts.models import token_digest

# So large a body is read for anybody, before it is asked whose token comes with it.
BODY_MOST_BYTES = 64 * 1024
STATUS, ENQUEUE, SUBMIT = "/api/jobs/<uuid:job_id>/status", "/api/jobs", "/api/submissions"
HEALTH = "/healthz"

_STATUS_PATH = re.compile(r"/api/jobs/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})/status")
_PLAIN = re.compile(r"[\x20-\x7e]*")
# They change nothing about the answer; so a lane that does not look at them answers as the site does.
_IGNORED = frozenset(
    ["user-agent", "accept-encoding", "connection", "keep-alive", "x-forwarded-for", "x-forwarded-host",
     "x-forwarded-port", "x-real-ip", "via", "traceparent", "priority", "dnt", "sec-gpc"]
)  # fmt: skip
_READ = frozenset(
    ["host", "authorization", "accept", "accept-language", "x-request-id", "x-forwarded-proto", "content-type",
     "content-length", "idempotency-key", "if-none-match"]
)  # fmt: skip
_ACCEPT = frozenset(["", "*/*", "application/json", "application/json, */*", "application/json, text/plain, */*"])
_ENGLISH = re.compile(r"en(-[A-Z]{2})?(,en;q=0\.\d)?")


@dataclass(slots=True)
class Call:
    """One request: what is asked, by whose token, and what its answer carries besides."""

    route: str
    method: str
    digest: str
    request_id: str
    language: str
    is_secure: bool
    job_id: UUID | None = None
    body: bytes = b""
    idempotency_key: str | None = None
    content_type: str = ""
    if_none_match: str = ""
    # What a large body said, where it was read before the call is answered (large_form.py).
    form: Any = None
    # The server's own: the connection that waits, and since when.
    tag: Any = None
    began: float = 0.0


def known(name: str) -> bool:
    """Whether the lane knows what a header (in small letters) means."""
    return name in _IGNORED or name in _READ


def recognise(method: str, path: str, headers: dict[str, str], body: bytes, *, is_https: bool = False) -> Call | None:
    """The call, when all of it is plain. `headers` have small names, each once; all are `known`."""
    if method == "GET" and not body:
        matched = _STATUS_PATH.fullmatch(path)
        if matched is None or "idempotency-key" in headers:
            return None
        route, job_id = STATUS, UUID(matched[1])
    elif "if-none-match" in headers:
        return None
    elif method == "POST" and path == ENQUEUE and headers.get("content-type") == "application/json":
        route, job_id = ENQUEUE, None
    elif method == "POST" and path == SUBMIT and "idempotency-key" not in headers:
        route, job_id = SUBMIT, None
    else:
        return None
    call = _plain(route, method, headers, is_https)
    if call is not None:
        call.job_id, call.body, call.idempotency_key = job_id, body, headers.get("idempotency-key")
        call.content_type, call.if_none_match = headers.get("content-type", ""), headers.get("if-none-match", "")
    return call


def recognise_probe(method: str, headers: dict[str, str]) -> Call | None:
    """Return the health check, unless a header could change the answer."""
    if "content-length" in headers or "accept-language" in headers or "if-none-match" in headers:
        return None
    if not _may_be_called(headers.get("host", ""), tuple(settings.ALLOWED_HOSTS)):
        return None
    is_secure = settings.SECURE_PROXY_SSL_HEADER is not None and headers.get("x-forwarded-proto") == "https"
    request_id = log_context.choose_request_id(headers.get("x-request-id", ""))
    return Call(HEALTH, method, "", request_id, settings.LANGUAGE_CODE, is_secure)


def _plain(route: str, method: str, headers: dict[str, str], is_https: bool) -> Call | None:
    """The call, if what its headers say can be read in one way."""
    scheme, _, secret = headers.get("authorization", "").partition(" ")
    language = headers.get("accept-language", "")
    if scheme != "Bearer" or not secret or " " in secret or headers.get("accept", "") not in _ACCEPT:
        return None
    if language and not _ENGLISH.fullmatch(language):
        return None
    if not _may_be_called(headers.get("host", ""), tuple(settings.ALLOWED_HOSTS)):
        return None
    if settings.SECURE_PROXY_SSL_HEADER is not None:
        is_https = headers.get("x-forwarded-proto") == "https"
    if settings.SECURE_SSL_REDIRECT and not is_https:
        return None
    request_id = log_context.choose_request_id(headers.get("x-request-id", ""))
    return Call(
        route=route,
        method=method,
        digest=token_digest(secret),
        request_id=request_id,
        language="en" if language else settings.LANGUAGE_CODE,
        is_secure=is_https,
    )


@lru_cache(maxsize=64)
def _may_be_called(host: str, names: tuple[str, ...]) -> bool:
    """Whether the site answers to the name of a Host header; where it does not, the site says so."""
    domain, _ = split_domain_port(host)
    return bool(domain) and validate_host(domain, names)


def is_plain(value: str) -> bool:
    """Whether a header's value is printable ASCII."""
    return _PLAIN.fullmatch(value) is not None
