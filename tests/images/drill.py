"""The images drill: docker/Dockerfile built step by step, and the compose file's services run as it says.

    python -m tests.images.drill [--store FOLDER] [--keep]

There is no registry and no docker: a bare Debian stands for the Python image, podman for docker, PostgreSQL and Valkey from
wheels for their images. All else is real: the steps of the build, users, read-only roots, capabilities, system calls, secrets,
commands, health checks, the proxy with its own certificate. Needs root, podman, runc and mmdebstrap. Says `failed: N` at the
end; exit code 1 unless N is 0.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from leaderboard_site.embedded.locations import REPOSITORY
from tests.images.engine import BASE, DrillError, image
from tests.images.site import Site, say

TARGETS = ("web", "worker", "mlflow")
PROGRAM = """
import json, pathlib, sys, time
out = pathlib.Path(sys.argv[sys.argv.index("--output") + 1])
import numpy
print("numpy", numpy.__version__, flush=True)
time.sleep({seconds})
(out / "metrics.json").write_text(json.dumps({{"params": {{}}, "metrics": {{"score": {score}}}}}))
"""
BOARD = "leadersboard: 1\nslug: drill\ntitle: Drill\nmetrics:\n  - name: score\n"


class Drill(Site):
    # --- building -----------------------------------------------------------------------------------------------------
    def build(self) -> None:
        if not self.podman.has(BASE):
            self._timed("a bare Debian for the base", self.podman.make_base)
        for target in TARGETS:
            log = self.folder / f"build-{target}.log"
            self._timed(f"build {target}", lambda: self.podman.build(target, runner="runner", log=log))  # noqa: B023
            say(f"    {self.podman.size(target) / 1024**2:.0f} MiB")

    def _timed(self, what: str, do: Callable[[], object]) -> None:
        began = time.monotonic()
        do()
        say(f"  {what}: {time.monotonic() - began:.0f} s")

    # --- what the images are --------------------------------------------------------------------------------------------
    def look_inside(self) -> None:
        for target in TARGETS:
            self.check(f"{target}: uid 10001, and the root file system is not its own", self._is_foreign(target))
        self.check("web: no torch, no compiler, no pip", self._in("web", "! ls /opt/venv/lib/*/site-packages | grep -qx torch && ! command -v gcc && ! python -m pip --version"))  # fmt: skip
        self.check("web: pg_dump of the server's version", "18" in self._out("web", "pg_dump --version"))
        self.check("worker: the runs' environment holds nothing of the site", self._in("worker", "! /opt/runner/bin/python -c 'import django'"))  # fmt: skip
        self.check("no image holds tests, secrets or data of the checkout", all(self._in(target, "! ls /opt/app | grep -qE '^(tests|secrets|var|.git|.env)$'") for target in TARGETS))  # fmt: skip

    def _in(self, target: str, script: str) -> bool:
        words = [*self.podman.command, "run", "--rm", "--network", "none", "--read-only", "--ulimit", "nofile=1024:1024",
                 "--ulimit", "nproc=4096:4096", image(target), "sh", "-c", script]  # fmt: skip
        return subprocess.run(words, capture_output=True, check=False, timeout=120).returncode == 0

    def _out(self, target: str, script: str) -> str:
        return self.podman("run", "--rm", "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", image(target), "sh", "-c", script)  # fmt: skip

    def _is_foreign(self, target: str) -> bool:
        return self._in(target, '[ "$(id -u)" = 10001 ] && ! find /opt /usr -xdev -user 10001 | grep -q . && ! touch /opt/app/x 2>/dev/null')  # fmt: skip

    # --- what must be so -------------------------------------------------------------------------------------------------
    def use(self) -> None:
        self.check(
            "plain HTTP is sent to HTTPS by the proxy", self.ask("http://localhost/", follow=False)[0] in (301, 308)
        )
        self.check("the site's first page by HTTPS", self.ask("https://localhost/")[0] == 200)
        self.check("ready, with all parts", json.loads(self.ask("https://localhost/readyz")[2])["status"] == "ok")
        where = self.ask("https://localhost/mlflow/app")[1]
        self.check("MLflow through the proxy asks who one is", "/login/" in where)
        self.check("metrics: not through the proxy", self.ask("https://localhost/metrics")[0] == 404)
        self.check("metrics: not without the token", self.ask("http://127.0.0.1:8010/metrics")[0] == 401)
        token = self._secret("metrics_token")
        self.check(
            "metrics: with the token",
            self.ask("http://127.0.0.1:8010/metrics", Authorization=f"Bearer {token}")[0] == 200,
        )
        self._make_people()
        self._submit_and_rank()
        self._drain()
        self._operate()
        self._restore()

    def _make_people(self) -> None:
        create = "from accounts.models import User; User.objects.create_user('ada', password='not-used-in-the-drill-1')"
        self.once("manage", "shell", "-c", create)
        self.token = self.once("manage", "create_token", "ada").strip()
        board = self.volumes / "backups" / "board.yaml"
        board.parent.mkdir(parents=True, exist_ok=True)
        board.write_text(BOARD)
        os.chown(board.parent, 10001, 10001)
        self.once("manage", "create_leaderboard", "--from-yaml", "/data/backups/board.yaml")

    def _client(self, seconds: float, score: float) -> subprocess.Popen[str]:
        program = self.folder / f"run-{score}" / "main.py"
        program.parent.mkdir(exist_ok=True)
        program.write_text(PROGRAM.format(seconds=seconds, score=score))
        (program.parent / "config.yaml").write_text("{}\n")
        own = {
            "PATH": os.environ["PATH"],
            "LEADERSBOARD_TOKEN": self.token,
            "SSL_CERT_FILE": str(self.root),
            "LANG": "C.UTF-8",
        }
        words = [
            sys.executable,
            "-m",
            "leaderboard_site.submit",
            "--url",
            "https://localhost",
            "--leaderboard",
            "drill",
        ]
        return subprocess.Popen([*words, str(program.parent)], cwd=REPOSITORY, env=own, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip

    def _submit_and_rank(self) -> None:
        client = self._client(1, 0.5)
        said = client.communicate(timeout=180)[0]
        self.check(
            "a submission by the client, through TLS and proxy, runs in the sandbox and ranks",
            client.returncode == 0,
            said,
        )
        deadline = time.monotonic() + 120
        while self.sql("SELECT count(*) FROM jobs_trackingoutbox") != "0" and time.monotonic() < deadline:
            time.sleep(1)
        run = self.sql("SELECT run_id FROM jobs_job WHERE status = 'completed'")
        self.check("its run is in MLflow", len(run) == 32, run)
        address = f"https://localhost/mlflow/ajax-api/2.0/mlflow/runs/get?run_id={run}"
        self.check(
            "and its owner reads it through the site", self.ask(address, Authorization=f"Bearer {self.token}")[0] == 200
        )

    def _drain(self) -> None:
        client = self._client(12, 0.9)
        deadline = time.monotonic() + 60
        while self.sql("SELECT count(*) FROM jobs_job WHERE status = 'running'") != "1" and time.monotonic() < deadline:
            time.sleep(0.3)
        self.podman("stop", "--time", "120", "worker")
        ended = self.sql("SELECT status || ' ' || attempt FROM jobs_job ORDER BY created_at DESC LIMIT 1")
        self.check(
            "stopping the worker drains it: its job has completed at its first attempt", ended == "completed 1", ended
        )
        client.communicate(timeout=60)

    def _operate(self) -> None:
        said = self.once("manage", "backup", "/data/backups/drill.zip")
        self.check(
            "a backup, with MLflow in it",
            "MLflow its database" in said and (self.volumes / "backups/drill.zip").exists(),
            said,
        )
        said = self.once("manage", "restore", "/data/backups/drill.zip", "--verify")
        self.check("which is whole", "drill.zip" in said or "verified" in said, said)
        words = ["exec", "web", "python", "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
        done = subprocess.run([*self.podman.command, *words], capture_output=True, text=True, check=False)
        self.check("manage.py check --deploy has no complaint", done.returncode == 0, done.stderr)
        wrong = [one for one in json.loads(self._doctor()) if one["state"] == "wrong" and one["check"] != "workers"]
        self.check("doctor finds nothing wrong but that the worker was stopped", wrong == [], str(wrong))

    def _restore(self) -> None:
        """By the operators' page: the parts run, the site does not; the databases' owners are no superusers."""
        address = "https://localhost/api/leaderboards/drill/entries"
        before = self.ask(address, Authorization=f"Bearer {self.token}")[2]
        for name in ("web", "reconciler"):
            self.podman("stop", "--time", "60", name)
        self.once("manage", "shell", "-c", "from leaderboards.models import Entry; Entry.objects.all().delete()")
        self.once("manage", "restore", "/data/backups/drill.zip", "--force")
        for name in ("web", "reconciler"):
            self.up(name)
            self.wait_healthy(name)
        after = self.ask(address, Authorization=f"Bearer {self.token}")[2]
        self.check(
            "a restore gives the same board back, byte for byte",
            before == after and '"ada"' in after,
            f"{before}\n{after}",
        )

    def _doctor(self) -> str:
        arguments = self.compose.podman_arguments("manage", volumes=self.volumes)
        words = [
            *self.podman.command,
            "run",
            "--rm",
            *arguments,
            *self._words("manage", ["doctor", "--skip", "sandbox", "gpu", "--json"]),
        ]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=300).stdout


def missing() -> str:
    if os.geteuid() != 0:
        return "it must be root: containers get users and file systems of their own"
    absent = [name for name in ("podman", "runc", "mmdebstrap", "ip", "unshare") if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)} (apt-get install podman runc mmdebstrap iproute2)" if absent else ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="images-drill", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", type=Path, default=REPOSITORY / "var" / "images", help="podman's store; may be kept")
    parser.add_argument("--keep", action="store_true", help="Keep the folder with the logs.")
    parser.add_argument("--built", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if why := missing():
        say(f"The drill cannot run here: {why}")
        return 2
    if options.built:  # the second half, in a network of its own
        return _run(Drill(options.built, options.store))
    folder = Path(tempfile.mkdtemp(prefix="leadersboard-images-"))
    folder.chmod(0o755)
    try:
        Drill(folder, options.store).build()
        again = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "tests.images.drill",
            "--store",
            str(options.store),
            "--built",
            str(folder),
        ]
        return subprocess.run(["unshare", "--net", *again], check=False, cwd=REPOSITORY).returncode
    except DrillError as error:
        say(f"  FAILED {error}\nfailed: 1")
        return 1
    finally:
        if options.keep:
            say(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _run(drill: Drill) -> int:
    try:
        drill.look_inside()
        drill.start()
        drill.use()
    except DrillError as error:
        drill.check(str(error), False)
    finally:
        drill.stop()
    say(f"failed: {drill.failed}")
    return min(drill.failed, 1)


if __name__ == "__main__":
    sys.exit(main())
