"""A client of the site's HTTP API."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPSConnection, InvalidURL
from pathlib import Path
from typing import Any, BinaryIO

from core.names import shown
from leaderboard_site.client.faults import LocalFault, NoAnswer, Refused, Wrong, reason
from leaderboard_site.client.language import say
from leaderboard_site.client.upload_body import Progress, UploadBody

FINAL = ("completed", "failed", "cancelled")
FIRST_PAUSE_SECONDS = 1.0
PATIENCE_SECONDS = 600.0  # a site that restarts is waited for; nothing is lost meanwhile
ANSWER_SECONDS, UPLOAD_SECONDS = 30, 120  # without a byte
Tell = Callable[[str], None]


class _SendsOn:
    """A server that refuses an upload answers and closes before it has read it all: hear the answer, not the closing."""

    def send(self, data: Any) -> None:
        try:
            super().send(data)  # type: ignore[misc]
        except (BrokenPipeError, ConnectionResetError):
            pass  # the answer, or its absence, tells


class _Http(_SendsOn, HTTPConnection):
    pass


class _Https(_SendsOn, HTTPSConnection):
    pass


class _HttpHandler(urllib.request.HTTPHandler):
    def http_open(self, request):
        return self.do_open(_Http, request)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def https_open(self, request):
        return self.do_open(_Https, request)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The token must not follow to wherever an answer points."""

    def redirect_request(self, *_given: Any) -> None:
        return None


class Client:
    def __init__(self, url: str, token: str = "", language: str = "") -> None:
        self.url = url.rstrip("/")
        self.token, self.language = token, language
        self._opener = urllib.request.build_opener(_HttpHandler, _HttpsHandler, _NoRedirects)

    def login(self, username: str, password: str) -> str:
        """Sign in; the token is kept for later calls and returned."""
        answer = self.json("POST", "/api/auth/login", {"username": username, "password": password})
        self.token = str(answer["token"])
        return self.token

    def json(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **(headers or {})} if data else headers or {}
        content, _headers = self._call(method, path, data, sent)
        return self._parsed(content) if content else None

    def submit(
        self, files: Sequence[Path], *, progress: Progress = lambda sent, total: None, **fields: str
    ) -> dict[str, Any]:
        """POST /api/submissions with these files, sent as they are read; `progress(sent, total)` in bytes."""
        body = UploadBody(fields, files, progress)
        headers = {
            "Content-Type": f"multipart/form-data; boundary={body.boundary}",
            "Content-Length": str(body.length),
        }
        content, _headers = self._call("POST", "/api/submissions", body, headers)
        answer: dict[str, Any] = self._parsed(content)
        return answer

    def pages(self, path: str) -> Iterator[dict[str, Any]]:
        """Return the rows of a list one by one, page after page."""
        while path:
            page = self.json("GET", path)
            yield from page["results"]
            # Only the query: behind a proxy the site may know itself by another address.
            _address, _mark, query = (page["next"] or "").partition("?")
            path = f"{path.partition('?')[0]}?{query}" if query else ""

    def download(self, path: str, target: BinaryIO) -> None:
        """Write what the address holds to an open file, part by part."""
        with self._opened("GET", path) as answer:
            while part := answer.read(1024 * 1024):
                try:
                    target.write(part)
                except OSError as error:
                    raise LocalFault(say("A file cannot be written: {why}.").format(why=reason(error))) from error

    def follow(self, job_id: str, *, show: Tell, every: float = 0.5, tell: Tell | None = None) -> str:
        """Show the job's log until its end; the final status. `tell` hears why it waits. A site that is away is waited for."""
        offset, attempt, told = 0, 0, ""
        while True:
            job = self.patiently(lambda: self.json("GET", f"/api/jobs/{job_id}"), tell)
            if job["status"] == "pending" and tell:
                waits = self.patiently(lambda: self.json("GET", f"/api/jobs/{job_id}/status"), tell).get("waiting")
                if waits and waits["reason"] != told:
                    told = waits["reason"]
                    tell(told)
            if job["attempt"] != attempt:
                if attempt and tell:
                    tell(say("It runs again: attempt {number}.").format(number=job["attempt"]))
                offset, attempt = 0, job["attempt"]
            # Read after the status: what was written before a final one is complete then; and whose attempt's log it is, is known.
            if attempt:
                offset = self._show_log(job_id, offset, show, tell)
            if job["status"] in FINAL:
                return str(job["status"])
            time.sleep(every)

    def _show_log(self, job_id: str, offset: int, show: Tell, tell: Tell | None) -> int:
        while True:
            path = f"/api/jobs/{job_id}/logs?offset={offset}"
            content, headers = self.patiently(lambda: self._call("GET", path), tell)  # noqa: B023 - called at once
            if content:
                show(content.decode("utf-8", "replace"))
            following = int(headers.get("X-Next-Offset") or offset)
            if following == offset:
                return offset
            offset = following

    def patiently(self, ask: Callable[[], Any], tell: Tell | None) -> Any:
        """Ask again while the site is away, at most PATIENCE_SECONDS."""
        deadline, delay, is_told = time.monotonic() + PATIENCE_SECONDS, FIRST_PAUSE_SECONDS, False
        while True:
            try:
                answer = ask()
            except (Refused, NoAnswer) as error:
                if (isinstance(error, Refused) and not error.is_passing) or time.monotonic() + delay > deadline:
                    raise
                if tell and not is_told:
                    tell(say("The site does not answer just now ({why}); trying again.").format(why=reason(error)))
                    is_told = True
            else:
                if tell and is_told:
                    tell(say("The site answers again."))
                return answer
            time.sleep(delay)
            delay = min(delay * 2, 15.0)

    def _call(
        self, method: str, path: str, data: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[bytes, Any]:
        with self._opened(method, path, data, headers) as answer:
            return answer.read(), answer.headers

    @contextmanager
    def _opened(self, method: str, path: str, data: Any = None, headers: dict[str, str] | None = None) -> Iterator[Any]:
        """The answer to one request. Every fault of the network is a NoAnswer; a refusal is Refused."""
        try:
            request = urllib.request.Request(self.url + path, data=data, headers=headers or {}, method=method)
            if self.token:
                request.add_header("Authorization", f"Bearer {self.token}")
            if self.language and not request.has_header("Accept-language"):
                request.add_header("Accept-Language", self.language)
            seconds = UPLOAD_SECONDS if isinstance(data, UploadBody) else ANSWER_SECONDS
            with self._opener.open(request, timeout=seconds) as answer:
                yield answer
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(error) from error
        except (InvalidURL, UnicodeError) as error:
            raise Wrong(say("--url: {url} is no address: {why}.").format(url=shown(self.url), why=error)) from error
        except (OSError, HTTPException) as error:
            raise NoAnswer(reason(error)) from error

    def _parsed(self, content: bytes) -> Any:
        try:
            return json.loads(content)
        except ValueError as error:
            raise NoAnswer(say("its answer is none of a LeadersBoard site")) from error


def _refused(error: urllib.error.HTTPError) -> Refused:
    after = error.headers.get("Retry-After", "")
    retry_after = float(after) if after.isdigit() else None
    if error.code in (301, 302, 307, 308):
        sentence = say("The site is at {address}: give that as --url.")
        return Refused(error.code, "moved", sentence.format(address=error.headers.get("Location")))
    try:
        content = error.read(100_000)
    except (OSError, HTTPException) as broken:
        raise NoAnswer(reason(broken)) from broken
    try:
        answer = json.loads(content)
        return Refused(error.code, answer["code"], answer["message"], retry_after)
    except (ValueError, KeyError, TypeError):
        return Refused(error.code, "unexpected", content[:200].decode("utf-8", "replace"), retry_after)
