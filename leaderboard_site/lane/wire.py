"""A request as it comes from the socket, read if the lane may know it.

Stricter than any HTTP parser has to be: whatever is not written in the one plainest way is left to gunicorn's own.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from django.conf import settings

from leaderboard_site.lane.calls import BODY_MOST_BYTES, HEALTH, Call, is_plain, known, recognise, recognise_probe

HEAD_MOST_BYTES = 4000
# A head that comes in pieces is waited for in the main loop, whatever it asks, so that slow ones hold no thread.
WAITED_FOR_BYTES = 64 * 1024
_BEGINNING = re.compile(rb"[A-Z]{1,20}(?: [\x21-\x7e\x80-\xff]{1,4000})?(?: HTTP/1\.[01]\r\n| [HTP/1.0]{0,8}\r?\Z|\Z)")
# The worker's thread pools for requests that the lane does not answer.
PAGES, TRANSFERS, PROBES, LOGINS = "pages", "transfers", "probes", "logins"
# Status lines for heads that no thread should wait for.
BAD, TOO_LONG = "400 Bad Request", "431 Request Header Fields Too Large"
# Answers on these paths may be larger than what is kept for a slow reader (slow_clients.py).
_LARGE = re.compile(rb"[A-Z]+ [^ ?]*/(?:mlflow|artifacts)/")
# These hash a password, for which they wait until few others do (accounts/hashing.py).
_HASHES = re.compile(rb"POST [^ ?]*/(?:login|password|sign-up)/?[ ?]")
_PROBE = re.compile(rb"[A-Z]+ /(?:healthz|readyz)[ ?]")
_EXPECTS = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,15})[ \t]*(?=\r\n)")


@dataclass(frozen=True)
class Incomplete:
    """The request has begun, and is not all here; there is no use in a look at fewer bytes than `wanted`."""

    wanted: int = 0
    # Whether its sender waits to be told to go on.
    is_asking: bool = False


INCOMPLETE = Incomplete()


def read_call(data: bytes) -> tuple[Call, dict[str, str], str] | Incomplete | None:
    """The call with its headers and its request line; None for whatever the lane does not know."""
    if not data.startswith((b"GET /api/jobs/", b"POST /api/jobs ", b"POST /api/submissions ", b"GET /healthz ")):
        return INCOMPLETE if _has_begun(data) else None
    end = data.find(b"\r\n\r\n", 0, HEAD_MOST_BYTES)
    if end < 0 and _has_begun(data):
        return INCOMPLETE
    if end < 0 or (not data.isascii() and not data[:end].isascii()):
        return None
    first, *lines = data[:end].decode("ascii").split("\r\n")
    if not first.endswith(" HTTP/1.1") or not is_plain(first):
        return None
    method, _, path = first[:-9].partition(" ")
    headers = _headers(lines)
    if headers is None:
        return None
    if "x-forwarded-proto" in headers and settings.SECURE_PROXY_SSL_HEADER is None:
        return None  # whether it is believed hangs on who sends it, which gunicorn knows
    body = data[end + 4 :]
    if path == HEALTH:
        probe = None if body else recognise_probe(method, headers)
        return None if probe is None else (probe, headers, first)
    if headers.get("connection", "keep-alive").lower() != "keep-alive":
        return None
    if method == "POST":
        length = headers.get("content-length", "")
        if not length.isdigit() or len(length) > 6 or int(length) > BODY_MOST_BYTES or len(body) > int(length):
            return None
        if len(body) < int(length):
            return Incomplete(end + 4 + int(length))
    elif body or "content-length" in headers:
        return None
    call = recognise(method, path, headers, body)
    return None if call is None else (call, headers, first)


def way_of(data: bytes) -> Incomplete | str:
    """Return the pool for a request that the lane does not answer, or the status line that refuses it.

    The pool for pages gets whole requests only, so no client can hold one of its threads by sending slowly.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return TOO_LONG if _BEGINNING.match(data) else BAD
    head = data[: end + 2].lower()
    length = 0
    if b"\r\ncontent-length" in head:
        lengths = _LENGTH.findall(head)
        length = int(lengths[0]) if len(lengths) == 1 else BODY_MOST_BYTES + 1
    if length > BODY_MOST_BYTES or b"\r\ntransfer-encoding" in head:
        return TRANSFERS
    if len(data) < end + 4 + length:
        is_current = head[: head.find(b"\r\n")].endswith(b" http/1.1")
        return Incomplete(end + 4 + length, is_asking=is_current and _EXPECTS.search(head) is not None)
    if _PROBE.match(data):
        return PROBES
    # A path that is written in another way is the same one to the site.
    line = unquote_to_bytes(data[: data.find(b"\r\n")])
    if _LARGE.match(line):
        return TRANSFERS
    return LOGINS if _HASHES.match(line) else PAGES


def _has_begun(data: bytes) -> bool:
    """Whether it may be a request whose head is not all here."""
    return len(data) < WAITED_FOR_BYTES and b"\r\n\r\n" not in data and _BEGINNING.match(data) is not None


def _headers(lines: list[str]) -> dict[str, str] | None:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or name in headers or not known(name) or not is_plain(value):
            return None
        headers[name] = value.strip(" ")
    return headers if headers.get("host") else None
