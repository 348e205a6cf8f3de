"""PostgreSQL and Valkey in the place of the two images that come from a registry, with their compose commands and passwords."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psycopg

from leaderboard_site.embedded import servers
from leaderboard_site.embedded.locations import Locations
from leaderboard_site.embedded.processes import Part
from leaderboard_site.embedded.servers import PostgresServer, ValkeyServer

SUPERUSER = "postgres"


class Postgres(PostgresServer):
    """As postgres' image leaves it before the script in /docker-entrypoint-initdb.d: a superuser, and nothing else."""

    def __init__(self, locations: Locations, password: str) -> None:
        super().__init__(locations)
        self.password = password
        self.command[self.command.index("listen_addresses=")] = "listen_addresses=127.0.0.1"

    def prepare(self) -> None:
        servers.DATABASE_USER = SUPERUSER  # whom initdb names
        super().prepare()
        (self.data / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")

    def answers(self) -> bool:
        try:
            with psycopg.connect(**self._local(), connect_timeout=2) as connection:
                return connection.execute("SELECT 1").fetchone() == (1,)
        except psycopg.Error:
            return False

    def _local(self) -> dict[str, str]:
        return {"host": str(self.locations.sockets), "port": "5432", "user": SUPERUSER, "dbname": "postgres"}

    def _create_databases(self) -> None:
        with psycopg.connect(**self._local(), autocommit=True) as connection:
            literal = psycopg.sql.Literal(self.password)
            connection.execute(psycopg.sql.SQL("ALTER ROLE postgres PASSWORD {}").format(literal))


def valkey(locations: Locations, command: list[str], secrets: Path) -> Part:
    """The compose file's own command, where the image would have run it."""
    server = ValkeyServer(locations)
    folder = locations.valkey
    folder.mkdir(parents=True, exist_ok=True)
    words = [{"/data": str(folder)}.get(word, word).replace("/run/secrets", str(secrets)) for word in command[1:]]
    part = Part(
        name="valkey", title="Valkey", command=[server.command[0], *words], locations=locations, stop_plan="TERM:8"
    )  # fmt: skip
    part.spawn()
    part.wait_until(lambda: _pongs(secrets), seconds=60)
    return part


def _pongs(secrets: Path) -> bool:
    import redis

    url = (secrets / "redis_url").read_text().replace("@redis:", "@127.0.0.1:")
    try:
        return bool(redis.Redis.from_url(url, socket_timeout=2).ping())
    except redis.RedisError:
        return False


def wrong_password_is_refused() -> bool:
    import redis

    try:
        redis.Redis.from_url("redis://127.0.0.1:6379/0", socket_timeout=2).ping()
    except redis.AuthenticationError:
        return True
    return False


def end(process: subprocess.Popen[bytes], seconds: float = 10) -> None:
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
