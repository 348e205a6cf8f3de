"""What a page costs with a million jobs over what it costs with ten thousand: the same pages of two sites, in turn."""

from __future__ import annotations

import http.client
import json
import time
from contextlib import ExitStack

from benchmarks.fixture import copy_database, fill
from benchmarks.servers import OurSite, cpu_seconds, tree
from benchmarks.table import Row, median, milliseconds
from leaderboard_site.embedded.locations import DATABASE_NAME
from leaderboard_site.embedded.processes import Part
from leaderboard_site.embedded.servers import free_port, http_answers

# What is asked, and as whom: a person with jobs, an operator, nobody.
PAGES = {
    "home page": ("nobody", "/"),
    "leaderboard page": ("nobody", "/leaderboards/board1/"),
    "leaderboard, API": ("token", "/api/leaderboards/board1/entries"),
    "job list page": ("person", "/jobs/"),
    "submission list page": ("person", "/submissions/"),
    "job list, API": ("token", "/api/jobs"),
    "job page": ("person", "/jobs/{pending}/"),
    "status of a waiting job": ("token", "/api/jobs/{pending}/status"),
    "status of a finished job": ("token", "/api/jobs/{finished}/status"),
    "status page": ("operator", "/admin/status/"),
    "admin: jobs": ("operator", "/admin/jobs/job/"),
    "admin: submissions": ("operator", "/admin/submissions/submission/"),
    "admin: attempts": ("operator", "/admin/jobs/jobattempt/"),
    "admin: entries": ("operator", "/admin/leaderboards/entry/"),
    "admin: users": ("operator", "/admin/accounts/user/"),
}
# Requests before it counts: caches of the server and of PostgreSQL, prepared statements.
WARM_UP = 8
SHORT_SECONDS = 0.005
_PREPARE = """
import json
from django.test import Client
from accounts.models import User
from accounts.services import create_token
from jobs.models import Job
person = Job.objects.filter(status="pending").order_by("-created_at").first().user
cookies = {}
for name, user in (("person", person), ("operator", User.objects.get(username="operator"))):
    client = Client()
    client.force_login(user, backend="accounts.backends.ThrottledBackend")
    cookies[name] = client.cookies["sessionid"].value
jobs = {name: str(Job.objects.filter(user=person, status=status).order_by("-created_at").first().pk)
        for name, status in (("pending", "pending"), ("finished", "completed"))}
print(json.dumps({"cookies": cookies, "token": create_token(person, name="growth")[1], "jobs": jobs}))
"""


class Grown:
    """A second web server on a database of its own with so many jobs; nothing else differs."""

    def __init__(self, site: OurSite, jobs: int) -> None:
        self.site, self.jobs, self.port = site, jobs, free_port()
        self.name = f"jobs{jobs}"
        self.database_url = site.locations.database_url(self.name)

    def __enter__(self) -> Grown:
        copy_database(self.site.locations.database_url("postgres"), DATABASE_NAME, self.name)
        began = time.monotonic()
        fill(self.database_url, self.jobs)
        self.site.stack.progress.say(f"  {self.jobs} jobs made in {time.monotonic() - began:.0f} s")
        web = self.site.web()
        web.command[web.command.index("--bind") + 1] = f"127.0.0.1:{self.port}"
        web.environment |= {"DATABASE_URL": self.database_url}
        self.web = Part(
            name=f"web-{self.jobs}", title=f"web, {self.jobs} jobs", command=web.command, locations=self.site.locations,
            environment=web.environment, stop_plan="TERM:7,QUIT:2",
        )  # fmt: skip
        self.web.spawn()
        self.web.wait_until(lambda: http_answers(self.port, "/healthz"), seconds=60)
        self.known = self._prepare()
        return self

    def _prepare(self) -> dict[str, dict[str, str]]:
        before = dict(self.site.settings)
        self.site.settings["DATABASE_URL"] = self.database_url
        try:
            found: dict[str, dict[str, str]] = json.loads(self.site.shell(_PREPARE).splitlines()[-1])
        finally:
            self.site.settings = before
        return found

    def __exit__(self, *_: object) -> None:
        self.web.stop()

    def cpu(self) -> float:
        """Of its web server; PostgreSQL is shared by both."""
        return sum(cpu_seconds(pid) for pid in tree(self.web.pid or 0))

    def seconds(self, who: str, path: str) -> float:
        """One request, from sending it to the last byte."""
        headers = {"Accept-Language": "en"}
        if who == "token":
            headers["Authorization"] = f"Bearer {self.known['token']}"
        elif who != "nobody":
            headers["Cookie"] = f"sessionid={self.known['cookies'][who]}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        began = time.perf_counter()
        connection.request("GET", path.format(**self.known["jobs"]), headers=headers)
        answer = connection.getresponse()
        answer.read()
        took = time.perf_counter() - began
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"GET {path} as {who}: {answer.status}")
        return took


def growth_rows(site: OurSite, *, sizes: tuple[int, int], count: int) -> list[Row]:
    with ExitStack() as running:
        sites = [running.enter_context(Grown(site, jobs)) for jobs in sizes]
        rows = []
        for name, (who, path) in PAGES.items():
            rows.append(_compare(name, sites, who, path, count=count))
        return rows


def _compare(name: str, sites: list[Grown], who: str, path: str, *, count: int) -> Row:
    """One page of both sites in turn, each of them first every other time."""
    usual = min(one.seconds(who, path) for _ in range(WARM_UP) for one in sites)
    # What takes a few milliseconds needs more of them: what else happens on the machine takes as long.
    pairs = count * 5 if usual < SHORT_SECONDS else count
    taken: list[list[float]] = [[] for _ in sites]
    before = [one.cpu() for one in sites]
    for number in range(pairs):
        for place in (0, 1) if number % 2 else (1, 0):
            taken[place].append(sites[place].seconds(who, path))
    spent = [(one.cpu() - earlier) / pairs for one, earlier in zip(sites, before, strict=True)]
    # Of each pair the ratio, so that a slow moment falls on both.
    ratio = median([large / small for small, large in zip(*taken, strict=True)])
    told = [f"{milliseconds(median(times))}, CPU {milliseconds(cpu)}" for times, cpu in zip(taken, spent, strict=True)]
    return Row(f"{name}: {sites[1].jobs} jobs over {sites[0].jobs}", told[1], told[0], ratio, 1.2)
