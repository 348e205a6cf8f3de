"""The lane in front of the whole site, as one WSGI application: for every server that speaks WSGI, and for tests."""

import io
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

from leaderboard_site.lane import desk
from leaderboard_site.lane.answers import Answer
from leaderboard_site.lane.calls import SUBMIT, Call, is_plain, known, recognise
from leaderboard_site.lane.form import boundary_of
from leaderboard_site.lane.large_form import LargeForm

Environ = dict[str, Any]


class LaneApplication:
    def __init__(self, site: Callable[[Environ, Callable[..., Any]], Iterable[bytes]]) -> None:
        self._site = site

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        answer = answer_environ(environ)
        if answer is None:
            return self._site(environ, start_response)
        start_response(answer.line, answer.headers)
        return [answer.body]


def answer_environ(environ: Environ) -> Answer | None:
    """The answer, or None with the request as it was: its body, if it was read, is put back."""
    began = perf_counter()
    path, method = environ.get("PATH_INFO", ""), environ.get("REQUEST_METHOD", "")
    if not path.startswith(("/api/jobs", SUBMIT)) or environ.get("QUERY_STRING") or environ.get("SCRIPT_NAME"):
        return None
    headers = _headers(environ)
    if headers is None:
        return None
    is_https = environ.get("wsgi.url_scheme") == "https"
    call = recognise(method, path, headers, b"", is_https=is_https)
    if call is None:
        return None
    call.began = began
    if method == "POST":
        length = _length(headers)
        if length is None:
            return None
        if desk.may_stream(call, length):
            return _answer_large(environ, call, length)
        if not _read_body(environ, length, call):
            return None
    return desk.answer_all(call.route, [call])[0]


def _answer_large(environ: Environ, call: Call, length: int) -> Answer | None:
    large = LargeForm(environ["wsgi.input"], length, boundary_of(call.content_type) or b"")
    try:
        found = None
        if large.read():
            call.form = large.form
            found = desk.answer_all(call.route, [call])[0]
        if found is None:
            environ["wsgi.input"] = large.body_again()
        return found
    finally:
        large.close()


def _headers(environ: Environ) -> dict[str, str] | None:
    headers: dict[str, str] = {}
    for key, value in environ.items():
        if key.startswith("HTTP_"):
            name = key[5:].replace("_", "-").lower()
            if not value and name == "cookie":
                continue
            if not known(name) or not is_plain(value):
                return None
            headers[name] = value
    headers.setdefault("host", environ.get("SERVER_NAME", ""))
    for key, name in (("CONTENT_TYPE", "content-type"), ("CONTENT_LENGTH", "content-length")):
        if environ.get(key):
            headers[name] = str(environ[key])
    return headers


def _length(headers: dict[str, str]) -> int | None:
    given = headers.get("content-length", "")
    return int(given) if given.isascii() and given.isdigit() and len(given) <= 9 else None


def _read_body(environ: Environ, length: int, call: Call) -> bool:
    """Read the whole of a small body, and leave it to be read again; False when it is not small, or not whole."""
    if not desk.may_read(call, length):
        return False
    try:
        body = call.body = environ["wsgi.input"].read(length)
    except OSError:
        return False  # stalled, or gone: the site meets it again, and says so
    environ["wsgi.input"] = io.BytesIO(body)
    return len(body) == length
