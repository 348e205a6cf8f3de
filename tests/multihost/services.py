"""PostgreSQL, Valkey and MLflow on a host's address, with passwords: `python -m tests.multihost.services FOLDER ADDRESS`.

The passwords come in the environment. Says `ready` when all answer; ends on SIGTERM.
"""

import os
import signal
import sys
import threading
from pathlib import Path

import psycopg
from psycopg import sql

from leaderboard_site.embedded import environments
from leaderboard_site.embedded.locations import DATABASE_USER, MLFLOW_DATABASE_NAME, Locations
from leaderboard_site.embedded.processes import Part
from leaderboard_site.embedded.servers import PostgresServer, ValkeyServer


def postgres(locations: Locations, address: str, password: str) -> PostgresServer:
    server = PostgresServer(locations, durable=False)
    server.command[server.command.index("listen_addresses=")] = f"listen_addresses={address}"
    server.prepare()
    with (server.data / "pg_hba.conf").open("a") as file:
        file.write(f"\nhost all {DATABASE_USER} {address}/24 scram-sha-256\n")
    server.start()
    with psycopg.connect(locations.database_url("postgres"), autocommit=True) as connection:
        command = sql.SQL("ALTER ROLE {} PASSWORD {}")
        connection.execute(command.format(sql.Identifier(DATABASE_USER), sql.Literal(password)))
    return server


def valkey(locations: Locations, address: str, password: str) -> ValkeyServer:
    server = ValkeyServer(locations, durable=False)
    server.command[server.command.index("--port") + 1] = "6379"
    secret = locations.var / "valkey.conf"
    secret.write_text(f"requirepass {password}\nbind {address}\n")
    server.command.insert(1, str(secret))
    server.answers = lambda: True  # type: ignore[method-assign]  # its own looks without a password
    server.start()
    return server


def mlflow(locations: Locations, address: str, password: str) -> Part:
    (locations.mlflow / "artifacts").mkdir(parents=True, exist_ok=True)
    store = f"postgresql+psycopg://{DATABASE_USER}:{password}@{address}:5432/{MLFLOW_DATABASE_NAME}"
    python = str(environments.python("mlflow"))
    server = Part(
        name="mlflow",
        title="MLflow",
        locations=locations,
        folder=locations.mlflow,
        environment={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
        command=[
            python, "-m", "mlflow", "server", "--host", address, "--port", "5010", "--workers", "1",
            "--allowed-hosts", f"{address}:5010,127.0.0.1:5010", "--backend-store-uri", store,
            "--artifacts-destination", str(locations.mlflow / "artifacts"),
        ],
    )  # fmt: skip
    server.spawn()
    server.wait_until(lambda: http_answers_at(address), seconds=180)
    return server


def http_answers_at(address: str) -> bool:
    import urllib.request

    try:
        with urllib.request.urlopen(f"http://{address}:5010/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def main() -> None:
    folder, address = Path(sys.argv[1]), sys.argv[2]
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    locations = Locations(folder)
    locations.make()
    password = os.environ["DRILL_PASSWORD"]
    parts: list[Part] = [postgres(locations, address, password), valkey(locations, address, password)]
    parts.append(mlflow(locations, address, password))
    print("ready", flush=True)
    done.wait()
    for part in reversed(parts):
        part.stop()


if __name__ == "__main__":
    main()
