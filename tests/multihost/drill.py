"""The drill of many machines: a site spread over hosts that share no disk, whose links are slowed and cut under load.

    python -m tests.multihost.drill [--machines 3] [--workers 2] [--keep]

Prints what it did and saw. Ends with the line `violations: N`; exit code 1 unless N is 0, and 2 where it cannot run.
"""

import argparse
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from leaderboard_site.client import Client, Refused
from tests.chaos.promises import QUESTIONS
from tests.multihost.network import CannotBuild, enter_own_network
from tests.multihost.site import FINAL, TIMINGS, SpreadSite, wait_for

LEASE, FENCE = float(TIMINGS["LEASE_SECONDS"]), float(TIMINGS["FENCE_SECONDS"])
PROGRAM = """
import json, random, sys, time
score = random.random()
for step in range(10):
    print("step", step, score, flush=True)
    time.sleep({seconds} / 10)
with open(sys.argv[sys.argv.index("--output") + 1] + "/metrics.json", "w") as file:
    json.dump({{"params": {{"seconds": {seconds}}}, "metrics": {{"image_auc": score}}}}, file)
"""
_began = time.monotonic()


def say(text: str) -> None:
    print(f"{time.monotonic() - _began:6.1f} s  {text}", flush=True)


class Drill:
    def __init__(self, folder: Path, *, machines: int, workers: int) -> None:
        self.folder, self.workers = folder, workers
        self.site = SpreadSite(folder / "hosts", machines=machines)
        self.wrong: list[str] = []
        self.jobs: list[str] = []
        self.people: list[Client] = []
        self.program = ""

    def run(self) -> int:
        try:
            self._start()
            for act in (
                self._all_machines_work, self._slow_link, self._cut_off_in_a_job, self._late_result,
                self._storage_cut_off, self._services_cut_off,
            ):  # fmt: skip
                try:
                    act()
                except AssertionError as error:
                    self._expect(False, f"{act.__name__.strip('_')}: {error}")
            self._audit()
        finally:
            self.site.stop()
        for what in self.wrong:
            say(f"WRONG: {what}")
        print(f"violations: {len(self.wrong)}", flush=True)
        return 1 if self.wrong else 0

    def _expect(self, holds: bool, what: str) -> None:
        if not holds:
            self.wrong.append(what)

    def _start(self) -> None:
        site = self.site
        site.start()
        for host in site.machines:
            for number in range(self.workers):
                site.worker(host, number)
        total = len(site.machines) * self.workers
        wait_for(
            lambda: site.sql("SELECT count(*) FROM jobs_worker WHERE stopped_at IS NULL")[0][0] == total,
            seconds=120, what=f"{total} workers: {site.machines[0].log('worker0')[-1500:]}",
        )  # fmt: skip
        self.people = [Client(site.url, site.person(f"person{number}")) for number in range(4)]
        where = ", ".join(f"{host.name} {host.address}" for host in site.hosts)
        say(f"up: {where}; {total} workers on {len(site.machines)} machines")

    def _submit(self, *, seconds: float, person: int = 0) -> str:
        # Its processes are found by its name: a run has the job's id in no command line.
        program = self.folder / f"drill_{secrets.token_hex(6)}.py"
        program.write_text(PROGRAM.format(seconds=seconds))
        client = self.people[person % len(self.people)]
        submission = client.submit([program], entrypoint=program.name)["submission_id"]
        self.program = program.name
        job = str(client.json("POST", "/api/jobs", {"submission_id": submission})["job_id"])
        self.jobs.append(job)
        return job

    def _wait_running(self, job: str) -> str:
        """The name of the machine on which it runs and has printed something."""
        part = "SELECT 1 FROM jobs_joblogchunk WHERE job_id = %s"
        wait_for(lambda: self.site.sql(part, job), seconds=40, what=f"{job} runs: {self.site.job(job)}")
        return self.site.holder(job)

    def _wait_final(self, job: str, *, seconds: float = 60) -> float:
        return wait_for(
            lambda: self.site.job(job)["status"] in FINAL, seconds=seconds, what=f"{job} ends: {self.site.job(job)}"
        )

    # --- the acts --------------------------------------------------------------------------------------------------
    def _all_machines_work(self) -> None:
        jobs = [self._submit(seconds=1.5, person=number) for number in range(6 * len(self.site.machines))]
        began = time.monotonic()
        for job in jobs:
            self._wait_final(job, seconds=120)
        shares = Counter(self.site.holder(job) for job in jobs)
        say(
            f"{len(jobs)} jobs of {len(self.people)} people in {time.monotonic() - began:.0f} s, by machine: {dict(sorted(shares.items()))}"
        )
        self._expect(len(shares) == len(self.site.machines), f"only {sorted(shares)} took jobs")
        self._expect(all(self.site.job(job)["status"] == "completed" for job in jobs), "a plain job did not complete")

    def _slow_link(self) -> None:
        host = self.site.machines[0]
        how = host.slow(kilobits=256, delay_ms=150)
        jobs = [self._submit(seconds=2, person=number) for number in range(3 * len(self.site.machines) * self.workers)]
        for job in jobs:
            self._wait_final(job, seconds=120)
        host.unslow()
        mine = [job for job in jobs if self.site.holder(job) == host.name]
        attempts = sum(self.site.job(job)["attempt"] for job in jobs)
        say(f"{host.name} at {how}: it completed {len(mine)} of {len(jobs)} jobs, {attempts} attempts in all")
        self._expect(bool(mine), f"{host.name} took no job behind its slow link")
        self._expect(attempts == len(jobs), "a slow link cost an attempt")

    def _cut_off_in_a_job(self) -> None:
        job = self._submit(seconds=4 * LEASE)
        name = self._wait_running(job)
        host = self.site.host(name)
        marker = self.program
        self._expect(bool(_processes(marker)), "the run's processes were not found")
        host.cut()
        began = time.monotonic()
        say(f"{name} is cut off in the middle of a job of {4 * LEASE:.0f} s")
        killed = wait_for(
            lambda: not _processes(marker), seconds=FENCE + 5, what="the cut-off run is killed by its fence"
        )
        self._expect(killed <= LEASE, f"the fence came after {killed:.1f} s, when the lease was over")
        wait_for(
            lambda: self.site.job(job)["attempt"] == 2, seconds=3 * LEASE, what=f"taken over: {self.site.job(job)}"
        )
        other, after = self.site.holder(job), time.monotonic() - began
        say(f"its fence killed the run after {killed:.1f} s; {other} began it again after {after:.1f} s")
        self._expect(other != name, "the machine that was cut off has the job again")
        host.mend()
        self._wait_final(job, seconds=6 * LEASE)
        self._once(job, attempt=2, machine=other)
        wait_for(lambda: self._is_back(name), seconds=60, what=f"{name}'s workers are back")
        say(f"{name} is back in the list of workers")

    def _late_result(self) -> None:
        """The run ends while its machine is cut off: there is a result, and nobody may take it any more."""
        job = self._submit(seconds=4)
        name = self._wait_running(job)
        host = self.site.host(name)
        host.cut()
        say(f"{name} is cut off shortly before its job's end: the result is there, and cannot be told")
        wait_for(
            lambda: self.site.job(job)["attempt"] == 2, seconds=3 * LEASE, what=f"taken over: {self.site.job(job)}"
        )
        other = self.site.holder(job)
        self._wait_final(job)
        score = self.site.job(job)["score"]
        host.mend()
        wait_for(lambda: self._has_left(host, job), seconds=90, what=f"{name} gives its late result up")
        self._expect(self.site.job(job)["score"] == score, "the late result replaced the recorded one")
        self._once(job, attempt=2, machine=other)
        say(f"{other} completed it; {name}'s late result was refused when it came back")

    def _storage_cut_off(self) -> None:
        running = self._submit(seconds=3)
        self._wait_running(running)
        waiting = [self._submit(seconds=1, person=number) for number in range(4)]
        self.site.storage.cut()
        try:
            self._submit(seconds=1)
            self._expect(False, "an upload was taken while the storage was away")
        except Refused as refusal:
            self._expect((refusal.status, refusal.code) == (503, "storage_unavailable"), f"an upload got {refusal}")
        time.sleep(LEASE)
        self.site.storage.mend()
        # A job given back waits for minutes by design; here it may go on at once.
        self.site.sql("UPDATE jobs_job SET available_at = now() WHERE status = 'pending'")
        for job in (running, *waiting):
            self._wait_final(job, seconds=120)
        rows = [self.site.job(job) for job in (running, *waiting)]
        say(
            f"storage cut off for {LEASE:.0f} s: uploads got 503; {len(rows)} jobs completed, "
            f"given back {sum(row['releases'] for row in rows)} times, lost {sum(row['losses'] for row in rows)} times"
        )
        self._expect(all(row["status"] == "completed" for row in rows), f"jobs ended otherwise: {rows}")

    def _services_cut_off(self) -> None:
        """PostgreSQL, Redis and MLflow gone for longer than a lease, with jobs running on every machine."""
        jobs = [self._submit(seconds=2, person=number) for number in range(2 * len(self.site.machines))]
        self._wait_running(jobs[0])
        self.site.services.cut()
        time.sleep(LEASE + 3)
        self.site.services.mend()
        for job in jobs:
            self._wait_final(job, seconds=120)
        rows = [self.site.job(job) for job in jobs]
        say(
            f"PostgreSQL, Redis and MLflow cut off for {LEASE + 3:.0f} s: {len(rows)} jobs {dict(Counter(row['status'] for row in rows))}"
        )
        self._expect(all(row["status"] == "completed" for row in rows), f"jobs ended otherwise: {rows}")

    # --- what must hold ----------------------------------------------------------------------------------------------
    def _once(self, job: str, *, attempt: int, machine: str) -> None:
        row = self.site.job(job)
        ended = self.site.sql("SELECT number, outcome FROM jobs_jobattempt WHERE job_id = %s ORDER BY number", job)
        self._expect(
            (row["status"], row["attempt"], row["losses"]) == ("completed", attempt, attempt - 1), f"{job}: {row}"
        )
        self._expect([outcome for _, outcome in ended].count("completed") == 1, f"{job}: attempts {ended}")
        self._expect(self.site.holder(job) == machine, f"{job}: recorded for {self.site.holder(job)}, not {machine}")

    def _is_back(self, name: str) -> bool:
        query = "SELECT count(*) FROM jobs_worker WHERE hostname = %s AND stopped_at IS NULL AND heartbeat_at > now() - interval '3 s'"
        return bool(self.site.sql(query, name)[0][0] == self.workers)

    def _has_left(self, host: object, job: str) -> bool:
        logs = [self.site.host(getattr(host, "name", "")).log(f"worker{number}") for number in range(self.workers)]
        return any(f"job {job} attempt 1 left" in log for log in logs)

    def _audit(self) -> None:
        wait_for(
            lambda: not self.site.sql("SELECT 1 FROM jobs_trackingoutbox") and not self.site.sql("SELECT 1 FROM jobs_joblogchunk"),
            seconds=120, what="MLflow has every run",
        )  # fmt: skip
        for what, question in QUESTIONS.items():
            self.wrong += [f"{what}: {row}" for row in self.site.sql(question)]
        board = self.people[0].json("GET", "/api/leaderboards/default/entries")
        told = {entry["user_id"]: entry["score"] for entry in board["entries"]}
        best = dict(
            self.site.sql(
                "SELECT u.username, max(j.score) FROM jobs_job j JOIN accounts_user u ON u.id = j.user_id "
                "WHERE j.status = 'completed' GROUP BY u.username"
            )
        )
        self._expect(told == best, f"the board says {told}, the jobs {best}")
        names = self.site.objects.names()
        logs = self.site.sql("SELECT log_name FROM jobs_job WHERE status = 'completed'")
        self._expect(all(f"artifacts/{name}" in names for (name,) in logs), "a log is not in the storage")
        left = [str(path) for host in self.site.machines for path in _files(host.folder / "artifact_root")]
        self._expect(not left, f"files lie on a worker's own disk: {left[:3]}")
        runs = self.site.sql("SELECT count(DISTINCT run_id), count(*) FROM jobs_job WHERE status = 'completed'")[0]
        self._expect(runs[0] == runs[1], f"{runs[0]} MLflow runs of {runs[1]} completed jobs")
        say(
            f"{len(self.jobs)} jobs, {runs[0]} MLflow runs, {len(best)} entries on the board, {len(names)} objects in the storage"
        )


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _processes(word: str) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if word.encode() in (folder / "cmdline").read_bytes():
                found.append(folder.name)
        except OSError:
            continue
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="multihost", description="The drill of many machines.")
    parser.add_argument("--machines", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="on each machine")
    parser.add_argument("--keep", action="store_true", help="leave logs and data")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="lb-hosts-"))
    try:
        enter_own_network()
        (folder / "hosts").mkdir()
        code = Drill(folder, machines=options.machines, workers=options.workers).run()
    except CannotBuild as error:
        print(f"multihost: {error}", file=sys.stderr)
        code = 2
    except Exception:
        traceback.print_exc()
        code = 1
    if code == 1 or options.keep:
        print(f"logs and data stay in {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return code


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "leaderboard_site.settings")
    sys.exit(main())
