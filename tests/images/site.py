"""The compose file's services as a running site: podman for ours, wheels for PostgreSQL and Valkey, Caddy before them."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from leaderboard_site.embedded.locations import REPOSITORY, Locations
from tests.images import servers
from tests.images.engine import Compose, DrillError, Podman, call, deploy_tool, image

ENVIRONMENT = (
    "COMPOSE_FILE=docker-compose.yml\nWEB_CONCURRENCY=2\nLEASE_SECONDS=20\nFENCE_SECONDS=15\nHEARTBEAT_SECONDS=2\n"
)


class Site:
    def __init__(self, folder: Path, store: Path) -> None:
        self.folder = folder
        self.podman = Podman(store)
        self.volumes = folder / "volumes"
        self.failed = 0
        self.running: list[str] = []

    def start(self) -> None:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        environment_file = self.folder / "env"
        environment_file.write_text(ENVIRONMENT)
        self._make_secrets()
        files = ("docker-compose.yml", "deploy/compose/cpu.yml")
        self.compose = Compose(*files, environment_file=environment_file, secrets=self.secrets)
        self.locations = Locations(self.folder / "var")
        self.locations.make()
        self.postgres = servers.Postgres(self.locations, self._secret("postgres_password"))
        self.postgres.start()
        self._make_databases()
        self.valkey = servers.valkey(self.locations, self.compose.services["redis"]["command"], self.secrets)
        self.check("redis: refuses who has no password", servers.wrong_password_is_refused())
        self.once("migrate")
        for name in ("mlflow", "web", "reconciler", "worker"):
            self.up(name)
        for name in ("mlflow", "web", "reconciler", "worker"):
            self.wait_healthy(name)
        self._start_proxy()

    def _make_secrets(self) -> None:
        """Made by the operators' own script, in a copy of the folder that it belongs to."""
        home = self.folder / "home"
        (home / "deploy").mkdir(parents=True)
        shutil.copy(REPOSITORY / "deploy" / "make-secrets", home / "deploy")
        first, second = (call("bash", str(home / "deploy" / "make-secrets")) for _ in range(2))
        self.secrets = home / "secrets"
        self.check("make-secrets: makes each once and keeps it", "secrets/secret_key" in first and second == "")
        home.chmod(0o755)
        self.secrets.chmod(0o711)  # podman mounts as this user; docker's daemon is root

    def _secret(self, name: str) -> str:
        return (self.secrets / name).read_text()

    def _make_databases(self) -> None:
        script = REPOSITORY / "deploy" / "postgres" / "make-databases.sh"
        mounts = [word for name in ("database_password", "mlflow_database_password")
                  for word in ("--volume", f"{self.secrets / name}:/run/secrets/{name}:ro")]  # fmt: skip
        self.podman(
            "run", "--rm", "--network", "host", *mounts, "--volume", f"{script}:/make-databases.sh:ro",
            "--env", "PGHOST=127.0.0.1", "--env", f"PGPASSWORD={self._secret('postgres_password')}",
            "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", image("web"), "sh", "/make-databases.sh",
        )  # fmt: skip

    def _words(self, name: str, command: list[str] | None = None) -> list[str]:
        service = self.compose.services[name]
        target = service["build"]["target"]
        entry = service.get("entrypoint")
        words = ["--entrypoint", json.dumps(entry)] if entry else []
        return [*words, image(target), *(command or service.get("command") or [])]

    def once(self, name: str, *command: str) -> str:
        arguments = self.compose.podman_arguments(name, volumes=self.volumes)
        return self.podman("run", "--rm", *arguments, *self._words(name, list(command)), timeout=300)

    def up(self, name: str) -> None:
        arguments = self.compose.podman_arguments(name, volumes=self.volumes)
        # With the host's network podman sets no host name of its own; the worker's health check asks for it.
        host = ["--uts", "private", "--hostname", self.compose.services[name].get("hostname", name)]
        self.podman("run", "--detach", "--replace", "--name", name, *host, *arguments, *self._words(name))
        self.running.append(name)

    def wait_healthy(self, name: str, seconds: float = 240) -> None:
        check = ["python", "docker/health.py", name]
        told = self.compose.services[name].get("healthcheck", {}).get("test", ["CMD", *check])
        began, said = time.monotonic(), ""
        while time.monotonic() - began < seconds:
            done = subprocess.run(
                [*self.podman.command, "exec", name, *told[1:]], capture_output=True, text=True, check=False
            )
            if done.returncode == 0:
                say(f"  {name}: well after {time.monotonic() - began:.0f} s")
                return
            said = done.stdout + done.stderr
            time.sleep(1)
        raise DrillError(f"{name} is not well: {said}\n{self.podman('logs', '--tail', '40', name)}")

    def _start_proxy(self) -> None:
        home = self.folder / "caddy"
        home.mkdir()
        own = {"PATH": os.environ["PATH"], "XDG_DATA_HOME": str(home), "XDG_CONFIG_HOME": str(home), "HOME": str(home)}
        own |= {name: str(value) for name, value in self.compose.services["proxy"]["environment"].items()}
        own["WEB_ADDRESS"] = "127.0.0.1:8010"
        words = [
            deploy_tool("caddy"),
            "run",
            "--config",
            str(REPOSITORY / "deploy/proxy/Caddyfile"),
            "--adapter",
            "caddyfile",
        ]
        with (self.folder / "caddy.log").open("w") as log:
            self.proxy = subprocess.Popen(words, env=own, stdout=log, stderr=log)
        root = home / "caddy" / "pki" / "authorities" / "local" / "root.crt"
        deadline = time.monotonic() + 60
        while not (root.exists() and self._is_proxied(root)):
            if time.monotonic() > deadline or self.proxy.poll() is not None:
                raise DrillError(f"the proxy does not answer: {(self.folder / 'caddy.log').read_text()[-2000:]}")
            time.sleep(0.3)
        self.root = root

    def _is_proxied(self, root: Path) -> bool:
        self.root = root
        try:
            return self.ask("https://localhost/healthz")[0] == 200
        except OSError:
            return False

    def ask(self, url: str, *, follow: bool = True, **headers: str) -> tuple[int, str, str]:
        """(status, final address, text)."""
        opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(self.root))),
            *([] if follow else [_Stay()]),
        )
        request = urllib.request.Request(
            url, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        try:
            with opener.open(request, timeout=30) as answer:
                return answer.status, answer.url, answer.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers.get("Location", ""), error.read().decode(errors="replace")

    def sql(self, query: str) -> str:
        import psycopg

        address = self._secret("database_url").replace("@postgres:", "@127.0.0.1:")
        with psycopg.connect(address, autocommit=True) as connection:
            row = connection.execute(query.encode()).fetchone()
        return str(row[0]) if row else ""

    def check(self, what: str, holds: bool, said: str = "") -> None:
        self.failed += not holds
        say(f"  {'ok    ' if holds else 'FAILED'} {what}")
        if not holds and said:
            say("".join(f"           {line}\n" for line in said.splitlines()[-25:]))

    def stop(self) -> None:
        if hasattr(self, "proxy"):
            servers.end(self.proxy)
        for name in reversed(self.running):
            (self.folder / f"{name}.log").write_text(self._logs(name))
            subprocess.run(
                [*self.podman.command, "rm", "--force", "--time", "2", name], capture_output=True, check=False
            )
        for name in ("valkey", "postgres"):
            if hasattr(self, name):
                getattr(self, name).stop()

    def _logs(self, name: str) -> str:
        done = subprocess.run([*self.podman.command, "logs", name], capture_output=True, text=True, check=False)
        return done.stdout + done.stderr


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def say(text: str) -> None:
    print(text, flush=True)
