"""Redis, PostgreSQL, MLflow, the web or the reconciler goes away and comes back; no job notices but by its time."""

import signal
import socket
import threading
import time

import pytest
import redis

from leaderboard_site.embedded.servers import free_port
from leaderboard_site.embedded.testing import mlflow_client, wait_for_mlflow
from recovery.site import wait_for

pytestmark = pytest.mark.slow
RECOVERED = 90


def test_flushall_loses_no_pending_job(site):
    jobs = [site.submit() for _ in range(4)]
    client = redis.Redis.from_url(site.environment["REDIS_URL"])
    client.flushall()
    site.ready_worker()
    for job in jobs:
        job.wait_final(seconds=RECOVERED)
    assert [job.status for job in jobs] == ["completed"] * 4
    client.close()


def test_redis_down_at_submit_is_accepted_at_once_and_runs(site):
    site.ready_worker()
    site.token("redis")
    site.servers.valkey.stop()
    job = site.submit(user="redis", seconds=0)
    job.wait_final(seconds=RECOVERED)  # the worker looks by itself
    site.servers.valkey.start()
    again = site.submit(user="redis")
    again.wait_final(seconds=RECOVERED)
    assert (job.status, again.status) == ("completed", "completed")


def test_web_killed_between_commit_and_push_loses_nothing(site):
    """What is left of it: a row that was committed and never pushed."""
    job = site.submit()
    site.sql("UPDATE jobs_job SET pushed_at = NULL WHERE id = %s", job.id)
    client = redis.Redis.from_url(site.environment["REDIS_URL"])
    client.flushall()
    pushed = lambda: client.llen("rq:queue:small") == 1  # noqa: E731
    wait_for(pushed, seconds=RECOVERED, what="the reconciler's call")
    client.close()
    site.ready_worker()
    job.wait_final(seconds=RECOVERED)


def test_postgres_restarted_in_a_run_costs_nothing(site):
    site.ready_worker()
    job = site.submit(seconds=4)
    job.wait_running()
    site.servers.postgres.stop()
    site.servers.postgres.start()
    job.wait_final(seconds=RECOVERED)
    row = job.row()
    assert (row["status"], row["attempt"], row["losses"]) == ("completed", 1, 0)


def test_postgres_away_while_a_run_ends_costs_nothing(site):
    site.ready_worker()
    job = site.submit(seconds=2)
    job.wait_running()
    time.sleep(0.8)
    site.servers.postgres.stop()
    time.sleep(1.6)  # the run ends, and is within its fence
    site.servers.postgres.start()
    job.wait_final(seconds=RECOVERED)
    row = job.row()
    assert (row["status"], row["error_code"], row["attempt"]) == ("completed", "", 1)


def test_postgres_away_longer_than_the_fence_ends_the_run_and_repeats_it(site):
    site.ready_worker()
    job = site.submit(seconds=6)
    job.wait_running()
    site.servers.postgres.stop()
    wait_for(lambda: not job.runs(), seconds=RECOVERED, what="the run is fenced")
    status, _ = site.call("GET", "/leaderboards", job.user)
    assert status == 503
    time.sleep(1)
    site.servers.postgres.start()
    job.wait_final(seconds=RECOVERED)
    row = job.row()
    assert (row["status"], row["attempt"], row["losses"]) == ("completed", 2, 1)
    assert job.effects() == (1, 1, 1)


def test_reconciler_killed_hands_over_to_a_standby(site):
    standby = site.reconciler()
    time.sleep(2)
    site.end(site.standing[1], signal.SIGKILL)
    site.standing[1] = standby  # it stays for the tests that follow
    worker, job = site.ready_worker(), site.submit(seconds=2)
    job.wait_running()
    site.end(worker, signal.SIGKILL)
    site.worker()
    job.wait_final(seconds=RECOVERED)
    assert (job.status, job.row()["losses"]) == ("completed", 1)


class Lossy:
    """A TCP proxy that carries each request to MLflow and, while `drops`, never the answer to a creation."""

    def __init__(self, port):
        self.target, self.drops, self.dropped = port, True, 0
        self.listener = socket.create_server(("127.0.0.1", free_port()))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client):
        server = socket.create_connection(("127.0.0.1", self.target))
        state = {"drop": False}

        def back():
            try:
                while data := server.recv(65536):
                    if state["drop"]:
                        self.dropped += 1
                        break
                    client.sendall(data)
            except OSError:
                pass
            finally:
                for one in (client, server):
                    try:
                        one.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        pass

        answers = threading.Thread(target=back, daemon=True)
        answers.start()
        try:
            while data := client.recv(65536):
                # Headers and body can come apart; the connection ends with the answer that is dropped.
                state["drop"] = state["drop"] or (self.drops and b"/runs/create" in data)
                server.sendall(data)
        except OSError:
            pass
        answers.join(30)
        client.close()
        server.close()


def runs_in_mlflow(site, job_id):
    client = mlflow_client(site.servers.locations)
    ids = [one.experiment_id for one in client.search_experiments()]
    return client.search_runs(ids, f"tags.`leadersboard.job_id` = '{job_id}'")


def test_mlflow_down_during_jobs_gets_one_run_each_when_it_is_back(site):
    wait_for_mlflow(site.environment["MLFLOW_TRACKING_URI"])
    site.ready_worker()
    site.servers.mlflow.stop()
    jobs = [site.submit() for _ in range(3)]
    for job in jobs:
        job.wait_final(seconds=RECOVERED)
        assert job.effects()[:2] == (1, 1), "the board does not wait for MLflow"
    site.servers.mlflow.start()
    for job in jobs:
        wait_for(lambda job=job: job.row()["run_id"], seconds=RECOVERED, what="the run")
        assert [run.info.run_id for run in runs_in_mlflow(site, job.id)] == [job.row()["run_id"]]


def test_mlflow_answer_lost_at_a_creation_makes_no_second_run(site):
    url = wait_for_mlflow(site.environment["MLFLOW_TRACKING_URI"])
    proxy = Lossy(int(url.rpartition(":")[2]))
    site.end(site.standing[1], signal.SIGTERM)
    site.standing[1] = site.reconciler(MLFLOW_TRACKING_URI=f"http://127.0.0.1:{proxy.port}")
    site.ready_worker()
    job = site.submit()
    job.wait_final(seconds=RECOVERED)
    wait_for(lambda: proxy.dropped, seconds=30, what="a lost answer")
    wait_for(lambda: job.row()["run_id"], seconds=RECOVERED, what="the run")
    assert [run.info.run_id for run in runs_in_mlflow(site, job.id)] == [job.row()["run_id"]]
    site.end(site.standing[1], signal.SIGKILL)  # the fixture starts one without the proxy
    proxy.listener.close()
