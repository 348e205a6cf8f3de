"""Which limits are enforced, watched or absent: one table, told by job, worker and doctor."""

from pathlib import Path

import pytest

from accounts.tests.factories import UserFactory
from jobs.execution import cgroup, limit_table, volumes
from jobs.execution.limit_table import LABELS, MECHANISMS, Kind, held_limits
from jobs.execution.preflight import Findings, Probe
from jobs.execution.spec import Limits
from jobs.tests.factories import JobFactory, WorkerFactory
from leaderboard_site.console.status import WorkerLine
from leaderboard_site.doctor import machine
from leaderboard_site.doctor.findings import Found
from tests.api.conftest import Api

WITHOUT_GROUP = {"memory": "watchdog", "cpus": "none", "processes": "rlimit", "output": "tmpfs", "log": "supervisor"}
WITH_GROUP = WITHOUT_GROUP | {"memory": "cgroup-v2", "cpus": "cgroup-v2", "cpu_seconds": "cgroup-v2"}


def test_each_limit_is_enforced_watched_or_absent():
    kinds = {limit.name: limit.kind for limit in held_limits(WITHOUT_GROUP | {"later": "new"})}
    assert kinds == {
        "memory": Kind.WATCHED, "processes": Kind.ENFORCED, "cpus": Kind.ABSENT, "output": Kind.ENFORCED,
        "log": Kind.WATCHED, "later": Kind.ABSENT,
    }  # fmt: skip
    # A group counts CPU time; the supervisor ends the run.
    assert {limit.kind for limit in held_limits(WITH_GROUP) if limit.name == "cpu_seconds"} == {Kind.WATCHED}


@pytest.mark.parametrize(
    "group", [cgroup.Group(), cgroup.Group(2, dict.fromkeys(["memory", "cpu", "pids"], Path("/nowhere")))]
)
def test_supervisor_names_only_what_the_table_knows(group):
    names = limit_table.applied(Limits(cpus=2), group)
    assert set(names) <= set(LABELS) and set(names.values()) <= set(MECHANISMS)
    assert set(volumes.sizes(Limits())) <= set(LABELS)


@pytest.mark.parametrize(("applied", "warns"), [(WITH_GROUP, False), (WITHOUT_GROUP, True)])
def test_doctor_tells_each_limit_and_warns_without_a_group(settings, monkeypatch, applied, warns):
    found = Found("sandbox")
    settings.EXECUTOR = "container"
    monkeypatch.setattr(machine, "environments", lambda found: None)
    monkeypatch.setattr(machine, "probe_sandbox", lambda: Findings([Probe("x", "x", True, "x")], applied))
    machine.sandbox(found)
    told = "\n".join(finding.what for finding in found.findings)
    assert "limits enforced: " in told and "output folder (tmpfs)" in told
    assert "limits watched: " in told and "log (supervisor)" in told
    assert ("can write no control group (memory: watched, processors at once: not limited)" in told) is warns


@pytest.mark.django_db
def test_console_and_api_tell_what_held(client):
    operator = UserFactory(is_staff=True, is_superuser=True)
    client.force_login(operator)
    job = JobFactory(status="failed", limits_applied=WITHOUT_GROUP)
    worker = WorkerFactory(limits=WITH_GROUP)
    pages = {
        kind: client.get(f"/admin/jobs/{kind}/{row.pk}/change/").content.decode()
        for kind, row in (("job", job), ("worker", worker))
    }
    assert "<li>memory: watched (watchdog)</li>" in pages["job"]
    assert "<li>processors at once: not limited (none)</li>" in pages["job"]
    assert "<li>memory: enforced (cgroup-v2)</li>" in pages["worker"]
    worker.limits = WITHOUT_GROUP
    assert WorkerLine(worker, None, 0, False).not_enforced == ["memory: watched", "processors at once: not limited"]
    shown = Api(operator).get(f"/api/jobs/{job.pk}").json()["limits"]
    assert shown[0] == {"limit": "memory", "kind": "watched", "by": "watchdog"}
    assert [limit["limit"] for limit in shown] == ["memory", "processes", "cpus", "output", "log"]
