"""A client of the site's own HTTP API, standard library only: what a participant's program does."""

from __future__ import annotations

import io
import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

FINAL = ("completed", "failed", "cancelled")
FIRST_PAUSE_SECONDS = 1.0
PATIENCE_SECONDS = 600.0  # a site that restarts is waited for; nothing is lost meanwhile


class Refused(Exception):
    """The site said no; the message is its own."""

    def __init__(self, status: int, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after

    @property
    def is_passing(self) -> bool:
        """Whether the same may work in a while."""
        return self.status in (502, 503, 504)


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

    def redirect_request(self, *_: Any) -> None:
        return None


class _Body:
    """A multipart form that is read from its files while it is sent."""

    def __init__(self, fields: dict[str, str], files: Sequence[Path], progress: Callable[[int, int], None]) -> None:
        self.boundary = uuid.uuid4().hex
        self._pieces: list[bytes | Path] = []
        for name, value in fields.items():
            self._pieces += [self._head(f'name="{name}"'), value.encode(), b"\r\n"]
        for path in files:
            self._pieces += [self._head(f'name="files"; filename="{path.name}"'), path, b"\r\n"]
        self._pieces.append(f"--{self.boundary}--\r\n".encode())
        self.length = sum(len(piece) if isinstance(piece, bytes) else piece.stat().st_size for piece in self._pieces)
        self._progress, self._sent = progress, 0
        self._open: Any = None

    def _head(self, disposition: str) -> bytes:
        return f"--{self.boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()

    def read(self, size: int = -1) -> bytes:
        while True:
            if self._open is None:
                if not self._pieces:
                    return b""
                piece = self._pieces.pop(0)
                self._open = io.BytesIO(piece) if isinstance(piece, bytes) else piece.open("rb")
            part = self._open.read(size)
            if part:
                self._sent += len(part)
                self._progress(self._sent, self.length)
                return bytes(part)
            self._open.close()
            self._open = None


class Client:
    def __init__(self, url: str, token: str = "") -> None:
        self.url = url.rstrip("/")
        self.token = token
        self._opener = urllib.request.build_opener(_HttpHandler, _HttpsHandler, _NoRedirects)

    def login(self, username: str, password: str) -> str:
        """Sign in; the token is kept for later calls and returned."""
        answer = self.json("POST", "/api/auth/login", {"username": username, "password": password})
        self.token = str(answer["token"])
        return self.token

    def json(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **(headers or {})} if data else headers or {}
        content, _ = self._call(method, path, data, sent)
        return json.loads(content) if content else None

    def submit(
        self, files: Sequence[Path], *, progress: Callable[[int, int], None] = lambda sent, total: None, **fields: str
    ) -> dict[str, Any]:
        """POST /api/submissions with these files, sent as they are read; `progress(sent, total)` in bytes."""
        body = _Body(fields, files, progress)
        headers = {
            "Content-Type": f"multipart/form-data; boundary={body.boundary}",
            "Content-Length": str(body.length),
        }
        content, _ = self._call("POST", "/api/submissions", body, headers)
        answer: dict[str, Any] = json.loads(content)
        return answer

    def follow(
        self, job_id: str, *, show: Callable[[str], None], every: float = 0.5, tell: Callable[[str], None] | None = None
    ) -> str:
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
                    tell(f"It runs again: attempt {job['attempt']}.")
                offset, attempt = 0, job["attempt"]
            # Read after the status: what was written before a final one is complete then; and whose attempt's log it is, is known.
            if attempt:
                offset = self._show_log(job_id, offset, show, tell)
            if job["status"] in FINAL:
                return str(job["status"])
            time.sleep(every)

    def _show_log(
        self, job_id: str, offset: int, show: Callable[[str], None], tell: Callable[[str], None] | None
    ) -> int:
        while True:
            path = f"/api/jobs/{job_id}/logs?offset={offset}"
            content, headers = self.patiently(lambda: self._call("GET", path), tell)  # noqa: B023 - called at once
            if content:
                show(content.decode("utf-8", "replace"))
            following = int(headers["X-Next-Offset"])
            if following == offset:
                return offset
            offset = following

    def patiently(self, ask: Callable[[], Any], tell: Callable[[str], None] | None) -> Any:
        deadline, delay, is_told = time.monotonic() + PATIENCE_SECONDS, FIRST_PAUSE_SECONDS, False
        while True:
            try:
                return ask()
            except (Refused, OSError, HTTPException) as error:
                if (isinstance(error, Refused) and not error.is_passing) or time.monotonic() + delay > deadline:
                    raise
                if tell and not is_told:
                    tell(f"The site does not answer just now ({error}); trying again. The job goes on.")
                    is_told = True
            time.sleep(delay)
            delay = min(delay * 2, 15.0)

    def _call(
        self, method: str, path: str, data: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[bytes, Any]:
        request = urllib.request.Request(self.url + path, data=data, headers=headers or {}, method=method)
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with self._opener.open(request, timeout=120) as answer:
                return answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(error) from error


def _refused(error: urllib.error.HTTPError) -> Refused:
    after = error.headers.get("Retry-After", "")
    retry_after = float(after) if after.isdigit() else None
    if error.code in (301, 302, 307, 308):
        return Refused(error.code, "moved", f"The site is at {error.headers.get('Location')}: give that as --url.")
    content = error.read(100_000)
    try:
        told = json.loads(content)
        return Refused(error.code, told["code"], told["message"], retry_after)
    except (ValueError, KeyError, TypeError):
        return Refused(error.code, "unexpected", content[:200].decode("utf-8", "replace"), retry_after)
