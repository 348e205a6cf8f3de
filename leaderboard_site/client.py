"""A client of the site's own HTTP API, standard library only: what a participant's program does."""

import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FINAL = ("completed", "failed", "cancelled")


class Refused(Exception):
    """The site said no; the message is its own."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message = status, code, message


class Client:
    def __init__(self, url: str, token: str = "") -> None:
        self.url = url.rstrip("/")
        self.token = token

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

    def submit(self, files: list[Path], **fields: str) -> dict[str, Any]:
        """POST /api/submissions with these files."""
        boundary = uuid.uuid4().hex
        parts = [_part(boundary, f'name="{name}"', value.encode()) for name, value in fields.items()]
        parts += [_part(boundary, f'name="files"; filename="{path.name}"', path.read_bytes()) for path in files]
        body = b"".join(parts) + f"--{boundary}--\r\n".encode()
        content, _ = self._call(
            "POST", "/api/submissions", body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        )
        answer: dict[str, Any] = json.loads(content)
        return answer

    def follow(self, job_id: str, *, show: Callable[[str], None], every: float = 0.5) -> str:
        """Show the job's log until its end; the final status."""
        for part in self._log(job_id, every):
            show(part)
        return str(self.json("GET", f"/api/jobs/{job_id}/status")["status"])

    def _log(self, job_id: str, every: float) -> Iterator[str]:
        offset = 0
        while True:
            status = self.json("GET", f"/api/jobs/{job_id}/status")["status"]
            # Read after the status: what was written before a final one is complete then.
            while True:
                content, headers = self._call("GET", f"/api/jobs/{job_id}/logs?offset={offset}")
                if content:
                    yield content.decode("utf-8", "replace")
                if int(headers["X-Next-Offset"]) == offset:
                    break
                offset = int(headers["X-Next-Offset"])
            if status in FINAL:
                return
            time.sleep(every)

    def _call(
        self, method: str, path: str, data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[bytes, Any]:
        request = urllib.request.Request(self.url + path, data=data, headers=headers or {}, method=method)
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            raise _refused(error) from error


def _refused(error: urllib.error.HTTPError) -> Refused:
    content = error.read()
    try:
        told = json.loads(content)
        return Refused(error.code, told["code"], told["message"])
    except (ValueError, KeyError, TypeError):
        return Refused(error.code, "unexpected", content[:200].decode("utf-8", "replace"))


def _part(boundary: str, disposition: str, content: bytes) -> bytes:
    return f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + content + b"\r\n"
