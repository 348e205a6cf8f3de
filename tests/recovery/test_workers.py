"""A worker, its supervisor or its machine dies, freezes or is told to stop; a job is cancelled meanwhile."""

import signal
import subprocess
import sys

import pytest

from recovery.site import children, descendants, living, signal_all, wait_for

pytestmark = pytest.mark.slow
# Lease 4 s, then the reconciler's pass, the delay and the next claim: ten seconds, and a busy machine takes many times that.
RECOVERED = 90
ENDED = 45


def supervisors(worker):
    """Of the run in hand, and the one that waits for the next."""
    nurseries = [pid for pid in children(worker.pid) if pid in living("nursery.py")]
    return [pid for nursery in nurseries for pid in children(nursery)]


def test_kill_of_the_worker_ends_its_run_and_another_runs_it_again(site):
    first, job = site.ready_worker(), site.submit(seconds=3)
    job.wait_running()
    old = job.runs()
    site.worker()
    site.end(first, signal.SIGKILL)
    wait_for(lambda: not set(old) & set(job.runs()), seconds=ENDED)
    job.wait_final(seconds=RECOVERED)
    row = job.row()
    assert (row["status"], row["attempt"], row["losses"]) == ("completed", 2, 1)
    assert job.effects() == (1, 1, 1)


def test_kill_of_worker_supervisor_and_sandbox_is_a_loss_too(site):
    first, job = site.ready_worker(), site.submit(seconds=3)
    job.wait_running()
    site.worker()
    signal_all([first.pid, *descendants(first.pid)], signal.SIGKILL)
    job.wait_final(seconds=RECOVERED)
    assert (job.row()["status"], job.row()["attempt"]) == ("completed", 2)
    assert job.effects() == (1, 1, 1)


def test_kill_of_the_supervisor_gives_the_job_back(site):
    worker, job = site.ready_worker(), site.submit(seconds=3)
    job.wait_running()
    old = job.runs()
    signal_all(supervisors(worker), signal.SIGKILL)
    wait_for(lambda: not set(old) & set(job.runs()), seconds=ENDED)
    job.wait_final(seconds=RECOVERED)
    row = job.row()
    assert (row["status"], row["attempt"], row["losses"], row["releases"]) == ("completed", 2, 0, 1)
    assert worker.poll() is None, "the worker lives on"


def test_freeze_of_the_worker_past_its_lease_leaves_a_zombie_that_writes_nothing(site):
    first, job = site.ready_worker(), site.submit(seconds=6, score=0.7)
    job.wait_running()
    old = job.runs()
    second = site.ready_worker()
    first.send_signal(signal.SIGSTOP)
    wait_for(lambda: not set(old) & set(job.runs()), seconds=ENDED)  # fenced by its supervisor
    wait_for(lambda: job.status == "running" and job.holder() == second.pid, seconds=RECOVERED)
    first.send_signal(signal.SIGCONT)
    job.wait_final(seconds=RECOVERED)
    assert (job.row()["status"], job.row()["attempt"]) == ("completed", 2)
    rows = site.sql("SELECT number, outcome FROM jobs_jobattempt WHERE job_id = %s ORDER BY number", job.id)
    assert rows == [(1, "lost"), (2, "completed")]
    after = site.submit()  # and the zombie is a worker again
    after.wait_final(seconds=RECOVERED)
    assert first.poll() is None


def test_sigterm_lets_the_job_finish_and_takes_no_more(site):
    worker, job = site.ready_worker(), site.submit(seconds=3, user="drain")
    job.wait_running()
    worker.send_signal(signal.SIGTERM)
    later = site.submit(user="drain")
    assert worker.wait(ENDED) == 0
    assert (job.status, later.status) == ("completed", "pending")


def drains(site):
    """How many signals to drain the workers have heard so far."""
    return (site.folder / "worker.log").read_text(errors="replace").count("draining: the job in hand is finished")


def test_second_sigterm_gives_the_job_back(site):
    worker, job = site.ready_worker(), site.submit(seconds=60)
    job.wait_running()
    heard = drains(site)
    worker.send_signal(signal.SIGTERM)
    wait_for(lambda: drains(site) > heard, seconds=ENDED, what="the first signal is heard")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(ENDED) == 0  # the run itself would take longer
    row = job.row()
    assert (row["status"], row["losses"], row["releases"], job.runs()) == ("pending", 0, 1, [])


def test_drain_now_gives_the_job_back(site):
    worker, job = site.ready_worker(), site.submit(seconds=60)
    job.wait_running()
    assert (site.drain_now().wait(ENDED), worker.wait(ENDED)) == (0, 0)
    row = job.row()
    assert (row["status"], row["losses"], row["releases"], job.runs()) == ("pending", 0, 1, [])


def test_sigterm_ends_an_idle_worker_at_once(site):
    assert site.end(site.ready_worker(), signal.SIGTERM, seconds=ENDED) == 0


def cancel(site, job):
    status, answer = site.call("POST", f"/jobs/{job.id}/cancel", job.user)
    assert status == 202, answer


def test_cancel_of_a_pending_job_is_at_once(site):
    job = site.submit()
    cancel(site, job)
    assert job.status == "cancelled"
    assert job.effects() == (0, 0, 0)


def test_cancel_of_a_running_job_ends_all_its_processes(site):
    site.ready_worker()
    code = "import os, time\nfor _ in range(3):\n    if os.fork() == 0:\n        os.setsid()\n        break\ntime.sleep(60)\n"
    job = site.submit(code=code)
    job.wait_running()
    wait_for(lambda: len(job.runs()) >= 4, seconds=ENDED)
    cancel(site, job)
    job.wait_final(seconds=ENDED)
    assert (job.status, job.runs(), job.effects()) == ("cancelled", [], (0, 0, 0))


def test_cancel_of_a_dead_workers_job_is_the_reconcilers(site):
    worker, job = site.ready_worker(), site.submit(seconds=60)
    job.wait_running()
    site.end(worker, signal.SIGKILL)
    cancel(site, job)
    job.wait_final(seconds=RECOVERED)
    assert (job.status, job.runs()) == ("cancelled", [])


def test_job_that_loses_three_workers_fails_and_costs_no_quota(site):
    job = site.submit(seconds=60, user="poison")
    for loss in (1, 2, 3):
        worker = site.ready_worker()
        wait_for(lambda loss=loss: job.row()["attempt"] == loss and job.status == "running", seconds=RECOVERED)
        site.end(worker, signal.SIGKILL)
    job.wait_final(seconds=RECOVERED)
    assert (job.row()["error_code"], job.row()["losses"], job.effects()) == ("worker_lost", 3, (0, 0, 0))
    counted = "from jobs.services import jobs_this_hour as c; from accounts.models import User as U"
    out = subprocess.run(
        [
            sys.executable,
            "manage.py",
            "shell",
            "-v0",
            "-c",
            f"{counted}\nprint(c(U.objects.get(username='poison')).used())",
        ],
        env=site.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.split() == ["0"]
    after = site.submit(user="poison")
    site.worker()
    after.wait_final(seconds=RECOVERED)
    assert after.status == "completed"
