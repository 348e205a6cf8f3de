"""Is this container well? `health.py web|worker|reconciler|mlflow`; exit code 1 and a sentence if not.

Cheap enough for every few seconds: no Django, and no judgement of parts that others look after.
"""

import os
import socket
import sys
import urllib.request
from pathlib import Path

LEADER_LOCK = 0x6C656164  # as in jobs/reconciler.py; a test compares them
PATIENCE_SECONDS = 5


def answers(port: int, path: str) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_SECONDS) as answer:
        answer.read(1000)


def database_says(query: str, *values: object) -> bool:
    import psycopg

    path = os.environ.get("DATABASE_URL_FILE")
    address = Path(path).read_text().strip() if path else os.environ["DATABASE_URL"]
    with psycopg.connect(address, connect_timeout=PATIENCE_SECONDS, autocommit=True) as connection:
        row = connection.execute(query.encode(), values).fetchone()
    return bool(row and row[0])


def worker() -> None:
    """It beats its heart: heard of within a lease under this container's name."""
    lease = float(os.environ.get("LEASE_SECONDS", "90"))
    if not database_says(
        "SELECT EXISTS (SELECT 1 FROM jobs_worker WHERE hostname = %s AND stopped_at IS NULL "
        "AND heartbeat_at > now() - make_interval(secs => %s))",
        socket.gethostname(),
        lease,
    ):
        raise RuntimeError(f"no heartbeat of {socket.gethostname()} within {lease:g} s")


def reconciler() -> None:
    """Some reconciler leads, this one or the one that it stands by for."""
    if not database_says(
        "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND classid = 0 AND objid = %s "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND granted)",
        LEADER_LOCK,
    ):
        raise RuntimeError("no reconciler leads")


CHECKS = {
    "web": lambda: answers(8010, "/healthz"),
    "mlflow": lambda: answers(5010, "/health"),
    "worker": worker,
    "reconciler": reconciler,
}


def main() -> int:
    try:
        CHECKS[sys.argv[1]]()
    except Exception as error:  # whatever is wrong is the answer
        print(f"{type(error).__name__}: {error}")  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
