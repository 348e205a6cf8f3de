"""The API's hot calls under load, beside the peer's: status, POST /jobs, POST /submissions."""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.load import MULTIPART, Figures, Request, Target, alternate, multipart
from benchmarks.servers import PEOPLE, OurSite, Peer
from benchmarks.table import Row, median, milliseconds

MAIN = (
    b'import json, sys\nopen(sys.argv[4] + "/metrics.json", "w").write(json.dumps({"metrics": {"image_auc": 0.5}}))\n'
)


def status_rows(ours: OurSite, peer: Peer, folder: Path, *, rounds: int, seconds: int) -> list[Row]:
    """GET status of pending jobs: one of each of a hundred people."""
    targets = {}
    for name, side in (("ours", ours), ("peer", peer)):
        prefix = "/api" if name == "ours" else ""
        jobs = [_new_job(side, prefix, number, folder) for number in range(PEOPLE)]
        requests = [Request(f"{prefix}/jobs/{job}/status", side.tokens[n]) for n, job in enumerate(jobs)]
        targets[name] = Target(side.url, requests, cpu=side.cpu)
    rows = []
    for connections in (1, 20, 100):
        found = alternate(targets, connections=connections, rounds=rounds, seconds=seconds)
        goals = (0.7, 1.0) if connections == 100 else (None, None)
        rows += _rows(f"GET status, {connections} connections", found, goals)
    ours.forget_all()
    peer.forget_all()
    return rows


def enqueue_rows(ours: OurSite, peer: Peer, folder: Path, *, rounds: int, seconds: int) -> list[Row]:
    """POST /jobs by a hundred people, each of a submission of their own."""
    targets = {}
    for name, side in (("ours", ours), ("peer", peer)):
        prefix = "/api" if name == "ours" else ""
        requests = []
        for number in range(PEOPLE):
            body = folder / f"job-{name}-{number}.json"
            body.write_text(json.dumps({"submission_id": _new_submission(side, prefix, number, folder)}))
            requests.append(Request(f"{prefix}/jobs", side.tokens[number], "POST", body))
        targets[name] = Target(side.url, requests, side.forget_jobs, side.cpu)
    rows = []
    for connections in (1, 20, 100):
        found = alternate(targets, connections=connections, rounds=rounds, seconds=seconds)
        goals = (0.5, 2.0) if connections > 1 else (None, None)
        rows += _rows(f"POST /jobs, {connections} connections", found, goals)
    ours.forget_all()
    peer.forget_all()
    return rows


def upload_rows(ours: OurSite, peer: Peer, folder: Path, *, rounds: int, seconds: int) -> list[Row]:
    """POST /submissions: a program of 20 kB, archives of 1 MB and 50 MB that do not compress."""
    rows = []
    sizes = (("20 kB", 20_000, (1, 100)), ("1 MB", 10**6, (1, 100)), ("50 MB", 50 * 10**6, (1, 4)))
    for name, size, loads in sizes:
        content, filename = _code(size)
        body = multipart(content, filename, folder / f"body-{size}")
        targets = {
            "ours": Target(ours.url, _uploads("/api/submissions", ours.tokens, body), ours.forget_all, ours.cpu),
            "peer": Target(peer.url, _uploads("/submissions", peer.tokens, body), peer.forget_all, peer.cpu),
        }
        for connections in loads:
            is_big = size > 10**7
            found = alternate(
                targets, connections=connections, rounds=rounds, seconds=max(4, seconds) if is_big else seconds
            )
            if is_big:
                rows += _rows(f"POST /submissions {name}, {connections} connections", found, (1.7, None))
            else:
                rows += _rows(
                    f"POST /submissions {name}, {connections} connections",
                    found,
                    (0.7, 1.2) if connections > 1 else (None, None),
                )
    rows.append(_floor_row(ours, folder, rounds=max(rounds, 3) * 2))
    ours.forget_all()
    peer.forget_all()
    return rows


def _rows(what: str, found: dict[str, Figures], goals: tuple[float | None, float | None]) -> list[Row]:
    ours, peer = found["ours"], found["peer"]
    rates = f"{median(ours.rps):.0f}", f"{median(peer.rps):.0f}"
    slow = milliseconds(median(ours.p95)), milliseconds(median(peer.p95))
    spent = milliseconds(median(ours.cpu)), milliseconds(median(peer.cpu))
    return [
        Row(f"{what}: requests/s", *rates, ours.over(peer, "rps"), goals[0], at_least=True),
        Row(f"{what}: P95", *slow, ours.over(peer, "p95"), goals[1]),
        Row(f"{what}: CPU a request", *spent, ours.over(peer, "cpu")),
    ]


def _floor_row(ours: OurSite, folder: Path, *, rounds: int) -> Row:
    """One 50 MB upload against the same bytes, written and hashed once by a loop in the same folder's file system."""
    content, filename = _code(50 * 10**6)
    body = multipart(content, filename, folder / "floor-body").read_bytes()
    taken: list[float] = []
    floors: list[float] = []
    for number in range(rounds + 1):
        floor = _timed(lambda: _write_and_hash(content, ours.locations.var / "uploads" / "floor"))
        headers = {"Authorization": f"Bearer {ours.tokens[0]}", "Content-Type": MULTIPART}
        request = urllib.request.Request(ours.url + "/api/submissions", data=body, headers=headers, method="POST")
        took = _timed(lambda request=request: urllib.request.urlopen(request, timeout=60).read())  # type: ignore[misc]
        if number:
            taken.append(took)
            floors.append(floor)
        ours.forget_all()
    ratio = median([a / b for a, b in zip(taken, floors, strict=True)])
    return Row(
        "POST /submissions 50 MB over writing and hashing it once",
        f"{median(taken) * 1e3:.0f} ms",
        f"{median(floors) * 1e3:.0f} ms",
        ratio,
        1.5,
    )


def _write_and_hash(content: bytes, target: Path) -> None:
    digest, view = hashlib.sha256(), memoryview(content)
    with target.open("wb", buffering=0) as file:
        for start in range(0, len(view), 1 << 20):
            digest.update(view[start : start + (1 << 20)])
            file.write(view[start : start + (1 << 20)])
    target.unlink()


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _uploads(path: str, tokens: list[str], body: Path) -> list[Request]:
    return [Request(path, token, "POST", body, MULTIPART) for token in tokens]


def _code(size: int) -> tuple[bytes, str]:
    """A program of that size; beyond what a person types, an archive with it and a file of random bytes."""
    if size < 100_000:
        return MAIN + b"#" * (size - len(MAIN)), "main.py"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("main.py", MAIN)
        archive.writestr("weights.bin", os.urandom(size))
    return packed.getvalue(), "code.zip"


def _new_submission(side: OurSite | Peer, prefix: str, number: int, folder: Path) -> str:
    content, filename = _code(20_000)
    body = multipart(content, filename, folder / "one").read_bytes()
    headers = {"Authorization": f"Bearer {side.tokens[number]}", "Content-Type": MULTIPART}
    return str(_post(f"{side.url}{prefix}/submissions", body, headers)["submission_id"])


def _new_job(side: OurSite | Peer, prefix: str, number: int, folder: Path) -> str:
    body = json.dumps({"submission_id": _new_submission(side, prefix, number, folder)}).encode()
    headers = {"Authorization": f"Bearer {side.tokens[number]}", "Content-Type": "application/json"}
    return str(_post(f"{side.url}{prefix}/jobs", body, headers)["job_id"])


def _post(url: str, body: bytes, headers: dict[str, str]) -> dict[str, str]:
    with urllib.request.urlopen(urllib.request.Request(url, data=body, headers=headers), timeout=60) as answer:
        found: dict[str, str] = json.load(answer)
        return found
