"""The restore drill: a site with data on its own servers, backed up while jobs go on, destroyed, and got back.

    python -m tests.restore.drill [--keep FOLDER]

Everything that people can see is compared byte for byte. Ends with the line `differences: N`; exit code 1 unless N is 0.
"""

import argparse
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from leaderboard_site.client import Client
from leaderboard_site.embedded.locations import REPOSITORY
from leaderboard_site.embedded.testing import mlflow_client
from tests.recovery.site import Site, wait_for

PROGRAM = """
import json, pathlib, sys, time
out = pathlib.Path(sys.argv[sys.argv.index("--output") + 1])
print("score {score}", "\\u65e5\\u672c\\u8a9e", flush=True)
time.sleep({seconds})
if {score} < 0:
    sys.exit(3)
(out / "curve.txt").write_text("{score}\\n" * 1000)
(out / "\\u56f3\\uff081\\uff09 #1%.txt").write_text("{score}")
(out / "picture.bin").write_bytes(bytes(range(256)) * 40)
(out / "metrics.json").write_text(json.dumps({{"params": {{"model": {{"layers": 3}}}}, "metrics": {{"image_auc": {score}}}}}))
"""
# Who submits what, in this order; below zero the run fails.
RUNS = [("ada", 0.91), ("bob", 0.85), ("ada", 0.88), ("eve", 0.85), ("bob", -1.0), ("dan", 0.5), ("eve", 0.93)]


class Drill:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.archive = folder / "backup.zip"
        self.differences = 0

    def run(self) -> int:
        first = Site(self.folder / "first")
        try:
            before = self._fill_and_back_up(first)
        finally:
            first.stop()
        say("destroying it: servers ended, every folder of it deleted")
        shutil.rmtree(first.folder)
        second = Site(self.folder / "second")
        second._tokens = first._tokens  # what people have in their hands
        try:
            self._restore_and_compare(second, before, first.slow_job)
        finally:
            second.stop()
        say(f"differences: {self.differences}")
        return min(self.differences, 1)

    # --- before -------------------------------------------------------------------------------------------------------
    def _fill_and_back_up(self, site: Site) -> dict[str, Any]:
        began = time.monotonic()
        self._start(site)
        board = self.folder / "board.yaml"
        board.write_text(
            "leadersboard: 1\nslug: drill\ntitle: Drill\nrules: |\n  None.\n  At all.\nmetrics:\n  - name: image_auc\n"
        )
        manage(site, "create_leaderboard", "--from-yaml", str(board))
        jobs = [site.submit(user=user, code=PROGRAM.format(score=score, seconds=0)).id for user, score in RUNS]
        for job_id in jobs:
            wait_for(lambda: status(site, job_id) in ("completed", "failed"), seconds=90, what=job_id)  # noqa: B023
        wait_for(lambda: not site.sql("SELECT 1 FROM jobs_trackingoutbox"), seconds=90, what="MLflow has all runs")
        before = everything(site)
        slow = site.submit(user="dan", code=PROGRAM.format(score=0.95, seconds=45))
        slow.wait_running()
        waits = site.submit(user="ada", code=PROGRAM.format(score=0.1, seconds=0))
        site.slow_job = (slow.id, waits.id)
        say(
            f"a site with {len(RUNS)} ended jobs, one that runs and one that waits, after {time.monotonic() - began:.0f} s"
        )
        before["the jobs under way"] = under_way(site)
        say(manage(site, "backup", str(self.archive)).rstrip())
        assert status(site, slow.id) == "running", "the slow job must run while the backup is made"
        return before

    def _start(self, site: Site) -> None:
        site.environment["LOG_LEVEL"] = "WARNING"
        site.start()
        wait_for_mlflow(site)
        site.web()
        site.reconciler()
        start_worker(site)

    # --- after --------------------------------------------------------------------------------------------------------
    def _restore_and_compare(self, site: Site, before: dict[str, Any], open_jobs: tuple[str, str]) -> None:
        began = time.monotonic()
        site.start()
        wait_for_mlflow(site)
        say(f"new, empty servers after {time.monotonic() - began:.0f} s")
        for line in manage(site, "restore", str(self.archive)).splitlines():
            say(f"  {line}")
        refused = subprocess.run(
            [sys.executable, "manage.py", "restore", str(self.archive)], cwd=REPOSITORY, env=site.environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        self._compare("a second restore without --force is refused", refused.returncode, 1)
        site.web()
        after = everything(site)
        for name in before:
            self._compare(name, after.get(name), before[name])
        site.reconciler()
        start_worker(site)
        for job_id in open_jobs:
            wait_for(lambda: status(site, job_id) == "completed", seconds=120, what=f"{job_id} completes")  # noqa: B023
        wait_for(lambda: not site.sql("SELECT 1 FROM jobs_trackingoutbox"), seconds=90, what="MLflow has all runs")
        say("the job that ran and the one that waited have completed on the restored site")

    def _compare(self, what: str, found: Any, expected: Any) -> None:
        is_same = found == expected
        self.differences += not is_same
        text = expected if isinstance(expected, str) else json.dumps(expected, sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        say(f"  {'identical' if is_same else 'DIFFERENT':<10} {what} ({len(text.encode())} bytes, sha256 {digest})")
        if not is_same:
            say(f"    expected {text[:1000]}\n    found    {str(found)[:1000]}")


def everything(site: Site) -> dict[str, Any]:
    """What people and operators can see of everything that has ended, and of what is under way."""
    found: dict[str, Any] = {
        "the leaderboard as CSV": manage(site, "leaderboard", "default", "--all", "--csv"),
        "the leaderboard as JSON": manage(site, "leaderboard", "default", "--all", "--json"),
        "another leaderboard as YAML": manage(site, "leaderboard", "drill", "--yaml"),
    }
    jobs = json.loads(manage(site, "jobs", "list", "--json", "--limit", "1000"))
    ended = [job for job in jobs if job["status"] in ("completed", "failed")]
    found["the jobs"] = ended
    found["the jobs under way"] = under_way(site)
    logs, results, artifacts, submissions = {}, {}, {}, {}
    for job in ended:
        client = Client(site.url, site.token(job["user"]))
        job_id = job["job_id"]
        logs[job_id] = client._call("GET", f"/api/jobs/{job_id}/logs")[0].decode()
        results[job_id] = client.json("GET", f"/api/jobs/{job_id}/results")
        for link in ("mlflow_ui_link", "mlflow_rest_link"):
            results[job_id][link] = (results[job_id][link] or "").rpartition("/mlflow")[2].partition("127.0.0.1")[0]
        for item in results[job_id]["artifacts"]:
            content = client._call("GET", f"/api/jobs/{job_id}/artifacts/{quote(item['path'])}")[0]
            artifacts[f"{job_id}/{item['path']}"] = hashlib.sha256(content).hexdigest()
        submission_id = client.json("GET", f"/api/jobs/{job_id}")["submission_id"]
        submissions[submission_id] = client.json("GET", f"/api/submissions/{submission_id}")
    found |= {
        "the logs": logs, "the results": results, "the artifacts' SHA-256": artifacts, "the submissions": submissions,
        "MLflow's runs": mlflow_runs(site),
    }  # fmt: skip
    return found


def under_way(site: Site) -> list[Any]:
    """The jobs that have not ended: those that ran wait again, once their lease is over."""
    return sorted(site.sql("SELECT id::text, attempt, submission_id::text FROM jobs_job WHERE finished_at IS NULL"))


def mlflow_runs(site: Site) -> list[Any]:
    """Every run with its params, metrics, tags, and its files' names and SHA-256."""
    client = mlflow_client(site.servers.locations)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = []
    for run in client.search_runs(experiments, max_results=1000):
        with tempfile.TemporaryDirectory() as folder:
            client.download_artifacts(run.info.run_id, "", folder)
            files = {
                str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
                for path in sorted(Path(folder).rglob("*"))
                if path.is_file()
            }
        found.append([run.info.run_id, run.info.status, run.data.params, run.data.metrics, run.data.tags, files])
    return sorted(found)


def status(site: Site, job_id: str) -> str:
    return str(site.sql("SELECT status FROM jobs_job WHERE id = %s", job_id)[0][0])


def manage(site: Site, *arguments: str) -> str:
    command = [sys.executable, "-W", "ignore", "manage.py", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, env=site.environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"manage.py {' '.join(arguments)} ended with {done.returncode}: {done.stderr[-3000:]}")
    return done.stdout


def start_worker(site: Site) -> None:
    site.worker()
    wait_for(lambda: site.sql("SELECT 1 FROM jobs_worker WHERE state = 'idle' AND stopped_at IS NULL"), seconds=120)


def wait_for_mlflow(site: Site) -> None:
    wait_for(lambda: site.servers.mlflow.answers(), seconds=180, what="MLflow")


def say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="Put the archive there afterwards.")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="lb-drill-"))
    drill = Drill(folder)
    try:
        code = drill.run()
        if options.keep:
            shutil.copy(drill.archive, options.keep)
        return code
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
