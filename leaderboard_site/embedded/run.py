"""What `make run` and `make services` execute: the whole site, or its servers alone, in the foreground.

python -m leaderboard_site.embedded.run [--services-only] [--port 8010] [--no-demo]
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import os
import signal
import sys
import time
from pathlib import Path

from leaderboard_site.embedded.locations import (
    DEFAULT_WEB_PORT,
    MLFLOW_USER,
    REPOSITORY,
    LocationError,
    Locations,
    made_by,
    unfinished_environments,
)
from leaderboard_site.embedded.processes import Part, PartError
from leaderboard_site.embedded.servers import (
    MlflowServer,
    PostgresServer,
    ValkeyServer,
    http_answers,
    port_is_free,
)
from leaderboard_site.embedded.stack import AlreadyRunning, Stack, StopAsked

# The worker first gets its time to hand a run back, while the database it writes that into is still there.
STOP_ORDER = (("web", "worker", "reconciler"), ("mlflow",), ("valkey", "postgres"))


class Site:
    def __init__(self, locations: Locations, port: int) -> None:
        self.locations = locations
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.stack = Stack(locations)
        self.mlflow = MlflowServer(locations)

    def start_services(self) -> None:
        postgres, valkey = PostgresServer(self.locations), ValkeyServer(self.locations)
        self.stack.together(
            lambda: self.stack.start(postgres, postgres.start, lambda: f"socket in {self.locations.sockets}"),
            lambda: self.stack.start(valkey, valkey.start, lambda: f"socket in {self.locations.sockets}"),
        )

    def start_mlflow(self) -> None:
        mlflow = self.mlflow
        self.stack.start(mlflow, mlflow.start, lambda: f"http://127.0.0.1:{mlflow.port}")

    def start_site(self) -> None:
        """MLflow takes longest by far, and nothing of ours needs it to start: only its address."""
        self.mlflow.choose_port()
        self.stack.together(self.start_mlflow, self.start_ours)

    def start_ours(self) -> None:
        self.stack.together(self.migrate, self.collect_static)
        web, worker, reconciler = self.web(), self.manage("worker", "worker"), self.manage("reconciler", "reconcile")
        worker.title, worker.stop_plan = "worker", "TERM:10,TERM:4"
        reconciler.title, reconciler.stop_plan = "reconciler", "TERM:5"
        self.stack.together(
            lambda: self.stack.start(web, lambda: self.start_web(web), lambda: self.url),
            lambda: self.stack.start(worker, lambda: settle(worker)),
            lambda: self.stack.start(reconciler, lambda: settle(reconciler)),
        )

    def migrate(self) -> None:
        self.stack.run(
            self.manage("migrate", "migrate", "--noinput"),
            seconds=300,
            result="database is up to date",
        )

    def collect_static(self) -> None:
        stamp = Path(os.environ.get("STATIC_ROOT") or self.locations.var / "static") / ".fingerprint"
        fingerprint = static_fingerprint()
        if stamp.exists() and stamp.read_text() == fingerprint:
            return
        part = self.manage("collectstatic", "collectstatic", "--noinput", "--clear", "--verbosity", "0")
        part.title = "static files"
        self.stack.run(part, seconds=300, result="collected")
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(fingerprint)

    def demonstrate(self) -> None:
        part = self.manage("quickstart", "quickstart", "--url", self.url, output_shown=True)
        part.title = "The demonstration"
        self.stack.run_shown(part, seconds=1800)

    def environment(self) -> dict[str, str]:
        return self.locations.environment() | {"SITE_URL": os.environ.get("SITE_URL") or self.url}

    def manage(self, name: str, *arguments: str, output_shown: bool = False) -> Part:
        return Part(
            name=name,
            title=name,
            command=[sys.executable, str(REPOSITORY / "manage.py"), *arguments],
            locations=self.locations,
            environment=self.environment(),
            output_shown=output_shown,
        )

    def web(self) -> Part:
        return Part(
            name="web",
            title="web",
            command=web_command(self.port),
            locations=self.locations,
            environment=self.environment(),
            stop_plan="TERM:7,QUIT:2",
        )

    def start_web(self, web: Part) -> None:
        web.spawn()
        web.wait_until(lambda: http_answers(self.port, "/healthz"), seconds=60)


def web_command(port: int) -> list[str]:
    """Return the command line of the web server."""
    workers = os.environ.get("WEB_CONCURRENCY") or str(max(2, min(os.cpu_count() or 2, 8)))
    command = [sys.executable, "-m", "gunicorn", "leaderboard_site.wsgi", "--bind", f"127.0.0.1:{port}"]
    command += ["--workers", workers, "--threads", "8", "--timeout", "60", "--graceful-timeout", "5"]
    return [*command, "--access-logfile", "-", "--no-control-socket"]


def settle(part: Part, seconds: float = 1.0) -> None:
    """For a part that answers nobody: it counts as started when it has not ended again at once."""
    part.spawn()
    began = time.monotonic()
    part.wait_until(lambda: time.monotonic() - began > seconds, seconds=seconds + 5)


def static_fingerprint() -> str:
    """Changes when a static file of ours or an installed package's version does."""
    digest = hashlib.sha256((REPOSITORY / "requirements" / "local.txt").read_bytes())
    # Not var/static, which is what is made of them.
    for folder in [REPOSITORY / "static", *sorted(REPOSITORY.glob("[!v]*/static"))]:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                digest.update(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}\n".encode())
    return digest.hexdigest()


def end_with_parent() -> None:
    """Make was killed: end as on Ctrl-C."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run", description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--services-only",
        action="store_true",
        help="PostgreSQL, Valkey and MLflow, nothing else",
    )
    parser.add_argument("--port", default=os.environ.get("PORT") or DEFAULT_WEB_PORT, type=int)
    parser.add_argument(
        "--no-demo",
        action="store_true",
        default=os.environ.get("DEMO", "1") in ("0", "", "no"),
    )
    parser.add_argument(
        "--end-with-parent",
        action="store_true",
        help="stop when the program that started this ends",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    # Only this user may read what the parts write: uploads, results, records, logs.
    os.umask(0o077)
    site = Site(Locations(), options.port)
    say = site.stack.progress.say
    site.stack.listen_for_signals()
    if options.end_with_parent:
        end_with_parent()
    try:
        return run(site, options)
    except StopAsked:
        say("\nStopping.")
        return 0
    except (AlreadyRunning, LocationError, PartError) as error:
        say(f"\n{error}")
        return 1
    except OSError as error:
        say(f"\nLeadersBoard could not start: {error}")
        return 1
    finally:
        site.stack.stop(STOP_ORDER)


def run(site: Site, options: argparse.Namespace) -> int:
    began = time.monotonic()
    say = site.stack.progress.say
    web_port = None if options.services_only else options.port
    what = "the servers of LeadersBoard" if options.services_only else "LeadersBoard"
    say(f"Starting {what}; data in {site.locations.var}")
    site.stack.claim(web_port=web_port)
    if web_port is not None and not port_is_free(web_port):
        raise PartError(
            f"Port {web_port} is in use by another program. Choose another one: make run PORT={web_port + 1}"
        )
    site.start_services()
    if options.services_only:
        site.start_mlflow()
        say(f"\nUp after {time.monotonic() - began:.1f} s. `manage.py` finds these servers by itself; others:")
        for name, value in site.locations.environment().items():
            say(f"  {name}={value}")
    else:
        for folder in unfinished_environments():
            say(f"  The environment {folder} is unfinished and is not used. `{made_by(folder.name)}` completes it.")
        site.start_site()
        say(f"\nLeadersBoard is up after {time.monotonic() - began:.1f} s: {site.url}/")
        site.stack.write_parts()
        if not options.no_demo:
            say("")
            site.demonstrate()
            say("")
        secret = f"user {MLFLOW_USER}, password in {site.locations.mlflow_password_file}"
        say(
            f"Serving at {site.url}/ ; MLflow at {site.locations.mlflow_url()} ({secret}) ; logs in {site.locations.logs}"
        )
    say("Ctrl-C stops everything.")
    site.stack.serve()


if __name__ == "__main__":
    sys.exit(main())
