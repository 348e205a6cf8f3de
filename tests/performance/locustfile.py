"""The specification's load: people who submit, enqueue and ask for the status. One file for the site and for the peer.

    locust -f tests/performance/locustfile.py --headless -u 100 -r 50 -t 60s --host http://127.0.0.1:8010 --only-summary

LOAD_TOKENS names a file with one bearer token a line: `manage.py create_token USER` prints one. Each of the tokens' people
needs quotas that this does not use up. LOAD_PREFIX is where the API lies (/api), LOAD_WAIT the seconds between two
requests of one person ("1,3"; "0,0" is a loop without pauses), LOAD_BYTES the size of a submission (20480).

People come fifty at a time, and each begins with a submission and a job. What is asked until all have done that is counted
by names of its own ("arriving: submit"): it tells of a burst that nobody's day has, and of Locust's own speed in it.
"""

import itertools
import os
from pathlib import Path

from locust import FastHttpUser, between, task

PREFIX = os.environ.get("LOAD_PREFIX", "/api")
SIZE = int(os.environ.get("LOAD_BYTES", "20480"))
WAIT = tuple(float(part) for part in os.environ.get("LOAD_WAIT", "1,3").split(","))
TOKENS = Path(os.environ["LOAD_TOKENS"]).read_text().split()
NEXT = itertools.cycle(TOKENS)
EDGE = "----load7d2f0c1e9a"
HEAD = f'--{EDGE}\r\nContent-Disposition: form-data; name="files"; filename="main.py"\r\nContent-Type: text/x-python\r\n\r\n'
BODY = HEAD.encode() + b"pass\n".ljust(SIZE, b"#") + f"\r\n--{EDGE}--\r\n".encode()


class Participant(FastHttpUser):
    wait_time = between(*WAIT)
    arrived = 0

    def named(self, call):
        return call if Participant.arrived >= self.environment.runner.target_user_count else f"arriving: {call}"

    def on_start(self):
        self.auth = {"Authorization": f"Bearer {next(NEXT)}"}
        self.submission_id = self.job_id = None
        self.submit()
        self.enqueue()
        Participant.arrived += 1

    @task(1)
    def submit(self):
        headers = {**self.auth, "Content-Type": f"multipart/form-data; boundary={EDGE}"}
        got = self.client.post(f"{PREFIX}/submissions", data=BODY, headers=headers, name=self.named("submit"))
        if got.status_code == 201:
            self.submission_id = got.json()["submission_id"]

    @task(3)
    def enqueue(self):
        if self.submission_id:
            body = {"submission_id": self.submission_id}
            got = self.client.post(f"{PREFIX}/jobs", json=body, headers=self.auth, name=self.named("enqueue"))
            if got.status_code in (201, 202):
                self.job_id = got.json()["job_id"]

    @task(16)
    def status(self):
        if self.job_id:
            self.client.get(f"{PREFIX}/jobs/{self.job_id}/status", headers=self.auth, name=self.named("status"))
