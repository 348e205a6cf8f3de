"""Submit code to a LeadersBoard site and follow its run: `manage.py submit`, and the program that the site serves at /client.pyz.

Standard library only, Python 3.9 or newer: it needs the site's address and a token, neither Django nor a database.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tarfile
import tempfile
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any, TextIO

from leaderboard_site.client import Client, Refused

COMPLETED, NOT_COMPLETED, USAGE, REFUSED, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 4, 130
EXAMPLES = """\
examples:
  export LEADERSBOARD_URL=https://site.example LEADERSBOARD_TOKEN=lb_...

  {prog} main.py config.yaml --leaderboard textures     upload two files, run them, show the log and the rank
  {prog} my_model/ --leaderboard textures               a whole folder, packed on the way
  {prog} code.zip --leaderboard textures --class medium --config '{{"model": {{"layers": 3}}}}'
  {prog} main.py --leaderboard textures --no-follow     only enqueue; prints the job's id
  {prog} --job JOB                                      follow a job that runs already
  {prog} --cancel JOB                                   cancel one
  {prog} main.py --leaderboard textures --trial         a run that never ranks
  {prog} --withdraw JOB                                 take a completed run off the leaderboard; --restore undoes it

A token is made on the site's account page. exit codes: 0 completed (with --no-follow: taken), 1 the run ended otherwise,
2 wrong usage, 3 the site refused, 4 the site did not answer, 130 Ctrl-C (the job goes on).
"""


class Wrong(Exception):
    """What was asked for on the command line cannot be done."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="Files, one archive, or one folder.")
    parser.add_argument("--leaderboard", metavar="SLUG", default="default", help="Where it competes (%(default)s).")
    parser.add_argument("--url", default=os.environ.get("LEADERSBOARD_URL", ""), help="The site; or LEADERSBOARD_URL.")
    parser.add_argument(
        "--token", default=os.environ.get("LEADERSBOARD_TOKEN", ""), help="Yours; better in LEADERSBOARD_TOKEN."
    )
    parser.add_argument("--name", help="Kept with the submission as metadata, to find it again.")
    parser.add_argument("--entrypoint", default="main.py", metavar="FILE", help="What is run (%(default)s).")
    parser.add_argument("--config-file", default="config.yaml", metavar="FILE", help="Its --config (%(default)s).")
    parser.add_argument("--class", dest="resource_class", default="small", help="Resource class (%(default)s).")
    parser.add_argument("--config", metavar="JSON", help="A JSON object laid over the config file; @FILE reads one.")
    parser.add_argument("--trial", action="store_true", help="A trial run: it never ranks.")
    parser.add_argument(
        "--writable-code", action="store_true", help="Its run may write to its own copy of the code folder."
    )
    parser.add_argument("--no-follow", dest="follow", action="store_false", help="Enqueue it and end.")
    parser.add_argument("--follow", dest="follow", action="store_true", default=True, help="Show the log (default).")
    parser.add_argument("--json", action="store_true", help="One JSON object at the end; all else on standard error.")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--job", metavar="JOB", help="Follow this job instead of submitting.")
    other.add_argument("--cancel", metavar="JOB", help="Cancel this job instead of submitting.")
    other.add_argument("--withdraw", metavar="JOB", help="Take this completed run of yours off the leaderboard.")
    other.add_argument("--restore", metavar="JOB", help="Count a run again that you withdrew.")


class Session:
    """One call of the command: what it prints where."""

    def __init__(self, options: argparse.Namespace, prog: str, out: TextIO, err: TextIO) -> None:
        self.options, self.prog, self.out, self.err = options, prog, out, err
        self.client = Client(options.url, options.token)
        self.shown = err if options.json else out
        self.job_id = ""

    def run(self) -> int:
        """Do it; the exit code."""
        try:
            return self._run()
        except Wrong as wrong:
            self.tell(f"{self.prog}: {wrong}\nTry {self.prog} --help")
            return USAGE
        except Refused as refused:
            wait = f" Try again in {refused.retry_after:.0f} s." if refused.retry_after else ""
            self.tell(f"The site refused: {refused}{wait}{_advice(refused)}")
            return REFUSED
        except (OSError, HTTPException, ValueError) as error:
            self.tell(f"{self.options.url} does not answer as a LeadersBoard site: {error}. Check --url.")
            return UNREACHABLE
        except KeyboardInterrupt:
            if not self.job_id:
                self.tell("\nStopped. Nothing was enqueued.")
            else:
                ways = f"{self.prog} --job {self.job_id}\n  cancel: {self.prog} --cancel {self.job_id}"
                self.tell(f"\nThe job goes on without you.\n  follow: {ways}")
            return INTERRUPTED

    def _run(self) -> int:
        options = self.options
        if urllib.parse.urlsplit(options.url).scheme not in ("http", "https"):
            raise Wrong(f"--url: must begin with http:// or https://, not {options.url!r}; or set LEADERSBOARD_URL.")
        if not options.token or not options.token.isprintable() or not options.token.isascii():
            raise Wrong("--token: missing or not a token. Make one on the site's account page, set LEADERSBOARD_TOKEN.")
        if options.cancel:
            answer = self.client.json("POST", f"/api/jobs/{_job_id(options.cancel)}/cancel")
            self._print(answer, f"{options.cancel} is {answer['status']}; a running one ends within seconds.")
            return COMPLETED
        for action, given in (("withdraw", options.withdraw), ("restore", options.restore)):
            if given:
                answer = self.client.json("POST", f"/api/jobs/{_job_id(given)}/{action}")
                self._print(answer, answer["ranking"]["reason"])
                return COMPLETED
        if options.job:
            self.job_id = _job_id(options.job)
            return self._follow()
        submission = self._upload()
        body = {
            "submission_id": submission["submission_id"], "config": self._config(),
            "resource_class": options.resource_class, "trial": options.trial,
        }  # fmt: skip
        key = {"Idempotency-Key": uuid.uuid4().hex}  # so that asking again makes no second job
        job = self.client.patiently(lambda: self.client.json("POST", "/api/jobs", body, key), self.tell)
        self.job_id = job["job_id"]
        self.tell(f"Job {self.job_id} is enqueued: {self.client.url}/jobs/{self.job_id}/")
        if options.follow:
            return self._follow()
        self._print({**job, "submission_id": submission["submission_id"]}, self.job_id)
        return COMPLETED

    def _config(self) -> dict[str, Any]:
        given = self.options.config
        if not given:
            return {}
        try:
            config = json.loads(Path(given[1:]).read_text() if given.startswith("@") else given)
        except (OSError, ValueError) as error:
            raise Wrong(f"--config: must be a JSON object or @FILE with one: {error}.") from error
        if not isinstance(config, dict):
            raise Wrong(f"--config: must be a JSON object, not {given[:60]!r}.")
        return config

    def _upload(self) -> dict[str, Any]:
        options = self.options
        self._config()  # told before anything is sent
        fields = {
            "leaderboard": options.leaderboard, "entrypoint": options.entrypoint, "config_file": options.config_file,
        }  # fmt: skip
        if options.name:
            fields["metadata"] = json.dumps({"name": options.name})
        if options.writable_code:
            fields["writable_code"] = "true"
        with packed(options.paths) as files:
            total = sum(path.stat().st_size for path in files)
            self.tell(f"Uploading {', '.join(path.name for path in files)[:200]} ({_size(total)})")
            return self.client.submit(files, progress=self._progress(), **fields)

    def _progress(self) -> Callable[[int, int], None]:
        last = [0.0]

        def show(sent: int, total: int) -> None:
            if self.err.isatty() and (time.monotonic() - last[0] > 0.2 or sent == total):
                last[0] = time.monotonic()
                end = "\n" if sent == total else ""
                self.err.write(f"\r  {100 * sent // max(total, 1):3d} %  {_size(sent)} of {_size(total)}   {end}")
                self.err.flush()

        return show

    def _follow(self) -> int:
        """Show the job until it ends, and then its result; the exit code."""
        status = self.client.follow(self.job_id, show=self._show, tell=self.tell)
        job = self.client.json("GET", f"/api/jobs/{self.job_id}")
        result = self.client.json("GET", f"/api/jobs/{self.job_id}/results")
        told = {
            **{name: job[name] for name in ("job_id", "submission_id", "leaderboard", "status", "score", "trial")},
            **{name: job[name] for name in ("error_code", "error_message", "wall_seconds")},
            **{name: result[name] for name in ("params", "metrics", "artifacts", "run_id", "mlflow_ui_link")},
            **{name: job.get(name) for name in ("rerun_of", "started_by_operator", "operator_reason")},
            **self._standing(job),
            "notes": job.get("notes", []),  # not of an older site
            "ranking": job["ranking"],
            "url": f"{self.client.url}/jobs/{self.job_id}/",
        }
        self._print(told, _in_words(told))
        return COMPLETED if status == "completed" else NOT_COMPLETED

    def _standing(self, job: dict[str, Any]) -> dict[str, Any]:
        """Where the job's person stands: `rank` (None: not among the first thousand) and whether by this job."""
        nowhere = {"rank": None, "is_entry": False, "entry_score": None, "ranked_by": ""}
        if job["status"] != "completed":
            return nowhere
        try:
            board = self.client.json("GET", f"/api/leaderboards/{job['leaderboard']}/entries?limit=1000")
        except Refused:
            return nowhere  # a board that only operators see
        for entry in board["entries"]:
            if entry["user_id"] == job["user_id"]:
                is_entry = entry["job_id"] == job["job_id"]
                ours = {"rank": entry["rank"], "is_entry": is_entry, "entry_score": entry["score"]}
                return {**ours, "ranked_by": board["metric"]}
        return {**nowhere, "ranked_by": board["metric"]}

    def _show(self, part: str) -> None:
        self.shown.write(part if self.shown.isatty() else re.sub(r"\x1b\[[0-9;:]*m", "", part))
        self.shown.flush()

    def _print(self, told: dict[str, Any], words: str) -> None:
        self.out.write((json.dumps(told, ensure_ascii=False) if self.options.json else words) + "\n")
        self.out.flush()

    def tell(self, words: str) -> None:
        self.err.write(words + "\n")
        self.err.flush()


def _job_id(given: str) -> str:
    try:
        return str(uuid.UUID(given))
    except ValueError:
        raise Wrong(
            f"{given[:60]!r} is no job's id: it is a UUID, as the job's page and `--no-follow` show it."
        ) from None


@contextmanager
def packed(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """The files to send: those given, or the one folder packed without what is hidden or made by Python."""
    if not paths:
        raise Wrong("PATH: give files, one archive or one folder.")
    if missing := [path for path in paths if not path.exists()]:
        raise Wrong(f"PATH: there is no {missing[0]}.")
    if not any(path.is_dir() for path in paths):
        names = [path.name for path in paths]
        if double := {name for name in names if names.count(name) > 1}:
            raise Wrong(f"PATH: two files called {double.pop()}: give the folder that holds them instead.")
        yield list(paths)
        return
    if len(paths) > 1:
        raise Wrong("PATH: one folder alone, or files.")
    folder = paths[0].resolve()
    with tempfile.TemporaryDirectory() as place:
        target = Path(place, f"{folder.name or 'code'}.tar.gz")
        with tarfile.open(target, "w:gz") as archive:
            for path in sorted(folder.rglob("*")):
                inside = path.relative_to(folder)
                is_left_out = any(part.startswith(".") or part == "__pycache__" for part in inside.parts)
                if path.is_file() and not path.is_symlink() and not is_left_out:
                    archive.add(path, str(inside), recursive=False)
        yield [target]


def _advice(refused: Refused) -> str:
    if refused.status == 401:
        return " Make a new token on the account page and set LEADERSBOARD_TOKEN."
    return ""


def _size(count: int) -> str:
    if count < 1024**2:
        return f"{count} bytes" if count < 10_000 else f"{count / 1024:.1f} KiB"
    return f"{count / 1024**2:.1f} MiB"


def _in_words(told: dict[str, Any]) -> str:
    start = []
    if told.get("started_by_operator"):
        why = f": {told['operator_reason']}" if told["operator_reason"] else "."
        start = [f"An operator started this job, as a rerun of {told['rerun_of']}{why}"]
    if told["status"] != "completed":
        end = f"The job is {told['status']}: {told['error_code']}: {told['error_message']}"
        return "\n".join([*start, end, *_notes(told), told["url"]])
    lines = [f"The job is completed after {told['wall_seconds'] or 0:.1f} s."]
    lines += [f"  {name:<24} {value:.6g}" for name, value in told["metrics"].items()]
    if told["ranking"] is not None and not told["ranking"]["is_on_board"]:
        lines.append(told["ranking"]["reason"])
    if told["rank"] is not None:
        which = "this job" if told["is_entry"] else f"an earlier job of yours with {told['entry_score']:.6g}"
        lines.append(f"Rank {told['rank']} on {told['leaderboard']}, by {told['ranked_by']}, with {which}.")
    return "\n".join([*start, *lines, *_notes(told), told["url"]])


def _notes(told: dict[str, Any]) -> list[str]:
    return [f"Note: {note}" for note in told["notes"]]


def main(arguments: Sequence[str] | None = None, prog: str = "") -> int:
    prog = prog or "python -m leaderboard_site.submit"
    parser = argparse.ArgumentParser(
        prog=prog, description=(__doc__ or "").partition("\n")[0], epilog=EXAMPLES.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_arguments(parser)
    return Session(parser.parse_args(arguments), prog, sys.stdout, sys.stderr).run()


if __name__ == "__main__":
    sys.exit(main())
