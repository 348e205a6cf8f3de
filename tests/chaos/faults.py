"""What the storm does to a site. Each fault ends by itself: what was frozen thaws, what was killed is started again."""

import random
import signal
import time
from collections.abc import Callable

import redis

from tests.chaos.site import Site, children, send

KILL, STOP, CONT = signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT


def _worker(site: Site, rng: random.Random) -> int:
    return site.processes[rng.choice(["worker-1", "worker-2"])].pid


def kill_worker(site: Site, rng: random.Random) -> None:
    send([_worker(site, rng)], KILL)


def kill_worker_and_all_below(site: Site, rng: random.Random) -> None:
    pid = _worker(site, rng)
    send([pid, *children(pid)], KILL)


def kill_supervisor(site: Site, rng: random.Random) -> None:
    send(children(_worker(site, rng))[:1], KILL)


def freeze_worker(site: Site, rng: random.Random) -> None:
    pid = _worker(site, rng)
    send([pid], STOP)
    time.sleep(rng.uniform(2, 8))
    send([pid], CONT)


def freeze_worker_and_supervisor(site: Site, rng: random.Random) -> None:
    pid = _worker(site, rng)
    frozen = [pid, *children(pid)]
    send(frozen, STOP)
    time.sleep(rng.uniform(2, 8))
    send(frozen, CONT)


def drain_worker(site: Site, rng: random.Random) -> None:
    send([_worker(site, rng)], signal.SIGTERM)


def kill_web(site: Site, rng: random.Random) -> None:
    pid = site.processes["web"].pid
    send([*children(pid), pid], KILL)


def kill_reconciler(site: Site, rng: random.Random) -> None:
    send([site.processes[rng.choice(["reconciler-1", "reconciler-2"])].pid], KILL)


def freeze_reconciler(site: Site, rng: random.Random) -> None:
    pid = site.processes[rng.choice(["reconciler-1", "reconciler-2"])].pid
    send([pid], STOP)
    time.sleep(rng.uniform(1, 6))
    send([pid], CONT)


def flush_redis(site: Site, rng: random.Random) -> None:
    try:
        redis.Redis(unix_socket_path=str(site.locations.valkey_socket), socket_timeout=2).flushall()
    except redis.RedisError:
        pass


def restart_redis(site: Site, rng: random.Random) -> None:
    site.restart(site.valkey, rng.uniform(0, 5))


def restart_postgres(site: Site, rng: random.Random) -> None:
    site.restart(site.postgres, rng.uniform(0, 3))


def freeze_postgres(site: Site, rng: random.Random) -> None:
    with site.mending:
        frozen = site.server_pids(site.postgres)
        send(frozen, STOP)
        time.sleep(rng.uniform(1, 7))
        send(frozen, CONT)


def cut_postgres_connections(site: Site, rng: random.Random) -> None:
    """Every backend killed by its parent's hand, as a failing network or proxy would end them."""
    for pid in site.server_pids(site.postgres)[1:]:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                is_backend = b"leadersboard leadersboard" in file.read()
        except OSError:
            continue
        if is_backend:
            send([pid], signal.SIGTERM)


def restart_mlflow(site: Site, rng: random.Random) -> None:
    site.restart(site.mlflow, rng.uniform(0, 4))


def freeze_mlflow(site: Site, rng: random.Random) -> None:
    frozen = site.server_pids(site.mlflow)
    send(frozen, STOP)
    time.sleep(rng.uniform(1, 10))
    send(frozen, CONT)


# Faults of the machines that hold a running job, which is then taken back by its lease.
WORKER_FAULTS: list[Callable[[Site, random.Random], None]] = [
    kill_worker, kill_worker_and_all_below, kill_supervisor, freeze_worker, freeze_worker_and_supervisor, drain_worker,
]  # fmt: skip
FAULTS: list[Callable[[Site, random.Random], None]] = [
    *WORKER_FAULTS, kill_web, kill_reconciler, freeze_reconciler, flush_redis, restart_redis, restart_postgres,
    freeze_postgres, cut_postgres_connections, restart_mlflow, freeze_mlflow,
]  # fmt: skip
