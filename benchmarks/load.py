"""wrk as a load client: requests that differ (a token and a path each), with the answers' latencies."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.table import median

BOUNDARY = "----benchmark7d2f0c1e9a"
# So many bytes of prepared requests may lie in wrk's memory; big bodies are sent by fewer people.
_PREPARED_BYTES = 64 * 1024 * 1024

_SCRIPT = """
local requests, bodies, at = {}, {}, 0
local function read(path)
  local file = assert(io.open(path, "rb")); local text = file:read("*a"); file:close(); return text
end
function init(args)
%(requests)s
end
function request()
  at = at %% #requests + 1
  return requests[at]
end
function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format("RESULT %%d %%d %%d %%d %%d %%d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(95), e.connect + e.read + e.write + e.timeout, e.status))
end
"""


class LoadFailed(RuntimeError):
    """The measurement would mean nothing: requests failed, or wrk is missing."""


@dataclass(frozen=True)
class Request:
    path: str
    token: str
    method: str = "GET"
    body: Path | None = None
    content_type: str = "application/json"


@dataclass(frozen=True)
class Target:
    """A server, what is asked of it, and what puts it back to its start between rounds."""

    url: str
    requests: Sequence[Request]
    reset: Callable[[], None] = lambda: None
    # CPU seconds that the server's processes have used, its database's and queue's too.
    cpu: Callable[[], float] = lambda: 0.0


@dataclass
class Figures:
    """Of all rounds: requests a second, seconds of the median and of the slowest twentieth, CPU seconds a request."""

    rps: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p95: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def over(self, other: Figures, name: str) -> float:
        """Of the figure of that name: the median of the rounds' ratios."""
        pairs = zip(getattr(self, name), getattr(other, name), strict=True)
        return median([a / b for a, b in pairs])


def need_wrk() -> None:
    if shutil.which("wrk") is None:
        raise LoadFailed("wrk is not installed; on Debian and Ubuntu: apt install wrk")


def multipart(content: bytes, filename: str, target: Path) -> Path:
    """A form with one file, as a file to be sent."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{filename}"\r\n'
    head += "Content-Type: application/octet-stream\r\n\r\n"
    target.write_bytes(head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode())
    return target


MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"


def alternate(targets: dict[str, Target], *, connections: int, rounds: int, seconds: int) -> dict[str, Figures]:
    """Load each in turn, A B A B: a machine whose speed drifts hits both alike. A first round warms up, uncounted."""
    found = {name: Figures() for name in targets}
    with tempfile.TemporaryDirectory() as folder:
        scripts = {name: _script(target.requests, Path(folder, f"{name}.lua")) for name, target in targets.items()}
        for number in range(rounds + 1):
            for name, target in targets.items():
                target.reset()
                before = target.cpu()
                # The first round is as long as the others: on a busy disk no upload ends within a second.
                count, rps, p50, p95 = _once(scripts[name], target.url, connections, seconds)
                if number:
                    found[name].rps.append(rps)
                    found[name].p50.append(p50)
                    found[name].p95.append(p95)
                    found[name].cpu.append((target.cpu() - before) / count)
    for target in targets.values():
        target.reset()
    return found


def _script(requests: Sequence[Request], target: Path) -> Path:
    size = max(request.body.stat().st_size if request.body else 1 for request in requests)
    chosen = requests[: max(1, _PREPARED_BYTES // size)]
    bodies = sorted({str(request.body) for request in chosen if request.body})
    lines = [f"  bodies[{json.dumps(path)}] = read({json.dumps(path)})" for path in bodies]
    for request in chosen:
        headers = [f'["Authorization"] = "Bearer {request.token}"']
        if request.body:
            headers.append(f'["Content-Type"] = {json.dumps(request.content_type)}')
        body = f"bodies[{json.dumps(str(request.body))}]" if request.body else "nil"
        lines.append(
            f'  requests[#requests + 1] = wrk.format("{request.method}", "{request.path}", '
            f"{{{', '.join(headers)}}}, {body})"
        )
    target.write_text(_SCRIPT % {"requests": "\n".join(lines)})
    return target


def _once(script: Path, url: str, connections: int, seconds: int) -> tuple[int, float, float, float]:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "-s", str(script), url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 180, check=False)
    result = re.search(r"^RESULT (.+)$", done.stdout, re.MULTILINE)
    if not result:
        raise LoadFailed(f"wrk failed on {url}: {done.stdout} {done.stderr}")
    count, microseconds, p50, p95, errors, refused = map(int, result[1].split())
    if refused or errors > count // 100 or not count:
        raise LoadFailed(f"{url}: {refused} refusals and {errors} errors among {count} requests")
    return count, count / microseconds * 1e6, p50 / 1e6, p95 / 1e6
