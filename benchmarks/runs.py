"""What the platform adds to a run: until its first line, around many empty ones, around one of ten seconds."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.servers import OurSite
from benchmarks.table import Row, median, milliseconds
from jobs.execution.client import Nursery
from jobs.execution.spec import RunSpec
from leaderboard_site.client import Client
from leaderboard_site.embedded import environments
from leaderboard_site.embedded.locations import REPOSITORY

# CLOCK_MONOTONIC is the machine's: the sandbox has no time namespace, so what it reads can be compared with ours.
_FIRST_LINE = "import time; first = time.monotonic()\n"
_LEAVE = """
import json, sys
with open(sys.argv[4] + "/metrics.json", "w") as file:
    json.dump({"params": {"first": first, "last": time.monotonic()}, "metrics": {"image_auc": 0.5}}, file)
"""
_NOTHING = """import sys
with open(sys.argv[4] + "/metrics.json", "w") as file:
    file.write('{"params": {}, "metrics": {"image_auc": 0.5}}')
"""
_SLEEP_SECONDS = 10.0


def run_rows(ours: OurSite, folder: Path, *, rounds: int, is_short: bool) -> list[Row]:
    ours.open_web()
    ours.open_worker()
    client = ours.client()
    rows = [_first_line(client, folder, count=rounds * 4), _sandbox_start(folder, count=rounds * 4)]
    rows.append(_staged_start(folder, count=rounds * 4))
    rows.append(_throughput(ours, folder, jobs=40 if is_short else 150, rounds=2 if is_short else 3))
    rows.append(_share(client, folder, count=1 if is_short else 3))
    ours.close("worker")
    ours.close("web")
    return rows


def _first_line(client: Client, folder: Path, *, count: int) -> Row:
    """From sending POST /jobs to the first line of the program, beside the time that python takes for nothing."""
    submission = _submit(client, folder, _FIRST_LINE + _LEAVE)
    ours, floors = [], []
    for number in range(count + 2):
        time.sleep(0.3)  # an idle worker, and a supervisor that waits for it
        floor = _bare_python()
        sent = time.monotonic()
        results = _finish(client, submission)
        if number >= 2:
            ours.append(float(results["params"]["first"]) - sent)
            floors.append(floor)
    ratio = median(ours) / median(floors)
    return Row(
        "POST /jobs to the first line over python -c pass",
        milliseconds(median(ours)),
        milliseconds(median(floors)),
        ratio,
        4.0,
    )


def _bare_python() -> float:
    began = time.monotonic()
    subprocess.run([str(environments.python("runner")), "-c", "pass"], check=True)
    return time.monotonic() - began


def _sandbox_start(folder: Path, *, count: int) -> Row:
    """python -c pass under the sandbox's own bwrap command line, over python alone."""
    with BareSandbox(folder) as sandbox:
        pairs = [(sandbox.run(), _bare_python()) for _ in range(count)]
    inside, outside = median([one for one, _ in pairs]), median([two for _, two in pairs])
    return Row(
        "sandbox start: python -c pass in bwrap over bare",
        milliseconds(inside),
        milliseconds(outside),
        inside / outside,
    )


def _staged_start(folder: Path, *, count: int) -> Row:
    """The same for a sandbox that was made ahead, as a worker's next one is: from the word to the program's first line."""
    nursery = Nursery()
    inside, outside = [], []
    try:
        for number in range(count):
            place = _empty_run(Path(tempfile.mkdtemp(prefix="staged-", dir=folder)))
            spec = RunSpec(
                run_id=f"staged-{number}",
                executor="bubblewrap",
                python=str(environments.python("runner")),
                code_dir=str(place / "code"),
                config_path=str(place / "config.yaml"),
                run_dir=str(place / "run"),
            )
            with nursery.supervisor() as supervisor:
                supervisor.stage(spec)
                time.sleep(0.3)
                (place / "code" / "main.py").write_text(_FIRST_LINE + _LEAVE)
                began = time.monotonic()
                supervisor.run(spec)
                result = supervisor.wait(30)
            if result is None or not result.succeeded:
                raise RuntimeError(f"a staged run ended as {result}")
            first = json.loads((place / "run" / "metrics.json").read_text())["params"]["first"]
            inside.append(first - began)
            outside.append(_bare_python())
    finally:
        nursery.close()
    return Row(
        "staged sandbox: from the word to the first line over bare",
        milliseconds(median(inside)),
        milliseconds(median(outside)),
        median(inside) / median(outside),
    )


def _empty_run(place: Path) -> Path:
    """The folders of a run, readable for the sandbox's user."""
    place.chmod(0o755)
    for name in ("code", "run"):
        (place / name).mkdir()
    (place / "config.yaml").write_text("")
    return place


def _throughput(ours: OurSite, folder: Path, *, jobs: int, rounds: int) -> Row:
    """Empty jobs through one worker, beside a loop that starts `python -c pass` in the same sandbox and nothing more."""
    client = ours.client()
    submission = _submit(client, folder, _NOTHING)
    rates, floors = [], []
    for _ in range(rounds):
        with BareSandbox(folder) as sandbox:
            began = time.monotonic()
            for _ in range(jobs):
                sandbox.run()
            floors.append(jobs / (time.monotonic() - began))
        rates.append(_drain(ours, client, submission, jobs))
    ratio = median([a / b for a, b in zip(rates, floors, strict=True)])
    return Row(
        "empty jobs a second, one worker, over a bare sandbox loop",
        f"{median(rates):.1f}",
        f"{median(floors):.1f}",
        ratio,
        0.7,
        at_least=True,
    )


def _drain(ours: OurSite, client: Client, submission: str, jobs: int) -> float:
    """Jobs a second, by the database's clock, from the first start to the last end. They are queued while the queue is paused:
    what asking for them costs is another row's."""
    ours.sql("INSERT INTO leaderboards_pause (reason) VALUES ('queueing')")
    try:
        ids = [client.json("POST", "/api/jobs", {"submission_id": submission})["job_id"] for _ in range(jobs)]
    finally:
        ours.sql("DELETE FROM leaderboards_pause")
    while ours.sql("SELECT 1 FROM jobs_job WHERE finished_at IS NULL LIMIT 1"):
        time.sleep(0.1)
    ((seconds, done),) = ours.sql(
        "SELECT extract(epoch FROM max(finished_at) - min(started_at)), count(*) FILTER (WHERE status = 'completed') "
        "FROM jobs_job WHERE id = ANY(%s::uuid[])",
        ids,
    )
    if done != jobs:
        why = ours.sql("SELECT status, error_message FROM jobs_job WHERE status <> 'completed' LIMIT 1")
        raise RuntimeError(f"{jobs - done} of {jobs} empty jobs did not complete: {why}")
    return jobs / float(seconds)


def _share(client: Client, folder: Path, *, count: int) -> Row:
    """Of a job of ten seconds, what was not its program: from the request to the rank."""
    program = f"{_FIRST_LINE}time.sleep({_SLEEP_SECONDS})\n{_LEAVE}"
    submission = _submit(client, folder, program)
    shares = []
    for _ in range(count):
        sent = time.monotonic()
        results = _finish(client, submission)
        ended = time.monotonic()
        own = float(results["params"]["last"]) - float(results["params"]["first"])
        shares.append((ended - sent - own) / own * 100)
    return Row("the platform's share of a 10 s job, in %", f"{median(shares):.2f} %", "10 s", median(shares), 2.0)


def _submit(client: Client, folder: Path, program: str) -> str:
    path = folder / "main.py"
    path.write_text(program)
    return str(client.submit([path])["submission_id"])


def _finish(client: Client, submission: str) -> dict[str, dict[str, float]]:
    job = client.json("POST", "/api/jobs", {"submission_id": submission})["job_id"]
    while (status := client.json("GET", f"/api/jobs/{job}/status")["status"]) in ("pending", "running"):
        time.sleep(0.02)
    if status != "completed":
        raise RuntimeError(f"job {job} ended as {status}: {client.json('GET', f'/api/jobs/{job}')}")
    results: dict[str, dict[str, float]] = client.json("GET", f"/api/jobs/{job}/results")
    return results


class BareSandbox:
    """`python -c pass` by bwrap with the arguments of jobs/execution/bubblewrap.py: started by a process of its own, as the
    supervisor is, because the mount namespace in which its sources are staged must be somebody's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> BareSandbox:
        place = _empty_run(Path(tempfile.mkdtemp(prefix="bare-", dir=self.folder)))
        (place / "code" / "main.py").write_text("pass\n")
        command = [sys.executable, "-m", "benchmarks.bare_sandbox", str(environments.python("runner")), str(place)]
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def run(self) -> float:
        """Seconds of one start to its end."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)
