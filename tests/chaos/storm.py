"""The storm: a hundred short jobs of many people while every part is killed, frozen, flushed and cut off at random.

    python -m tests.chaos.storm [--seconds 1800] [--jobs 100] [--seed N]

Then the promises of the design are checked. Ends with the line `violations: N`; exit code 1 unless N is 0.
"""

import argparse
import json
import random
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from leaderboard_site.client import Client, Refused
from tests.chaos.faults import FAULTS, WORKER_FAULTS
from tests.chaos.promises import AUDIT, processes_with, violations
from tests.chaos.site import Site

PEOPLE = 12
CALM_SECONDS = 180
PROGRAM = """
import json, random, sys, time
seconds, score, code = {seconds}, {score}, {code}
for step in range(4):
    print("step", step, flush=True)
    time.sleep(seconds / 4)
if code:
    sys.exit(code)
with open(sys.argv[4] + "/metrics.json", "w") as file:
    json.dump({{"params": {{"seconds": seconds}}, "metrics": {{"score": score}}}}, file)
"""
SETUP = """
import json
from accounts.models import User
from accounts.services import create_token
from leaderboards.services import create_leaderboard
create_leaderboard(slug="storm", title="Storm", metrics=[{"name": "score"}])
people = [User.objects.create(username=f"person{n}") for n in range(%d)]
print(json.dumps([create_token(person, name="storm")[1] for person in people]))
"""


class Storm:
    def __init__(self, seconds: float, jobs: int, seed: int) -> None:
        self.seconds, self.jobs, self.seed = seconds, jobs, seed
        self.rng = random.Random(seed)
        self.folder = Path(tempfile.mkdtemp(prefix="lb-storm-"))
        self.site = Site(self.folder / "var", self.rng)
        self.word = f"storm_{self.folder.name[-8:]}.py"
        self.accepted: dict[str, set[str]] = {"submissions": set(), "jobs": set()}
        self.unexpected: list[str] = []
        self.injected: list[tuple[datetime, str]] = []

    def run(self) -> int:
        say(f"seed {self.seed}, {self.jobs} jobs of {PEOPLE} people, faults for {self.seconds:.0f} s, in {self.folder}")
        try:
            self.site.start()
            tokens = json.loads(self.site.manage("shell", "--verbosity", "0", "-c", SETUP % PEOPLE).splitlines()[-1])
            with psycopg.connect(self.site.locations.database_url(), autocommit=True) as database:
                database.execute(AUDIT)
            people = threading.Thread(target=self._submit_all, args=(tokens,), daemon=True)
            people.start()
            self._inject()
            people.join(CALM_SECONDS)
            calm = self._wait_for_calm()
            say(f"calm {calm:.0f} s after the last fault")
            self.site.stop()
            found = self.unexpected + violations(self.site, self.accepted)
            found += [f"a process is left: {line}" for line in processes_with(self.word)]
            self._report(found)
        finally:
            self.site.stop()
            self.site.stop_servers()
        if not found:
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            say(f"logs and data stay in {self.folder}")
        print(f"violations: {len(found)}")
        return 1 if found else 0

    def _inject(self) -> None:
        end = time.monotonic() + self.seconds
        turn = random.Random(self.seed + 1)
        hands: list[threading.Thread] = []
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, turn.uniform(0.5, 3.0)))
            fault = turn.choice(FAULTS)
            self.injected.append((datetime.now(UTC), fault.__name__))
            # Beside each other: a frozen worker does not keep the database from being killed.
            hand = threading.Thread(target=self._hurt, args=(fault, random.Random(turn.random())), daemon=True)
            hand.start()
            hands.append(hand)
        for hand in hands:
            hand.join(60)

    def _hurt(self, fault: Any, rng: random.Random) -> None:
        try:
            fault(self.site, rng)
        except Exception as error:
            self.unexpected.append(f"{fault.__name__} could not be mended: {error}")

    def _submit_all(self, tokens: list[str]) -> None:
        rng = random.Random(self.seed + 2)
        pause = self.seconds * 0.8 / self.jobs
        for number in range(self.jobs):
            try:
                self._submit(Client(self.site.url, rng.choice(tokens)), rng, number)
            except Refused as refusal:
                self.unexpected.append(f"the site refused job {number}: {refusal}")
            time.sleep(pause * rng.uniform(0.2, 1.8))

    def _submit(self, client: Client, rng: random.Random, number: int) -> None:
        kind = "bad" if rng.random() < 0.15 else "good"
        program = self.folder / self.word
        program.write_text(
            PROGRAM.format(seconds=rng.uniform(0.2, 4.0), score=rng.random(), code=3 if kind == "bad" else 0)
        )
        submission = self._until_answered(
            lambda: client.submit(
                [program], entrypoint=self.word, leaderboard="storm", metadata=json.dumps({"kind": kind})
            )
        )["submission_id"]
        self.accepted["submissions"].add(submission)
        key = {"Idempotency-Key": f"storm-{number}"}
        job = self._until_answered(lambda: client.json("POST", "/api/jobs", {"submission_id": submission}, key))[
            "job_id"
        ]
        self.accepted["jobs"].add(job)
        if rng.random() < 0.15:
            time.sleep(rng.uniform(0, 3))
            try:
                self._until_answered(lambda: client.json("POST", f"/api/jobs/{job}/cancel"))
            except Refused as refusal:
                if refusal.code != "already_final":
                    raise

    def _until_answered(self, call: Any) -> Any:
        """As a good client does: no answer, or "come back later", means again."""
        deadline = time.monotonic() + CALM_SECONDS
        while True:
            try:
                return call()
            except Refused as refusal:
                if refusal.status == 500:
                    self.unexpected.append(f"the site answered 500: {refusal}")
                if refusal.status < 500 or time.monotonic() > deadline:
                    raise
            except OSError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.3)

    def _wait_for_calm(self) -> float:
        started = time.monotonic()
        question = (
            "SELECT (SELECT count(*) FROM jobs_job WHERE status IN ('pending', 'running')) + "
            "(SELECT count(*) FROM jobs_trackingoutbox) + (SELECT count(*) FROM jobs_joblogchunk)"
        )
        while time.monotonic() - started < CALM_SECONDS:
            with psycopg.connect(self.site.locations.database_url()) as database:
                row = database.execute(question).fetchone()
            if row == (0,):
                break
            time.sleep(0.5)
        return time.monotonic() - started

    def _report(self, found: list[str]) -> None:
        with psycopg.connect(self.site.locations.database_url()) as database:
            statuses = database.execute("SELECT status, count(*) FROM jobs_job GROUP BY 1 ORDER BY 1").fetchall()
            endings = database.execute("SELECT outcome, count(*) FROM jobs_jobattempt GROUP BY 1 ORDER BY 1").fetchall()
            again = database.execute(
                "SELECT a.ended_at, b.started_at FROM jobs_jobattempt a JOIN jobs_jobattempt b "
                "ON b.job_id = a.job_id AND b.number = a.number + 1 WHERE a.outcome IN ('lost', 'released')"
            ).fetchall()
        say("faults injected")
        for name, count in sorted(Counter(name for _, name in self.injected).items()):
            say(f"  {name:<32}{count:>5}")
        say(f"jobs accepted {len(self.accepted['jobs'])}: " + ", ".join(f"{count} {name}" for name, count in statuses))
        say("attempts: " + ", ".join(f"{count} {name}" for name, count in endings))
        hurting = {fault.__name__ for fault in WORKER_FAULTS} | {"restart_postgres", "freeze_postgres"}
        times = [moment for moment, name in self.injected if name in hurting]
        recoveries = []
        for ended, started in again:
            before = [moment for moment in times if moment <= ended]
            recoveries.append((started - max(before, default=ended)).total_seconds())
        if recoveries:
            say(f"recovered {len(recoveries)} jobs; seconds from fault to next start: "
                f"median {statistics.median(recoveries):.1f}, worst {max(recoveries):.1f}")  # fmt: skip
        for line in found[:50]:
            say(f"VIOLATION {line}")


def say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1800, help="how long faults come (%(default)s)")
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=20261123)
    options = parser.parse_args()
    # Ended by hand, it still takes its site down.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    return Storm(options.seconds, options.jobs, options.seed).run()


if __name__ == "__main__":
    sys.exit(main())
